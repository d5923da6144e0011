"""DummyData: blobs filled by fillers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.fillers import fill
from atrouscaffe.layers.base import Blueprint, Context, Layer, Shape, register
from atrouscaffe.layers.input import shape_of
from atrouscaffe.runtime.blob import Blob


@register
class DummyData(Layer):
    """Fills each top by its filler (``dummy_data_layer.cpp``).

    Constants are written once, so what the caller writes into the blob afterwards (or before the
    first pass) stays; other fillers draw anew for every pass.
    """

    type = "DummyData"
    options = "dummy_data_param"
    bottoms = (0, 0)
    tops = (1, None)
    has_backward = False

    def setup(self) -> None:
        """Check that fillers and shapes are as many as the tops, or one for all."""
        p, tops = self.p, len(self.spec.tops)
        self._legacy = bool(p.num)
        names = ("num", "channels", "height", "width") if self._legacy else ("shape",)
        lists = {"data_filler": p.data_filler} | {name: getattr(p, name) for name in names}
        if self._legacy and p.shape:
            raise LayerError("dummy_data_param: expected shape, or num, channels, height and width, got both")
        for name, given in lists.items():
            if len(given) not in ((0, 1, tops) if name == "data_filler" else (1, tops)):
                raise LayerError(f"dummy_data_param: expected one {name}, or {tops} (one a top), got {len(given)}")
        self._written: dict[int, Shape] = {}

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of ``dummy_data_param``."""
        p, tops = self.p, range(len(self.spec.tops))
        if self._legacy:
            sizes = (p.num, p.channels, p.height, p.width)
            return [tuple(int(n[i] if len(n) > 1 else n[0]) for n in sizes) for i in tops]
        return [shape_of(p.shape[i] if len(p.shape) > 1 else p.shape[0], "dummy_data_param shape") for i in tops]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Fill the tops."""
        fillers = self.p.data_filler
        for i, blob in enumerate(top):
            filler = fillers[i if len(fillers) > 1 else 0] if fillers else None
            if filler is not None and filler.type != "constant":
                blob.array[...] = ctx.backend.asarray(fill(Blueprint(blob.shape, filler), ctx.rng), blob.dtype)
            elif self._written.get(i) != blob.shape:
                if not np.any(blob.host()):  # else the caller wrote to it before the first pass
                    blob.array[...] = filler.value if filler is not None else 0.0
                self._written[i] = blob.shape
