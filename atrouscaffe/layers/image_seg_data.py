"""ImageSegData: pictures with their label maps, DeepLab's own data layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.image import resize_image
from atrouscaffe.data.lists import Entry, atoi
from atrouscaffe.data.palette import read_labels
from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.image_data import ListLayer


@register
class ImageSegData(ListLayer):
    """Reads pictures with their label maps: tops data, label, and the picture's real height and width.

    Notes
    -----
    Source: ``image_seg_data_layer.cpp`` of both forks. A line is ``image [label]``, each put behind
    ``root_folder``. ``label_type``: PIXEL reads a label map; IMAGE (the default, as there) fills the
    map with the number that the second word begins with, 0 for a path; NONE fills it with
    ``ignore_label``. The third top is limited to the crop.

    Differences from the original: palette PNGs are read by index, not by luminance, and
    ``new_height`` resizes label maps by the nearest pixel, where the original mixes neighbouring
    class numbers.
    """

    type = "ImageSegData"
    tops = (3, 3)
    auto_tops = 3

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        if self.spec.fields.transform_param.mean_file:
            raise LayerError("mean_file: ImageSegData takes mean_value (three of them), not a mean picture")

    def sample_shapes(self) -> list[Shape]:
        """Return the crop's shape, or the first image's."""
        t = self._transform
        size = (t.crop_height, t.crop_width) if t.crop_height else self.image_size()
        return [(self.channels, *size), (1, *size), (1, 1, 2)]

    def sample(self, entry: Entry, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read and transform one image and its label map."""
        image = self.read(entry.image)
        label = self._label(entry, image.shape[:2])
        data, labels = self._transform.image_and_label(image, label, self.p.ignore_label, rng)
        height, width = image.shape[:2]
        size = np.array([[[min(height, data.shape[1]), min(width, data.shape[2])]]], np.float32)
        return data, labels, size

    def _label(self, entry: Entry, size: tuple[int, int]) -> np.ndarray:
        kind = self.p.label_type
        if kind == "PIXEL":
            if not entry.label:
                raise DataError("label_type PIXEL: expected 'image label' on the line, got an image only")
            label = read_labels(self.path(entry.label))
            return resize_image(label, *size, nearest=True) if self.p.new_height else label
        value = atoi(entry.label) if kind == "IMAGE" else self.p.ignore_label
        return np.full(size, min(255, max(0, value)), np.uint8)
