"""Read the CRF recordings: kernels of a case as the arguments of our own API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from atrouscaffe.crf.densecrf import DenseCRF

FOLDER = Path(__file__).resolve().parent.parent / "oracle" / "crf"
CASES = sorted(path.stem for path in FOLDER.glob("c*.npz"))
FILTERS = sorted(path.stem for path in FOLDER.glob("f*.npz"))
NORMS = {"NO": "none", "BEFORE": "before", "AFTER": "after", "SYMMETRIC": "symmetric"}


def read(name: str) -> tuple[dict, dict]:
    """Return (arrays, parameters) of a case."""
    with np.load(FOLDER / f"{name}.npz") as data:
        arrays = {key: data[key] for key in data.files}
    return arrays, json.loads(str(arrays.pop("params")))


def signed(compat: np.ndarray) -> tuple[float, np.ndarray | None]:
    """Return (weight, compatibility) in our signs: the original adds a vector or matrix as an energy."""
    if compat.ndim == 0:
        return float(compat), None
    if compat.ndim == 1:
        return -1.0, compat
    return 1.0, (compat + compat.T) / 2


def build(arrays: dict, params: dict, unary: np.ndarray | None = None, device: str = "cpu") -> DenseCRF:
    """Return the CRF of a case, with another unary if given."""
    crf = DenseCRF(arrays["unary"] if unary is None else unary, device=device)
    for i, kernel in enumerate(params["kernels"]):
        weight, compatibility = signed(arrays[f"compat{i}"])
        options = {"compatibility": compatibility, "normalization": NORMS[kernel["norm"]]}
        if kernel["type"] == "gaussian2d":
            crf.add_gaussian(kernel["sxy"], weight, **options)
        elif kernel["type"] == "bilateral2d":
            crf.add_bilateral(arrays["image"], kernel["sxy"], kernel["srgb"], weight, **options)
        elif f"features{i}" in arrays:
            crf.add_pairwise(arrays[f"features{i}"], weight, **options)
        else:  # the grid divided by sdims, first axis first
            axes = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in crf.shape), indexing="ij")
            features = np.stack([axis / np.float32(s) for axis, s in zip(axes, kernel["sdims"])])
            crf.add_pairwise(features, weight, **options)
    return crf


def saved(arrays: dict) -> np.ndarray:
    """Return the recorded beliefs; without the phantom points of the original's SSE build where they matter."""
    return arrays.get("Q_nopad", arrays["Q"])


def check_saved(arrays: dict, seen: dict[int, np.ndarray], labels: np.ndarray) -> None:
    """Hold beliefs by iteration, and the labels of the last one, against what a case saved."""
    stride = int(arrays["stride"])
    for iteration, recorded in zip(arrays["iters_saved"].tolist(), saved(arrays)):
        mine = seen[iteration]
        mine = mine[:, ::stride, ::stride] if stride > 1 else mine
        apart = np.abs(mine - recorded)
        assert np.quantile(apart, 0.999) <= 1e-4 and apart.max() <= 1e-3
        top = np.sort(recorded, axis=0)[-2:]
        clear = top[1] - top[0] > 1e-2
        assert (mine.argmax(axis=0) == recorded.argmax(axis=0))[clear].all()
    if "map_final" in arrays:
        assert np.array_equal(labels, arrays["map_final"])
