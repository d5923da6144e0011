"""ImageData: pictures with a number each, from a list."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.image import MAX_PIXELS, image_header, read_image, resize_image
from atrouscaffe.data.lists import Entry, atoi, read_pairs
from atrouscaffe.errors import AtrousCaffeError, DataError, LayerError
from atrouscaffe.layers.base import Shape, register
from atrouscaffe.layers.batches import BatchLayer

MOST_BAD = 1000  # lines in a row that are passed over before the whole list counts as bad


class ListLayer(BatchLayer):
    """What layers share that read a list of images: the list, the folder in front, the wanted size."""

    options = "image_data_param"
    spaces = False

    def setup(self) -> None:
        """Check the options that both types know."""
        super().setup()
        p = self.p
        if not p.source:
            raise LayerError(f"{self.options}: expected a source (a list of images), got none")
        if (p.new_height > 0) != (p.new_width > 0):
            raise LayerError(f"{self.options}: expected new_height and new_width together, "
                             f"got {p.new_height} and {p.new_width}")
        if p.new_height * p.new_width > MAX_PIXELS:
            raise LayerError(f"{self.options}: expected new_height and new_width of at most {MAX_PIXELS} pixels, got "
                             f"{p.new_height} and {p.new_width}")
        self.batch_size = self.want_batch(p.batch_size)
        self.shuffle, self.rand_skip = bool(p.shuffle), int(p.rand_skip)
        self.channels = 3 if p.is_color else 1
        self._entries: list[Entry] | None = None
        self._told: set[int] = set()
        self._transform = self.transform()

    def open(self) -> None:
        """Read the list, and the mean picture where there is one."""
        self.entries()
        self._transform = self.transform(self.mean_image())

    def source(self) -> str:
        """Return the list's path."""
        return self.env.paths.resolve(self.p.source, "source")

    def entries(self) -> list[Entry]:
        """Return the lines of the list; read once."""
        if self._entries is None:
            self._entries = read_pairs(self.source(), spaces=self.spaces)
        return self._entries

    def count(self) -> int:
        """Return the number of lines."""
        return len(self.entries())

    def path(self, name: str) -> str:
        """Return the path of a file that the list names, below ``root_folder``."""
        return self.env.paths.resolve(name, "source", prefix=self.p.root_folder)

    def read(self, name: str) -> np.ndarray:
        """Read an image of the list, resized where the layer asks for it."""
        image = read_image(self.path(name), gray=not self.p.is_color)
        return resize_image(image, self.p.new_height, self.p.new_width) if self.p.new_height else image

    def image_size(self) -> tuple[int, int]:
        """Return the height and width of the first image, from its header."""
        if self.p.new_height:
            return self.p.new_height, self.p.new_width
        entry = self.entries()[0]
        try:
            header = image_header(self.path(entry.image))
        except AtrousCaffeError as error:
            raise self.at_line(error, entry) from None
        return header.height, header.width

    def load(self, row: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read one line; where it cannot be read and the net was made to pass over that, the next one that can."""
        for entry in (self.entries()[(row + i) % self.count()] for i in range(min(MOST_BAD, self.count()))):
            try:
                return self.sample(entry, rng)
            except AtrousCaffeError as error:
                located = self.at_line(error, entry)
            if not self.env.skip_bad_images:
                raise located
            if entry.line not in self._told:
                self._told.add(entry.line)
                print(f"passed over: {located}", file=sys.stderr)
        raise DataError(f"none of {min(MOST_BAD, self.count())} lines from line {entry.line} on can be read; the last "
                        f"one: {located}")

    def sample(self, entry: Entry, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read and transform what one line names."""
        raise LayerError(f"type {self.type}: no lines are defined")

    def at_line(self, error: AtrousCaffeError, entry: Entry) -> AtrousCaffeError:
        """Return `error` with the list's line and the layer in front."""
        place = f"{self.p.source}:{entry.line}: layer '{self.name}' ({self.type})"
        return type(error)(f"{error.where}: {error.message}" if error.where else error.message, place)


@register
class ImageData(ListLayer):
    """Reads pictures and their numbers from a list (``image_data_layer.cpp``).

    A line is an image path, which may hold spaces, and a whole number, 0 where none is given.
    ``label_divide_factor`` has no effect, as in ENet's Caffe, which has the field.
    """

    type = "ImageData"
    tops = (1, 2)
    spaces = True

    def setup(self) -> None:
        """Check the options."""
        super().setup()
        if self._transform.scale_factors:
            raise LayerError("scale_factors: only ImageSegData scales at random")

    def sample_shapes(self) -> list[Shape]:
        """Return the crop's shape, or the first image's."""
        t = self._transform
        size = (t.crop_height, t.crop_width) if t.crop_height else self.image_size()
        return [(self.channels, *size), ()][:len(self.spec.tops)]

    def sample(self, entry: Entry, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Read and transform one image."""
        image = self._transform.image(self.read(entry.image), rng)
        return (image, np.float32(atoi(entry.label)))[:len(self.spec.tops)]
