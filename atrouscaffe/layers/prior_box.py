"""PriorBox of SSD: the boxes from which a detector's boxes are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import GLOBAL, Context, Layer, Reach, Shape, register
from atrouscaffe.runtime.blob import Blob

__all__ = ["PriorBox"]

MOST = 1000
"""No detector has more sizes or aspect ratios."""


@register
class PriorBox(Layer):
    """Write boxes of several sizes and shapes around each pixel of bottom 0, in fractions of the image of bottom 1.

    Top (1, 2, 4 boxes): xmin, ymin, xmax, ymax of each box, and the variance of each of these numbers.
    ``prior_box_param``: min_size, max_size, aspect_ratio, flip, clip, variance, img_size (or img_h, img_w), step (or
    step_h, step_w), offset.

    Notes
    -----
    For each min_size: a square of it, a square of sqrt(min_size max_size) where max_size is given, then a box of
    min_size's area for each aspect ratio but 1 and, with flip, for its inverse. Sizes are cut to whole pixels, as
    there. Source: ``prior_box_layer.cpp`` of SSD's Caffe (Liu et al., 2016).
    """

    type = "PriorBox"
    options = "prior_box_param"
    bottoms = (2, 2)
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check the sizes; list width and height of the boxes of one pixel."""
        p = self.p
        for word in ("min_size", "max_size", "aspect_ratio", "variance"):
            values = getattr(p, word)
            if len(values) > MOST or not all(0 < value < float("inf") for value in values):
                raise LayerError(f"{word}: expected at most {MOST} finite numbers above 0, got {tuple(values)[:9]}")
        if not p.min_size or (p.max_size and len(p.max_size) != len(p.min_size)):
            raise LayerError(f"min_size: expected one or more, and as many max_size or none, got {len(p.min_size)} and "
                             f"{len(p.max_size)}")
        if any(high <= low for low, high in zip(p.min_size, p.max_size)):
            raise LayerError(f"max_size: expected each above its min_size {tuple(p.min_size)}, got {tuple(p.max_size)}")
        if len(p.variance) not in (0, 1, 4):
            raise LayerError(f"variance: expected none, 1 or 4, got {len(p.variance)}")
        self.variance = tuple(p.variance) * (4 if len(p.variance) == 1 else 1) or (0.1,) * 4
        self.image, self.step = self._pair("img_size", "img"), self._pair("step", "step")
        if not math.isfinite(p.offset):
            raise LayerError(f"offset: expected a finite number, got {p.offset}")
        self.sizes = self._sizes()

    def _pair(self, plain: str, word: str) -> tuple[float, float] | None:
        """Return (height, width) of an option, None where it follows from the bottoms."""
        sides = [self.p.has(f"{word}_{side}") for side in "hw"]
        if any(sides):
            if self.p.has(plain) or not all(sides):
                raise LayerError(f"{plain}: expected either {plain} or both {word}_h and {word}_w")
            pair = getattr(self.p, f"{word}_h"), getattr(self.p, f"{word}_w")
        elif self.p.has(plain):
            pair = (getattr(self.p, plain),) * 2
        else:
            return None
        if not all(0 < side < float("inf") for side in pair):
            raise LayerError(f"{plain}: expected finite numbers above 0, got {pair[0]:g} and {pair[1]:g}")
        return pair

    def _sizes(self) -> np.ndarray:
        """Return (width, height) in pixels of the boxes of one pixel, (boxes, 2)."""
        ratios = [1.0]
        for ratio in self.p.aspect_ratio:
            if all(abs(ratio - other) >= 1e-6 for other in ratios):
                ratios += [ratio, 1 / ratio] if self.p.flip else [ratio]
        sizes = []
        for i, low in enumerate(int(size) for size in self.p.min_size):
            sizes.append((low, low))
            if self.p.max_size:
                sizes.append((math.sqrt(low * int(self.p.max_size[i])),) * 2)
            sizes += [(low * math.sqrt(ratio), low / math.sqrt(ratio)) for ratio in ratios if abs(ratio - 1) >= 1e-6]
        return np.array(sizes)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """(1, 2, 4 boxes)."""
        self.want_rank(bottoms[0], 4)
        self.want_rank(bottoms[1], 4, "bottom[1] (image)")
        return [(1, 2, bottoms[0][2] * bottoms[0][3] * len(self.sizes) * 4)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Write boxes and variances."""
        grid = bottom[0].shape[2:]
        image = self.image or bottom[1].shape[2:]
        step = self.step or [size / cells for size, cells in zip(image, grid)]
        rows, columns = ((np.arange(cells) + self.p.offset) * each for cells, each in zip(grid, step))
        centres = np.stack(np.broadcast_arrays(columns, rows[:, None]), -1)[:, :, None]
        boxes = np.concatenate([centres - self.sizes / 2, centres + self.sizes / 2], -1) / ([*image[::-1]] * 2)
        if self.p.clip:
            boxes = np.clip(boxes, 0, 1)
        both = np.stack([boxes, np.broadcast_to(self.variance, boxes.shape)]).reshape(top[0].shape)
        top[0].array[...] = ctx.backend.asarray(both, top[0].dtype)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """No longer pixels."""
        return GLOBAL, GLOBAL
