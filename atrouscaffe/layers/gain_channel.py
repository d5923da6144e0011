"""GainChannel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Blueprint, Context, Layer, Shape, register
from atrouscaffe.ops.elementwise import over_tiles
from atrouscaffe.runtime.blob import Blob

__all__ = ["GainChannel"]


def drift_threshold(gains: list[float], kept: int) -> float:
    """Return the gain below which the original lets gains drift: one of the `kept` largest.

    It takes place ``kept - 1`` after asking std::nth_element for place `kept`, which leaves the larger
    ones in no defined order: as often as not not the smallest of them. To reach the same gains, this
    does the same selection as the library that it was built with: pivots that are the median of three,
    parts exchanged from both ends, and sorting once at most three are left. Where that selection
    degenerates, and with ``kept == len(gains)``, where the original reads an unsorted place, it is the
    `kept`-th largest.
    """
    a, first, last = list(gains), 0, len(gains)
    if any(gain != gain for gain in gains):
        return float("nan")  # nothing is below it; the solver looks for NaN itself
    if kept == len(gains):
        return min(gains)
    for _ in range(2 * (len(gains).bit_length() - 1)):
        if last - first <= 3:
            a[first:last] = sorted(a[first:last], reverse=True)
            return a[kept - 1]
        middle = first + (last - first) // 2
        pivot = sorted((first + 1, middle, last - 1), key=lambda i: a[i])[1]
        a[first], a[pivot] = a[pivot], a[first]
        low, high = first + 1, last
        while True:
            while a[low] > a[first]:
                low += 1
            high -= 1
            while a[first] > a[high]:
                high -= 1
            if low >= high:
                break
            a[low], a[high] = a[high], a[low]
            low += 1
        first, last = (low, last) if low <= kept else (first, low)
    return sorted(gains, reverse=True)[kept - 1]


@register
class GainChannel(Layer):
    """Multiplies each channel by a learned gain that is kept positive (v1's ``gain_channel_layer.cpp``).

    The forward pass changes the parameter itself: gains below `thresh` become `thresh`, and with
    norm_mean all are scaled to mean 1. In the backward pass `drift` is added to the gradient of the
    gains below one of the num_output_nz largest (see `drift_threshold`), noise of standard deviation
    `stdev` to all, and with norm_mean the gradient is made zero-mean. The original overwrites the
    gains' gradient, so that iter_size has no effect on it; here it is added to, as everywhere.
    """

    type = "GainChannel"
    options = "gain_channel_param"
    in_place = True
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the options."""
        if not self.p.has("gain_filler"):
            raise LayerError("gain_channel_param: expected a gain_filler, as a rule { type: \"constant\" value: 1 }")
        for name in ("drift", "stdev"):
            if getattr(self.p, name) < 0:
                raise LayerError(f"gain_channel_param.{name}: expected at least 0, got {getattr(self.p, name):g}")
        if self.p.thresh <= 0:
            raise LayerError(f"gain_channel_param.thresh: expected above 0, got {self.p.thresh:g}")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the bottom's shape."""
        self.want_rank(bottoms[0], 4)
        if 0 in bottoms[0]:
            raise ShapeError(f"bottom[0]: expected at least one value, got shape {bottoms[0]}")
        if not 1 <= self.p.num_output_nz <= bottoms[0][1]:
            raise LayerError(f"gain_channel_param.num_output_nz: expected 1 to {bottoms[0][1]}, the channels of "
                             f"bottom[0], got {self.p.num_output_nz}")
        return [bottoms[0]]

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Return the gains."""
        return [Blueprint((1, bottoms[0][1], 1, 1), self.p.gain_filler, "gain", 1.0)]

    @staticmethod
    def _flat(array: Any) -> Any:
        return array.reshape(*array.shape[:2], -1)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Put the gains in order and multiply."""
        gain = params[0].data
        np.maximum(gain, self.p.thresh, out=gain)
        if self.p.norm_mean:
            gain /= gain.mean()
        x, y, factor = self._flat(bottom[0].array), self._flat(top[0].array), params[0].array.reshape(1, -1, 1)
        over_tiles(x.shape, lambda rows, columns: ctx.xp.multiply(x[rows, :, columns], factor,
                                                                  out=y[rows, :, columns]), ctx.xp)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """dx = gain dy; the gains get the sum of dy x, with drift, noise and mean as said above."""
        gain, factor = params[0].host().reshape(-1), params[0].array.reshape(-1, 1)
        x, dx, dy = self._flat(bottom[0].array), self._flat(bottom[0].grad), self._flat(top[0].grad)

        def work(rows: slice, columns: slice) -> Any:
            grad = dy[rows, :, columns]
            total = (grad * x[rows, :, columns]).sum(axis=(0, 2))
            if ctx.propagate[0]:
                ctx.xp.multiply(grad, factor, out=dx[rows, :, columns])
            return total

        parts = over_tiles(x.shape, work, ctx.xp)
        if not ctx.param_propagate[0]:
            return
        total = np.sum([ctx.backend.to_numpy(part) for part in parts], axis=0)
        if bottom[0] is top[0]:  # in place the blob holds gain x
            total = total / gain
        if self.p.drift > 0:
            total[gain < drift_threshold(gain.tolist(), self.p.num_output_nz)] += self.p.drift
        if self.p.stdev > 0:
            total += (self.p.stdev * ctx.rng.standard_normal(len(gain))).astype(total.dtype)
        if self.p.norm_mean:
            total -= total.mean()
        params[0].grad[...] += ctx.backend.asarray(total.reshape(params[0].shape))
