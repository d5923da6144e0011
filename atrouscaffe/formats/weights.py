"""One door to weight files: the suffix says the format, and the content must agree."""

from __future__ import annotations

from pathlib import Path

from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.caffemodel import read_caffemodel
from atrouscaffe.formats.weightsfile import BlobRecord, LayerWeights, WeightsFile

__all__ = ["BlobRecord", "LayerWeights", "WeightsFile", "is_hdf5_name", "open_weights"]


def is_hdf5_name(path: str | Path) -> bool:
    """Tell whether a name ends in .h5 or .hdf5."""
    return Path(path).suffix.lower() in (".h5", ".hdf5")


def open_weights(path: str | Path, *, dialect: str | None = None, proto: str | Path | None = None) -> WeightsFile:
    """Open a ``.caffemodel``, ``.caffemodel.h5``, ``.h5`` or ``.hdf5`` file.

    Parameters
    ----------
    path : str or Path
        A name with any other suffix is read as a binary caffemodel.
    dialect : str, optional
        Wire dialect of a binary file; told from it if not given.
    proto : str or Path, optional
        The caffe.proto of the fork that wrote a binary file.

    Raises
    ------
    WeightsError
        Content of another kind, truncated or damaged.
    ArgumentError
        A dialect or caffe.proto for an HDF5 file, which has none.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    if is_hdf5_name(path):
        if dialect is not None or proto is not None:
            raise ArgumentError(f"{path} is HDF5, which has no dialects; leave out "
                                f"{f'dialect {dialect!r}' if dialect is not None else f'proto {str(proto)!r}'}")
        from atrouscaffe.formats.hdf5 import read_hdf5
        return read_hdf5(path)
    return read_caffemodel(path, dialect=dialect, proto=proto)
