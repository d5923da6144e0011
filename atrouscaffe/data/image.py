"""Pictures from files, decoded as the original did it: by OpenCV, into BGR bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from atrouscaffe.data.header import Header, read_header
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError, FileAccessError, FileMissingError

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "check_image", "decode_image", "image_header", "read_bytes", "read_image",
           "resize_image"]

MAX_PIXELS = 2**28
"""Largest picture that is decoded unless the caller allows more: 268 million pixels, 800 MB of BGR."""

MAX_FILE_BYTES = 2**30
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".tif",
                  ".tiff", ".gif", ".jp2")


def read_bytes(path: str | os.PathLike, limit: int = MAX_FILE_BYTES, what: str = "picture") -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises
    ------
    FileMissingError, FileAccessError
        No such file; a folder, pipe or device; not allowed to read it.
    DataError
        Larger than `limit`.
    """
    path = os.fspath(path)
    try:
        info = os.stat(path)  # before opening: opening a pipe would wait for a writer
        if not stat.S_ISREG(info.st_mode):
            kind = "a folder" if stat.S_ISDIR(info.st_mode) else "no ordinary file"
            raise FileAccessError(f"expected a {what}, got {kind}", path)
        if info.st_size > limit:
            raise DataError(f"{what} of {info.st_size} bytes; at most {limit} are read", path)
        with open(path, "rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise FileMissingError(f"no such file; expected a {what}", path) from None
    except ValueError as error:
        if isinstance(error, AtrousCaffeError):
            raise
        raise DataError(f"expected the path of a {what}, got one with a zero byte", ascii(path)) from None
    except OSError as error:
        if isinstance(error, AtrousCaffeError):
            raise
        raise FileAccessError(f"cannot be read: {error.strerror}", path) from None


def image_header(path: str | os.PathLike) -> Header:
    """Return kind and size of a picture file without decoding it."""
    try:
        return read_header(read_bytes(path))
    except DataError as error:
        error.where = error.where or os.fspath(path)
        raise


def read_image(path: str | os.PathLike, *, gray: bool = False, max_pixels: int = MAX_PIXELS,
               upright: bool = False) -> np.ndarray:
    """Read a picture file at its own size.

    Parameters
    ----------
    path : path
        JPEG, PNG, BMP, PPM/PGM, GIF, WebP or TIFF.
    gray : bool
        Read as one channel, converted by OpenCV (for a palette PNG that is luminance, not the index:
        `atrouscaffe.data.palette.read_labels` reads label maps).
    max_pixels : int
        Larger pictures are refused before anything is decoded.
    upright : bool
        Turn the picture as its EXIF orientation says, as people see it. Label maps of datasets belong to
        pictures as they are stored, so that lists are read without.

    Returns
    -------
    (H, W, 3) uint8 in the order B, G, R, or (H, W) uint8

    Raises
    ------
    FileMissingError, FileAccessError, DataError
        The file is missing, no picture, truncated, damaged or too large.

    Notes
    -----
    As in Caffe's ``ReadImageToCVMat``: 16-bit pictures become 8-bit, transparency is dropped, and
    the EXIF orientation is ignored unless `upright`. JPEG decoders differ by a grey level here and
    there; this is OpenCV's.
    """
    data = read_bytes(path)
    try:
        return decode_image(data, gray=gray, max_pixels=max_pixels, upright=upright)
    except DataError as error:
        error.where = error.where or os.fspath(path)
        raise


def decode_image(data: bytes, *, gray: bool | None = False, max_pixels: int = MAX_PIXELS,
                 upright: bool = False) -> np.ndarray:
    """Decode an encoded picture; as `read_image`, and `gray` None keeps the picture's own channels.

    Returns
    -------
    (H, W, 3) or (H, W) uint8
        With `gray` None also (H, W, 4), B, G, R, alpha.
    """
    import cv2

    header = read_header(data)
    if header.height * header.width > max_pixels:
        raise DataError(f"{header.kind} picture of {header.width}x{header.height} pixels; at most {max_pixels} pixels "
                        "are decoded; scale it down or cut it into pieces")
    if not header.complete:
        raise DataError(f"truncated {header.kind}: its end is missing after {len(data)} bytes; copy it again")
    if gray is None:
        flags = cv2.IMREAD_UNCHANGED
    else:
        flags = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR
        flags |= 0 if upright else cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"damaged {header.kind}: OpenCV refuses it ({error.err})") from None
    if image is None:
        raise DataError(f"damaged {header.kind}: the header says {header.width}x{header.height} pixels, but OpenCV "
                        "cannot decode the rest")
    if image.dtype != np.uint8:
        raise DataError(f"expected 8 bits a channel, got {image.dtype}; convert the picture to 8 bits")
    return image


def resize_image(image: np.ndarray, height: int, width: int, *, nearest: bool = False,
                 mode: str = "LINEAR") -> np.ndarray:
    """Resize by OpenCV: linear as ``new_height`` does it, nearest for label maps, or by another of its modes."""
    import cv2

    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=getattr(cv2, f"INTER_{'NEAREST' if nearest else mode}"))


def check_image(image: object, what: str = "image", order: str = "bgr") -> np.ndarray:
    """Return `image` as a contiguous (H, W, 3) uint8 array in the order B, G, R, or say what is wrong with it.

    Parameters
    ----------
    image : path, PIL image or array
        A file or PIL image is turned upright as its EXIF orientation says. An array (H, W, 3), (H, W) or
        (H, W, 1) holds uint8, uint16 over its whole range, or floating point numbers from 0 to 1.
    what : str
        Its name in errors.
    order : {"bgr", "rgb"}
        Of an array's channels.

    Raises
    ------
    ArgumentError
        Another type or shape; alpha; numbers outside the range.
    """
    if order not in ("bgr", "rgb"):
        raise ArgumentError(f"order: expected 'bgr' or 'rgb', got {order!r}")
    if isinstance(image, (str, Path)):
        return read_image(image, upright=True)
    if not isinstance(image, np.ndarray):
        image, order = _from_pil(image, what), "rgb"
    pixels = _as_bytes(image, what)
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 1):
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise ArgumentError(f"{what}: shape {pixels.shape} has a fourth channel, alpha, which a net cannot see; blend "
                            "it over a background, or drop it with image[..., :3]")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ArgumentError(f"{what}: expected shape (H, W, 3) or (H, W), got {pixels.shape}")
    return np.ascontiguousarray(pixels[:, :, ::-1] if order == "rgb" else pixels)


def _from_pil(image: object, what: str) -> np.ndarray:
    """Return the RGB pixels of a PIL image, upright."""
    from PIL import Image, ImageOps

    if not isinstance(image, Image.Image):
        raise ArgumentError(f"{what}: expected a path, a PIL image, or an array of shape (H, W, 3) (order='bgr' or "
                            f"order='rgb' says in which order its channels are), got {type(image).__name__}")
    if image.mode in ("RGBA", "LA", "PA"):
        raise ArgumentError(f"{what}: a PIL image of mode {image.mode} has alpha, which a net cannot see; blend it "
                            "over a background, or drop it with image.convert('RGB')")
    if image.width * image.height > MAX_PIXELS:
        raise ArgumentError(f"{what}: {image.width}x{image.height} pixels; at most {MAX_PIXELS} are taken")
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _as_bytes(image: np.ndarray, what: str) -> np.ndarray:
    """Return the values of an image as uint8."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype.kind != "f":
        raise ArgumentError(f"{what}: expected uint8, uint16, or floating point numbers from 0 to 1, got "
                            f"{image.dtype}; convert it with .astype('uint8')")
    if image.size and not (image.min() >= 0 and image.max() <= 1):  # also where it is NaN
        raise ArgumentError(f"{what}: floating point numbers must be from 0 to 1, got {image.min():.6g} to "
                            f"{image.max():.6g}; divide by 255, or convert with .round().astype('uint8')")
    return np.rint(image * 255).astype(np.uint8)
