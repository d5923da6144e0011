#!/usr/bin/env python3
"""Turn IDX files (MNIST's format) into HDF5 files for HDF5Data layers: one for training, one for testing.

    python tools/idx_to_hdf5.py IMAGES LABELS --test-rows 2000 --out prototxt/lenet/data

IMAGES and LABELS may be gzipped. The last --test-rows rows become ``test.h5``, the others ``train.h5``;
beside each stands the list (``train.txt``, ``test.txt``) that a layer's ``source`` names; the prototxt
is expected one folder up. Pixels are divided by 256, as Caffe's LeNet does by its transform_param,
which HDF5Data does not have.
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
from pathlib import Path

import numpy as np

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_BYTES = 1 << 31


def read_idx(path: Path) -> np.ndarray:
    """Return the array of an IDX file, gzipped or not.

    Raises
    ------
    SystemExit
        Not an IDX file, or not as long as its head says.
    """
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else open(path, "rb") as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 4:
            sys.exit(f"{path}: expected an IDX file, got one that begins with {head!r}")
        dims = np.frombuffer(file.read(4 * head[3]), ">u4")
        dtype = np.dtype(TYPES[head[2]])
        wanted = math.prod(int(n) for n in dims) * dtype.itemsize
        if len(dims) != head[3] or wanted > MAX_BYTES:
            sys.exit(f"{path}: expected {head[3]} sizes of at most {MAX_BYTES} bytes together, got {dims}")
        data = file.read(wanted + 1)
    if len(data) != wanted:
        sys.exit(f"{path}: expected {wanted} bytes of data for shape {tuple(dims)}, got "
                 f"{'more' if len(data) > wanted else len(data)}")
    return np.frombuffer(data, dtype).reshape([int(n) for n in dims])


def write(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one HDF5 file and its list."""
    from atrouscaffe.formats.atomic import atomic_write
    from atrouscaffe.formats.hdf5 import new_hdf5

    with new_hdf5(folder / f"{name}.h5") as file:
        file.create_dataset("data", data=(images[:, None] / 256).astype(np.float32))  # (N, 1, H, W)
        file.create_dataset("label", data=labels.astype(np.float32))
    with atomic_write(folder / f"{name}.txt") as file:
        file.write(f"{folder.name}/{name}.h5\n".encode())  # as the prototxt's folder sees it
    print(f"{folder / name}.h5: {len(images)} rows")


def main(argv: list[str] | None = None) -> int:
    """Convert; return the exit status."""
    parser = argparse.ArgumentParser(description="Turn IDX files into HDF5 files for HDF5Data layers.")
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--test-rows", type=int, default=2000, help="rows at the end that are kept for testing (2000)")
    parser.add_argument("--out", type=Path, default=Path("prototxt/lenet/data"), help="folder (prototxt/lenet/data)")
    options = parser.parse_args(argv)
    images, labels = read_idx(options.images), read_idx(options.labels)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        sys.exit(f"expected images (N, H, W) and labels (N), got {images.shape} and {labels.shape}")
    if not 0 < options.test_rows < len(images):
        sys.exit(f"--test-rows: expected 1 to {len(images) - 1}, got {options.test_rows}")
    options.out.mkdir(parents=True, exist_ok=True)
    cut = len(images) - options.test_rows
    write(options.out, "train", images[:cut], labels[:cut])
    write(options.out, "test", images[cut:], labels[cut:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
