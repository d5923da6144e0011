"""The domain transform on a device against the CPU's."""

from __future__ import annotations

import pytest

from atrouscaffe.ops.domain_transform import DomainTransform
from tests.ops.on_device import compare, devices


@devices
@pytest.mark.parametrize("size", [(9, 11), (5, 7), (1, 11), (9, 1), (0, 4), (4, 0)])
def test_filter_and_adjoint(size, device, rng):
    planes, gradients = rng.standard_normal((2, 3, 9, 11))
    transform = DomainTransform(3, 4.0, 0.8, 0.05)

    def work(planes, reference, gradients):
        steps = transform.steps(planes)
        transform.filter(planes, reference, size, steps)
        return transform.adjoint(gradients, reference, size, steps)

    compare(device, work, planes, rng.random((9, 11)), gradients)


@devices
def test_filter_without_steps(device, rng):
    transform = DomainTransform(2, 4.0, 0.8, 0.0)
    compare(device, lambda planes, reference: transform.filter(planes, reference, (9, 11)),
            rng.standard_normal((3, 9, 11)), rng.random((9, 11)))
