"""``caffe.io``: messages from arrays and back, pictures, and `Transformer`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from atrouscaffe.data.image import MAX_PIXELS, read_bytes
from atrouscaffe.errors import ArgumentError, DataError, NameNotFoundError
from atrouscaffe.pycaffe import resample
from atrouscaffe.pycaffe.errors import errors_also
from atrouscaffe.pycaffe.proto import caffe_pb2

__all__ = ["Transformer", "array_to_blobproto", "array_to_datum", "arraylist_to_blobprotovecor_str",
           "arraylist_to_blobprotovector_str", "blobproto_to_array", "blobprotovector_str_to_arraylist",
           "datum_to_array", "load_image", "oversample", "resize_image"]


# -- messages ---------------------------------------------------------------------------------------


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """Return the data (or diff) of a BlobProto as an array, in its old four-axes shape or its new one.

    Raises
    ------
    ValueError
        Another number of values than the shape says.
    """
    data = np.array(blob.diff if return_diff else blob.data)
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        shape: tuple[int, ...] = (blob.num, blob.channels, blob.height, blob.width)
    else:
        shape = tuple(blob.shape.dim)
    if math.prod(shape) != data.size:
        raise DataError(f"a BlobProto of shape {shape} needs {math.prod(shape)} values, {data.size} are there")
    return data.reshape(shape)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Any:
    """Return a BlobProto of an array of any number of axes, with `diff` beside it if it is given."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Return a serialized BlobProtoVector of arrays."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend([array_to_blobproto(array) for array in arraylist])
    return vector.SerializeToString()


arraylist_to_blobprotovecor_str = arraylist_to_blobprotovector_str  # as it was misspelt until 2018


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """Return the arrays of a serialized BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.ParseFromString(str)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Any:
    """Return a Datum of a (C, H, W) array: bytes where it is uint8, else floats.

    Raises
    ------
    ValueError
        Another number of axes.
    """
    if arr.ndim != 3:
        raise DataError(f"Incorrect array shape: expected (channels, height, width), got {arr.shape}")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: Any) -> np.ndarray:
    """Return the (C, H, W) array of a Datum, uint8 or float64; its label is ``datum.label``."""
    shape = (datum.channels, datum.height, datum.width)
    if len(datum.data):
        flat = np.frombuffer(datum.data, np.uint8).copy()
    else:
        flat = np.array(datum.float_data).astype(float)
    if datum.encoded or math.prod(shape) != flat.size:
        what = "an encoded picture, which OpenCV decodes" if datum.encoded else f"{flat.size} values"
        raise DataError(f"a Datum of shape {shape} holds {what}; expected {math.prod(shape)} values")
    return flat.reshape(shape)


# -- into a net and back ----------------------------------------------------------------------------


class Transformer:
    """Turns pictures into what a net's input wants, and back.

    Parameters
    ----------
    inputs : mapping of str to shape
        Input blobs and their shapes, such as ``{"data": net.blobs["data"].data.shape}``.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise NameNotFoundError(f"{in_} is not one of the net inputs: {dict(self.inputs)}")
        return tuple(int(n) for n in self.inputs[in_])

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return a picture as a net's input, (K, H, W) float32.

        In this order: float32; resize to the input's size; transpose; swap channels; times raw scale;
        minus mean; times input scale.

        Parameters
        ----------
        in_ : str
        data : (H', W', K) array
            It is left as it was (the original scaled float32 arrays in place).
        """
        dims = self._shape(in_)[2:]
        array = np.array(data, np.float32)
        if array.shape[:2] != dims:
            array = resize_image(array, dims)
        if in_ in self.transpose:
            array = array.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            array = array[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            array = array * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            array = (array - self.mean[in_]).astype(np.float32)
        if in_ in self.input_scale:
            array = array * np.float32(self.input_scale[in_])
        return array

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Undo `preprocess`, but for the resizing."""
        self._shape(in_)
        array = data.copy().squeeze()
        if in_ in self.input_scale:
            array = array / self.input_scale[in_]
        if in_ in self.mean:
            array = array + self.mean[in_]
        if in_ in self.raw_scale:
            array = array / self.raw_scale[in_]
        if in_ in self.channel_swap:
            array = array[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            array = array.transpose(np.argsort(self.transpose[in_]))
        return array.astype(data.dtype, copy=False)

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes: (2, 0, 1) turns (H, W, K) into (K, H, W)."""
        if len(order) != len(self._shape(in_)) - 1:
            raise ArgumentError("Transpose order needs to have the same number of dimensions as the input: expected "
                                f"{len(self._shape(in_)) - 1}, got {len(order)}")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels, which stand first after the transposition: (2, 1, 0) makes BGR of RGB."""
        if len(order) != self._shape(in_)[1]:
            raise ArgumentError("Channel swap needs to have the same number of dimensions as the input channels: "
                                f"expected {self._shape(in_)[1]}, got {len(order)}")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor before the mean: 255 for nets that want pixels from 0 to 255."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean to subtract: one number a channel, or an array of the input's (K, H, W) or (H, W).

        A mean of another size is resized, as in pycaffe since 2016.
        """
        shape = self._shape(in_)
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if len(mean) != shape[1]:
                raise ArgumentError(f"Mean channels incompatible with input: expected {shape[1]}, got {len(mean)}")
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim not in (2, 3):
            raise ArgumentError(f"Mean shape invalid: expected 1 to 3 axes, got {mean.shape}")
        elif ((1,) if mean.ndim == 2 else ()) + mean.shape != shape[1:]:
            mean = self._resized_mean(mean if mean.ndim == 3 else mean[np.newaxis], shape)
        self.mean[in_] = mean

    @staticmethod
    def _resized_mean(mean: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if mean.shape[0] not in (1, shape[1]):
            raise ArgumentError(f"Mean channels incompatible with input: expected {shape[1]}, got {mean.shape[0]}")
        return resize_image(mean.transpose(1, 2, 0), shape[2:]).transpose(2, 0, 1)

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor behind the mean."""
        self._shape(in_)
        self.input_scale[in_] = scale


# -- pictures ---------------------------------------------------------------------------------------


def load_image(filename: Any, color: bool = True, *, upright: bool = False) -> np.ndarray:
    """Read a picture.

    Parameters
    ----------
    filename : path or binary file object
        An object is read from where it stands.
    color : bool
        False reads one channel, by the luminance 0.2125 R + 0.7154 G + 0.0721 B.
    upright : bool
        Turn the picture as its EXIF orientation says.

    Returns
    -------
    (H, W, 3) RGB or (H, W, 1) float32, from 0 to 1

    Raises
    ------
    FileMissingError, DataError
        Both also RuntimeError; a missing file is also FileNotFoundError.
    """
    with errors_also(RuntimeError):
        image = _decode(filename, upright)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        image = image[:, :, :-1]  # alpha
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if not color and image.ndim == 3:
        image = image @ np.array([0.2125, 0.7154, 0.0721])
    if image.ndim == 2:
        image = np.repeat(image[:, :, np.newaxis], 3 if color else 1, axis=2)
    return image.astype(np.float32)


def _decode(filename: Any, upright: bool) -> np.ndarray:
    """Return the pixels as float64 from 0 to 1, with the file's own channels; a palette becomes RGB."""
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    data = filename.read() if hasattr(filename, "read") else read_bytes(filename)
    if not isinstance(data, bytes):
        raise DataError(f"expected a file object that reads bytes, got {type(data).__name__}; open it with mode 'rb'",
                        str(filename))
    try:
        with Image.open(io.BytesIO(data)) as file:
            picture: Image.Image = file
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"picture of {picture.width}x{picture.height} pixels; at most {MAX_PIXELS} are decoded",
                                str(filename))
            if upright:
                picture = ImageOps.exif_transpose(picture)
            if picture.mode == "P":
                picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
            elif picture.mode in ("CMYK", "YCbCr", "HSV", "LAB"):
                picture = picture.convert("RGB")
            array = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        reason = "of no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"cannot be decoded as a picture: {reason}", str(filename)) from None
    if array.dtype == np.bool_ or array.dtype.kind == "f":
        return array.astype(np.float64)
    return array / (255.0 if array.dtype == np.uint8 else 65535.0)


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """Resize a picture.

    Parameters
    ----------
    im : (H, W, K) array
    new_dims : (height, width)
    interp_order : int
        0 nearest, 1 linear; 2 to 5 are splines and need SciPy.

    Returns
    -------
    (height, width, K) float32

    Notes
    -----
    See `atrouscaffe.pycaffe.resample`: the numbers are those of scikit-image in pycaffe's day, which
    did not smooth before shrinking.
    """
    if im.shape[-1] not in (1, 3):
        return resample.zoom(im, new_dims, interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if not high > low:  # constant, or with NaN
        return np.full((int(new_dims[0]), int(new_dims[1]), im.shape[-1]), low, np.float32)
    low, span = float(low), float(high) - float(low)
    resized = resample.resize((im - low) / span, new_dims, interp_order)
    return (resized * span + low).astype(np.float32)


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut the four corners and the centre out of each picture, and mirror them.

    Parameters
    ----------
    images : sequence of (H, W, K) arrays, all of the first one's size
    crop_dims : (height, width)

    Returns
    -------
    (10 N, height, width, K) float32
        For each picture top left, top right, bottom left, bottom right, centre, and the five mirrored.
    """
    height, width, channels = images[0].shape
    crop_h, crop_w = (int(n) for n in crop_dims)
    if not (0 < crop_h <= height and 0 < crop_w <= width):
        raise ArgumentError(f"oversample: expected crops of at most {height}x{width}, got {crop_h}x{crop_w}")
    corners = [(y, x) for y in (0, height - crop_h) for x in (0, width - crop_w)]
    corners.append((int(height / 2.0 - crop_h / 2.0), int(width / 2.0 - crop_w / 2.0)))
    crops = np.empty((10 * len(images), crop_h, crop_w, channels), np.float32)
    for i, image in enumerate(images):
        for k, (y, x) in enumerate(corners):
            crops[10 * i + k] = image[y:y + crop_h, x:x + crop_w]
        crops[10 * i + 5:10 * i + 10] = crops[10 * i:10 * i + 5, :, ::-1]
    return crops
