"""Crop layers without an offset: what their Caffe meant, written into them.

BVLC's Crop without ``crop_param`` cuts at offset 0. In the Caffes of 2014 and 2015 from which HED, CRF-as-RNN and the
first FCNs come, Crop had no options: it found the offset from the coordinate maps of the layers between its bottoms.

Source: ``crop_layer.cpp`` and ``coords.hpp`` of HED's and CRF-as-RNN's forks. A difference: where the offset of a
CROP of ``layers {}`` is not whole, they stop; here it is rounded as their next line rounds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.record import Record
from atrouscaffe.geometry import Window

__all__ = ["write_offsets"]

_SAME = frozenset((
    "AbsVal", "BNLL", "Concat", "Dropout", "Eltwise", "Exp", "LRN", "Log", "MVN", "PReLU", "Power", "ReLU", "Sigmoid",
    "Slice", "Softmax", "Split", "TanH", "Threshold"))
"""Types whose top has the coordinates of their first bottom."""

_MARKS = frozenset(("ImageLabelmapData", "MultiStageMeanfield"))
"""Types that only forks with the Crop of no options have."""

_OLD = _SAME | _MARKS | {
    "Accuracy", "ArgMax", "ContrastiveLoss", "Convolution", "Crop", "Data", "Deconvolution", "DummyData", "Embed",
    "EuclideanLoss", "Filter", "Flatten", "HDF5Data", "HDF5Output", "HingeLoss", "Im2col", "ImageData", "InfogainLoss",
    "InnerProduct", "MemoryData", "MultinomialLogisticLoss", "Pooling", "Python", "Reduction", "Reshape", "SPP",
    "SigmoidCrossEntropyLoss", "Silence", "SoftmaxWithLoss", "Tile", "WindowData"}
"""The types of those forks; BVLC got its Crop later than all of these."""

_LARGEST = 2**64


@dataclass(frozen=True)
class _Axis:
    """Position i of the blob where a map begins is ``scale * i + shift`` here."""

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def then(self, scale: Fraction, shift: Fraction) -> _Axis:
        """Return the map with another after it."""
        return _Axis(scale * self.scale, scale * self.shift + shift)


@dataclass(frozen=True)
class _Place:
    """Where a blob lies in the coordinates of blob `root`, along height and width."""

    root: int
    axes: tuple[_Axis, _Axis] = (_Axis(), _Axis())


def write_offsets(layers: Sequence[Record], old: Sequence[bool]) -> list[str]:
    """Give ``crop_param`` to the Crop layers that have none and whose Caffe found the offset itself, in place.

    That is every CROP of ``layers {}``. A Crop of ``layer {}`` is one where the maps give a whole offset above 0 and
    no layer of the net is younger than those Caffes; where the maps give none, they would have refused the net, and
    it is BVLC's.

    Parameters
    ----------
    layers : sequence of Record
        In the modern form.
    old : sequence of bool
        Which of them came from ``layers {}``.

    Returns
    -------
    list of str
        A sentence for each offset that was found.

    Raises
    ------
    PrototxtError
        A CROP whose bottoms the maps do not bring into line, or a net both of those Caffes and of BVLC's.
    """
    if not any(layer.get("type") == "Crop" and not layer.has("crop_param") for layer in layers):
        return []
    young = next((why for layer in layers if (why := _young(layer))), "")
    mark = next((layer.get("type") for layer in layers if layer.get("type") in _MARKS), "")
    places: dict[str, _Place] = {}
    notes = []
    for index, (layer, was_old) in enumerate(zip(layers, old)):
        bottoms = [places.setdefault(name, _Place(~len(places))) for name in layer.get("bottom", [])]  # new: an input
        if layer.get("type") == "Crop" and not layer.has("crop_param") and len(bottoms) == 2:
            note = _decide(layer, was_old, _shifts(*bottoms), young, mark)
            if note:
                notes.append(note)
        tops = layer.get("top", [])
        if not bottoms or not set(tops) <= set(layer.get("bottom", [])):
            place = _through(layer, bottoms[0], index) if bottoms else _Place(index)
            places.update(dict.fromkeys(tops, place))
    return notes


def _young(layer: Record) -> str:
    """Return what a layer says that the Caffes with the Crop of no options could not read, or ""."""
    kind, convolution = layer.get("type", ""), layer.get("convolution_param")
    if kind not in _OLD:
        return f"a layer of type {kind}"
    if layer.has("crop_param"):
        return f"the crop_param of layer '{layer.get('name', '')}'"
    return "dilation" if convolution is not None and convolution.has("hole") else ""


def _decide(layer: Record, old: bool, shifts: tuple[Fraction, Fraction] | str, young: str, mark: str) -> str:
    """Write the offset into a Crop, or leave it at BVLC's 0; return a note on it, or ""."""
    where = f"layer '{layer.get('name', '')}' (Crop)"
    if isinstance(shifts, str):
        if old:
            raise PrototxtError("a CROP of `layers` finds its offset from the layers between its bottoms, but "
                                f"{shifts}", f"{layer.source}: {where}" if layer.source else where)
        return ""
    whole = all(shift.denominator == 1 for shift in shifts)
    if not old:
        if not whole or shifts == (0, 0):
            return ""
        found = " x ".join(dict.fromkeys(map(str, shifts)))
        if young and mark:
            raise PrototxtError(
                f"Crop without crop_param: with {mark}, Caffe finds the offset from the layers between its bottoms "
                f"({found}), with {young} it is BVLC's and 0; write crop_param {{ offset: ... }} into the layer",
                f"{layer.source}: {where}" if layer.source else where)
        if young:
            return f"{where} cuts at offset 0, as in BVLC's Caffe (by the layers between its bottoms it would be " \
                   f"{found}, as in older forks; {young} says that the net is not theirs)"
    offsets = [math.floor(shift + Fraction(1, 2)) for shift in shifts]
    layer.child("crop_param", "CropParameter").values.update(axis=2, offset=offsets)
    text = f"{where} cuts at offset {' x '.join(dict.fromkeys(map(str, offsets)))}, from the layers between its bottoms"
    if not whole:
        text += f" (rounded from {' x '.join(dict.fromkeys(f'{float(shift):g}' for shift in shifts))})"
    return text


def _shifts(first: _Place, second: _Place) -> tuple[Fraction, Fraction] | str:
    """Return the offsets at which the second bottom begins in the first, or why there are none."""
    if first.root != second.root:
        return "they are not connected by layers that keep a place"
    offsets = []
    for a, b in zip(first.axes, second.axes):
        if a.scale != b.scale:
            return f"one has {a.scale / b.scale} times as many pixels as the other"
        if a.shift < b.shift:
            return f"the first would have to begin {b.shift - a.shift} pixels before its own border"
        offsets.append(a.shift - b.shift)
    return offsets[0], offsets[1]


def _through(layer: Record, below: _Place, index: int) -> _Place:
    """Return the place of a layer's tops, a new one where its first bottom's coordinates do not pass it."""
    kind = layer.get("type")
    if kind in _SAME:
        return below
    axes = []
    for axis in (0, 1):
        step = _step(layer, axis)
        if step is None:
            return _Place(index)
        axes.append(below.axes[axis].then(*step))
    if any(max(abs(n) for f in (axis.scale, axis.shift) for n in f.as_integer_ratio()) > _LARGEST for axis in axes):
        return _Place(index)
    return _Place(below.root, (axes[0], axes[1]))


def _step(layer: Record, axis: int) -> tuple[Fraction, Fraction] | None:
    """Return scale and shift from a bottom to a top along height (0) or width (1), or None."""
    kind = layer.get("type")
    if kind == "Crop":
        offset = _crop_offset(layer.get("crop_param") or Record("CropParameter"), axis)
        return None if offset is None else (Fraction(1), Fraction(-offset))
    if kind in ("Convolution", "Deconvolution"):
        window = _window(layer.get("convolution_param"), axis)
    elif kind == "Pooling":
        window = _window(layer.get("pooling_param"), axis)
    else:
        window = None
    if window is None:
        return None
    shift = Fraction(window.extent - 1, 2) - window.pad
    if kind == "Deconvolution":
        return Fraction(window.stride), shift
    return Fraction(1, window.stride), -shift / window.stride


def _crop_offset(param: Record, axis: int) -> int | None:
    offsets = param.get("offset", [])
    if param.get("axis", 2) != 2 or len(offsets) > 2:
        return None
    return 0 if not offsets else offsets[axis if len(offsets) == 2 else 0]


def _window(param: Record | None, axis: int) -> Window | None:
    """Return the window of a layer along an axis; None where its options do not say one for two axes."""
    if param is None or param.get("global_pooling") or param.get("axis", 1) != 1:
        return None
    words = []
    for word, plain, default in (("kernel", "kernel_size", None), ("stride", "stride", 1), ("pad", "pad", 0),
                                 ("hole", "hole", 1)):
        given = param.get(f"{word}_{'hw'[axis]}", param.get(plain, default))
        if isinstance(given, list):
            if len(given) > 2:
                return None
            given = given[axis if len(given) == 2 else 0] if given else default
        words.append(given)
    if None in words or 0 in (words[0], words[1], words[3]):
        return None
    return Window(*words)
