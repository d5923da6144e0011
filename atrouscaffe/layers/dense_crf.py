"""DenseCRF: mean field of the fully connected CRF as a layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.blob import Blob

__all__ = ["DenseCRF"]

MOST_ITERATIONS = 10000


@register
class DenseCRF(Layer):
    """Refine scores (N, C, H, W) with Gaussian kernels over position and colour.

    Bottoms: scores; each image's real height and width (N, 2, ...); the net's image (N, 3, H, W),
    which only bilateral kernels need. Only the top-left height x width is refined; the rest is 0.
    ``dense_crf_param``: max_iter, pos_xy_std, pos_w, bi_xy_std, bi_rgb_std, bi_w (one kernel an
    entry), output_probability.

    Notes
    -----
    First fork: the unary energy is -log softmax of the scores, the output are probabilities.
    Second fork and after: the unary energy is -scores; with output_probability false the output is
    log(max(Q, FLT_MIN)). Each image of a batch is filtered by its own colours (the original takes
    the first image's for all) and exp is exact (the original's is off by up to 4e-6). The original has
    no backward; this one goes through the unrolled iterations, to the scores only.
    Source: ``densecrf_layer.cpp``.
    """

    type = "DenseCRF"
    options = "dense_crf_param"
    bottoms = (2, 3)
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the kernels."""
        p = self.p
        if not 0 <= p.max_iter <= MOST_ITERATIONS:
            raise LayerError(f"max_iter: expected 0 to {MOST_ITERATIONS}, got {p.max_iter}")
        for words in (("pos_xy_std", "pos_w"), ("bi_xy_std", "bi_rgb_std", "bi_w")):
            counts = [len(getattr(p, word)) for word in words]
            if len(set(counts)) > 1:
                raise LayerError(f"{', '.join(words)}: expected as many entries each, got {counts}")
            for word in words:
                bad = [v for v in getattr(p, word) if not math.isfinite(v) or (word.endswith("std") and v <= 0)]
                if bad:
                    raise LayerError(f"{word}: expected positive numbers, got {bad[0]:g}")
        if len(self.spec.bottoms) < 3 and len(p.bi_w):
            raise LayerError("bottoms: expected scores, sizes and the image, since there are bilateral kernels, got "
                             f"{len(self.spec.bottoms)} bottoms")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the scores."""
        self.want_rank(bottoms[0], 4)
        if math.prod(bottoms[1]) != 2 * bottoms[0][0]:
            raise ShapeError(f"bottom[1]: expected height and width of each of {bottoms[0][0]} images, got shape "
                             f"{bottoms[1]}")
        if len(bottoms) > 2:
            self.want_same((bottoms[0][0], 3, *bottoms[0][2:]), bottoms[2], "bottom[2] (image)")
        return [bottoms[0]]

    def allows_gradient(self, bottom: int) -> bool:
        """Only the scores have a gradient."""
        return bottom == 0

    def _unary(self, scores: Any) -> Any:
        if self.env.dialect != "v1":
            return -scores
        shifted, xp = scores - scores.max(axis=0), module_of(scores)
        return xp.log(xp.exp(shifted).sum(axis=0)) - shifted

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Run the mean field for each image."""
        p, result = self.p, top[0].array
        result[...] = 0
        for n, part in self._parts(bottom):
            beliefs = self._beliefs(*self._given(bottom, n, part))
            if not p.output_probability and self.env.dialect != "v1":
                beliefs = ctx.xp.log(ctx.xp.maximum(beliefs, np.finfo(np.float32).tiny))
            result[(n, *part)] = beliefs

    def _beliefs(self, unary: Any, *given: Any) -> Any:
        """Return Q (L, H, W); in a float64 net by the plain steps that backward goes through."""
        from atrouscaffe.crf.densecrf import refine_scores, score_crf
        from atrouscaffe.crf.learn import forward

        if unary.dtype == np.float32:
            return refine_scores(unary, *given, self.p.max_iter)
        return forward(score_crf(unary, *given), self.p.max_iter, unary=unary).last.reshape(unary.shape)

    def _parts(self, bottom: Sequence[Blob]) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Yield each image's number and which part of its blob is the image."""
        shape = bottom[0].shape
        for n, (height, width) in enumerate(bottom[1].host().reshape(-1, 2).tolist()):
            if not (1 <= height <= shape[2] and 1 <= width <= shape[3]):
                raise DataError(f"bottom[1]: expected 1x1 to {shape[2]}x{shape[3]}, got {height:g}x{width:g} for "
                                f"image {n}")
            yield n, (slice(None), slice(int(height)), slice(int(width)))

    def _given(self, bottom: Sequence[Blob], n: int, part: tuple[slice, ...]) -> tuple[Any, ...]:
        """Return unary, image and kernels of one image."""
        p, image = self.p, None
        if len(bottom) > 2:
            image = module_of(bottom[2].array).ascontiguousarray(bottom[2].array[(n, *part)], np.float32)
        scores = bottom[0].array[(n, *part)]
        unary = module_of(scores).ascontiguousarray(self._unary(scores))
        return unary, image, tuple(zip(p.pos_xy_std, p.pos_w)), tuple(zip(p.bi_xy_std, p.bi_rgb_std, p.bi_w))

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Go back through the iterations, made once more; the kernels and the image get no gradient."""
        if not ctx.propagate[0]:
            return
        from atrouscaffe.crf.densecrf import score_crf
        from atrouscaffe.crf.learn import backward, forward

        logarithm = not self.p.output_probability and self.env.dialect != "v1"
        slope = bottom[0].grad
        slope[...] = 0
        for n, part in self._parts(bottom):
            unary, *given = self._given(bottom, n, part)
            crf = score_crf(unary, *given)
            trace = forward(crf, self.p.max_iter, unary=unary)
            arriving = top[0].grad[(n, *part)].reshape(trace.last.shape)
            if logarithm:
                arriving = arriving / ctx.xp.maximum(trace.last, np.finfo(np.float32).tiny)
            # the softmax's constant cancels, so v1's -log softmax has the gradient of -scores
            slope[(n, *part)] = -backward(crf, trace, arriving).unary.reshape(slope[(n, *part)].shape)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Every pixel is connected with every other."""
        return GLOBAL, GLOBAL
