"""MultiStageMeanfield: the mean field of CRF-as-RNN."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_bytes
from atrouscaffe.errors import AtrousCaffeError, DataError, FileMissingError, LayerError
from atrouscaffe.layers.base import GLOBAL, Blueprint, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["MultiStageMeanfield"]

MOST_ITERATIONS = 1000
MAX_WEIGHTS_FILE = 1 << 20  # bytes


def _read(path: str) -> str:
    """Return the text of a file of weights; errors leave their place to the layer's."""
    try:
        return read_bytes(path, MAX_WEIGHTS_FILE, "list of numbers").decode("utf-8", "replace")
    except AtrousCaffeError as error:
        raise type(error)(f"{path}: {error.message}") from None


@register
class MultiStageMeanfield(Layer):
    """Refine scores (N, L, H, W) by the CRF whose weights are learned, as a recurrent network.

    Bottoms: unary scores; scores from which the first beliefs are made; the net's image (N, 3, H, W).
    The top are scores. Parameters, (1, 1, L, L) each: weights of the position kernel, weights of the
    bilateral kernel, compatibility. ``multi_stage_meanfield_param``: num_iterations, theta_gamma
    (position kernel, pixels), theta_alpha and theta_beta (bilateral kernel, pixels and levels).

    Notes
    -----
    Source: ``multi_stage_meanfield.cpp`` of CRF-as-RNN's Caffe (Zheng et al., 2015). The weights start
    as diagonal matrices: from ``spatial_filter_weights_str`` and ``bilateral_filter_weights_str`` where
    the later fork's net has them; else from the files ``spatial.par`` and ``bilateral.par`` in the
    working folder or beside the prototxt, one number a label; else, where there is no file (at which
    the original stops), from ``spatial_filter_weight`` and ``bilateral_filter_weight``, one number for
    all labels. The compatibility starts as minus the identity (Potts).

    Differences: lattices follow the size of the bottoms (the original's stay as they were made); every
    image of a batch has its own; gradients of parameters add up, as ``iter_size`` needs. As there, the
    image gets no gradient, and ``threshold`` and the ``forced_`` weights have no effect.
    """

    type = "MultiStageMeanfield"
    options = "multi_stage_meanfield_param"
    bottoms = (3, 3)
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the kernels."""
        p = self.p
        if not 1 <= p.num_iterations <= MOST_ITERATIONS:
            raise LayerError(f"num_iterations: expected 1 to {MOST_ITERATIONS}, got {p.num_iterations}")
        for word in ("theta_alpha", "theta_beta", "theta_gamma"):
            value = getattr(p, word)
            if not (math.isfinite(value) and value > 0):
                raise LayerError(f"{word}: expected a finite number above 0, got {value:g}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As the scores."""
        self.want_rank(bottoms[0], 4)
        self.want_same(bottoms[0], bottoms[1], "bottom[1] (start)")
        self.want_same((bottoms[0][0], 3, *bottoms[0][2:]), bottoms[2], "bottom[2] (image)")
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Three matrices over the labels."""
        shape = (1, 1, bottoms[0][1], bottoms[0][1])
        return [Blueprint(shape, name=name) for name in ("spatial weights", "bilateral weights", "compatibility")]

    def bind(self, params: Sequence[Blob]) -> None:
        """Write what the matrices start from."""
        labels = params[0].shape[-1]
        for blob, word in zip(params, ("spatial", "bilateral")):
            blob.data[...] = np.diag(self._start(word, labels))
        params[2].data[...] = -np.eye(labels)

    def _start(self, word: str, labels: int) -> list[float]:
        """Return one weight a label, from the net or the file that the original reads."""
        text, place = getattr(self.p, f"{word}_filter_weights_str"), f"{word}_filter_weights_str"
        if not text:
            place = f"{word}.par"
            path = self.env.paths.resolve(place, place)
            if os.path.exists(path):
                place = path
                text = _read(path)
            elif self.p.has(f"{word}_filter_weight"):
                return [getattr(self.p, f"{word}_filter_weight")] * labels
            else:
                raise FileMissingError(f"expected the file {place} with one number for each of {labels} labels in the "
                                       f"working folder or beside the prototxt, or {word}_filter_weight in the net")
        try:
            values = [float(part) for part in text.split()[:labels]]
        except ValueError:
            raise DataError(f"{place}: expected numbers with blanks between them, got {text[:60]!r}") from None
        if len(values) < labels or not np.isfinite(values).all():
            raise DataError(f"{place}: expected a finite number for each of {labels} labels, got {text[:60]!r}")
        return values

    def allows_gradient(self, bottom: int) -> bool:
        """Both bottoms of scores have one; the image has none."""
        return bottom != 2

    def _filters(self, ctx: Context, bottom: Sequence[Blob], n: int) -> Any:
        """Return the two kernels of image `n`, normalised by the filtered ones."""
        from atrouscaffe.crf.densecrf import score_crf

        p, scores = self.p, bottom[0].array[n]
        image = ctx.xp.ascontiguousarray(bottom[2].array[n], np.float32)
        try:
            crf = score_crf(scores, image, [(p.theta_gamma, 1)], [(p.theta_alpha, p.theta_beta, 1)])
        except AtrousCaffeError as error:
            raise type(error)(f"image {n}: {error.message}", error.where) from None
        return crf.kernels

    def _matrices(self, params: Sequence[Blob]) -> tuple[list[Any], Any]:
        matrices = [blob.array[0, 0] for blob in params]
        return matrices[:2], matrices[2]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Run the iterations for each image."""
        from atrouscaffe.crf.recurrent import forward

        labels, weights = bottom[0].shape[1], self._matrices(params)
        kept = []
        for n in range(bottom[0].shape[0]):
            filters = self._filters(ctx, bottom, n)
            unary, start = (blob.array[n].reshape(labels, -1) for blob in bottom[:2])
            stages = forward(filters, unary, start, *weights, self.p.num_iterations, keep=ctx.keeps)
            top[0].array[n] = stages.scores.reshape(top[0].shape[1:])
            kept.append((filters, stages))
        if ctx.keeps:
            ctx.saved["stages"] = kept

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Go back through the iterations."""
        from atrouscaffe.crf.recurrent import backward

        weights = self._matrices(params)
        for n, (filters, stages) in enumerate(ctx.saved["stages"]):
            gradient = top[0].grad[n].reshape(stages.scores.shape)
            unary, start, slopes, mixing = backward(filters, stages, *weights, gradient)
            for i, slope in enumerate((unary, start)):
                if ctx.propagate[i]:
                    bottom[i].grad[n] = slope.reshape(bottom[i].shape[1:])
            for i, slope in enumerate((*slopes, mixing)):
                if ctx.param_propagate[i]:
                    params[i].grad[0, 0] += slope

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """The matrices' products; the lattices' work depends on the image."""
        n, labels, height, width = bottoms[0]
        return 3 * n * labels * labels * height * width * int(self.p.num_iterations)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """Every pixel is connected with every other."""
        return GLOBAL, GLOBAL
