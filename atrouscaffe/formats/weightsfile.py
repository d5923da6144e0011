"""What a weight file holds, whatever its format."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from atrouscaffe.errors import AtrousCaffeError, WeightsError
from atrouscaffe.spec import NetSpec

__all__ = ["MAX_AXES", "BlobRecord", "LayerWeights", "WeightsFile", "check_shape"]

MAX_AXES = 32
"""Caffe's kMaxBlobAxes."""


@dataclass(frozen=True)
class BlobRecord:
    """One parameter blob, still in its file.

    Attributes
    ----------
    shape : tuple of int
        As stored; the first fork pads to four dimensions on the left.
    count : int
    dtype : str
        As stored: ``"float16"``, ``"float32"`` or ``"float64"``.
    """

    shape: tuple[int, ...]
    count: int
    dtype: str
    _read: Callable[[], np.ndarray] = field(repr=False, compare=False)

    def load(self) -> np.ndarray:
        """Read the numbers.

        Returns
        -------
        ndarray of `shape`, float32
            A new array at each call.
        """
        return self._read().reshape(self.shape)


@dataclass(frozen=True)
class LayerWeights:
    """One layer of a weight file.

    Attributes
    ----------
    name : str
    type : str
        The modern name, "" where the format has none.
    blobs : tuple of BlobRecord
    places : tuple of int
        Which of the layer's blobs they are. Caffe leaves out of its HDF5 files what a layer shares with an
        earlier one, so that there may be gaps.
    """

    name: str
    type: str
    blobs: tuple[BlobRecord, ...]
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.places:
            object.__setattr__(self, "places", tuple(range(len(self.blobs))))

    @property
    def has_gaps(self) -> bool:
        """Whether a blob in front of another is not there."""
        return self.places != tuple(range(len(self.blobs)))


@dataclass(frozen=True)
class WeightsFile:
    """A weight file, checked, its numbers not yet read.

    Attributes
    ----------
    path : str
    dialect : str
        Wire dialect of a binary file; ``"bvlc"`` for HDF5, which has none.
    evidence : str
        Why that dialect.
    layers : tuple of LayerWeights
        Also those without blobs, in the order of the file.
    unknown_fields : tuple of str
        Fields on the wire that the dialect does not know, ``Message.number (times)``.
    kind : {"caffemodel", "hdf5"}
    net : NetSpec or None
        The net that the file describes; None for HDF5 and where it contradicts itself.
    net_problem : str
        Why there is no net.
    """

    path: str
    dialect: str
    evidence: str
    layers: tuple[LayerWeights, ...]
    unknown_fields: tuple[str, ...] = ()
    kind: str = "caffemodel"
    net: NetSpec | None = None
    net_problem: str = ""

    def arrays(self, natural: bool = False) -> dict[str, list[np.ndarray]]:
        """Load every blob: layer name to its arrays, layers without blobs left out.

        Parameters
        ----------
        natural : bool, optional
            Take off the ones that the first fork puts in front of biases and inner products: a
            file with ``shape`` (1, 1, 1, N) in place of (N) is refused by BVLC Caffe.

        Raises
        ------
        WeightsError
            Two layers with blobs and one name, or a layer without some of its blobs.
        """
        loaded: dict[str, list[np.ndarray]] = {}
        for layer in self.layers:
            if layer.blobs:
                if layer.name in loaded:
                    raise WeightsError(f"two layers named '{layer.name}' have weights", self.path)
                if layer.has_gaps:
                    raise WeightsError(f"the blobs of layer '{layer.name}' should be numbered 0, 1, ...; got "
                                       f"{list(layer.places[:10])}: the others are shared with another layer, load it "
                                       "into its net and save that", self.path)
                blobs = [blob.load() for blob in layer.blobs]
                if natural:
                    blobs = [blob.reshape(_natural(layer.type, i, blob.shape)) for i, blob in enumerate(blobs)]
                loaded[layer.name] = blobs
        return loaded


def _natural(kind: str, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that BVLC gives to blob `index` of a layer, for a padded one."""
    if len(shape) != 4 or kind not in ("Convolution", "Deconvolution", "InnerProduct"):
        return shape
    if index:
        return shape[3:] if shape[:3] == (1, 1, 1) else shape
    return shape[2:] if kind == "InnerProduct" and shape[:2] == (1, 1) else shape


def check_shape(shape: Sequence[int], count: int, path: str, what: str,
                error: type[AtrousCaffeError] = WeightsError) -> tuple[int, ...]:
    """Return `shape` as a tuple if it is sound and holds `count` numbers.

    Raises
    ------
    error
        A negative dimension, too many of them, or another product.
    """
    shape = tuple(int(dim) for dim in shape)
    if len(shape) > MAX_AXES:
        raise error(f"{what} declares {len(shape)} dimensions, at most {MAX_AXES} are allowed", path)
    if any(dim < 0 or dim > 2**31 - 1 for dim in shape):
        raise error(f"{what} declares the shape {shape}; dimensions go from 0 to {2**31 - 1}", path)
    if math.prod(shape) != count:
        raise error(f"{what} declares the shape {shape} of {math.prod(shape)} numbers, but {count} are there", path)
    return shape
