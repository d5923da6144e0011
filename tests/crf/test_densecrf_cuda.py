"""The CRF on the device: recordings, brute force, the CPU, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import DenseCRF, refine, refine_on_device, refine_scores, score_crf
from atrouscaffe.crf.learn import backward, forward
from atrouscaffe.errors import ArgumentError, DeviceError
from atrouscaffe.runtime.backend import get_backend
from tests.crf.recordings import CASES, build, check_saved, read
from tests.crf.test_densecrf import blob_image, brute_force

pytestmark = pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)


@pytest.mark.parametrize("name", CASES)
def test_beliefs_match_recording_at_every_iteration(device, name):
    arrays, params = read(name)
    crf = build(arrays, params, device=device)
    assert [kernel.lattice.vertices for kernel in crf.kernels] == arrays["vertices"].tolist()
    wanted = arrays["iters_saved"].tolist()
    seen = {}
    result = crf.infer(max(wanted), callback=lambda i, q: seen.__setitem__(i, q) if i in wanted else None)
    check_saved(arrays, seen, result.labels)


def test_inference_is_near_brute_force(device):
    image, unary = blob_image(12, 15)
    crf = DenseCRF(unary, device=device).add_gaussian(3, 3).add_bilateral(image, 20, 20, 4)
    y, x = np.mgrid[:12, :15].astype(np.float64)
    place, colour = np.stack([x.ravel(), y.ravel()]), image.reshape(-1, 3).T.astype(np.float64)
    exact = brute_force(unary, [(place / 3, 3, "after"), (np.concatenate([place / 20, colour / 20]), 4, "after")], 5)
    assert np.abs(crf.infer(5).probabilities - exact).mean() < 0.05


def compatibility(kind, labels):
    random = np.random.default_rng(labels)
    if kind == "vector":
        return random.uniform(0.2, 1.5, labels)
    matrix = random.uniform(0, 1, (labels, labels))
    return matrix + matrix.T if kind == "matrix" else None


@pytest.mark.parametrize("normalization", ["after", "before", "symmetric", "none"])
@pytest.mark.parametrize("kind", ["potts", "vector", "matrix"])
def test_beliefs_are_the_cpus(device, kind, normalization):
    image, unary = blob_image(10, 13)
    pair = compatibility(kind, 3)

    def run(where):
        crf = DenseCRF(unary, device=where).add_gaussian(2, 0.3, compatibility=pair, normalization=normalization)
        crf.add_bilateral(image, 9, 20, 0.2, normalization=normalization)
        crf.add_gaussian((3, 5), 0.1, compatibility=pair)
        return crf.infer(4).probabilities

    np.testing.assert_allclose(run(device), run("cpu"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("labels", [1, 2, 5, 21, 64, 130, 300])
def test_labels_of_any_number(device, labels):
    """From 129 labels on a thread has several fours of labels."""
    image, _ = blob_image(6, 7)
    unary = np.random.default_rng(labels).uniform(0, 6, (labels, 6, 7))

    def run(where):
        crf = DenseCRF(unary, device=where).add_gaussian(2, 2).add_bilateral(image, 9, 20, 3)
        return crf.infer(3, exact=True)

    ours, theirs = run(device), run("cpu")
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=1e-5)
    assert np.array_equal(ours.labels, theirs.labels) and ours.iterations == 3
    backend = get_backend(device)
    best = DenseCRF(unary, device=backend).add_gaussian(2, 2).add_bilateral(image, 9, 20, 3).best_labels(3)
    assert np.array_equal(backend.to_numpy(best), theirs.labels)


def test_relaxation_no_updates_and_no_kernels(device):
    image, unary = blob_image(9, 8)
    for iterations, relax in ((0, 1.0), (3, 0.4)):
        crfs = (DenseCRF(unary, device=where).add_bilateral(image, 9, 20, 3) for where in (device, "cpu"))
        pair = [crf.infer(iterations, relax=relax).probabilities for crf in crfs]
        np.testing.assert_allclose(*pair, rtol=0, atol=1e-5)
    alone = [DenseCRF(unary, device=where).infer(2, relax=0.5).probabilities for where in (device, "cpu")]
    np.testing.assert_allclose(*alone, rtol=0, atol=1e-6)


def test_forbidden_labels_point_sets_and_other_axes(device):
    random = np.random.default_rng(4)
    unary = random.uniform(0, 4, (50, 3))
    unary[7, 1] = np.inf
    features = random.normal(size=(4, 50))
    ours, theirs = (DenseCRF(unary, labels_axis=1, device=where).add_pairwise(features, 2).infer(3).probabilities
                    for where in (device, "cpu"))
    assert ours.shape == (50, 3) and ours[7, 1] == 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind, normalization", [("potts", "after"), ("vector", "none"), ("matrix", "symmetric")])
def test_divergence_and_energy_are_the_cpus(device, kind, normalization):
    image, unary = blob_image(9, 8)
    unary[1, 4, 4] = np.inf
    pair = compatibility(kind, 3)
    found = []
    for where in (device, "cpu"):
        crf = DenseCRF(unary, device=where).add_gaussian(2, 0.5, compatibility=pair, normalization=normalization)
        crf.add_bilateral(image, 9, 20, 0.4, normalization=normalization)
        own = crf.kernels[1].own
        own = crf.kernels[1].natural(own) if where == "cpu" else own.get()
        found.append((own, crf.infer(4, diagnostics=True), crf.infer(20, tolerance=1e-3, relax=0.7),
                      crf.infer(3, diagnostics=True, callback=lambda i, q: i == 2)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    for ours, theirs in zip(found[0][1:], found[1][1:]):
        assert ours.iterations == theirs.iterations and len(ours.kl) == len(theirs.kl)
        np.testing.assert_allclose(ours.kl, theirs.kl, rtol=1e-5)
        np.testing.assert_allclose(ours.energy, theirs.energy, rtol=1e-5)
    alone = [DenseCRF(unary, device=where).infer(0, diagnostics=True).kl for where in (device, "cpu")]
    np.testing.assert_allclose(*alone, rtol=1e-6)


def test_callback_stops_and_sees_every_iteration(device):
    image, unary = blob_image(9, 8)
    seen = []
    crf = DenseCRF(unary, device=device).add_bilateral(image, 9, 20, 3)
    result = crf.infer(9, callback=lambda i, q: seen.append((i, q)) or i == 2)
    assert [i for i, _ in seen] == [0, 1, 2] and result.iterations == 2
    assert np.array_equal(seen[-1][1], result.probabilities)


def test_twice_gives_the_same_bits(device):
    image, unary = blob_image(11, 14)

    def run():
        return DenseCRF(unary, device=device).add_gaussian(3, 3).add_bilateral(image, 9, 20, 4).infer(3).probabilities

    assert np.array_equal(run(), run())


def test_refine_and_the_net_scores_agree(device):
    image, unary = blob_image(10, 13)
    scores = (-3 * unary).astype(np.float32)
    p = np.exp(scores - scores.max(axis=0))
    p /= p.sum(axis=0)
    theirs = refine(image, p, bilateral_sigma_xy=9, bilateral_sigma_rgb=20, iterations=3, exact=True)
    ours = refine(image, p, bilateral_sigma_xy=9, bilateral_sigma_rgb=20, iterations=3, device=device)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=1e-5)
    backend = get_backend(device)
    params = {"bilateral_sigma_xy": 9, "bilateral_sigma_rgb": 20, "iterations": 3}
    with backend.active():
        flipped = backend.asarray(np.ascontiguousarray(image[..., ::-1]))[:, :, ::-1]
        there = backend.asarray(scores)
        found = refine_on_device(flipped, there, params, backend)
        labels = refine_on_device(image, there, params, backend, labels=True)
        found, labels = backend.to_numpy(found), backend.to_numpy(labels)
    np.testing.assert_allclose(found, theirs.probabilities, rtol=0, atol=2e-5)
    assert labels.dtype == np.uint8 and np.array_equal(labels, theirs.labels)


def test_layers_scores_stay_on_the_device(device):
    image, unary = blob_image(10, 13)
    picture = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    kernels = ([(3, 3)], [(9, 20, 4)], 3)
    backend = get_backend(device)
    with backend.active():
        found = refine_scores(backend.asarray(unary.astype(np.float32)), backend.asarray(picture), *kernels)
        assert isinstance(found, backend.xp.ndarray)
        found = backend.to_numpy(found)
    np.testing.assert_allclose(found, refine_scores(unary, picture, *kernels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["potts", "vector", "matrix"])
def test_gradients_are_the_cpus_in_float64(device, kind):
    image, unary = blob_image(7, 8)
    pair = compatibility(kind, 3)
    slope = np.random.default_rng(8).normal(size=(3, 56))

    def run(crf, unary, slope):
        crf.add_gaussian(2, 0.7, compatibility=pair).add_bilateral(image, 9, 20, 0.4, normalization="symmetric")
        trace = forward(crf, 3, unary=unary)
        return trace.last, backward(crf, trace, slope)

    last, theirs = run(DenseCRF(unary), unary, slope)
    backend = get_backend(device)
    with backend.active():
        there = backend.asarray(unary)
        mine, ours = run(score_crf(there, None), there, backend.asarray(slope))
        np.testing.assert_allclose(backend.to_numpy(mine), last, rtol=0, atol=1e-7)
        np.testing.assert_allclose(backend.to_numpy(ours.unary), theirs.unary, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-5)
        if kind != "potts":
            np.testing.assert_allclose(backend.to_numpy(ours.compatibilities[0]), theirs.compatibilities[0], rtol=1e-5,
                                       atol=1e-6)


@pytest.mark.parametrize("value, where", [(np.nan, (0, 2, 3)), (-np.inf, (1, 2, 3)),
                                          (np.inf, (slice(None), 2, 3))])
def test_unusable_energies_are_refused(device, value, where):
    image, unary = blob_image(9, 8)
    unary[where] = value
    crf = DenseCRF(unary, device=device).add_bilateral(image, 9, 20, 3)
    with pytest.raises(ArgumentError, match="at point 19"):
        crf.infer(2)
    with pytest.raises(ArgumentError, match="at point 19"):
        crf.infer(2, callback=lambda i, q: None)


def test_mistakes_are_named(device):
    image, unary = blob_image(9, 8)
    crf = DenseCRF(unary, device=device).add_bilateral(image, 9, 20, 3)
    with pytest.raises(ArgumentError, match="image: expected"):
        crf.add_bilateral(image[1:], 9, 20, 3)
    with pytest.raises(ArgumentError, match="finite"):
        crf.add_bilateral(np.full(image.shape, np.nan), 9, 20, 3)
    with pytest.raises(DeviceError):
        DenseCRF(unary, device="gpu")
    backend = get_backend(device)
    with backend.active():
        with pytest.raises(ArgumentError, match="image: expected"):
            crf.add_bilateral(backend.asarray(image[1:]), 9, 20, 3)
        with pytest.raises(ArgumentError, match="parameters among"):
            refine_on_device(image, backend.asarray(unary), {"sigma": 3}, backend)
