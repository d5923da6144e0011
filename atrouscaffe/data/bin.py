"""The .bin files of DeepLab's CRF programs: three int32 (rows, columns, channels), then values column by column.

Features are float32 probabilities, results int16 labels (``densecrf/my_script/LoadBinFile.m``).
"""

from __future__ import annotations

import math
import os
import struct

import numpy as np

from atrouscaffe.data.image import read_bytes
from atrouscaffe.errors import ArgumentError, DataError

__all__ = ["encode_bin", "read_bin"]

MAX_FILE_BYTES = 2**33


def read_bin(path: str | os.PathLike) -> np.ndarray:
    """Read a .bin file.

    Returns
    -------
    (H, W, C) float32, or int16 where the values take two bytes each

    Raises
    ------
    FileMissingError, FileAccessError, DataError
        Missing, or sizes that do not fit the bytes that are there.
    """
    path = os.fspath(path)
    data = read_bytes(path, MAX_FILE_BYTES, ".bin file")
    if len(data) < 12:
        raise DataError(f"expected rows, columns and channels in 12 bytes, got a file of {len(data)}", path)
    shape = struct.unpack_from("<3i", data)
    count = math.prod(shape)
    if min(shape) < 1 or len(data) - 12 not in (2 * count, 4 * count):
        raise DataError(f"expected 2 or 4 bytes for each of {shape[0]} x {shape[1]} x {shape[2]} values, got "
                        f"{len(data) - 12} bytes", path)
    dtype = "<f4" if len(data) - 12 == 4 * count else "<i2"
    return np.frombuffer(data, dtype, offset=12).reshape(shape, order="F")


def encode_bin(values: np.ndarray) -> bytes:
    """Return an array as a .bin file: (H, W, C) float32, or (H, W) labels as int16.

    Raises
    ------
    ArgumentError
        Another number of axes, or labels that int16 cannot hold.
    """
    array = np.asarray(values)
    if array.ndim not in (2, 3):
        raise ArgumentError(f".bin file: expected (H, W) or (H, W, C), got {array.shape}")
    if array.dtype.kind == "f":
        stored = array.astype("<f4")
    else:
        if array.size and not (array.min() >= -(2**15) and array.max() < 2**15):
            raise ArgumentError(f".bin file: expected labels that fit into 16 bits, got {array.min()} … {array.max()}")
        stored = array.astype("<i2")
    shape = (*array.shape, 1)[:3]
    return struct.pack("<3i", *shape) + stored.tobytes(order="F")
