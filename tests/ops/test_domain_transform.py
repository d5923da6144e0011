import numpy as np
import pytest

from atrouscaffe.ops.domain_transform import DomainTransform
from atrouscaffe.runtime.threads import set_num_threads

RNG = np.random.default_rng(0)


def test_domain_transform_when_the_image_is_flat_then_stays_flat():
    planes = np.full((2, 5, 7), 3.0)
    DomainTransform(3, 50, 5, 0).filter(planes, RNG.random((5, 7)), (5, 7))
    np.testing.assert_allclose(planes, 3, rtol=1e-14)


def test_domain_transform_when_an_edge_is_strong_then_nothing_crosses_it():
    planes, edges = np.zeros((1, 6, 8)), np.zeros((6, 8))
    planes[0, :, 4:] = 1
    edges[:, 4] = 1e4
    DomainTransform(3, 50, 5, 0).filter(planes, edges, (6, 8))
    np.testing.assert_allclose(planes[0, :, 4:], 1, atol=1e-12)
    np.testing.assert_allclose(planes[0, :, :4], 0, atol=1e-12)
    edges[:] = 0
    DomainTransform(3, 50, 5, 0).filter(planes, edges, (6, 8))
    assert planes.min() > 0.1


@pytest.mark.parametrize("size", [(6, 8), (1, 8), (6, 1), (3, 5), (0, 0)])
def test_domain_transform_when_filtered_then_adjoint_matches(size):
    transform = DomainTransform(2, 3, 1, 0)
    edges = RNG.random((6, 8))
    x, dy = RNG.standard_normal((2, 4, 6, 8))
    y, dx = x.copy(), dy.copy()
    steps = transform.steps(x)
    transform.filter(y, edges, size, steps)
    transform.adjoint(dx, edges, size, steps)
    assert abs((y * dy).sum() - (x * dx).sum()) < 1e-11
    np.testing.assert_array_equal(y[:, size[0]:], x[:, size[0]:])
    np.testing.assert_array_equal(y[:, :, size[1]:], x[:, :, size[1]:])


def test_domain_transform_when_threads_differ_then_same_bits():
    transform, edges = DomainTransform(2, 3, 1, 0), RNG.random((31, 37)).astype(np.float32)
    x, dy = RNG.standard_normal((2, 21, 31, 37)).astype(np.float32)
    results = []
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            y, dx, steps = x.copy(), dy.copy(), transform.steps(x)
            transform.filter(y, edges, (31, 37), steps)
            results.append((y.tobytes(), transform.adjoint(dx, edges, (31, 37), steps).tobytes(), dx.tobytes()))
    finally:
        set_num_threads(None)
    assert results[0] == results[1]
