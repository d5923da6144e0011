"""What a fully connected CRF is made of, wherever its arrays live: energies, kernels, how inference is asked for."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.crf import features as feature_arrays
from atrouscaffe.crf.meanfield import NORMALIZATIONS
from atrouscaffe.crf.presets import Preset
from atrouscaffe.errors import ArgumentError

__all__ = ["Inference", "Model", "real_numbers"]


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


def real_numbers(values: Any, name: str) -> np.ndarray:
    """Return `values` as an array; raise ArgumentError where they are not real numbers."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{name}: expected an array of numbers ({error})") from None
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


class Model(abc.ABC):
    """Energies and kernels over the points of a grid; a subclass says where arrays live and what computes.

    Attributes
    ----------
    labels, points, labels_axis : int
    shape : tuple of int
        Of the grid.
    kernels : list
        In the order in which they were added.
    """

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
        self._field: Any = None
        self._energies: Any = None

    @abc.abstractmethod
    def _lattice_of_grid(self, sigma: tuple[float, ...]) -> Any:
        """Return the lattice of the grid's positions, in units of `sigma`."""

    @abc.abstractmethod
    def _lattice_of_image(self, image: Any, sigma_xy: tuple[float, ...], sigma_rgb: tuple[float, ...]) -> Any:
        """Return the lattice of positions and colours of an image (\\*shape, C)."""

    @abc.abstractmethod
    def _lattice_of_features(self, features: Any) -> Any:
        """Return the lattice of features (d, \\*shape)."""

    @abc.abstractmethod
    def _kernel(self, lattice: Any, *mixing: Any) -> Any:
        """Return a lattice with how its messages are mixed."""

    @abc.abstractmethod
    def set_unary(self, unary: Any) -> Model:
        """Replace the energies by others of the same shape; kernels and their lattices stay."""

    @abc.abstractmethod
    def field(self, keep: bool = False) -> Any:
        """Return the kernels ready for inference."""

    def _values(self, values: Any, name: str) -> Any:
        """Return `values` as an array of real numbers."""
        return real_numbers(values, name)

    @property
    def energies(self) -> np.ndarray:
        """The unaries as (L, N) float32."""
        return self._energies

    def add_gaussian(self, sigma: float | Sequence[float], weight: float, *, compatibility: np.ndarray | None = None,
                     normalization: str = "after") -> Model:
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
                      normalization: str = "after") -> Model:
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
                     normalization: str = "after") -> Model:
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
        array = real_numbers(image, "image")
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
        array = real_numbers(compatibility, "compatibility")
        n = self.labels
        if array.shape not in ((n,), (n, n)):
            raise ArgumentError(f"compatibility: expected shape ({n},) or ({n}, {n}) for {n} labels, got {array.shape}")
        if not np.isfinite(array).all():
            raise ArgumentError("compatibility: expected finite numbers, got NaN or infinity")
        if array.ndim == 2 and not np.allclose(array, array.T, rtol=1e-6, atol=0):
            raise ArgumentError("compatibility: expected a symmetric matrix, as the energy of a pair has no order; "
                                "got an asymmetric one: pass (M + M.T) / 2 if that is meant")
        return normalization, value, array.astype(np.float32)

    def _add(self, lattice: Any, mixing: tuple[str, float, np.ndarray | None]) -> Model:
        self.kernels.append(self._kernel(lattice, *mixing))
        self._field = None
        return self

    def add_preset(self, image: np.ndarray, preset: Preset, *, channel_axis: int = -1) -> Model:
        """Add the kernels of a preset, the position kernel first; a weight of 0 leaves a kernel out."""
        if preset.position_weight:
            self.add_gaussian(preset.position_sigma, preset.position_weight, normalization=preset.normalization)
        if preset.bilateral_weight:
            self.add_bilateral(image, preset.bilateral_sigma_xy, preset.bilateral_sigma_rgb, preset.bilateral_weight,
                               channel_axis=channel_axis, normalization=preset.normalization)
        return self

    def set_weight(self, kernel: int, weight: float) -> Model:
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

    def _shaped(self, beliefs: np.ndarray) -> np.ndarray:
        return np.moveaxis(beliefs.reshape(self.labels, *self.shape), 0, self.labels_axis)
