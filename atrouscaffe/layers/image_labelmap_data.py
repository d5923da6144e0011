"""ImageLabelmapData: pictures with their edge maps, HED's data layer."""

from __future__ import annotations

import numpy as np

from atrouscaffe.data.image import read_image, resize_image
from atrouscaffe.layers.base import register
from atrouscaffe.layers.dense_image_data import PairLayer


@register
class ImageLabelmapData(PairLayer):
    """Reads pictures with maps of edges: tops data and label (N, 1, h, w), which is 0 or 1.

    A line is ``image map``, each put behind ``root_folder``. Grey values from 128 on are edges, which
    drops those that fewer than half of the annotators drew. Mirror and crop treat both alike
    (``image_labelmap_data_layer.cpp``; Xie and Tu, 2015).
    """

    type = "ImageLabelmapData"

    def map(self, name: str) -> np.ndarray:
        """Read a grey picture, resized as the image is, and tell edges from the rest."""
        grey = read_image(self.path(name), gray=True)
        if self.p.new_height:
            grey = resize_image(grey, self.p.new_height, self.p.new_width)
        return (grey >= 128).astype(np.uint8)
