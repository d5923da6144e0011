"""Edge-preserving recursive filter (Gastal and Oliveira 2011), as in DeepLab's domain transform net.

Iteration i of K smooths with ``sigma_i = sigma_s sqrt(3) 2**(K-i) / sqrt(4**K - 1)``; a step into
pixel p has weight ``exp(-sqrt(2)/sigma_i * (1 + r_p sigma_s/sigma_r))``, held within
[min_weight, 1], where r is the reference gradient; passes go right, left, down, up.
Source: ``domain_transform_layer.cpp``; Chen et al., CVPR 2016, section 3. Arrays on a CUDA device go to
`domain_transform_cuda`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from atrouscaffe.ops.domain_transform_cpu import filter_planes, unfilter_planes
from atrouscaffe.runtime.backend import module_of, on_device
from atrouscaffe.runtime.threads import chunks, parallel

__all__ = ["DomainTransform"]


@dataclass(frozen=True)
class DomainTransform:
    """The filter's options."""

    iterations: int
    spatial_sigma: float
    range_sigma: float
    min_weight: float

    def _decay(self, iteration: int) -> float:
        """Exponent of a step over a pixel without gradient."""
        sigma = (self.spatial_sigma * math.sqrt(3) * 2.0 ** (self.iterations - iteration - 1)
                 / math.sqrt(4.0**self.iterations - 1))
        return -math.sqrt(2) / sigma

    def _weight(self, reference: Any, iteration: int) -> Any:
        xp = module_of(reference)
        ratio = self.spatial_sigma / self.range_sigma
        weight = xp.exp(self._decay(iteration) * (1 + reference.astype(np.float64) * ratio))
        return xp.clip(weight, self.min_weight, 1).astype(reference.dtype)

    def steps(self, planes: Any) -> Any:
        """Return room for what `adjoint` needs of one image (C, H, W): (iterations, 4, C, H, W)."""
        return module_of(planes).zeros((self.iterations, 4, *planes.shape), planes.dtype)

    def filter(self, planes: Any, reference: Any, size: tuple[int, int],
               steps: Any = None) -> None:
        """Filter the top-left `size` of `planes` in place.

        Parameters
        ----------
        planes : (C, H, W) array
        reference : (H, W) array
        size : (int, int)
        steps : array, optional
            From `steps`; filled.
        """
        if on_device(planes):
            from atrouscaffe.ops import domain_transform_cuda

            for i in range(self.iterations):
                domain_transform_cuda.filter_planes(planes, self._weight(reference, i), *size,
                                                    None if steps is None else steps[i])
            return
        none = np.zeros((4, 0, 0, 0), planes.dtype)
        blocks = chunks(len(planes), max(1, -(-len(planes) // 16)))
        for i in range(self.iterations):
            weight = self._weight(reference, i)
            kept = none if steps is None else steps[i]
            parallel(lambda b, weight=weight, kept=kept: filter_planes(planes, weight, *size, kept, *blocks[b]),
                     len(blocks))

    def adjoint(self, gradients: Any, reference: Any, size: tuple[int, int], steps: Any) -> Any:
        """Turn gradients (C, H, W) of the result into those of the input, in place; return the reference's (H, W).

        Where a weight is held at its limit the original lets the gradient through all the same.
        """
        ratio = self.spatial_sigma / self.range_sigma
        if on_device(gradients):
            return self._adjoint_on_device(gradients, reference, size, steps)
        total = np.zeros(reference.shape, gradients.dtype)
        blocks = chunks(len(gradients), max(1, -(-len(gradients) // 16)))
        for i in reversed(range(self.iterations)):
            weight = self._weight(reference, i)
            shares = np.zeros_like(gradients)
            parallel(lambda b, i=i, weight=weight, shares=shares: unfilter_planes(
                gradients, weight, shares, *size, steps[i], *blocks[b]), len(blocks))
            total += shares.sum(axis=0) * weight * gradients.dtype.type(self._decay(i) * ratio)
        return total

    def _adjoint_on_device(self, gradients: Any, reference: Any, size: tuple[int, int], steps: Any) -> Any:
        from atrouscaffe.ops import domain_transform_cuda

        xp = module_of(gradients)
        total = xp.zeros(reference.shape, gradients.dtype)
        for i in reversed(range(self.iterations)):
            weight, shares = self._weight(reference, i), xp.zeros(gradients.shape, gradients.dtype)
            domain_transform_cuda.unfilter_planes(gradients, weight, shares, *size, steps[i])
            total += shares.sum(axis=0) * weight * (self._decay(i) * self.spatial_sigma / self.range_sigma)
        return total
