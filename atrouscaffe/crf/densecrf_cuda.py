"""The fully connected CRF on a CUDA device: see `atrouscaffe.crf.densecrf`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from atrouscaffe.crf.lattice_cuda import DeviceLattice, image_lattice, position_lattice
from atrouscaffe.crf.meanfield import Outcome
from atrouscaffe.crf.meanfield_cuda import DeviceField, DeviceKernel
from atrouscaffe.crf.model import Model
from atrouscaffe.errors import ArgumentError, DeviceError
from atrouscaffe.runtime.backend import get_backend, module_of
from atrouscaffe.runtime.cuda import current
from atrouscaffe.runtime.kernels import launch

__all__ = ["DeviceCRF", "energies_of_scores"]


class DeviceCRF(Model):
    """What ``DenseCRF(..., device="cuda")`` is: lattices and mean field on a CUDA device.

    Methods and arguments are those of `atrouscaffe.crf.densecrf.DenseCRF`; unaries, images and features may
    also be arrays of the device. All labels are kept, whatever `exact` says. Memory is what the device has: no
    budget is kept.

    Parameters
    ----------
    unary : (L, H, W) array
    labels_axis : int
    memory_budget : int, optional
        Not used.
    device : str or CudaBackend, optional
        By default the device on which `unary` is.
    """

    def __init__(self, unary: Any, *, labels_axis: int = 0, memory_budget: int | None = None,
                 device: Any = None) -> None:
        backend = get_backend(device) if isinstance(device, str) else device or current()
        if backend is None or backend.name == "cpu":
            raise DeviceError("device: expected a CUDA device for a unary that lies on one, got none")
        self.backend = backend
        with backend.active():
            array = self._values(unary, "unary")
            self._plan(array.shape, labels_axis)
            self.set_unary(array)

    def _values(self, values: Any, name: str) -> Any:
        """Return `values` as an array of real numbers on the device."""
        if isinstance(values, self.backend.xp.ndarray):
            return values
        return self.backend.asarray(super()._values(values, name))

    def set_unary(self, unary: Any) -> Model:
        """Replace the energies by others of the same shape; kernels and their lattices stay."""
        xp = self.backend.xp
        with self.backend.active():
            moved = xp.moveaxis(self._values(unary, "unary"), self.labels_axis, 0)
            if moved.shape != (self.labels, *self.shape):
                raise ArgumentError(f"unary: expected {self.labels} labels of {self.shape}, got {moved.shape}")
            self._energies = xp.ascontiguousarray(moved.astype(np.float32, copy=False)).reshape(self.labels, -1)
        return self

    def _lattice_of_grid(self, sigma: tuple[float, ...]) -> DeviceLattice:
        with self.backend.active():
            return position_lattice(self.backend, self.shape, sigma)

    def _image(self, image: Any, channel_axis: int) -> Any:
        if not isinstance(image, self.backend.xp.ndarray):
            return super()._image(image, channel_axis)
        if image.shape == self.shape:
            return image[..., None]
        if image.ndim == len(self.shape) + 1 and -image.ndim <= channel_axis < image.ndim:
            moved = self.backend.xp.moveaxis(image, channel_axis, -1)
            if moved.shape[:-1] == self.shape and moved.shape[-1]:
                return moved
        raise ArgumentError(f"image: expected the unary's size {self.shape} plus channels at axis {channel_axis}, got "
                            f"shape {image.shape}; name another axis with channel_axis=")

    def _lattice_of_image(self, image: Any, sigma_xy: tuple[float, ...], sigma_rgb: tuple[float, ...]) -> DeviceLattice:
        with self.backend.active():
            return image_lattice(self._values(image, "image"), sigma_xy, sigma_rgb)

    def _lattice_of_features(self, features: Any) -> DeviceLattice:
        xp = self.backend.xp
        with self.backend.active():
            flat = features.reshape(features.shape[0], self.points).astype(np.float32, copy=False)
            return DeviceLattice(xp.ascontiguousarray(flat))

    def _kernel(self, lattice: Any, *mixing: Any) -> Any:
        return DeviceKernel(lattice, *mixing)

    def field(self, keep: bool = False) -> Any:
        """Return the kernels ready for inference from and to main memory."""
        return _HostSide(self)

    def device_field(self) -> DeviceField:
        """Return the kernels ready for inference on the device; call it inside ``backend.active()``."""
        if self._field is None:
            self._field = DeviceField(self.kernels, self.labels, self.points)
        return self._field

    def beliefs(self, iterations: int, *, relax: float = 1.0) -> Any:
        """Return Q after `iterations` updates, (L, \\*shape) float32 on the device."""
        with self.backend.active():
            field = self.device_field()
            rows, _ = field.run(self._energies, iterations, relax=relax)
            return field.planes(rows).reshape(self.labels, *self.shape)

    def best_labels(self, iterations: int, *, relax: float = 1.0) -> Any:
        """Return the most probable label of every point after `iterations` updates, of `shape`, on the device."""
        with self.backend.active():
            field = self.device_field()
            rows, _ = field.run(self._energies, iterations, relax=relax)
            return field.best(rows).reshape(self.shape)


class _HostSide:
    """Runs a `DeviceField` and brings what it finds to main memory."""

    def __init__(self, crf: DeviceCRF) -> None:
        self._crf = crf

    def run(self, energies: Any, iterations: int, *, relax: float = 1.0, exact: bool = True,
            watch: Callable[[int, np.ndarray], bool | None] | None = None, measure: bool = False,
            tolerance: float | None = None, overwrite: bool = False) -> Outcome:
        """Make the updates; arguments as `atrouscaffe.crf.meanfield.MeanField.run`, all labels are kept."""
        kl: list[float] = []
        energy: list[float] = []
        points = self._crf.points

        def note(divergence: float, expected: float) -> bool:
            kl.append(divergence)
            energy.append(expected)
            return tolerance is not None and len(kl) > 1 and abs(kl[-1] - kl[-2]) <= tolerance * points

        with self._crf.backend.active():
            field = self._crf.device_field()
            seen = None if watch is None else lambda i, rows: watch(i, field.planes(rows).get())
            rows, done = field.run(energies, iterations, relax=relax, watch=seen, measure=note if measure else None)
            return Outcome(field.planes(rows).get(), done, 0.0, np.arange(0), tuple(kl), tuple(energy))


def energies_of_scores(scores: Any, clip: float | None) -> Any:
    """Return -log max(softmax(scores), clip) of scores (L, ...) on the device, of their shape."""
    xp, labels = module_of(scores), scores.shape[0]
    scores = xp.ascontiguousarray(scores, np.float32)
    energies, points = xp.empty_like(scores), scores.size // labels
    launch("meanfield", "take_scores", points, (scores, energies, points, labels,
                                                -math.log(clip) if clip else math.inf))
    return energies
