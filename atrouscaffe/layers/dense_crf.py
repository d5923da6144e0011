"""DenseCRF: mean field of the fully connected CRF as a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
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
    the first image's for all) and exp is exact (the original's is off by up to 4e-6). No backward.
    Source: ``densecrf_layer.cpp``.
    """

    type = "DenseCRF"
    options = "dense_crf_param"
    bottoms = (2, 3)
    has_backward = False
    backward_reads = ()

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

    def _unary(self, scores: np.ndarray) -> np.ndarray:
        if self.env.dialect != "v1":
            return -scores
        shifted = scores - scores.max(axis=0)
        return np.log(np.exp(shifted).sum(axis=0)) - shifted

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Run the mean field for each image."""
        from atrouscaffe.crf.densecrf import refine_scores

        p, scores, result = self.p, bottom[0].data, top[0].data
        result[...] = 0
        for n, (height, width) in enumerate(np.asarray(bottom[1].data).reshape(-1, 2).tolist()):
            if not (1 <= height <= scores.shape[2] and 1 <= width <= scores.shape[3]):
                raise DataError(f"bottom[1]: expected 1x1 to {scores.shape[2]}x{scores.shape[3]}, got {height:g}x"
                                f"{width:g} for image {n}")
            part = (slice(None), slice(int(height)), slice(int(width)))
            image = None
            if len(bottom) > 2:
                image = np.ascontiguousarray(bottom[2].data[n][part], np.float32)
            beliefs = refine_scores(np.ascontiguousarray(self._unary(scores[n][part]), np.float32), image,
                                    tuple(zip(p.pos_xy_std, p.pos_w)),
                                    tuple(zip(p.bi_xy_std, p.bi_rgb_std, p.bi_w)), p.max_iter)
            if not p.output_probability and self.env.dialect != "v1":
                beliefs = np.log(np.maximum(beliefs, np.finfo(np.float32).tiny))
            result[n][part] = beliefs

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Every pixel is connected with every other."""
        return GLOBAL, GLOBAL
