"""pydensecrf's classes over this package's CRF.

Same names, arguments, signs and defaults. Where the peer crashes or answers nonsense (NaN, sizes
that do not fit, tiny sigmas), these raise a ``ValueError``; arrays may have any real dtype, any
strides, and be read-only. Matrices come back as NumPy arrays, which ``np.array(Q)`` accepts too.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from atrouscaffe.crf import densecrf as core
from atrouscaffe.crf.features import sigmas
from atrouscaffe.errors import ArgumentError

__all__ = ["CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL", "NORMALIZE_AFTER", "NORMALIZE_BEFORE", "NORMALIZE_SYMMETRIC",
           "NO_NORMALIZATION", "ConstUnary", "DenseCRF", "DenseCRF2D", "KernelType", "LogisticUnary",
           "NormalizationType", "Unary"]


class KernelType(enum.IntEnum):
    """How the peer learns kernel parameters; without effect on inference."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(enum.IntEnum):
    """Where filtered values are divided by the filtered ones."""

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType
_NAMES = {NO_NORMALIZATION: "none", NORMALIZE_BEFORE: "before", NORMALIZE_AFTER: "after",
          NORMALIZE_SYMMETRIC: "symmetric"}


class Unary:
    """Energies (labels, variables) float32 that several CRFs may use."""

    def __init__(self, energies: np.ndarray) -> None:
        self.energies = energies


class ConstUnary(Unary):
    """Energies that stand as they are."""

    def __init__(self, u: np.ndarray) -> None:
        super().__init__(np.array(u, np.float32))


class LogisticUnary(Unary):
    """Energies that are linear in features: L (labels, features) times f (features, variables)."""

    def __init__(self, L: np.ndarray, f: np.ndarray) -> None:
        weights, features = np.asarray(L, np.float32), np.asarray(f, np.float32)
        if weights.ndim != 2 or features.ndim != 2 or weights.shape[1] != features.shape[0]:
            raise ArgumentError(f"L, f: expected shapes (labels, features) and (features, variables), got "
                                f"{weights.shape} and {features.shape}")
        super().__init__(weights @ features)


def _count(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{name}: expected a whole number of at least 1, got {value!r}")
    return int(value)


class DenseCRF:
    """A CRF over `nvar` variables with `nlabels` labels.

    Parameters
    ----------
    nvar, nlabels : int
    """

    def __init__(self, nvar: int, nlabels: int) -> None:
        self._start((_count(nvar, "nvar"),), _count(nlabels, "nlabels"))

    def _start(self, shape: tuple[int, ...], labels: int) -> None:
        self._shape, self._labels, self._points = shape, labels, math.prod(shape)
        self._crf = core.DenseCRF(np.zeros((labels, *shape), np.float32))

    def setUnaryEnergy(self, u: np.ndarray, f: np.ndarray | None = None) -> None:
        """Set the energies (labels, variables); with `f`, those of ``LogisticUnary(u, f)``."""
        self.setUnary(ConstUnary(u) if f is None else LogisticUnary(u, f))

    def setUnary(self, u: Unary) -> None:
        """Set the energies; the same object may serve several CRFs."""
        if not isinstance(u, Unary):
            raise ArgumentError(f"unary: expected a Unary, got {type(u).__name__}; pass arrays to setUnaryEnergy")
        expected = (self._labels, self._points)
        if u.energies.shape not in (expected, (self._labels, *self._shape)):
            raise ArgumentError(f"unary: expected shape {expected} for {self._labels} labels, got {u.energies.shape}")
        self._crf.set_unary(u.energies.reshape(self._labels, *self._shape))

    def addPairwiseEnergy(self, features: np.ndarray, compat: float | np.ndarray,
                          kernel: KernelType = DIAG_KERNEL,
                          normalization: NormalizationType = NORMALIZE_SYMMETRIC) -> None:
        """Add a Gaussian kernel on features (d, variables)."""
        array = np.asarray(features)
        if array.ndim != 2:
            raise ArgumentError(f"features: expected shape (d, {self._points}), got {array.shape}")
        self._crf.add_pairwise(array, **self._term(compat, kernel, normalization))

    def _term(self, compat: float | np.ndarray, kernel: int, normalization: int) -> dict:
        """Return weight, compatibility and normalisation in the core's signs."""
        if kernel not in list(KernelType):
            raise ArgumentError(f"kernel: expected one of the KernelType constants 0 … 2, got {kernel!r}")
        if normalization not in list(NormalizationType):
            raise ArgumentError(f"normalization: expected one of the NormalizationType constants 0 … 3, "
                                f"got {normalization!r}")
        values = np.asarray(float(compat) if isinstance(compat, Real) else compat)
        if values.dtype.kind not in "fiub":
            raise ArgumentError(f"compat: expected numbers, got {compat!r}")
        common = {"normalization": _NAMES[NormalizationType(normalization)]}
        if values.ndim == 0:
            return common | {"weight": float(values)}
        if values.ndim == 1:  # the peer adds v_l (K q)_l as an energy: positive entries repel
            return common | {"weight": -1.0, "compatibility": values}
        if values.ndim == 2 and values.shape[0] == values.shape[1]:
            values = (values + values.T) / 2  # as the peer does
        return common | {"weight": 1.0, "compatibility": values}

    def inference(self, niter: int) -> np.ndarray:
        """Return the marginals (labels, variables) float32 after `niter` updates."""
        return self._flat(self._crf.infer(niter, exact=True).probabilities)

    def map(self, niter: int) -> np.ndarray:
        """Return the most probable label of each variable, (variables,) int16."""
        return self.inference(niter).argmax(axis=0).astype(np.int16)

    def _flat(self, values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values.reshape(self._labels, self._points))

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (Q, tmp1, tmp2): softmax of the negative energies, and two work arrays."""
        q = self.inference(0)
        return q, np.zeros_like(q), np.zeros_like(q)

    def _beliefs(self, q: np.ndarray) -> np.ndarray:
        array = np.asarray(q)
        if array.shape != (self._labels, self._points) or array.dtype.kind != "f":
            raise ArgumentError(f"Q: expected a float array of shape {(self._labels, self._points)}, "
                                f"got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ArgumentError("Q: expected finite numbers, got NaN or infinity")
        return array

    def stepInference(self, Q: np.ndarray, tmp1: np.ndarray, tmp2: np.ndarray) -> None:
        """Make one update of Q in place; `tmp1` receives the logits, `tmp2` the messages."""
        beliefs = self._beliefs(Q)
        if beliefs is not Q or not Q.flags.writeable:
            raise ArgumentError("Q: expected a writable NumPy array, as startInference returns it")
        messages = self._crf.field().messages(beliefs)
        logits = messages - self._crf.energies
        logits -= logits.max(axis=0)
        shares = np.exp(logits)
        for name, work, values in (("tmp1", tmp1, logits), ("tmp2", tmp2, messages)):
            if np.shape(work) != values.shape:
                raise ArgumentError(f"{name}: expected shape {values.shape}, got {np.shape(work)}")
            work[...] = values
        Q[...] = shares / shares.sum(axis=0)

    def klDivergence(self, Q: np.ndarray) -> float:
        """Return the peer's divergence: each pair counts twice, and each point meets itself.

        `atrouscaffe.crf.densecrf.DenseCRF.infer` with diagnostics gives the true one.
        """
        q = self._beliefs(Q).astype(np.float64)
        positive = q > 0
        energies = np.broadcast_to(self._crf.energies, q.shape)
        entropy = float((q[positive] * np.log(q[positive])).sum())
        unary = float((q[positive] * energies[positive]).sum())
        return entropy + unary - float((q * self._crf.field().messages(q)).sum())


class DenseCRF2D(DenseCRF):
    """A CRF over the pixels of an image.

    Parameters
    ----------
    w, h, nlabels : int
        Width first.
    """

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        self._start((_count(h, "h"), _count(w, "w")), _count(nlabels, "nlabels"))

    def addPairwiseGaussian(self, sxy: float | Sequence[float], compat: float | np.ndarray,
                            kernel: KernelType = DIAG_KERNEL,
                            normalization: NormalizationType = NORMALIZE_SYMMETRIC) -> None:
        """Add the position kernel; `sxy` in pixels, one number or (x, y)."""
        self._crf.add_gaussian(sigmas(sxy, 2, "sxy"), **self._term(compat, kernel, normalization))

    def addPairwiseBilateral(self, sxy: float | Sequence[float], srgb: float | Sequence[float], rgbim: np.ndarray,
                             compat: float | np.ndarray, kernel: KernelType = DIAG_KERNEL,
                             normalization: NormalizationType = NORMALIZE_SYMMETRIC) -> None:
        """Add the bilateral kernel; `rgbim` is (h, w, 3)."""
        image = np.asarray(rgbim)
        if image.shape != (*self._shape, 3):
            raise ArgumentError(f"rgbim: expected shape {(*self._shape, 3)} (height, width, 3), got {image.shape}")
        self._crf.add_bilateral(image, sigmas(sxy, 2, "sxy"), sigmas(srgb, 3, "srgb"),
                                **self._term(compat, kernel, normalization))
