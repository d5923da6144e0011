"""``transform_param``: crop, mirror, mean, scale, in the original's order.

Source: ``src/caffe/data_transformer.cpp`` of BVLC and of both forks (``TransformImgAndSeg``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.data.image import resize_image
from atrouscaffe.errors import DataError, LayerError

__all__ = ["Transform"]

_OF_SSD = ("resize_param", "noise_param", "distort_param", "expand_param", "emit_constraint", "crop_h", "crop_w")


@dataclass(frozen=True)
class Transform:
    """What happens to a picture between file and blob.

    Attributes
    ----------
    crop_height, crop_width : int
        0 keeps the picture's size.
    mirror : bool
        Flip left and right with probability 1/2 (in both phases, as in Caffe).
    scale : float
        Applied after the mean.
    mean_values : tuple of float
        None, one, or one a channel, in the order of the channels (B, G, R).
    mean_image : (C, H, W) float32 or None
        A mean picture of the size of the uncropped image.
    scale_factors : tuple of float
        V2's ImageSegData: one is drawn for each picture.
    train : bool
        Crop at random; else the centre.
    """

    crop_height: int = 0
    crop_width: int = 0
    mirror: bool = False
    scale: float = 1.0
    mean_values: tuple[float, ...] = ()
    mean_image: np.ndarray | None = None
    scale_factors: tuple[float, ...] = ()
    train: bool = False

    @classmethod
    def from_fields(cls, fields: Any, *, train: bool, mean_image: np.ndarray | None = None,
                    boxes: bool = False) -> Transform:
        """Make one from a ``TransformationParameter``; `boxes`: the caller sees to the options for images with boxes.

        Raises
        ------
        LayerError
            Options that exclude each other.
        """
        for name in _OF_SSD:
            if fields.has(name) and not boxes:
                raise LayerError(f"transform_param.{name}: SSD's augmentation of images with boxes is only in "
                                 "AnnotatedData; leave it out, and resize the images before (or by new_height and "
                                 "new_width of ImageData)")
        height, width = int(fields.crop_height), int(fields.crop_width)
        if (height > 0) != (width > 0) or (height and fields.crop_size):
            raise LayerError("transform_param: expected crop_size, or crop_height and crop_width, "
                             f"got crop_size {fields.crop_size}, crop_height {height}, crop_width {width}")
        if fields.mean_value and (fields.mean_file or mean_image is not None):
            raise LayerError("transform_param: expected mean_file or mean_value, got both")
        if any(not factor > 0 for factor in fields.scale_factors):
            raise LayerError(f"transform_param: expected scale_factors above 0, got {tuple(fields.scale_factors)}")
        if not np.isfinite([fields.scale, *fields.mean_value, *fields.scale_factors]).all():
            raise LayerError("transform_param: scale, mean_value or scale_factors is not finite")
        return cls(height or int(fields.crop_size), width or int(fields.crop_size), bool(fields.mirror),
                   float(fields.scale), tuple(map(float, fields.mean_value)), mean_image,
                   tuple(map(float, fields.scale_factors)), train)

    def out_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of a picture after the transform, for pictures that are not padded."""
        return channels, self.crop_height or height, self.crop_width or width

    def image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a picture alone (Data, ImageData): it must be at least as large as the crop.

        Parameters
        ----------
        image : (H, W), (H, W, C) uint8 or float32
        rng : numpy.random.Generator
            Drawn from in this order, where needed: mirror, row, column.

        Returns
        -------
        (C, h, w) float32
        """
        planes = _planes(image)
        height, width = planes.shape[1:]
        crop_h, crop_w = self.crop_height or height, self.crop_width or width
        if crop_h > height or crop_w > width:
            raise DataError(f"image of {width}x{height} pixels is smaller than the crop of {crop_w}x{crop_h}; "
                            "set new_height and new_width, or a smaller crop_size")
        flip = self.mirror and bool(rng.integers(2))
        row, column = self._offset(height - crop_h, width - crop_w, rng)
        values = planes[:, row : row + crop_h, column : column + crop_w].astype(np.float32)
        if self.mean_image is not None:
            if self.mean_image.shape != planes.shape:
                raise DataError(f"mean_file: expected the images' shape {planes.shape}, got {self.mean_image.shape}")
            values -= self.mean_image[:, row : row + crop_h, column : column + crop_w]
        return self._finish(values, flip)

    def image_and_label(self, image: np.ndarray, label: np.ndarray, ignore_label: int,
                        rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Transform a picture and its label map together (ImageSegData).

        What is smaller than the crop is padded at the bottom and right: the picture with the mean
        (0 after subtraction), the label map with `ignore_label`.

        Parameters
        ----------
        image : (H, W, C) or (H, W) uint8
        label : (H, W) uint8
        ignore_label : int
        rng : numpy.random.Generator
            Drawn from in this order, where needed: mirror, scale factor, row, column.

        Returns
        -------
        image : (C, h, w) float32
        label : (1, h, w) float32
        """
        if image.shape[:2] != label.shape:
            raise DataError(f"image of {image.shape[1]}x{image.shape[0]} pixels, but its label map has "
                            f"{label.shape[1]}x{label.shape[0]}")
        flip = self.mirror and bool(rng.integers(2))
        if self.scale_factors:
            factor = np.float32(self.scale_factors[int(rng.integers(len(self.scale_factors)))])
            height, width = (max(1, int(np.float32(n) * factor)) for n in label.shape)
            image, label = resize_image(image, height, width), resize_image(label, height, width, nearest=True)
        planes = _planes(image)
        channels, height, width = planes.shape
        crop_h, crop_w = self.crop_height or height, self.crop_width or width
        # Cropping before padding gives the same pixels as the original's padding before cropping:
        # an axis that is padded has one offset only, 0.
        row, column = self._offset(max(0, height - crop_h), max(0, width - crop_w), rng)
        inside_h, inside_w = min(crop_h, height), min(crop_w, width)
        part = (slice(row, row + inside_h), slice(column, column + inside_w))
        values = np.empty((channels, crop_h, crop_w), np.float32)
        values[:] = self._mean(channels)
        values[:, :inside_h, :inside_w] = planes[:, part[0], part[1]]
        labels = np.full((1, crop_h, crop_w), np.uint8(min(255, max(0, ignore_label))), np.float32)
        labels[0, :inside_h, :inside_w] = label[part]
        return self._finish(values, flip), labels[:, :, ::-1].copy() if flip else labels

    def _offset(self, rows: int, columns: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return where the crop begins, with `rows` and `columns` pixels to spare."""
        if self.train and (self.crop_height or self.crop_width):
            return int(rng.integers(rows + 1)), int(rng.integers(columns + 1))
        return rows // 2, columns // 2

    def mean_of(self, shape: tuple[int, int, int]) -> np.ndarray:
        """Return what is subtracted from a crop of that shape (C, h, w): the middle of a mean picture, or the values.

        Raises
        ------
        DataError
            The mean picture is smaller than the crop, or has other channels.
        """
        if self.mean_image is None:
            return np.broadcast_to(self._mean(shape[0]), shape)
        spare = [mine - theirs for mine, theirs in zip(self.mean_image.shape, shape)]
        if spare[0] or min(spare) < 0:
            raise DataError(f"mean_file: expected {shape[0]} channels of at least {shape[2]}x{shape[1]} pixels, got "
                            f"shape {self.mean_image.shape}")
        row, column = spare[1] // 2, spare[2] // 2
        return self.mean_image[:, row:row + shape[1], column:column + shape[2]]

    def _mean(self, channels: int) -> np.ndarray:
        """Return the mean as (channels, 1, 1) float32."""
        if len(self.mean_values) not in (0, 1, channels):
            raise LayerError(f"transform_param: expected one mean_value or {channels}, got {len(self.mean_values)}")
        mean = np.zeros(channels, np.float32)
        mean[:] = self.mean_values or 0.0
        return mean[:, None, None]

    def _finish(self, values: np.ndarray, flip: bool) -> np.ndarray:
        """Subtract the mean values, scale, flip."""
        if self.mean_values:
            values -= self._mean(values.shape[0])
        if self.scale != 1.0:
            values *= np.float32(self.scale)
        return np.ascontiguousarray(values[:, :, ::-1]) if flip else values


def _planes(image: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, C) as a view (C, H, W)."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
