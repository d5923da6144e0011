"""Let ``import caffe`` mean `atrouscaffe.pycaffe`, without copying modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from atrouscaffe.errors import ArgumentError

__all__ = ["install", "uninstall"]

HERE = "atrouscaffe.pycaffe"
CORES = ("caffe.pycaffe", "caffe._caffe")  # modules of the original whose names all stand in the package itself


class _Alias:
    """Finds ``caffe.x`` as ``atrouscaffe.pycaffe.x``: the very same module object under both names.

    A finder and loader for ``sys.meta_path``; without the base classes of ``importlib.abc``, which cost an import.
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        """Find modules of the package ``caffe``."""
        if not name.startswith("caffe."):
            return None
        if name not in CORES and PathFinder.find_spec(self._home(name), path) is None:
            return None
        return ModuleSpec(name, self)  # type: ignore[arg-type]

    @staticmethod
    def _home(name: str) -> str:
        return HERE if name in CORES else HERE + name.removeprefix("caffe")

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the import system make a module; `exec_module` puts the real one in its place."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Import the module under its own name, and hand it out under this one."""
        sys.modules[module.__name__] = importlib.import_module(self._home(module.__name__))


def install() -> ModuleType:
    """Let ``import caffe``, ``from caffe import layers as L`` and ``import caffe.io`` mean this package.

    Returns
    -------
    module
        `atrouscaffe.pycaffe`.

    Raises
    ------
    ArgumentError
        Another package named caffe was imported before.
    """
    package = importlib.import_module(HERE)
    if sys.modules.get("caffe", package) is not package:
        raise ArgumentError("another package named caffe was imported already "
                            f"({getattr(sys.modules['caffe'], '__file__', '?')}); call install() before it is")
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())
    sys.modules["caffe"] = package
    return package


def uninstall() -> None:
    """Take back what `install` did; modules that hold names of ours keep them."""
    package = sys.modules.get(HERE)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Alias)]
    if sys.modules.get("caffe") is package:
        for name in [name for name in sys.modules if name == "caffe" or name.startswith("caffe.")]:
            del sys.modules[name]
