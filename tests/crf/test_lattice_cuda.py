"""The device's lattice against the recordings, the CPU's lattice and the exact Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.lattice import Lattice
from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime.backend import get_backend
from tests.crf.recordings import FILTERS, read

pytestmark = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)


def on_device(backend, features):
    from atrouscaffe.crf.lattice_cuda import DeviceLattice

    return DeviceLattice(backend.asarray(np.ascontiguousarray(features, np.float32)))


@pytest.mark.parametrize("name", FILTERS)
def test_filter_matches_recording(device, name):
    arrays, _ = read(name)
    backend = get_backend(device)
    with backend.active():
        lattice = on_device(backend, arrays["features"])
        assert lattice.vertices == arrays["vertices"]
        out = backend.to_numpy(lattice.filter(backend.asarray(arrays["values"])))
        norm = backend.to_numpy(lattice.norm)
    assert np.abs(out - arrays["out"]).max() <= 1e-5 * np.abs(arrays["out"]).max()
    assert np.abs(norm - arrays["norm"]).max() <= 1e-5 * arrays["norm"].max()


def check_every_pair(device, features):
    """Hold the weight of each pair of points, and the number of vertices, against the CPU's."""
    theirs, pairs = Lattice(features), np.eye(features.shape[1])
    backend = get_backend(device)
    with backend.active():
        ours = on_device(backend, features)
        assert ours.vertices == theirs.vertices
        found = backend.to_numpy(ours.filter(backend.asarray(pairs)))
    np.testing.assert_allclose(found, theirs.filter(pairs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3, 5, 7])
def test_every_pair_of_points_has_the_cpus_weight(device, dims):
    """A point in another simplex, or a neighbour that is not found, would change some pair by more."""
    features = np.random.default_rng(dims).uniform(-3, 3, (dims, 120)).astype(np.float32)
    check_every_pair(device, features)


def test_filter_in_float64_is_the_cpus_and_transposes(device):
    random = np.random.default_rng(1)
    features, values = random.normal(size=(3, 200)) * 2, random.normal(size=(6, 200))
    theirs = Lattice(features)
    backend = get_backend(device)
    with backend.active():
        ours = on_device(backend, features)
        for transpose in (False, True):
            found = backend.to_numpy(ours.filter(backend.asarray(values), transpose=transpose))
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, theirs.filter(values, transpose=transpose), rtol=0, atol=1e-6)


def test_normalised_filter_is_near_the_exact_gaussian(device):
    y, x = np.mgrid[:20, :24].astype(np.float64)
    features = np.stack([x.ravel() / 3, y.ravel() / 3])
    values = np.stack([np.sin(x / 9).ravel(), (x * y > 100).ravel().astype(float)]).astype(np.float32)
    apart = ((features[:, :, None] - features[:, None]) ** 2).sum(axis=0)
    weights = np.exp(-apart / 2)
    backend = get_backend(device)
    with backend.active():
        lattice = on_device(backend, features)
        ours = backend.to_numpy(lattice.filter(backend.asarray(values)) / lattice.norm)
    error = np.abs(ours - values @ weights.T / weights.sum(axis=1))
    assert error.mean() < 0.01 and error.max() < 0.08


def test_long_lists_of_points_are_cut_and_added_up(device):
    """All points in one simplex: each vertex gathers from 1000 of them, in eight pieces."""
    random = np.random.default_rng(2)
    features = random.uniform(0, 1e-3, (2, 1000)) + 0.1
    values = random.uniform(0, 1, (3, 1000)).astype(np.float32)
    theirs = Lattice(features)
    backend = get_backend(device)
    with backend.active():
        ours = on_device(backend, features)
        assert ours.vertices == theirs.vertices
        found = backend.to_numpy(ours.filter(backend.asarray(values)))
    np.testing.assert_allclose(found, theirs.filter(values), rtol=1e-5)


@pytest.mark.parametrize("span", [1e3, 1e6, 1e9, 1e12])
def test_wide_features_use_wide_keys(device, span):
    random = np.random.default_rng(0)
    features = np.repeat(random.uniform(-span, span, (5, 12)), 3, axis=1).astype(np.float32)
    check_every_pair(device, features)


def test_twice_gives_the_same_bits(device):
    random = np.random.default_rng(3)
    features, values = random.normal(size=(5, 400)), random.normal(size=(7, 400)).astype(np.float32)
    backend = get_backend(device)
    with backend.active():
        results = [backend.to_numpy(on_device(backend, features).filter(backend.asarray(values))) for _ in range(2)]
    assert np.array_equal(results[0], results[1])


def test_position_lattice_is_kept_for_a_size(device):
    from atrouscaffe.crf.lattice_cuda import position_lattice

    backend = get_backend(device)
    with backend.active():
        first = position_lattice(backend, (7, 5), (2.0, 3.0))
        assert position_lattice(backend, (7, 5), (2.0, 3.0)) is first
        assert position_lattice(backend, (5, 7), (2.0, 3.0)) is not first


@pytest.mark.parametrize("features, word", [
    (np.array([[0.0, np.nan]]), "finite"), (np.array([[0.0, np.inf]]), "finite"),
    (np.array([[0.0, 1e30]]), "larger sigma"), (np.zeros((33, 2)), "at most 32 dimensions"),
])
def test_bad_features_are_refused(device, features, word):
    backend = get_backend(device)
    with backend.active(), pytest.raises(ArgumentError, match=word):
        on_device(backend, features)


def test_lattice_of_bytes_needs_no_range_and_is_the_same(device):
    """A picture of bytes is bounded by 0 and 255; sigmas so small that float32 may not do are looked at."""
    from atrouscaffe.crf.lattice_cuda import image_lattice

    image = np.random.default_rng(6).integers(40, 60, (6, 7, 3)).astype(np.uint8)
    backend = get_backend(device)
    with backend.active():
        for sigma in (8.0, 0.01, 1e-4, 1e-7):
            ours, read = (image_lattice(backend.asarray(values), (5.0, 5.0), (sigma,) * 3)
                          for values in (image, image.astype(np.float32)))
            assert ours.vertices == read.vertices
            assert np.array_equal(backend.to_numpy(ours.weights), backend.to_numpy(read.weights))
