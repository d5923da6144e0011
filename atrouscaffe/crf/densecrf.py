"""The fully connected CRF of Krähenbühl and Koltun (2011), as DeepLab uses it.

The energy of a labelling is the sum of the unaries plus, for every pair of points, the kernels'
weights where labels differ. Mean field makes parallel updates
``Q = softmax(-U + sum over kernels of weight * filtered Q)``, starting at ``softmax(-U)``. The
filter includes the point itself, as in the original (``densecrf.cpp``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from atrouscaffe.crf import features as feature_arrays
from atrouscaffe.crf.lattice import Cut, Lattice, padded_lanes
from atrouscaffe.crf.meanfield import NORMALIZATIONS, Kernel, MeanField
from atrouscaffe.crf.memory import MAX_NUMBERED, inference_bytes, refuse_above
from atrouscaffe.crf.presets import Preset
from atrouscaffe.crf.presets import preset as find_preset
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.budget import default_budget
from atrouscaffe.runtime.cuda import current

__all__ = ["DenseCRF", "Inference", "refine", "refine_on_device", "refine_scores", "score_crf"]

INFER_OPTIONS = ("relax", "callback", "exact", "diagnostics", "tolerance")


@dataclass(frozen=True, eq=False)
class Inference:
    """What `DenseCRF.infer` returns.

    Attributes
    ----------
    probabilities : float32
        Marginals, in the shape of the unary.
    labels_axis : int
    iterations : int
        Updates that were made.
    error_bound : float
        Proved bound of the change of any probability by pruning; 0 if nothing was pruned.
    pruned : (n,) int
        Labels that were left out of the messages.
    kl : tuple of float
        With diagnostics: KL divergence of the beliefs from the CRF's distribution after 0, 1, …
        updates, up to a constant (the logarithm of the partition function and the kernels' sum).
        Each pair of points counts once and no point pairs with itself.
    energy : tuple of float
        With diagnostics: expected energy likewise, the KL divergence without the entropy.
    """

    probabilities: np.ndarray
    labels_axis: int
    iterations: int
    error_bound: float
    pruned: np.ndarray
    kl: tuple[float, ...] = ()
    energy: tuple[float, ...] = ()

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Most probable label of every point, the first of equals; uint8 for up to 256 labels."""
        count = self.probabilities.shape[self.labels_axis]
        return self.probabilities.argmax(axis=self.labels_axis).astype(np.uint8 if count <= 256 else np.int32)


def _number(value: float, name: str, least: float = -math.inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected a number, got {value!r}") from None
    if not math.isfinite(number) or number < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise ArgumentError(f"{name}: expected a finite number{bound}, got {value!r}")
    return number


def _real(values: np.ndarray, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{name}: expected an array of numbers ({error})") from None
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


class DenseCRF:
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

    def __new__(cls, unary: Any = None, *_: Any, device: Any = None, **__: Any) -> DenseCRF:
        backend = current()
        if cls is not DenseCRF or device == "cpu" or (
                device is None and (backend is None or not isinstance(unary, backend.xp.ndarray))):
            return object.__new__(cls)
        from atrouscaffe.crf.densecrf_cuda import DeviceCRF

        return object.__new__(DeviceCRF)

    def __init__(self, unary: np.ndarray, *, labels_axis: int = 0, memory_budget: int | None = None,
                 device: Any = None) -> None:
        array = self._values(unary, "unary")
        self.budget = default_budget() if memory_budget is None else memory_budget
        self._plan(array.shape, labels_axis)
        least = inference_bytes(self.points, self.labels, padded_lanes(self.labels)[0], 0, 0, 0, False)
        refuse_above(self.budget if self.points <= MAX_NUMBERED else 0, least + 4 * array.size,
                     f"CRF of {self.labels} labels at {self.points:,} points")
        self.set_unary(array)

    def _plan(self, shape: tuple[int, ...], labels_axis: int) -> None:
        """Take the shape of the unary."""
        if len(shape) < 2 or math.prod(shape) == 0:
            raise ArgumentError(f"unary: expected shape (L, H, W), or (L, N), with no size of 0, got {shape}")
        if not -len(shape) <= labels_axis < len(shape):
            raise ArgumentError(f"labels_axis: expected an axis of an array of {len(shape)} axes, got {labels_axis}")
        self.labels_axis = labels_axis
        rest = list(shape)
        self.labels = rest.pop(labels_axis)
        self.shape = tuple(rest)
        self.points = math.prod(self.shape)
        self.kernels: list[Any] = []
        self._cut: Cut | None = None
        self._field: Any = None
        self._spend = False  # the unary may give its memory to the result

    def _values(self, values: Any, name: str) -> Any:
        """Return `values` as an array of real numbers."""
        return _real(values, name)

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
        moved = np.moveaxis(_real(unary, "unary"), self.labels_axis, 0)
        if moved.shape != (self.labels, *self.shape):
            raise ArgumentError(f"unary: expected {self.labels} labels of {self.shape}, got {moved.shape}")
        self._energies = np.ascontiguousarray(moved, np.float32).reshape(self.labels, self.points)
        return self

    @property
    def energies(self) -> np.ndarray:
        """The unaries as (L, N) float32."""
        return self._energies

    @property
    def cut(self) -> Cut:
        """How the points are cut into chunks."""
        if self._cut is None:
            self._cut = feature_arrays.grid_cut(self.shape)
        return self._cut

    def add_gaussian(self, sigma: float | Sequence[float], weight: float, *, compatibility: np.ndarray | None = None,
                     normalization: str = "after") -> DenseCRF:
        """Add the position (smoothness) kernel.

        Parameters
        ----------
        sigma : float or sequence of float
            Standard deviation in pixels, one for all axes or in the order x, y, ….
        weight : float
            Strength; positive smooths.
        compatibility : (L,) or (L, L), optional
            See `add_pairwise`.
        normalization : {"after", "before", "symmetric", "none"}
            See `add_pairwise`.

        Returns
        -------
        DenseCRF
            This one, so that calls can be chained.
        """
        values = feature_arrays.sigmas(sigma, len(self.shape), "sigma")
        mixing = self._mixing(weight, compatibility, normalization)
        return self._add(self._lattice_of_grid(values), mixing)

    def add_bilateral(self, image: np.ndarray, sigma_xy: float | Sequence[float], sigma_rgb: float | Sequence[float],
                      weight: float, *, channel_axis: int = -1, compatibility: np.ndarray | None = None,
                      normalization: str = "after") -> DenseCRF:
        """Add the bilateral (appearance) kernel.

        Parameters
        ----------
        image : (H, W, C) or (H, W) array
            Any real dtype and strides, any number of channels; the published sigmas are for RGB of
            0 … 255, and for another order of the channels the lattice differs slightly.
        sigma_xy : float or sequence of float
            Standard deviation in pixels, in the order x, y, ….
        sigma_rgb : float or sequence of float
            Standard deviation in units of the image, one for all channels or one for each.
        weight, compatibility, normalization
            See `add_pairwise`.
        channel_axis : int
            Axis of the channels; 0 for (C, H, W).
        """
        array = self._image(image, channel_axis)
        spatial = feature_arrays.sigmas(sigma_xy, len(self.shape), "sigma_xy")
        colour = feature_arrays.sigmas(sigma_rgb, array.shape[-1], "sigma_rgb")
        mixing = self._mixing(weight, compatibility, normalization)
        return self._add(self._lattice_of_image(array, spatial, colour), mixing)

    def add_pairwise(self, features: np.ndarray, weight: float, *, compatibility: np.ndarray | None = None,
                     normalization: str = "after") -> DenseCRF:
        """Add a Gaussian kernel on any features.

        Parameters
        ----------
        features : (d, N) or (d, H, W) array
            Features divided by their standard deviations.
        weight : float
        compatibility : (L,) or (L, L), optional
            None is Potts: every pair of different labels costs `weight`. A vector gives each label
            its own share of `weight`. A symmetric matrix holds the cost of each pair of labels,
            in units of `weight`; Potts is ``1 - eye(L)``.
        normalization : {"after", "before", "symmetric", "none"}
            "after" divides filtered values by the filtered ones (DeepLab, ``densecrf.cpp`` of its
            release), "before" divides what goes into the filter, "symmetric" divides by the square
            root at both ends (pydensecrf's default), "none" leaves them.
        """
        array = self._values(features, "features")
        if array.ndim < 2 or math.prod(array.shape[1:]) != self.points:
            raise ArgumentError(f"features: expected shape (d, {self.points}) or (d, "
                                f"{', '.join(map(str, self.shape))}), got {array.shape}")
        mixing = self._mixing(weight, compatibility, normalization)
        return self._add(self._lattice_of_features(array), mixing)

    def _image(self, image: np.ndarray, channel_axis: int) -> np.ndarray:
        """Return the image as (*shape, C)."""
        array = _real(image, "image")
        if array.shape == self.shape:
            array = array[..., None]
        elif array.ndim == len(self.shape) + 1 and -array.ndim <= channel_axis < array.ndim:
            array = np.moveaxis(array, channel_axis, -1)
        if array.shape[:-1] != self.shape or array.shape[-1] == 0:
            raise ArgumentError(f"image: expected the unary's size {self.shape} plus channels at axis {channel_axis}, "
                                f"got shape {np.shape(image)}; name another axis with channel_axis=")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArgumentError("image: expected finite numbers, got NaN or infinity")
        return array

    def _mixing(self, weight: float, compatibility: np.ndarray | None,
                normalization: str) -> tuple[str, float, np.ndarray | None]:
        """Check a term's arguments; return what `Kernel` needs beside the lattice."""
        value = _number(weight, "weight")
        if normalization not in NORMALIZATIONS:
            raise ArgumentError(f"normalization: expected one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")
        if compatibility is None:
            return normalization, value, None
        array = _real(compatibility, "compatibility")
        n = self.labels
        if array.shape not in ((n,), (n, n)):
            raise ArgumentError(f"compatibility: expected shape ({n},) or ({n}, {n}) for {n} labels, got {array.shape}")
        if not np.isfinite(array).all():
            raise ArgumentError("compatibility: expected finite numbers, got NaN or infinity")
        if array.ndim == 2 and not np.allclose(array, array.T, rtol=1e-6, atol=0):
            raise ArgumentError("compatibility: expected a symmetric matrix, as the energy of a pair has no order; "
                                "got an asymmetric one: pass (M + M.T) / 2 if that is meant")
        return normalization, value, array.astype(np.float32)

    def _add(self, lattice: Any, mixing: tuple[str, float, np.ndarray | None]) -> DenseCRF:
        self.kernels.append(self._kernel(lattice, *mixing))
        self._field = None
        return self

    def add_preset(self, image: np.ndarray, preset: Preset, *, channel_axis: int = -1) -> DenseCRF:
        """Add the kernels of a preset, the position kernel first; a weight of 0 leaves a kernel out."""
        if preset.position_weight:
            self.add_gaussian(preset.position_sigma, preset.position_weight, normalization=preset.normalization)
        if preset.bilateral_weight:
            self.add_bilateral(image, preset.bilateral_sigma_xy, preset.bilateral_sigma_rgb, preset.bilateral_weight,
                               channel_axis=channel_axis, normalization=preset.normalization)
        return self

    def set_weight(self, kernel: int, weight: float) -> DenseCRF:
        """Change the weight of a kernel, by its number in the order of adding; lattices stay."""
        if not 0 <= kernel < len(self.kernels):
            raise ArgumentError(f"kernel: expected a number 0 … {len(self.kernels) - 1}, got {kernel}")
        self.kernels[kernel].weight = _number(weight, "weight")
        self._field = None
        return self

    def infer(self, iterations: int = 10, *, relax: float = 1.0, exact: bool = False, diagnostics: bool = False,
              tolerance: float | None = None,
              callback: Callable[[int, np.ndarray], bool | None] | None = None) -> Inference:
        """Run mean field from ``softmax(-unary)``.

        Parameters
        ----------
        iterations : int
            Parallel updates; 0 gives the softmax.
        relax : float
            Share of the new beliefs in each update, above 0 and at most 1; below 1, exact.
        exact : bool
            Keep all labels. By default labels that provably cannot matter are left out where that is
            faster; `Inference.error_bound` says how much that can have changed.
        diagnostics : bool
            Fill `Inference.kl` and `Inference.energy`, at the cost of one more iteration; exact.
        tolerance : float, optional
            Stop when the KL divergence changes by less than this in one update, in nats a point; the
            change is known one update later. Implies `diagnostics`.
        callback : callable, optional
            Called as ``callback(iteration, probabilities)`` after each update and before the first
            one; returning True stops.

        Returns
        -------
        Inference

        Raises
        ------
        ArgumentError
            An argument out of range, or energies that are NaN, -inf, or +inf for all labels.
        BudgetError
            More memory than allowed.
        """
        if isinstance(iterations, bool) or not isinstance(iterations, (int, np.integer)) or iterations < 0:
            raise ArgumentError(f"iterations: expected a whole number of at least 0, got {iterations!r}")
        share = _number(relax, "relax")
        if not 0 < share <= 1:
            raise ArgumentError(f"relax: expected a number above 0 and at most 1, got {relax!r}")
        if tolerance is not None:
            tolerance = _number(tolerance, "tolerance", 0.0)
        watch = None if callback is None else lambda i, beliefs: callback(i, self._shaped(beliefs))
        keep = watch is not None or share != 1 or diagnostics or tolerance is not None
        outcome = self.field(keep).run(self._energies, int(iterations), relax=share, exact=exact, watch=watch,
                                       measure=diagnostics or tolerance is not None, tolerance=tolerance)
        return Inference(self._shaped(outcome.beliefs), self.labels_axis, outcome.iterations, outcome.error_bound,
                         outcome.pruned, outcome.kl, outcome.energy)

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

    def _shaped(self, beliefs: np.ndarray) -> np.ndarray:
        return np.moveaxis(beliefs.reshape(self.labels, *self.shape), 0, self.labels_axis)


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
