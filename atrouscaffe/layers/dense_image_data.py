"""DenseImageData: pictures with their label maps, SegNet's and ENet's data layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.image import resize_image
from atrouscaffe.data.lists import Entry
from atrouscaffe.data.palette import read_labels
from atrouscaffe.data.transform import Transform
from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.image_data import ListLayer


class PairLayer(ListLayer):
    """What layers share that read an image and a map of the same size from each line, and cut both alike.

    A subclass defines `map`. Crops are at random in both phases, as in the originals.
    """

    tops = (2, 2)
    divisor = 1

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        if self._transform.scale_factors:
            raise LayerError("scale_factors: only ImageSegData scales at random")
        self.geometry = Transform(self._transform.crop_height, self._transform.crop_width, self._transform.mirror,
                                  train=True)

    def map(self, name: str) -> np.ndarray:
        """Read the map of a line, (H, W) uint8, in the size that the layer asks for."""
        raise LayerError(f"type {self.type}: no maps are defined")

    def sample_shapes(self) -> list[Shape]:
        """Return the crop's shape, or the first image's."""
        cut = self.geometry
        height, width = (cut.crop_height, cut.crop_width) if cut.crop_height else self.image_size()
        return [(self.channels, height, width), (1, height // self.divisor, width // self.divisor)]

    def sample(self, entry: Entry, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read one image and its map; mirror and crop both in the same way."""
        if not entry.label:
            raise DataError("expected the names of an image and of its map, got one name only")
        image, labels = self.read(entry.image), self.map(entry.label)
        wanted = tuple(n // self.divisor for n in image.shape[:2])
        if labels.shape != wanted:
            raise DataError(f"image of {image.shape[1]}x{image.shape[0]} pixels, but its map has "
                            f"{labels.shape[1]}x{labels.shape[0]}")
        seed = int(rng.integers(2**62))  # the same numbers for both
        whole = dataclasses.replace(self._transform, crop_height=self.geometry.crop_height, train=True,
                                    crop_width=self.geometry.crop_width, mirror=self.geometry.mirror)
        return (whole.image(image, np.random.default_rng(seed)),
                self.geometry.image(labels, np.random.default_rng(seed)))


@register
class DenseImageData(PairLayer):
    """Reads pictures with their label maps: tops data and label (N, 1, h, w).

    Notes
    -----
    Source: ``dense_image_data_layer.cpp`` of SegNet's and of ENet's Caffe. A line is ``image label``,
    each put behind ``root_folder``. ``mirror``, ``crop_height`` and ``crop_width`` stand in
    ``dense_image_data_param``, since those of ``transform_param`` would treat image and label map
    differently; mean and scale stand in ``transform_param`` and leave labels alone. ``new_height`` and
    ``new_width`` resize label maps by the nearest pixel, and ``label_divide_factor`` (ENet's encoder)
    makes them smaller than the image by that factor; it does not change the class numbers.

    Differences: palette PNGs are read by index, not by luminance; a mean picture has the size of the
    image before the crop; ``dense_image_data_param``'s own ``mean_file``, which the original never
    reads, is refused.
    """

    type = "DenseImageData"
    options = "dense_image_data_param"

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        p, t = self.p, self.spec.fields.transform_param
        if t.mirror or self._transform.crop_height:
            raise LayerError("transform_param: mirror and crop_size would treat image and label map differently; give "
                             "mirror, crop_height and crop_width in dense_image_data_param")
        if p.mean_file:
            raise LayerError("dense_image_data_param: its mean_file is read by no Caffe; give mean_file or mean_value "
                             "in transform_param")
        if (p.crop_height > 0) != (p.crop_width > 0):
            raise LayerError("dense_image_data_param: expected crop_height and crop_width together, got "
                             f"{p.crop_height} and {p.crop_width}")
        self.divisor = int(p.label_divide_factor)
        if self.divisor < 1 or (self.divisor > 1 and (p.crop_height or not p.new_height)):
            raise LayerError("label_divide_factor: expected at least 1, and above 1 only with new_height and new_width "
                             f"and without a crop, got {self.divisor}")
        if p.new_height and min(p.new_height, p.new_width) < self.divisor:
            raise LayerError(f"label_divide_factor: expected at most new_height and new_width, got {self.divisor}")
        self.geometry = Transform(int(p.crop_height), int(p.crop_width), bool(p.mirror), train=True)

    def map(self, name: str) -> np.ndarray:
        """Read a label map by index, resized by the nearest pixel."""
        labels = read_labels(self.path(name))
        if not self.p.new_height:
            return labels
        return resize_image(labels, self.p.new_height // self.divisor, self.p.new_width // self.divisor, nearest=True)
