"""The lattice against recorded filters and against the exact Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.lattice import Cut, Lattice
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.threads import set_num_threads
from tests.crf.recordings import FILTERS, read


@pytest.mark.parametrize("name", FILTERS)
def test_filter_matches_recording(name):
    arrays, _ = read(name)
    lattice = Lattice(arrays["features"])
    assert lattice.vertices == arrays["vertices"]
    largest = np.abs(arrays["out"]).max()
    assert np.abs(lattice.filter(arrays["values"]) - arrays["out"]).max() <= 2e-6 * largest
    ones = lattice.filter(np.ones((1, lattice.points), np.float32))[0]
    assert np.abs(ones - arrays["norm"]).max() <= 2e-6 * arrays["norm"].max()
    np.testing.assert_allclose(lattice.norm[np.argsort(lattice.cut.order)], ones, rtol=1e-6)


@pytest.mark.parametrize("name", FILTERS)
def test_filter_in_float64_matches_double_recording(name):
    arrays, _ = read(name)
    out = Lattice(arrays["features"]).filter(arrays["values"].astype(np.float64))
    assert out.dtype == np.float64
    assert np.abs(out - arrays["out_double"]).max() <= 5e-6 * np.abs(arrays["out"]).max()


@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_transposed_filter_is_the_adjoint(dims):
    random = np.random.default_rng(dims)
    lattice = Lattice(random.normal(size=(dims, 700)) * 2)
    a, b = random.normal(size=(2, 3, 700))
    left = (lattice.filter(a) * b).sum()
    right = (a * lattice.filter(b, transpose=True)).sum()
    assert left == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("channels", [1, 9, 21, 40, 67])
def test_filter_when_channels_vary_then_each_is_filtered_alone(channels):
    random = np.random.default_rng(channels)
    lattice = Lattice(random.uniform(0, 6, (2, 900)), cut=Cut.of_grid((30, 30)))
    values = random.normal(size=(channels, 900))
    together = lattice.filter(values)
    for c in (0, channels - 1):
        np.testing.assert_allclose(together[c], lattice.filter(values[c:c + 1])[0], rtol=0, atol=1e-13)


def exact_gaussian(features, values):
    apart = ((features[:, :, None] - features[:, None]) ** 2).sum(axis=0)
    kernel = np.exp(-apart / 2)
    return values @ kernel.T / kernel.sum(axis=1)


def test_normalised_filter_is_near_the_exact_gaussian():
    y, x = np.mgrid[:48, :64].astype(np.float64)
    features = np.stack([x.ravel() / 3, y.ravel() / 3])
    values = np.stack([np.sin(x / 9).ravel(), (x * y > 500).ravel().astype(float), np.cos(y / 5 + x / 7).ravel()])
    lattice = Lattice(features)
    ours = lattice.filter(values) / lattice.filter(np.ones((1, x.size)))
    error = np.abs(ours - exact_gaussian(features, values))
    assert error.mean() < 0.01 and error.max() < 0.08


def test_filter_when_threads_vary_then_same_bits():
    random = np.random.default_rng(3)
    features, values = random.normal(size=(5, 5000)), random.normal(size=(7, 5000)).astype(np.float32)
    results = []
    try:
        for n in (1, 2, 5):
            set_num_threads(n)
            results.append(Lattice(features).filter(values))
    finally:
        set_num_threads(None)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_far_points_do_not_meet():
    """16-bit keys of the original wrap: points 56755.6 apart became one vertex."""
    lattice = Lattice(np.array([[0.0, 56755.6]]))
    assert lattice.vertices == 4
    np.testing.assert_allclose(lattice.filter(np.array([[1.0, 0.0]]))[0, 1], 0, atol=1e-12)


@pytest.mark.parametrize("span", [1e3, 1e6, 1e9, 1e12])
def test_wide_features_use_wide_keys(span):
    random = np.random.default_rng(0)
    features = np.repeat(random.uniform(-span, span, (5, 40)), 3, axis=1)
    lattice = Lattice(features)
    out = lattice.filter(np.eye(120))
    together = np.kron(np.eye(40), np.ones((3, 3))) > 0
    assert (out[together] > 0.1).all() and (np.abs(out[~together]) < 1e-6).all()


@pytest.mark.parametrize("features, word", [
    (np.zeros(5), "shape"), (np.zeros((0, 5)), "shape"), (np.zeros((2, 0)), "shape"),
    (np.array([[0.0, np.nan]]), "finite"), (np.array([[0.0, np.inf]]), "finite"), (np.array([["a"]]), "dtype"),
    (np.array([[0.0, 1e30]]), "larger sigma"),
])
def test_bad_features_are_refused(features, word):
    with pytest.raises(ArgumentError, match=word):
        Lattice(features)
