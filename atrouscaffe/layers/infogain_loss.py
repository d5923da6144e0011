"""InfogainLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.loss import Loss, normalization, normalizer
from atrouscaffe.ops.elementwise import fold, over_tiles
from atrouscaffe.ops.labels import read_labels
from atrouscaffe.ops.softmax import softmax
from atrouscaffe.runtime.blob import Blob

__all__ = ["InfogainLoss"]

SMALLEST_PROBABILITY = 1e-20  # kLOG_THRESHOLD


@register
class InfogainLoss(Loss):
    """Sum over classes k of -H[label, k] log p[k], with an infogain matrix H (``infogain_loss_layer.cpp``).

    H comes as bottom 2, or from `source`, a BlobProto file. Its rows belong to labels; the identity
    gives the multinomial logistic loss.

    The forks take probabilities of items (N, C) and divide by N. BVLC's newest takes scores, does the
    softmax along `axis` itself, and has ignore_label and normalisation modes (VALID by default); a
    second top receives the softmax. Probabilities below 1e-20 count as 1e-20.
    """

    type = "InfogainLoss"
    options = "infogain_loss_param"
    bottoms = (2, 3)
    tops = (1, 2)

    def setup(self) -> None:
        """Choose the form and read the matrix if it comes from a file."""
        self.own_softmax = self.env.dialect == "bvlc"
        loss = self.spec.fields.loss_param
        self.mode = normalization(loss, "VALID")
        self.ignore = {int(loss.ignore_label)} if self.own_softmax and loss.has("ignore_label") else set()
        if len(self.spec.tops) > 1 and not self.own_softmax:
            raise LayerError("a second top, the softmax, is known to BVLC's InfogainLoss only; this net is of the "
                             f"dialect {self.env.dialect}, whose bottoms are probabilities already")
        self.matrix: np.ndarray | None = None
        if len(self.spec.bottoms) < 3:
            self.matrix = self._read()

    def _read(self) -> np.ndarray:
        from atrouscaffe.formats.mean import read_mean

        if not self.p.source:
            raise LayerError("infogain_loss_param: expected a source, a file with the matrix, or a third bottom")
        matrix = np.asarray(read_mean(self.env.paths.resolve(self.p.source, "source")), np.float64)
        size = math.isqrt(matrix.size)
        if size * size != matrix.size or not np.isfinite(matrix).all():
            raise DataError(f"source: expected a square matrix of finite numbers, got shape {matrix.shape}")
        return matrix.reshape(size, size)

    def _split(self, shape: Shape) -> tuple[int, int, int]:
        """View the bottom as (outer, classes, inner)."""
        if self.own_softmax:
            return fold(shape, self.axis(self.p.axis, len(shape), "infogain_loss_param.axis"))
        return shape[0], math.prod(shape[1:]), 1

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Want one label for each prediction and a matrix of the right size."""
        super().check_bottoms(bottoms)
        outer, classes, inner = self._split(bottoms[0])
        self.want_count((outer * inner,), bottoms[1], "bottom[1]")
        size = self.matrix.size if self.matrix is not None else math.prod(bottoms[2])
        if size != classes * classes:
            raise ShapeError(f"infogain matrix: expected {classes} x {classes}, one row for each class, "
                             f"got {size} numbers")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return a scalar, and the scores' shape for a second top."""
        self.check_bottoms(bottoms)
        return [(), tuple(bottoms[0])][: max(1, len(self.spec.tops))]

    def _rows(self, ctx: Context, bottom: Sequence[Blob], labels: Any) -> Any:
        """Return the matrix row of each label, 0 for ignored ones, (outer, classes, inner)."""
        classes = self._split(bottom[0].shape)[1]
        matrix = ctx.backend.asarray(self.matrix) if self.matrix is not None else bottom[2].array
        rows = matrix.astype(bottom[0].dtype).reshape(classes, classes)[labels]  # (outer, inner, classes)
        rows[labels < 0] = 0
        return ctx.xp.moveaxis(rows, 2, 1)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write the loss, and the softmax where a second top wants it."""
        outer, classes, inner = shape = self._split(bottom[0].shape)
        labels = read_labels(bottom[1].host(), classes, self.ignore).reshape(outer, inner)
        xp, p = ctx.xp, bottom[0].array.reshape(shape)
        if self.own_softmax:
            p = xp.empty_like(p) if len(top) < 2 else top[1].array.reshape(shape)
            softmax(bottom[0].array.reshape(shape), p)
        rows = self._rows(ctx, bottom, ctx.backend.asarray(labels))
        loss = -xp.sum(rows * xp.log(xp.maximum(p, SMALLEST_PROBABILITY)), dtype=np.float64)
        valid = float(np.count_nonzero(labels >= 0))
        divisor = normalizer(self.mode, outer, inner, valid) if self.own_softmax else float(max(1, outer))
        top[0].array[...] = loss / divisor
        ctx.saved.update(rows=rows, divisor=divisor)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write -H / p, or through the softmax, sum(H) p - H, over the divisor."""
        if not ctx.propagate[0]:
            return
        shape = self._split(bottom[0].shape)
        rows, factor = ctx.saved["rows"], self.weight(top) / ctx.saved["divisor"]
        x, dx = bottom[0].array.reshape(shape), bottom[0].grad.reshape(shape)
        if not self.own_softmax:
            dx[...] = -factor * rows / ctx.xp.maximum(x, SMALLEST_PROBABILITY)
            return
        softmax(x, dx)

        def work(outer: slice, columns: slice) -> Any:
            part, row = dx[outer, :, columns], rows[outer, :, columns]
            part *= row.sum(axis=1, keepdims=True)
            part -= row
            part *= factor

        over_tiles(shape, work, ctx.xp)
