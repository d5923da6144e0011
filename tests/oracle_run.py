"""Runs one recorded case through Net and compares every array that the original wrote down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from atrouscaffe import TEST, TRAIN, Net

EXACT = {"Concat", "Slice", "Split", "Flatten", "Reshape", "ArgMax", "Accuracy", "Im2col", "Crop", "Padding", "Tile",
         "Threshold", "UniqueLabel", "CensorLabel", "OneHot", "Histogram", "IgnoreOverlay", "BatchReindex", "Filter",
         "Silence", "Data", "ImageData", "ImageSegData", "DummyData", "Input", "Parameter", "DominantChannel"}
"""Types that copy, choose or count: their arrays are equal, not close."""

LOOSE = {"DenseCRF": (5e-4, 5e-3)}
"""Types whose original approximates: |d| at 99.9 % of the entries, and everywhere."""


class Case:
    """A folder of the recordings: net, weights, arrays, and what is said about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = {"layers": [], **json.loads((folder / "case.json").read_text())}
        with np.load(folder / "arrays.npz") as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}

    def group(self, kind: str) -> dict[str, np.ndarray]:
        """Arrays whose key begins with ``kind:``."""
        return {key[len(kind) + 1:]: value for key, value in self.arrays.items() if key.startswith(kind + ":")}

    def net(self, **options) -> Net:
        """The net with its weights and the recorded inputs; the working folder must be the case's."""
        weights = "weights.caffemodel" if Path("weights.caffemodel").exists() else None
        net = Net("net.prototxt", phase=TRAIN if self.about["phase"] == "TRAIN" else TEST, weights=weights,
                  dialect=self.about["dialect"], **options)
        for name, array in self.group("in").items():
            blob = net.blobs[name]
            if blob.data.size != array.size:
                blob.reshape(*array.shape)
                net.reshape()
            blob.data[...] = array.reshape(blob.shape)
        return net


def compare(what: str, ours: np.ndarray, theirs: np.ndarray, about: dict, tolerance: float) -> None:
    """Compare by size and order; `tolerance` is relative to the largest recorded value."""
    assert ours.size == theirs.size, f"{what}: shape {ours.shape} against {theirs.shape}"
    if about["dialect"] != "v1":
        assert ours.shape == theirs.shape, f"{what}: shape {ours.shape} against {theirs.shape}"
    ours, theirs = ours.ravel(), theirs.ravel()
    for type_name, (most, all_) in LOOSE.items():
        if type_name in about["layers"]:
            difference = np.abs(ours - theirs)
            assert np.mean(difference <= most) >= 0.999 and difference.max() <= all_, f"{what}: {difference.max()}"
            return
    if about["layers"] and set(about["layers"]) <= EXACT and not what.startswith(("diff", "paramdiff")):
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        return
    scale = max(float(np.abs(theirs).max(initial=0)), 1e-30)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, err_msg=what)


def run(case: Case, tolerance: float = 1e-4, **options) -> None:
    """Forward, backward, and compare all that was recorded; options as `Net`'s."""
    net = case.net(**options)
    for _ in range(case.about.get("forward_runs", 1)):
        net.forward()
    for name, array in case.group("out").items():
        compare(f"out:{name}", net.blobs[name].data, array, case.about, tolerance)
    for key, array in case.group("paramafter").items():
        layer, index = key.rsplit(":", 1)
        compare(f"paramafter:{key}", net.params[layer][int(index)].data, array, case.about, tolerance)
    if not case.about["backward"]:
        return
    for name, array in case.group("topdiff").items():
        net.blobs[name].diff[...] = array.reshape(net.blobs[name].shape)
    net.backward()
    for name, array in case.group("diff").items():
        compare(f"diff:{name}", net.blobs[name].diff, array, case.about, tolerance)
    for key, array in case.group("paramdiff").items():
        layer, index = key.rsplit(":", 1)
        compare(f"paramdiff:{key}", net.params[layer][int(index)].diff, array, case.about, tolerance)
