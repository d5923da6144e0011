"""MatWrite and MatRead: blobs to and from MATLAB files, one file an image."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.lists import read_lines
from atrouscaffe.data.mat import encode_mat, read_mat
from atrouscaffe.errors import DataError, FileAccessError, LayerError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.layers.base import Context, Layer, Shape, register
from atrouscaffe.runtime.blob import Blob


class MatLayer(Layer):
    """How both types find the names of their files.

    A file is ``prefix``, then the first word of a line of ``source`` without its last ``strip``
    characters (without ``source``: ``iter_`` and the number of the pass), then ``_blob_`` and the
    number of the bottom or top, then ``.mat``.
    """

    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check the options."""
        if self.p.strip < 0:
            raise LayerError(f"strip: expected at least 0 characters, got {self.p.strip}")
        self._names: list[str] | None = None

    def names(self) -> list[str]:
        """Return the names of the list, read once; empty without one."""
        if self._names is None:
            self._names = []
            if self.p.source:
                path = self.env.paths.resolve(self.p.source, "source")
                for text, line in read_lines(path):
                    word = text.split()[0]
                    if len(word) <= self.p.strip:
                        raise DataError(f"strip {self.p.strip}: nothing is left of the name {word!r}",
                                        f"{self.p.source}:{line}: layer '{self.name}' ({self.type})")
                    self._names.append(word[:len(word) - self.p.strip])
        return self._names

    def file(self, index: int, blob: int) -> str:
        """Return the path of one file."""
        name = self.names()[index] if self.names() else f"iter_{index}"
        return self.env.paths.resolve(f"{self.p.prefix}{name}_blob_{blob}.mat", "prefix")


@register
class MatWrite(MatLayer):
    """Writes each bottom as ``data`` of a MAT file (``mat_write_layer.cpp`` of both forks).

    MATLAB's dimensions are (W, H, C, N). Every ``period``-th pass is written, under the name of its
    own line; the batch must be 1 for names and images to go together. Missing folders are made,
    where the original fails; more passes than lines are an error, as there.
    """

    type = "MatWrite"
    options = "mat_write_param"
    bottoms = (1, None)
    tops = (0, 0)

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        if not self.p.prefix:
            raise LayerError("mat_write_param: expected a prefix, got none")
        if self.p.period < 1:
            raise LayerError(f"period: expected at least 1, got {self.p.period}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """There are no tops."""
        return []

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the files of this pass."""
        index = ctx.state.get("passes", 0)
        if index % self.p.period == 0:
            if self.names() and index >= len(self.names()):
                raise DataError(f"pass {index + 1}, but {self.p.source} has {len(self.names())} lines; run as many "
                                "passes as there are images")
            for i, blob in enumerate(bottom):
                path = self.file(index, i)
                try:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                except OSError as error:
                    raise FileAccessError(f"prefix: cannot make the folder of {path}: {error.strerror}") from None
                with atomic_write(path) as file:
                    file.write(encode_mat({"data": blob.host().transpose()}))
        ctx.state["passes"] = index + 1


@register
class MatRead(MatLayer):
    """Reads its tops from MAT files as MatWrite writes them (``mat_read_layer.cpp`` of both forks).

    ``batch_size`` files a pass, one behind another, going round at the end of the list. The first
    fork never copies the data into its tops; this does, as the second one.
    """

    type = "MatRead"
    options = "mat_read_param"
    bottoms = (0, 0)
    tops = (1, None)

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        if self.p.batch_size < 1:
            raise LayerError(f"batch_size: expected at least 1, got {self.p.batch_size}")
        self._shapes: list[Shape] | None = None

    def _read(self, index: int, top: int) -> np.ndarray:
        path = self.file(index, top)
        variables = read_mat(path)
        if "data" not in variables or not isinstance(variables["data"], np.ndarray):
            raise DataError(f"expected a numeric variable 'data', got {', '.join(variables) or 'nothing'}", path)
        value = variables["data"].transpose()  # (N, C, H, W)
        while value.ndim < 4:
            value = value[None]
        return value

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of the first file of each top, or of those last read."""
        if self._shapes is None:
            firsts = [self._read(0, i).shape for i in range(len(self.spec.tops))]
            self._shapes = [(shape[0] * self.p.batch_size, *shape[1:]) for shape in firsts]
        return list(self._shapes)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Read the next files."""
        begin = ctx.state.get("position", 0)
        indices = [begin + k for k in range(self.p.batch_size)]
        if self.names():
            indices = [index % len(self.names()) for index in indices]
        for i, blob in enumerate(top):
            parts = [self._read(index, i) for index in indices]
            if len({part.shape[1:] for part in parts}) > 1:
                raise DataError(f"the files of one batch differ in shape: {', '.join(str(p.shape) for p in parts)}; "
                                "use batch_size 1")
            values = np.concatenate(parts)
            blob.reshape(*values.shape)
            blob.array[...] = ctx.backend.asarray(values, blob.dtype)
        self._shapes = [blob.shape for blob in top]
        ctx.state["position"] = begin + self.p.batch_size
