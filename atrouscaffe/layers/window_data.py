"""WindowData: windows of pictures, R-CNN's data layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from atrouscaffe.data.image import read_image, resize_image
from atrouscaffe.data.windows import read_windows
from atrouscaffe.errors import AtrousCaffeError, DataError, LayerError
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.batches import BatchLayer


class Cut(NamedTuple):
    """Which pixels of an image are taken (ends outside), to which size they are brought, and where they go."""

    top: int
    left: int
    bottom: int
    right: int
    height: int
    width: int
    row: int
    column: int


def round_half_away(value: float) -> int:
    """Return the nearest whole number, as C's ``round``."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def cut_window(window: Sequence[int], size: tuple[int, int], crop: int, context: int, square: bool,
               mirror: bool) -> Cut:
    """Return how a window becomes a square of `crop` pixels.

    Parameters
    ----------
    window : (x1, y1, x2, y2)
        Both ends inside.
    size : (int, int)
        Height and width of the image.
    crop : int
    context : int
        Pixels of the result, at each side, that show what is around the window.
    square : bool
        Take the smallest square around the window instead of changing its proportions.
    mirror : bool
        The result will be mirrored, which moves the padding to the other side.
    """
    if not context and not square:
        left, top, right, bottom = window
        return Cut(top, left, bottom + 1, right + 1, crop, crop, 0, 0)
    spans = []
    scale = crop / (crop - 2 * context)
    half = [(window[2 + i] - window[i] + 1) / 2 for i in (0, 1)]
    center = [window[i] + half[i] for i in (0, 1)]
    if square:
        half = [max(half)] * 2
    for i, (length, flip) in enumerate(zip(size[::-1], (mirror, False))):
        begin, end = (round_half_away(center[i] + sign * half[i] * scale) for sign in (-1, 1))
        factor = crop / (end - begin + 1)
        before, after = max(0, -begin), max(0, end - length + 1)
        begin, end = begin + before, end - after
        place = round_half_away((after if flip else before) * factor)
        spans.append((begin, end + 1, min(round_half_away((end - begin + 1) * factor), crop - place), place))
    (left, right, width, column), (top, bottom, height, row) = spans
    return Cut(top, left, bottom, right, height, width, row, column)


@register
class WindowData(BatchLayer):
    """Reads windows of pictures from a list: tops data and label (``window_data_layer.cpp``; Girshick et al., 2014).

    Each batch holds ``batch_size`` times ``fg_fraction`` windows whose overlap is at least
    ``fg_threshold``, behind as many others of overlap below ``bg_threshold``, which have the label 0;
    all are drawn at random. ``crop_mode`` warp changes a window's proportions, square does not;
    ``context_pad`` pixels of the crop show what is around it. What lies outside the image is 0 after
    the mean's subtraction. ``cache_images`` has no effect.
    """

    type = "WindowData"
    options = "window_data_param"
    tops = (2, 2)

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        p = self.p
        if not p.source:
            raise LayerError("window_data_param: expected a source (a list of windows), got none")
        self._transform = self.transform()
        self.crop = self._transform.crop_height
        if not self.crop or self._transform.crop_width != self.crop:
            raise LayerError("transform_param: expected crop_size, the side of the squares that windows become")
        if self._transform.scale_factors:
            raise LayerError("scale_factors: only ImageSegData scales at random")
        if p.crop_mode not in ("warp", "square"):
            raise LayerError(f"crop_mode: expected 'warp' or 'square', got {p.crop_mode!r}")
        if not 2 * p.context_pad < self.crop:
            raise LayerError(f"context_pad: expected less than half of crop_size {self.crop}, got {p.context_pad}")
        if not 0 <= p.fg_fraction <= 1:
            raise LayerError(f"fg_fraction: expected 0 to 1, got {p.fg_fraction:g}")
        self.batch_size = self.want_batch(p.batch_size)
        self.foreground = int(np.float32(self.batch_size) * np.float32(p.fg_fraction))

    def open(self) -> None:
        """Read the list and the mean picture, and sort the windows into two kinds."""
        self._transform = self.transform(self.mean_image())
        self._images, windows = read_windows(self.env.paths.resolve(self.p.source, "source"))
        inside = windows[:, 2] >= np.float32(self.p.fg_threshold)
        outside = windows[(windows[:, 2] < np.float32(self.p.bg_threshold)) & ~inside].copy()
        outside[:, 1] = 0
        self._kinds = (outside, windows[inside])
        if (self._kinds[1][:, 1] < 1).any():
            raise DataError("expected classes from 1 on for windows whose overlap is at least fg_threshold, got 0",
                            self.p.source)
        for kind, wanted, name in zip(self._kinds, (self.batch_size - self.foreground, self.foreground),
                                      ("bg_threshold", "fg_threshold")):
            if wanted and not len(kind):
                raise DataError(f"expected windows on the side of {name} {getattr(self.p, name):g} that a batch takes "
                                f"{wanted} of, got none", self.p.source)

    def count(self) -> int:
        """Return the rows of a batch: what is drawn at random has no rounds."""
        return self.batch_size

    def sample_shapes(self) -> list[Shape]:
        """Return the crop's shape: images are read in colour."""
        return [(3, self.crop, self.crop), ()]

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Draw one window: those of the background come first in a batch."""
        kind = self._kinds[int(row >= self.batch_size - self.foreground)]
        window = kind[int(rng.integers(len(kind)))]
        flip = self._transform.mirror and bool(rng.integers(2))
        name = self._images[int(window[0])]
        try:
            image = read_image(self.env.paths.resolve(name, "source", prefix=self.p.root_folder))
            values = self._cut(image, [int(n) for n in window[3:]], flip)
        except AtrousCaffeError as error:
            raise type(error)(f"{error.where}: {error.message}" if error.where else error.message,
                              f"{self.p.source}: layer '{self.name}' ({self.type})") from None
        return values, np.float32(window[1])

    def _cut(self, image: np.ndarray, window: Sequence[int], flip: bool) -> np.ndarray:
        """Return a window as (C, crop, crop) float32."""
        if window[2] < window[0] or window[3] < window[1]:
            raise DataError(f"expected a window x1 y1 x2 y2 with its ends in order, got {', '.join(map(str, window))}")
        cut = cut_window(window, image.shape[:2], self.crop, int(self.p.context_pad), self.p.crop_mode == "square",
                         flip)
        if not (0 <= cut.top < cut.bottom <= image.shape[0] and 0 <= cut.left < cut.right <= image.shape[1]
                and cut.height > 0 and cut.width > 0):
            raise DataError(f"expected a window inside of the image's {image.shape[1]}x{image.shape[0]} pixels, got "
                            f"{', '.join(map(str, window))}")
        part = resize_image(image[cut.top:cut.bottom, cut.left:cut.right], cut.height, cut.width)
        values = np.zeros((image.shape[2], self.crop, self.crop), np.float32)
        place = (slice(None), slice(cut.row, cut.row + cut.height), slice(cut.column, cut.column + cut.width))
        values[place] = (part[:, ::-1] if flip else part).transpose(2, 0, 1)
        values[place] -= self._transform.mean_of(values.shape)[place]
        values *= np.float32(self._transform.scale)
        return values
