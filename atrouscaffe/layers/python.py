"""Python: a layer whose class stands in a Python module that the prototxt names."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from atrouscaffe.alias import install
from atrouscaffe.errors import DependencyError, LayerError
from atrouscaffe.layers.base import Blueprint, Context, Env, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.spec import LayerSpec

__all__ = ["BlobVec", "Python", "PythonLayer"]


class BlobVec(list):
    """A list of blobs to which ``add_blob(2, 3)`` appends a new one of that shape."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros."""
        self.append(Blob(shape))


class PythonLayer:
    """Base class of layers written in Python (pycaffe's ``caffe.Layer``).

    A subclass defines ``setup(bottom, top)``, ``reshape(bottom, top)``, ``forward(bottom, top)`` and
    ``backward(top, propagate_down, bottom)``, which work on lists of blobs.

    Attributes
    ----------
    blobs : BlobVec
        Parameters; ``setup`` may append some with ``self.blobs.add_blob(...)``.
    param_str : str
        ``python_param``'s.
    phase : int
        0 is TRAIN, 1 is TEST.
    """

    type = "Python"

    def __init__(self, param: Any = None) -> None:
        self.blobs = BlobVec()
        self.param_str = self.param_str_ = ""  # the second was the name until 2015
        self.phase = 0
        self.name = ""

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read ``param_str``, check bottoms, add parameters; called once."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes; called before each forward."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write ``top[i].data``."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write ``bottom[i].diff`` where ``propagate_down[i]``."""


@register
class Python(Layer):
    """Runs a class of a Python module (``python_layer.hpp``); only where the caller allows it.

    Notes
    -----
    ``Net(..., allow_python_layers=True)`` or `atrouscaffe.pycaffe` allow it. ``module`` is imported as
    any other module, from ``sys.path``; nothing is looked up beside the prototxt. There, ``import caffe``
    means `atrouscaffe.pycaffe`. ``setup`` is called
    when the net is wired, with blobs that have shapes but not yet the net's memory; what it writes to
    tops is carried over before the first forward. ``share_in_parallel`` means nothing here.
    """

    type = "Python"
    options = "python_param"
    bottoms = (0, None)
    tops = (0, None)
    in_place = True

    def __init__(self, spec: LayerSpec, env: Env) -> None:
        if not env.allow_python:
            raise LayerError("Python layers run code that the prototxt names, so they are refused here; a caller who "
                             "trusts it says allow_python_layers=True")
        super().__init__(spec, env)

    def setup(self) -> None:
        """Import the module and make the instance."""
        if not self.p.module or not self.p.layer:
            raise LayerError(f"python_param: expected module and layer, got {self.p.module!r} and {self.p.layer!r}")
        install()  # such modules say `import caffe`
        with self._noted():
            try:
                module = importlib.import_module(self.p.module)
            except ModuleNotFoundError as error:
                if not f"{self.p.module}.".startswith(f"{error.name}."):
                    raise  # the module is there, and lacks another one
                raise DependencyError(f"python_param: there is no module {self.p.module!r} on Python's path; put the "
                                      f"folder of {self.p.module.rpartition('.')[2]}.py on it (PYTHONPATH)") from None
            except SyntaxError as error:
                raise LayerError(f"python_param: module {self.p.module!r} is not Python {sys.version_info.major}: "
                                 f"{error.msg} ({error.filename}, line {error.lineno}); rewrite what is Python 2 in "
                                 "it") from error
            found = getattr(module, self.p.layer)
            if not (isinstance(found, type) and issubclass(found, PythonLayer)):
                raise LayerError(f"python_param: expected {self.p.module}.{self.p.layer} to be a subclass of "
                                 f"caffe.Layer, got {found!r}")
            self.instance: PythonLayer = found(self.spec)
        self.instance.param_str = self.instance.param_str_ = self.p.param_str
        self.instance.phase = int(self.env.phase)
        self.instance.name = self.name
        self._drafts: list[Blob] | None = None
        self._carried = False

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Let exceptions of the user's code pass with their traceback, and a note that says which layer it was."""
        try:
            yield
        except Exception as error:
            source = f"{self.spec.source}: " if self.spec.source else ""
            error.add_note(f"{source}layer '{self.name}' (Python, {self.p.module}.{self.p.layer})")
            raise

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shapes that the instance gives to its tops."""
        drafts = [Blob(shape) for shape in bottoms]
        tops = self._drafts
        with self._noted():
            if tops is None:
                tops = self._drafts = [drafts[self.spec.bottoms.index(name)] if name in self.spec.bottoms else
                                       Blob((0,)) for name in self.spec.tops]
                self.instance.setup(drafts, tops)
            else:  # a top in place follows its bottom
                for name, top in zip(self.spec.tops, tops):
                    if name in self.spec.bottoms:
                        top.reshape(*bottoms[self.spec.bottoms.index(name)])
            self.instance.reshape(drafts, tops)
        return [top.shape for top in tops]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Return the blobs that ``setup`` added."""
        return [Blueprint(blob.shape, name=f"blobs[{i}]") for i, blob in enumerate(self.instance.blobs)]

    def bind(self, params: Sequence[Blob]) -> None:
        """Put the net's parameter blobs, with the values that ``setup`` gave them, in the instance's list."""
        for mine, theirs in zip(self.instance.blobs, params):
            theirs.data[...] = mine.data
        self.instance.blobs[:] = params

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Call reshape and forward."""
        if not self._carried:
            self._carried = True
            for draft, blob in zip(self._drafts or (), top):
                if draft.has_data and draft.shape == blob.shape and not blob.data.any():
                    blob.data[...] = draft.data
        with self._noted():
            self.instance.reshape(bottom, top)
            self.instance.forward(bottom, top)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Call backward."""
        with self._noted():
            self.instance.backward(top, list(ctx.propagate), bottom)
