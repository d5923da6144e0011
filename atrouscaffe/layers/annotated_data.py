"""AnnotatedData of SSD: records of a database, one image with its boxes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from atrouscaffe.data.image import decode_image, resize_image
from atrouscaffe.data.transform import Transform
from atrouscaffe.errors import AtrousCaffeError, DataError, LayerError
from atrouscaffe.formats.datum import Datum, parse_annotated_datum
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.data import Data, raw_pixels
from atrouscaffe.runtime.blob import Blob

__all__ = ["AnnotatedData"]

LARGEST = 2**14
"""No side that images are resized to is longer."""


@register
class AnnotatedData(Data):
    """Reads AnnotatedDatum records: images, and for a second top all their boxes, (1, 1, G, 8).

    A row of boxes: item, class, instance, xmin, ymin, xmax, ymax in fractions of the image, difficult; one row of -1
    where a batch has none. ``data_param`` as in `Data`; ``transform_param``: mean, scale, mirror, resize_param (WARP
    with prob 1; one of its interp_mode is drawn for each image).

    Notes
    -----
    SSD's random crops (``batch_sampler``), ``distort_param``, ``expand_param`` and ``noise_param`` are not there: a net
    that asks for them builds, and its forward pass says so. Source: ``annotated_data_layer.cpp`` of SSD's Caffe.
    """

    type = "AnnotatedData"

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        t, resize = self.spec.fields.transform_param, self.spec.fields.transform_param.resize_param
        self._size: tuple[int, int] | None = None
        if t.has("resize_param"):
            self._size = resize.height, resize.width
            if resize.resize_mode != "WARP" or resize.prob != 1 or not all(1 <= n <= LARGEST for n in self._size):
                raise LayerError(f"resize_param: expected WARP with prob 1 to sides of 1 to {LARGEST}, got "
                                 f"{resize.resize_mode} with prob {resize.prob:g} to {resize.height}x{resize.width}")
        self._modes = tuple(resize.interp_mode) or ("LINEAR",)
        if t.crop_size or t.has("crop_h") or t.has("crop_w"):
            raise LayerError("transform_param: expected no crop, since boxes are not cut here; use resize_param")
        samplers = self.spec.fields.annotated_data_param.batch_sampler
        self._missing = [word for word in ("distort_param", "expand_param", "noise_param") if t.has(word)]
        self._missing += ["batch_sampler"] if any(not sampler.use_original_image or sampler.has("sampler")
                                                  for sampler in samplers) else []

    def transform(self, mean_image: np.ndarray | None = None) -> Transform:
        """Return ``transform_param`` without what is done to boxes."""
        return Transform.from_fields(self.spec.fields.transform_param, train=False, mean_image=mean_image, boxes=True)

    def sample_shapes(self) -> list[Shape]:
        """Return the shape of the first image, resized."""
        channels, height, width = super().sample_shapes()[0]
        return [(channels, *(self._size or (height, width))), ()][:len(self.spec.tops)]

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Images, and one row of boxes; forward knows how many."""
        return [super().infer_shapes(bottoms)[0], (1, 1, 1, 8)][:len(self.spec.tops)]

    def parse(self, value: bytes) -> Datum:
        """Return the image of a record."""
        return parse_annotated_datum(value)[0]

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read one record: the image, and its boxes (n, 7)."""
        value = self.reader().record(row)[1]
        try:
            datum, boxes = parse_annotated_datum(value)
            image = decode_image(datum.data, gray=self._gray) if datum.encoded else raw_pixels(datum)
            if self._size:
                image = resize_image(image, *self._size, mode=self._modes[int(rng.integers(len(self._modes)))])
            data = replace(self._transform, mirror=False).image(image, rng)
        except AtrousCaffeError as error:
            raise type(error)(error.message, self._place(row)) from None
        if self._transform.mirror and rng.integers(2):
            data = np.ascontiguousarray(data[:, :, ::-1])
            boxes[:, [2, 4]] = 1 - boxes[:, [4, 2]]
        return data, boxes

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Read the next batch; the second top changes its shape."""
        if self._missing:
            raise LayerError(f"{', '.join(self._missing)}: SSD's augmentation is not there; leave it out of the net, "
                             "and augment the images before")
        self.start(ctx)
        rows = [self._take(ctx) for _ in range(self.batch_size)]
        shapes = {data.shape for data, _ in rows}
        if len(shapes) > 1:
            raise DataError(f"the images of one batch differ in shape: {sorted(shapes)}; set resize_param")
        top[0].reshape(self.batch_size, *shapes.pop())
        top[0].array[...] = ctx.backend.asarray(np.stack([data for data, _ in rows]), top[0].dtype)
        if len(top) > 1:
            found = np.concatenate([np.insert(boxes, 0, item, axis=1) for item, (_, boxes) in enumerate(rows)])
            found = found if len(found) else np.full((1, 8), -1, np.float32)
            top[1].reshape(1, 1, len(found), 8)
            top[1].array[...] = ctx.backend.asarray(found.reshape(top[1].shape), top[1].dtype)
