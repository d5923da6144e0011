"""A folder laid out like VOC 2012, from photographs where they are there, else from drawn ones."""

from __future__ import annotations

import numpy as np

from atrouscaffe.data.image import read_image
from atrouscaffe.data.overlay import encode_picture
from atrouscaffe.data.palette import encode_labels, read_labels

from .nets import photo


def drawn(index, size, classes):
    """A picture of one disc on a ground, with its label map and a void ring."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height * (0.4 + 0.03 * index), x - width * 0.5)
    inside, ring = distance < min(size) * 0.3, np.abs(distance - min(size) * 0.3) < 1.5
    image = photo(height, width, index) // 4
    image[inside] = image[inside] // 2 + np.array([160, 40 + 20 * (index % 5), 90], np.uint8)
    labels = np.where(inside, 1 + index % (classes - 1), 0).astype(np.uint8)
    labels[ring] = 255
    return image, labels


def folder(path, count=4, size=(29, 37), classes=7, shared=None, name="val"):
    """Write `count` images with labels into ``path/VOCdevkit/VOC2012``; return `path`."""
    voc = path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / part).mkdir(parents=True)
    names = []
    if shared is not None:
        names = (shared / "voc/ImageSets/Segmentation/devval.txt").read_text().split()[:count]
        for ident in names:  # the middle of each photograph, so that the paper's nets stay quick
            image = read_image(shared / "voc/JPEGImages" / f"{ident}.jpg")
            labels = read_labels(shared / "voc/SegmentationClass" / f"{ident}.png")
            y, x = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
            cut = (slice(y, y + size[0]), slice(x, x + size[1]))
            write(voc, ident, image[cut], labels[cut])
    else:
        for i in range(count):
            names.append(f"2007_{i:06}")
            write(voc, names[-1], *drawn(i, (size[0] + i % 3, size[1] + i % 2), classes))
    (voc / "ImageSets/Segmentation" / f"{name}.txt").write_text("".join(f"{ident}\n" for ident in names))
    return path


def write(voc, ident, image, labels):
    (voc / "JPEGImages" / f"{ident}.jpg").write_bytes(encode_picture(np.ascontiguousarray(image), ".jpg"))
    (voc / "SegmentationClass" / f"{ident}.png").write_bytes(encode_labels(labels))
