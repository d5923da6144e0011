"""HDF5 weights (``.caffemodel.h5``): ``data/<layer>/<i>``, float16, 32 or 64.

Caffe makes a group of the layer's name as it stands, so a name with slashes is a path of groups;
reading turns such a path into the name again.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import AtrousCaffeError, FileAccessError, FileMissingError, WeightsError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.diagnose import complain
from atrouscaffe.formats.weightsfile import BlobRecord, LayerWeights, WeightsFile, check_shape

__all__ = ["dataset_record", "get_member", "guard", "new_hdf5", "open_hdf5", "read_hdf5", "write_hdf5"]

MAX_GROUPS = 50_000
MAX_DEPTH = 32
_FLOATS = ("float16", "float32", "float64")
# What the library throws at damaged files depends on where the damage is.
_DAMAGE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, SystemError)


@contextlib.contextmanager
def guard(path: str | Path, error: type[AtrousCaffeError] = WeightsError) -> Iterator[None]:
    """Turn what the HDF5 library raises about a damaged file into `error`."""
    try:
        yield
    except AtrousCaffeError:
        raise
    except _DAMAGE as problem:
        raise error(f"damaged or truncated HDF5 file: {problem}", str(path)) from None


def open_hdf5(path: str | Path, error: type[AtrousCaffeError] = WeightsError) -> Any:
    """Open an HDF5 file for reading.

    Raises
    ------
    error
        Not HDF5, or damaged.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    import h5py
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise FileMissingError(f"no such file: {path}") from None
    except OSError as problem:
        raise FileAccessError(f"cannot read {path}: {problem.strerror or problem}") from None
    complain(path, "hdf5", head, error)
    with guard(path, error):
        return h5py.File(path, "r", locking=False)


def get_member(group: Any, name: str, path: str, error: type[AtrousCaffeError] = WeightsError) -> Any:
    """Return a member of a group; only hard links are followed.

    Raises
    ------
    error
        A soft or external link: it could name any file.
    """
    import h5py
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise error(f"'{name}' in '{group.name}' is a soft or external link; only real data are read", path)
    return group[name]


def dataset_record(dataset: Any, path: str, what: str, error: type[AtrousCaffeError] = WeightsError) -> BlobRecord:
    """Check a dataset and make a BlobRecord of it.

    Raises
    ------
    error
        Not floats, external storage, or a shape beyond what the file holds.
    """
    import h5py
    if not isinstance(dataset, h5py.Dataset):
        raise error(f"expected a dataset for {what}, got a group", path)
    dtype, shape, stored = dataset.dtype.name, dataset.shape, dataset.id.get_storage_size()
    plain = dataset.id.get_create_plist().get_nfilters() == 0
    if dtype not in _FLOATS or shape is None:
        raise error(f"expected float16, float32 or float64 for {what}, got {dtype}", path)
    if dataset.external or dataset.is_virtual:
        raise error(f"{what} keeps its data in another file; only data inside the file are read", path)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    check_shape(shape, count, path, what, error)
    needed = count * dataset.dtype.itemsize
    if stored > Path(path).stat().st_size:
        raise error(f"{what} declares {stored} stored bytes, more than the file has", path)
    if plain and stored < needed:
        raise error(f"{what} declares the shape {shape}, which needs {needed} bytes, but {stored} are stored", path)
    if not plain and needed > 1100 * stored:  # deflate packs at most 1032 to 1
        raise error(f"{what} declares the shape {shape}, far more than its {stored} stored bytes can hold", path)
    return BlobRecord(tuple(map(int, shape)), count, dtype, lambda: _load(dataset, path, error))


def _load(dataset: Any, path: str, error: type[AtrousCaffeError]) -> np.ndarray:
    """Read a checked dataset as float32."""
    out = np.empty(dataset.shape, np.float32)
    with guard(path, error):
        if out.size:
            dataset.read_direct(out)
    return out


def read_hdf5(path: str | Path) -> WeightsFile:
    """Read an HDF5 weight file; the numbers stay in it until loaded.

    Raises
    ------
    WeightsError
        Not HDF5, no group ``data``, links, data that are not floats, or damage.
    FileMissingError, FileAccessError
        No such file, or no right to read it.
    """
    place = str(path)
    with guard(path):
        file = open_hdf5(path)
        if "data" not in file:
            names = ", ".join(sorted(map(str, list(file)[:5]))) or "nothing"
            raise WeightsError(f"expected a group 'data' with the layers, got {names}; is it of another kind?", place)
        layers = tuple(_walk(get_member(file, "data", place), "", place, 0, set()))
    if not layers:
        raise WeightsError("no layers under 'data'", place)
    return WeightsFile(place, "bvlc", "HDF5 has no dialects", layers, kind="hdf5",
                       net_problem="an HDF5 weight file holds no net")


def _walk(group: Any, prefix: str, path: str, depth: int, seen: set[int]) -> Iterator[LayerWeights]:
    """Yield the layers in a group; `seen` are the addresses of groups so far, so that links cannot multiply them."""
    import h5py
    if not isinstance(group, h5py.Group):
        raise WeightsError(f"expected a group, got data at '{group.name}'", path)
    if depth > MAX_DEPTH:
        raise WeightsError(f"groups nest deeper than {MAX_DEPTH} at '{group.name}'", path)
    for name in group:
        child = get_member(group, name, path)
        layer = f"{prefix}{name}"
        if not isinstance(child, h5py.Group):
            if depth == 0 or not name.isdecimal():
                raise WeightsError(f"unexpected dataset '{layer}'; blobs are data/<layer>/0, 1, ...", path)
            continue
        address = h5py.h5o.get_info(child.id).addr
        if address in seen:
            raise WeightsError(f"the group '{child.name}' is linked twice", path)
        seen.add(address)
        if len(seen) > MAX_GROUPS:
            raise WeightsError(f"more than {MAX_GROUPS} groups: not a net", path)
        yield _layer(child, layer, path)
        yield from (entry for entry in _walk(child, f"{layer}/", path, depth + 1, seen) if entry.blobs)


def _layer(group: Any, layer: str, path: str) -> LayerWeights:
    """Return the numbered datasets of a layer's group, in order."""
    import h5py
    numbers = []
    for name in group:
        if name.isdecimal() and isinstance(get_member(group, name, path), h5py.Dataset):
            numbers.append(int(name))
    numbers.sort()
    blobs = tuple(dataset_record(get_member(group, str(i), path), path, f"blob {i} of layer '{layer}'")
                  for i in numbers)
    return LayerWeights(layer, "", blobs, tuple(numbers))


@contextlib.contextmanager
def new_hdf5(path: str | Path) -> Iterator[Any]:
    """Give an HDF5 file in memory that becomes `path`, whole or not at all, when the block ends well.

    In memory, since the library cannot close a file on a disk that is full: it fails again when the
    process ends.

    Raises
    ------
    FileAccessError
        The file cannot be written.
    """
    import h5py
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        yield file
    with atomic_write(path) as target:
        target.write(content.getbuffer())


def write_hdf5(path: str | Path, params: Mapping[str, Sequence[np.ndarray]], *, half: bool = False,
               diffs: Mapping[str, Sequence[np.ndarray]] | None = None) -> None:
    """Write an HDF5 weight file that Caffe reads, whole or not at all.

    Parameters
    ----------
    path : str or Path
    params : mapping of str to sequence of ndarray
        Blobs of each layer; float64 is kept, everything else becomes float32.
    half : bool, optional
        Store float16. Caffe reads it; half the size, three digits.
    diffs : mapping of str to sequence of ndarray, optional
        Gradients, for the group ``diff`` beside ``data`` (``snapshot_diff``).

    Raises
    ------
    WeightsError
        A layer name that HDF5 cannot hold, or a value that float16 cannot.
    FileAccessError
        The file cannot be written.
    """
    with new_hdf5(path) as file:
        for kind, arrays in (("data", params), ("diff", diffs)):
            if arrays is None:
                continue
            top = file.create_group(kind)
            for name, blobs in arrays.items():
                if not name or "\0" in name or any(part in ("", ".") for part in name.split("/")):
                    raise WeightsError(f"HDF5 cannot hold a layer named {name!r}; write a .caffemodel", str(path))
                stored = [_stored(np.asarray(blob), half, f"blob {i} of layer '{name}'", path)
                          for i, blob in enumerate(blobs)]
                try:
                    group = top.require_group(name)
                    for i, blob in enumerate(stored):
                        group.create_dataset(str(i), data=blob)
                except (TypeError, ValueError) as problem:  # 'a' with blob 0 beside a layer 'a/0'
                    raise WeightsError(f"HDF5 cannot hold layer {name!r} beside the others: {problem}; write a "
                                       ".caffemodel", str(path)) from None


def _stored(array: np.ndarray, half: bool, what: str, path: str | Path) -> np.ndarray:
    if not half:
        return array if array.dtype == np.float64 else array.astype(np.float32)
    with np.errstate(over="ignore"):
        small = array.astype(np.float16)
    if not np.array_equal(np.isfinite(small), np.isfinite(array)):
        raise WeightsError(f"{what} has values beyond 65504, which float16 cannot hold", str(path))
    return small
