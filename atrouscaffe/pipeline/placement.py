"""How an image is brought into a net whose scores would not lie over it otherwise, and where its scores lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atrouscaffe.data.image import resize_image
from atrouscaffe.pipeline.deploy import Deploy

__all__ = ["Placement"]


@dataclass(frozen=True)
class Placement:
    """What is done with each image before the mean is subtracted.

    Attributes
    ----------
    size : (int, int) or None
        Height and width to which images are resized, linearly; None leaves them.
    margin : (int, int)
        Pixels that are mirrored around an image, above and below, left and right, for a net without
        padding (DilatedNet, U-Net): its scores are those of the middle.
    step : (int, int)
        Pixels from one score to the next, which count where there is a margin.
    """

    size: tuple[int, int] | None = None
    margin: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, deploy: Deploy, resized: bool) -> Placement:
        """Return what a net needs; `resized` where its authors resize each image to the net's size."""
        if resized:
            return cls(deploy.size)
        margins, steps = zip(*deploy.lost())
        return cls(None, margins, steps)

    def place(self, image: np.ndarray) -> np.ndarray:
        """Return an image (H, W, C) uint8 as it goes into the net."""
        if self.size is not None:
            return resize_image(image, *self.size).reshape(*self.size, image.shape[2])
        if self.margin == (0, 0):
            return image
        import cv2

        # As much more below and at the right as lets the last score lie at the image's end, or behind it.
        more = [(-(-(n - 1) // step) + 1) * step - n for n, step in zip(image.shape, self.step)]
        top, left = self.margin
        padded = cv2.copyMakeBorder(image, top, top + more[0], left, left + more[1], cv2.BORDER_REFLECT_101)
        return padded.reshape(*padded.shape[:2], image.shape[2])

    def span(self, whole: tuple[int, int], scores: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
        """Return how many of the image's pixels lie from the first score to the last, both included.

        Parameters
        ----------
        whole : (int, int)
            Size of a pass.
        scores : (int, int)
            Height and width of its scores.
        image : (int, int)
            Height and width of the image.
        """
        if self.size is not None:
            return image
        height, width = ((n - 1) * step + 1 if margin else size
                         for n, step, margin, size in zip(scores, self.step, self.margin, whole))
        return height, width
