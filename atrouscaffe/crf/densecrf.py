"""The fully connected CRF of Krähenbühl and Koltun (2011), as DeepLab uses it.

The energy of a labelling is the sum of the unaries plus, for every pair of points, the kernels'
weights where labels differ. Mean field makes parallel updates
``Q = softmax(-U + sum over kernels of weight * filtered Q)``, starting at ``softmax(-U)``. The
filter includes the point itself, as in the original (``densecrf.cpp``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from atrouscaffe.crf import features as feature_arrays
from atrouscaffe.crf.lattice import Cut, Lattice, padded_lanes
from atrouscaffe.crf.meanfield import Kernel, MeanField
from atrouscaffe.crf.memory import MAX_NUMBERED, inference_bytes, refuse_above
from atrouscaffe.crf.model import Inference, Model, real_numbers
from atrouscaffe.crf.presets import Preset
from atrouscaffe.crf.presets import preset as find_preset
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.budget import default_budget
from atrouscaffe.runtime.cuda import current

__all__ = ["DenseCRF", "Inference", "refine", "refine_on_device", "refine_scores", "score_crf"]

INFER_OPTIONS = ("relax", "callback", "exact", "diagnostics", "tolerance")


class DenseCRF(Model):
    """A fully connected CRF over the points of a grid of any number of dimensions.

    Parameters
    ----------
    unary : (L, H, W) array
        Energies, -log p, of any real dtype and any strides; or (L, N) for point sets, (L, D, H, W)
        for volumes. +inf forbids a label.
    labels_axis : int
        Axis of the labels.
    memory_budget : int, optional
        Bytes that lattices and inference may take each; by default ``ATROUSCAFFE_MEMORY_BUDGET``, else
        0.9 of this machine's memory.
    device : {"cpu", "cuda", "cuda:N"} or CudaBackend, optional
        Where lattices and mean field are; by default where the unary is.

    Raises
    ------
    ArgumentError
        A shape without labels or points.
    BudgetError
        More memory than allowed.
    """

    def __new__(cls, unary: Any = None, *rest: Any, device: Any = None, **options: Any) -> Any:
        backend = current()
        if cls is not DenseCRF or device == "cpu" or (
                device is None and (backend is None or not isinstance(unary, backend.xp.ndarray))):
            return object.__new__(cls)
        from atrouscaffe.crf.densecrf_cuda import DeviceCRF

        return DeviceCRF(unary, *rest, device=device, **options)

    def __init__(self, unary: np.ndarray, *, labels_axis: int = 0, memory_budget: int | None = None,
                 device: Any = None) -> None:
        array = self._values(unary, "unary")
        self.budget = default_budget() if memory_budget is None else memory_budget
        self._plan(array.shape, labels_axis)
        self._cut: Cut | None = None
        self._spend = False  # the unary may give its memory to the result
        least = inference_bytes(self.points, self.labels, padded_lanes(self.labels)[0], 0, 0, 0, False)
        refuse_above(self.budget if self.points <= MAX_NUMBERED else 0, least + 4 * array.size,
                     f"CRF of {self.labels} labels at {self.points:,} points")
        self.set_unary(array)

    def _lattice_of_grid(self, sigma: tuple[float, ...]) -> Any:
        return feature_arrays.position_lattice(self.cut, self.shape, sigma, self.budget)

    def _lattice_of_image(self, image: Any, sigma_xy: tuple[float, ...], sigma_rgb: tuple[float, ...]) -> Any:
        return feature_arrays.image_lattice(self.cut, image, sigma_xy, sigma_rgb, self.budget)

    def _lattice_of_features(self, features: Any) -> Any:
        return Lattice(features.reshape(features.shape[0], self.points), cut=self.cut, memory_budget=self.budget)

    def _kernel(self, lattice: Any, *mixing: Any) -> Any:
        return Kernel(lattice, *mixing)

    def set_unary(self, unary: np.ndarray) -> DenseCRF:
        """Replace the energies by others of the same shape; kernels and their lattices stay."""
        moved = np.moveaxis(real_numbers(unary, "unary"), self.labels_axis, 0)
        if moved.shape != (self.labels, *self.shape):
            raise ArgumentError(f"unary: expected {self.labels} labels of {self.shape}, got {moved.shape}")
        self._energies = np.ascontiguousarray(moved, np.float32).reshape(self.labels, self.points)
        return self

    @property
    def cut(self) -> Cut:
        """How the points are cut into chunks."""
        if self._cut is None:
            self._cut = feature_arrays.grid_cut(self.shape)
        return self._cut

    def field(self, keep: bool = False) -> MeanField:
        """Return the kernels ready for inference, once the memory it takes is known to be allowed."""
        lattices = [kernel.lattice for kernel in self.kernels]
        lanes, blocks = padded_lanes(self.labels)
        need = inference_bytes(self.points, self.labels, lanes * blocks, len(lattices),
                               sum(x.named.size for x in lattices), sum(x.vertices for x in lattices), keep)
        refuse_above(self.budget, need, f"CRF inference with {self.labels} labels at {self.points:,} points")
        if self._field is None:
            self._field = MeanField(self.kernels, self.labels, self.cut, self._spend)
        return self._field


def refine(image: np.ndarray, probabilities: np.ndarray | None = None, *, scores: np.ndarray | None = None,
           preset: str = "paper", labels_axis: int = 0, channel_axis: int = -1, clip: float | None = 1e-5,
           device: Any = None, **params: Any) -> Inference:
    """Refine a segmentation with the position and bilateral kernels of a preset.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    probabilities : (L, H, W)
        Or `scores`, which may be any numbers whose softmax is meant.
    preset : str
        One of `PRESETS`.
    labels_axis, channel_axis : int
        Where the labels stand in the probabilities and the channels in the image.
    clip : float or None
        Smallest probability; None lets zeros forbid a label.
    device : {"cpu", "cuda", "cuda:N"} or CudaBackend, optional
        Where the CRF runs.
    **params
        Fields of `Preset` that differ: `bilateral_sigma_xy`, `bilateral_sigma_rgb`,
        `bilateral_weight`, `position_sigma`, `position_weight`, `normalization`, `iterations`.
        A weight of 0 leaves a kernel out.

    Returns
    -------
    Inference
    """
    from atrouscaffe.crf import unary

    extra = {name: params.pop(name) for name in INFER_OPTIONS if name in params}
    values = chosen_preset(preset, params)
    if (probabilities is None) == (scores is None):
        raise ArgumentError("refine: expected either probabilities or scores, got both or neither")
    if probabilities is not None:
        energies = unary.from_probabilities(probabilities, clip=clip, labels_axis=labels_axis)
    elif scores is not None:
        energies = unary.from_scores(scores)
    crf = DenseCRF(energies, labels_axis=labels_axis, device=device)
    crf._spend = True  # nobody else has these energies
    del energies
    return crf.add_preset(image, values, channel_axis=channel_axis).infer(values.iterations, **extra)


def chosen_preset(name: str, params: dict[str, Any]) -> Preset:
    """Return the preset `name` with the fields `params` in place of its own."""
    values = find_preset(name)
    known = {field.name for field in fields(values)} - {"source"}
    wrong = set(params) - known
    if wrong:
        raise ArgumentError(f"refine: expected parameters among {', '.join(sorted(known))}, "
                            f"got {', '.join(sorted(wrong))}")
    return replace(values, **params)


def refine_on_device(image: Any, scores: Any, params: dict[str, Any], backend: Any, *, labels: bool = False) -> Any:
    """Refine a net's scores without leaving the device: what `refine` makes of their softmax.

    Parameters
    ----------
    image : (H, W, 3) uint8 array, on the device or not
        RGB.
    scores : (L, H, W) float32 array on the device
    params : dict
        Arguments of `refine`: `preset`, `clip`, `relax` and fields of `Preset`.
    backend : CudaBackend
    labels : bool
        Return the most probable labels instead of the probabilities.

    Returns
    -------
    (L, H, W) float32 array, or (H, W) array of labels, on the device
    """
    from atrouscaffe.crf.densecrf_cuda import energies_of_scores

    own = ("preset", "clip", "exact", "relax")
    rest = {name: value for name, value in params.items() if name not in own}
    values = chosen_preset(params.get("preset", "paper"), rest)
    with backend.active():
        crf: Any = DenseCRF(energies_of_scores(scores, params.get("clip", 1e-5)), device=backend)
        crf.add_preset(image, values)
        run = crf.best_labels if labels else crf.beliefs
        return run(values.iterations, relax=params.get("relax", 1.0))


def refine_scores(unary: np.ndarray, image: np.ndarray | None, position: Sequence[tuple[float, float]] = (),
                  bilateral: Sequence[tuple[float, float, float]] = (), iterations: int = 10) -> np.ndarray:
    """Return the beliefs of the net's DenseCRF layer (``dense_crf_layer.cpp``).

    Parameters
    ----------
    unary : (L, H, W) float32
        Energies: -log softmax of the scores in DeepLab v1, -scores in v2.
    image : (C, H, W) float32 or None
        The net's image, in whatever channel order and offset it has.
    position : sequence of (sigma, weight)
    bilateral : sequence of (sigma_xy, sigma_rgb, weight)
    iterations : int

    Returns
    -------
    (L, H, W) float32
        On the device where the unary is.
    """
    crf = score_crf(unary, image, position, bilateral)
    if isinstance(unary, np.ndarray):
        return crf.infer(iterations, exact=True).probabilities
    return crf.beliefs(iterations)


def score_crf(unary: np.ndarray, image: np.ndarray | None, position: Sequence[tuple[float, float]] = (),
              bilateral: Sequence[tuple[float, float, float]] = ()) -> DenseCRF:
    """Return the CRF of the net's DenseCRF layer; arguments as `refine_scores`."""
    crf = DenseCRF(unary)
    for sigma, weight in position:
        crf.add_gaussian(sigma, weight)
    if bilateral:
        if image is None:
            raise ArgumentError("image: expected the image that the bilateral kernels need, got None")
        for sigma_xy, sigma_rgb, weight in bilateral:
            crf.add_bilateral(image, sigma_xy, sigma_rgb, weight, channel_axis=0)
    return crf
