"""What the layers that read a detector's predictions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Layer, Reach, Shape
from atrouscaffe.runtime.blob import Blob

__all__ = ["BoxLayer"]

MOST = 2**16
"""No detector knows more classes."""


class BoxLayer(Layer):
    """Base of layers of detectors; most begin with locations (N, 4 P), scores (N, C P) and priors (1, 2, 4 P).

    P is the number of priors, C of classes; ``share_location: false`` has 4 P C locations.
    """

    def want_classes(self) -> int:
        """Return num_classes, or raise where it is no number of classes."""
        if not 1 <= self.p.num_classes <= MOST:
            raise LayerError(f"{self.options}.num_classes: expected 1 to {MOST}, got {self.p.num_classes}")
        return int(self.p.num_classes)

    def check_predictions(self, bottoms: Sequence[Shape], classes: int, located: int) -> None:
        """Raise ShapeError unless locations, scores and priors belong together."""
        if any(not shape for shape in bottoms[:3]) or len(bottoms[2]) < 3 or bottoms[2][1] != 2 or bottoms[2][2] % 4:
            raise ShapeError(f"bottom[2] (priors): expected shape (1, 2, 4 boxes), got {tuple(bottoms[2])}")
        priors = bottoms[2][2] // 4
        for i, (what, each) in enumerate((("locations", 4 * located), ("scores", classes))):
            if int(np.prod(bottoms[i][1:])) != priors * each or bottoms[i][0] != bottoms[0][0]:
                raise ShapeError(f"bottom[{i}] ({what}): expected {each} numbers for each of {priors} priors, "
                                 f"{priors * each} an item, got shape {tuple(bottoms[i])}")

    @staticmethod
    def priors(blob: Blob) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes and variances, (P, 4) each."""
        both = blob.host().reshape(2, -1, 4)
        return both[0], both[1]

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
