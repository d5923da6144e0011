"""Mean images: ``.binaryproto`` (a BlobProto, old or new shape) and ``.npy``."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from atrouscaffe.errors import FileAccessError, FileMissingError, WeightsError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.caffemodel import blob_record
from atrouscaffe.formats.diagnose import complain
from atrouscaffe.formats.encode import blob_parts, write_parts
from atrouscaffe.formats.schema import schema
from atrouscaffe.formats.wire import FileBytes, Reader

__all__ = ["read_mean", "write_mean"]

MAX_HEADER = 4096
_HEADER = re.compile(rb"\{'descr': *'([<>|=]?(?:f[248]|[iu][1248]))', *'fortran_order': *(True|False), *"
                     rb"'shape': *\(((?: *\d{1,12},?){0,8}) *\),? *\} *\n?")
"""What NumPy writes for arrays of numbers; its own parser evaluates the text and raises what it likes."""


def read_mean(path: str | Path) -> np.ndarray:
    """Read a mean image.

    Parameters
    ----------
    path : str or Path
        ``.npy``, else a binary BlobProto.

    Returns
    -------
    ndarray of shape (C, H, W), float32
        A ``.npy`` of three numbers, one for each channel, is (3, 1, 1).

    Raises
    ------
    WeightsError
        Another kind of file, damage, or a shape that is not an image's.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    mean = _read_npy(path) if Path(path).suffix.lower() == ".npy" else _read_binaryproto(path)
    shape = mean.shape
    if mean.ndim == 4 and shape[0] == 1:
        mean = mean[0]
    elif mean.ndim == 1:
        mean = mean[:, None, None]
    if mean.ndim != 3 or mean.size == 0:
        raise WeightsError(f"expected a mean of shape (channels, height, width), got {shape}", str(path))
    return mean


def _read_binaryproto(path: str | Path) -> np.ndarray:
    source = FileBytes.open(path)
    complain(path, "protobuf", bytes(source.view[:4096]), WeightsError)
    record = Reader(source, schema("bvlc")).message("BlobProto")
    if not (record.has("data") or record.has("double_data")):
        raise WeightsError("expected a BlobProto with data, got none; is it another kind of file?", str(path))
    return blob_record(record, str(path), "the mean").load()


def _read_npy(path: str | Path) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            complain(path, "npy", file.read(4096), WeightsError)
            file.seek(0)
            return _parse_npy(file, str(path))
    except FileNotFoundError:
        raise FileMissingError(f"no such file: {path}") from None
    except OSError as error:
        if isinstance(error, FileAccessError):
            raise
        raise FileAccessError(f"cannot read {path}: {error.strerror or error}") from None


def _parse_npy(file: BinaryIO, path: str) -> np.ndarray:
    """Read a .npy file whose declared size was held against its bytes first."""
    head = file.read(12)
    wide = head[6:7] > b"\x01"  # versions 2 and 3 give the length of the header four bytes
    start = 12 if wide else 10
    size = int.from_bytes(head[8:start], "little")
    if len(head) < 12 or size > MAX_HEADER:
        raise WeightsError(f"damaged .npy file: a header of {size} bytes", path)
    file.seek(start)
    match = _HEADER.fullmatch(file.read(size))
    if match is None:
        raise WeightsError("damaged .npy header, or not an array of numbers", path)
    dtype, fortran = np.dtype(match[1].decode()), match[2] == b"True"
    shape = tuple(int(dim) for dim in match[3].split(b",") if dim.strip())
    there = os.fstat(file.fileno()).st_size - file.tell()
    needed = math.prod(shape) * dtype.itemsize
    if needed != there:
        raise WeightsError(f"the shape {shape} of {dtype} needs {needed} bytes, {there} are there", path)
    data = np.frombuffer(file.read(), dtype)
    return np.asarray(data.reshape(shape, order="F" if fortran else "C"), np.float32, order="C")


def write_mean(path: str | Path, mean: np.ndarray, *, legacy: bool = False) -> None:
    """Write a mean image, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``.npy`` writes (C, H, W); anything else a BlobProto of (1, C, H, W).
    mean : (C, H, W) array
    legacy : bool, optional
        Write num, channels, height and width in place of ``shape``, as v1 does.

    Raises
    ------
    WeightsError
        Another number of dimensions.
    FileAccessError
        The file cannot be written.
    """
    mean = np.asarray(mean, np.float32)
    if mean.ndim != 3:
        raise WeightsError(f"expected a mean of shape (channels, height, width), got {mean.shape}", str(path))
    with atomic_write(path) as file:
        if Path(path).suffix.lower() == ".npy":
            np.save(file, np.ascontiguousarray(mean), allow_pickle=False)
        else:
            write_parts(file, blob_parts(mean[None], legacy))
