"""Label maps: read by index, written with VOC's colour map.

OpenCV expands a palette before anybody sees the index: class 15 then reads as 192, or as 147 when
read grey. So label maps go through Pillow, which hands the indices over as they are stored.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence

import numpy as np

from atrouscaffe.data.header import read_header
from atrouscaffe.data.image import MAX_PIXELS, read_bytes
from atrouscaffe.errors import ArgumentError, DataError

__all__ = ["VOID", "color_map", "colorize", "decode_labels", "encode_labels", "explain_values", "labels_from_colors",
           "read_labels"]

VOID = 255


@functools.cache
def color_map(classes: int = 256) -> np.ndarray:
    """Return VOC's colour map.

    Bits 0, 1, 2 of the index go to R, G, B from the highest bit downward, then the next three
    (DEEPLAB: equal to ``pascal_seg_colormap.mat`` × 255); index 255 is (224, 224, 192).

    Returns
    -------
    (classes, 3) uint8 in the order R, G, B, read-only
    """
    index = np.arange(classes)
    colors = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    colors.setflags(write=False)
    return colors


def colorize(labels: np.ndarray) -> np.ndarray:
    """Return the colours of a label map, (H, W) uint8 to (H, W, 3) uint8 in the order B, G, R."""
    return color_map()[np.asarray(labels, np.uint8)][..., ::-1]


@functools.cache
def _luminances() -> dict[int, int]:
    """Grey value of each VOC colour: {grey: index}; libraries differ in rounding, so neighbours count, too."""
    gray = (color_map(21) @ np.array([0.299, 0.587, 0.114])).round().astype(int)
    exact = {int(g): i for i, g in enumerate(gray) if i} | {220: VOID}
    return {g + d: i for d in (-1, 1) for g, i in exact.items()} | exact


def explain_values(labels: np.ndarray, classes: int = 21) -> str:
    """Say why label values are out of range, "" where all are below `classes` or 255.

    Recognises the two ways a palette gets lost: grey values of VOC's colours, and a 0/255 mask.
    """
    present = np.unique(labels)
    bad = [int(v) for v in present if v >= classes and v != VOID]
    if not bad:
        return ""
    shown = ", ".join(map(str, bad[:6])) + (", …" if len(bad) > 6 else "")
    text = f"label values {shown}: expected 0 to {classes - 1}, or 255 for void"
    known = _luminances()
    if classes == 21 and all(int(v) in known for v in present if v):
        text += (f"; these are the grey values of VOC's colours ({bad[0]} is class {known[bad[0]]}): the palette was "
                 "lost when the file was saved, so use the original palette PNG")
    return text


def labels_from_colors(rgb: np.ndarray) -> tuple[np.ndarray, int]:
    """Turn a picture in VOC's colours into indices.

    Parameters
    ----------
    rgb : (H, W, 3) uint8, R, G, B

    Returns
    -------
    labels : (H, W) uint8
        255 where the colour is none of the 21 classes'.
    unknown : int
        Pixels whose colour is neither a class's nor void's.
    """
    codes = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    table = color_map().astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    labels = np.full(codes.shape, VOID, np.uint8)
    known = codes == table[VOID]
    for index in range(21):
        hit = codes == table[index]
        labels[hit] = index
        known |= hit
    return labels, int(np.count_nonzero(~known))


def read_labels(path: str | os.PathLike, *, colors: bool = False, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map by index.

    Parameters
    ----------
    path : path
        Palette PNG (its indices are taken, the colours do not matter) or grey picture.
    colors : bool
        Also accept an RGB picture in VOC's 21 colours and turn them into indices.
    max_pixels : int
        Larger pictures are refused before anything is decoded.

    Returns
    -------
    (H, W) uint8

    Raises
    ------
    FileMissingError, FileAccessError, DataError
        Missing, no picture, truncated, too large, 16-bit values above 255, or colours in place of indices.
    """
    path = os.fspath(path)
    data = read_bytes(path)
    try:
        return decode_labels(data, colors=colors, max_pixels=max_pixels)
    except DataError as error:
        error.where = error.where or path
        raise


def decode_labels(data: bytes, *, colors: bool = False, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a label map from a file's bytes; as `read_labels`."""
    from PIL import Image, PngImagePlugin

    header = read_header(data)
    if header.height * header.width > max_pixels:
        raise DataError(f"label map of {header.width}x{header.height} pixels; at most {max_pixels} pixels are decoded")
    if not header.complete:
        raise DataError(f"truncated {header.kind}: its end is missing after {len(data)} bytes; copy it again")
    # Pillow's own limit is global and warns; the size was checked above, so the PNG reader is called
    # directly, and other kinds are opened by name.
    try:
        if header.kind == "PNG":
            picture: Image.Image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        else:
            picture = Image.open(io.BytesIO(data), formats=[{"PNM": "PPM"}.get(header.kind, header.kind.upper())])
        with picture:
            mode = picture.mode
            values = np.asarray(picture)
    except Exception as error:  # Pillow raises SyntaxError, OSError, ValueError, struct.error, zlib.error …
        raise DataError(f"damaged {header.kind}: Pillow cannot decode it ({error})") from None
    if mode in ("P", "L"):
        return np.array(values, np.uint8)
    if mode in ("I", "I;16", "I;16B", "F") and values.ndim == 2:
        if values.size and (values.min() < 0 or values.max() > 255):
            raise DataError(f"label values from {values.min()} to {values.max()}; expected indices from 0 to 255")
        return values.astype(np.uint8)
    if mode == "1":
        raise DataError("a black and white picture; expected a palette or grey PNG of class indices")
    if mode in ("RGB", "RGBA"):
        return _from_rgb(values[..., :3], colors)
    raise DataError(f"a picture of mode {mode}; expected a palette or grey PNG of class indices")


def _from_rgb(rgb: np.ndarray, colors: bool) -> np.ndarray:
    labels, unknown = labels_from_colors(rgb)
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0].copy()  # three equal channels: a grey picture of indices saved as RGB
    if unknown:
        raise DataError(f"an RGB picture with {unknown} of {labels.size} pixels in colours that are not VOC's; "
                        "expected a palette or grey PNG of class indices")
    if not colors:
        raise DataError("an RGB picture in VOC's colours; expected a palette or grey PNG of class indices: use the "
                        "original palette PNG, or read_labels(path, colors=True) and encode_labels to make one")
    return labels


def encode_labels(labels: np.ndarray, palette: Sequence[Sequence[int]] | np.ndarray | None = None) -> bytes:
    """Return a label map as an 8-bit palette PNG.

    Parameters
    ----------
    labels : (H, W) integers from 0 to 255
    palette : (n, 3) integers, optional
        R, G, B of each index; VOC's colour map when left out.

    Returns
    -------
    bytes
        Write them with ``formats.atomic.atomic_write``.
    """
    from PIL import Image

    labels = np.asarray(labels)
    if labels.ndim != 2 or 0 in labels.shape or labels.dtype.kind not in "iu":
        raise ArgumentError("labels: expected an (H, W) array of whole numbers, "
                            f"got shape {labels.shape}, {labels.dtype}")
    if labels.min() < 0 or labels.max() > 255:
        raise ArgumentError(f"labels: expected values from 0 to 255, got {labels.min()} to {labels.max()}")
    picture = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    colors = color_map() if palette is None else np.asarray(palette, np.uint8)
    picture.putpalette(colors.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()
