"""The drop-in names against pydensecrf's own results, and every failure known of the peer."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

import atrouscaffe.pydensecrf.densecrf as dcrf
from atrouscaffe.pydensecrf.utils import (
    compute_unary,
    create_pairwise_bilateral,
    create_pairwise_gaussian,
    softmax_to_unary,
    unary_from_labels,
    unary_from_softmax,
)
from tests.crf.recordings import CASES, read, saved

TYPES = {"NO": dcrf.NO_NORMALIZATION, "BEFORE": dcrf.NORMALIZE_BEFORE, "AFTER": dcrf.NORMALIZE_AFTER,
         "SYMMETRIC": dcrf.NORMALIZE_SYMMETRIC}


def build(arrays, params):
    unary = arrays["unary"]
    labels = len(unary)
    flat = params["api"] == "DenseCRF2D"
    crf = dcrf.DenseCRF2D(unary.shape[2], unary.shape[1], labels) if flat else dcrf.DenseCRF(unary[0].size, labels)
    for i, kernel in enumerate(params["kernels"]):
        compat = arrays[f"compat{i}"]
        compat = float(compat) if compat.ndim == 0 else compat
        norm = TYPES[kernel["norm"]]
        if kernel["type"] == "gaussian2d":
            crf.addPairwiseGaussian(sxy=kernel["sxy"], compat=compat, normalization=norm)
        elif kernel["type"] == "bilateral2d":
            crf.addPairwiseBilateral(sxy=kernel["sxy"], srgb=kernel["srgb"], rgbim=arrays["image"], compat=compat,
                                     kernel=dcrf.DIAG_KERNEL, normalization=norm)
        else:
            stored = f"features{i}" in arrays
            features = arrays[f"features{i}"] if stored else create_pairwise_gaussian(kernel["sdims"], unary.shape[1:])
            crf.addPairwiseEnergy(features, compat, normalization=norm)
    crf.setUnaryEnergy(unary.reshape(labels, -1))
    return crf


@pytest.mark.parametrize("name", [name for name in CASES if "large" not in name])
def test_steps_and_divergence_match_recording(name):
    arrays, params = read(name)
    crf = build(arrays, params)
    q, tmp1, tmp2 = crf.startInference()
    wanted = dict(zip(arrays["iters_saved"].tolist(), saved(arrays)))
    stride = int(arrays["stride"])
    for iteration in range(4):
        if iteration in wanted:
            mine = q.reshape(arrays["unary"].shape)
            mine = mine[:, ::stride, ::stride] if stride > 1 else mine
            assert np.abs(mine - wanted[iteration]).max() < 2e-4
        if "Q_nopad" not in arrays:
            recorded = arrays["kl"][iteration]
            assert crf.klDivergence(q) == pytest.approx(recorded, rel=2e-4, abs=2e-3 * np.abs(arrays["kl"]).max())
        crf.stepInference(q, tmp1, tmp2)
    np.testing.assert_allclose(crf.inference(4), q, atol=2e-5)


@pytest.mark.parametrize("example", ["1", "1-b", "2", "3"])
@pytest.mark.parametrize("api", ["generic", "2d"])
def test_public_example_gives_the_peers_labels(shared_data, example, api):
    from PIL import Image

    folder = shared_data / "crf_examples"
    about = json.loads((folder / "examples.json").read_text())
    image = np.array(Image.open(folder / f"im{example[0]}.png").convert("RGB"))
    scribbles = np.array(Image.open(folder / f"anno{example}.png").convert("RGB")).astype(np.uint32)
    coded = scribbles[..., 0] + (scribbles[..., 1] << 8) + (scribbles[..., 2] << 16)
    colors, labels = np.unique(coded, return_inverse=True)
    labels = labels.reshape(coded.shape)
    unknown = 0 in colors
    n_labels = len(colors) - unknown
    height, width = coded.shape
    unary = unary_from_labels(labels, n_labels, gt_prob=0.7, zero_unsure=bool(unknown))
    if api == "2d":
        crf = dcrf.DenseCRF2D(width, height, n_labels)
        crf.setUnaryEnergy(unary)
        crf.addPairwiseGaussian(sxy=(3, 3), compat=3, kernel=dcrf.DIAG_KERNEL,
                                normalization=dcrf.NORMALIZE_SYMMETRIC)
        crf.addPairwiseBilateral(sxy=(80, 80), srgb=(13, 13, 13), rgbim=image, compat=10)
    else:
        crf = dcrf.DenseCRF(width * height, n_labels)
        crf.setUnaryEnergy(unary)
        crf.addPairwiseEnergy(create_pairwise_gaussian(sdims=(3, 3), shape=image.shape[:2]), compat=3)
        crf.addPairwiseEnergy(create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2),
                              compat=10)
    result = np.argmax(np.array(crf.inference(5)), axis=0).reshape(height, width)
    recorded = np.array(Image.open(folder / f"labels{example}_{api}.png"))
    assert (result == recorded).all(), (about.keys(), (result != recorded).sum())
    if api == "2d":
        q = np.load(folder / f"q{example}_2d.npz")["Q"]
        mine = np.array(crf.inference(5)).reshape(n_labels, height, width)[:, ::4, ::4]
        assert np.abs(mine - q).max() <= 1e-4


def crf2d(width=30, height=20, labels=3):
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.random.default_rng(0).uniform(0, 3, (labels, width * height)))
    return crf


NOISE = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)


@pytest.mark.parametrize("srgb", [1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9])
def test_tiny_colour_sigma_keeps_noise_apart(srgb):
    """The peer aborts or segfaults from 1e-6 on."""
    crf = crf2d()
    crf.addPairwiseBilateral(sxy=10, srgb=srgb, rgbim=NOISE, compat=3.0)
    beliefs = crf.inference(5)
    assert np.isfinite(beliefs).all()
    alone = np.exp(3 * beliefs - crf._crf.energies)
    apart = np.abs(beliefs - alone / alone.sum(axis=0)).max(axis=0)
    assert np.quantile(apart, 0.9) < 0.2  # a pixel of its own colour meets itself only


def test_subclass_works():
    class Mine(dcrf.DenseCRF2D):
        pass

    crf = Mine(30, 20, 3)
    crf.setUnaryEnergy(np.zeros((3, 600)))
    np.testing.assert_allclose(crf.inference(1), 1 / 3, rtol=1e-6)


def test_one_unary_serves_two_crfs():
    unary = dcrf.ConstUnary(np.random.default_rng(0).uniform(0, 3, (3, 600)))
    first, second = dcrf.DenseCRF2D(30, 20, 3), dcrf.DenseCRF2D(30, 20, 3)
    first.setUnary(unary)
    second.setUnary(unary)
    assert np.array_equal(first.inference(0), second.inference(0)) and first.inference(0).std() > 0.1


def test_without_unary_all_labels_are_equal():
    np.testing.assert_allclose(dcrf.DenseCRF2D(30, 20, 3).startInference()[0], 1 / 3, rtol=1e-6)


def test_logistic_unary_is_the_product():
    random = np.random.default_rng(0)
    weights, features = random.normal(size=(3, 4)), random.normal(size=(4, 600))
    crf, plain = dcrf.DenseCRF2D(30, 20, 3), dcrf.DenseCRF2D(30, 20, 3)
    crf.setUnaryEnergy(weights, features)
    plain.setUnaryEnergy(weights @ features)
    np.testing.assert_allclose(crf.inference(2), plain.inference(2), atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda: crf2d().addPairwiseGaussian(sxy=0, compat=10.0),
    lambda: crf2d().addPairwiseGaussian(sxy=-3, compat=10.0),
    lambda: crf2d().addPairwiseEnergy(np.full((2, 600), np.nan), 3.0),
    lambda: dcrf.DenseCRF2D(-5, 4, 3),
    lambda: dcrf.DenseCRF2D(5, 4, 0),
    lambda: dcrf.DenseCRF(10.5, 3),
    lambda: crf2d().addPairwiseGaussian(3, compat=np.ones(2, np.float32)),
    lambda: crf2d().addPairwiseGaussian(3, compat=np.ones(8, np.float32)),
    lambda: crf2d().addPairwiseGaussian(3, compat=np.ones((2, 2), np.float32)),
    lambda: crf2d().addPairwiseGaussian(3, compat=np.ones((5, 5), np.float32)),
    lambda: crf2d().addPairwiseGaussian(3, compat=np.ones((3, 4), np.float32)),
    lambda: crf2d().addPairwiseGaussian(3, compat="strong"),
    lambda: crf2d().setUnary(dcrf.ConstUnary(np.zeros((2, 100)))),
    lambda: crf2d().setUnary(np.zeros((3, 600))),
    lambda: crf2d().stepInference(np.full((3, 10), 1 / 3, np.float32), np.zeros((3, 10)), np.zeros((3, 10))),
    lambda: crf2d().klDivergence(np.full((3, 5000), 1 / 3, np.float32)),
    lambda: crf2d().addPairwiseGaussian(3, 3, normalization=7),
    lambda: crf2d().addPairwiseGaussian(3, 3, kernel=9),
    lambda: crf2d().inference(-1),
    lambda: crf2d().inference(2.5),
    lambda: crf2d().addPairwiseBilateral(3, 3, NOISE.transpose(1, 0, 2), 3),
    lambda: crf2d().addPairwiseBilateral(3, 3, NOISE[..., 0], 3),
    lambda: unary_from_labels(np.array([0, 1, -1]), 3, 0.9, zero_unsure=False),
    lambda: unary_from_labels(np.array([0, 1, 255], np.uint8), 2, 0.9),
    lambda: unary_from_labels(np.array([0, 1]), 2, 1),
    lambda: unary_from_labels(np.array([0.5, 1]), 2, 0.9),
    lambda: unary_from_softmax(np.full((3, 4), np.nan)),
    lambda: unary_from_softmax(np.full((3, 4), 0.3), scale=1.5),
    lambda: create_pairwise_gaussian((0, 3), (4, 5)),
    lambda: create_pairwise_bilateral((3, 3), (1, 2), NOISE, chdim=2),
])
def test_what_the_peer_crashes_on_or_takes_is_a_value_error(call):
    with pytest.raises(ValueError):
        call()


def test_nan_and_all_forbidden_unaries_are_refused():
    """One NaN makes all of the peer's answer NaN after ten iterations."""
    for bad in (np.nan, -np.inf):
        energies = np.ones((3, 600))
        energies[1, 77] = bad
        crf = dcrf.DenseCRF2D(30, 20, 3)
        crf.setUnaryEnergy(energies)
        with pytest.raises(ValueError, match="point 77"):
            crf.inference(1)
    energies[:, 77] = np.inf
    crf.setUnaryEnergy(energies)
    with pytest.raises(ValueError, match="point 77"):
        crf.inference(1)


def test_arrays_that_the_peer_refuses_are_taken():
    unary = np.random.default_rng(0).uniform(0, 3, (3, 600)).astype(np.float32)
    unary.setflags(write=False)
    reference = crf2d()
    reference.setUnaryEnergy(unary)
    reference.addPairwiseBilateral(20, 13, NOISE, 3)
    wanted = reference.inference(3)
    shapes = [unary.reshape(3, 20, 30), unary.astype(np.float64), np.asfortranarray(unary), unary[:, ::-1][:, ::-1]]
    images = [NOISE.astype(np.float32), NOISE[..., ::-1][..., ::-1], NOISE.astype(np.int64), np.asfortranarray(NOISE)]
    for energies, image in zip(shapes, images):
        crf = dcrf.DenseCRF2D(30, 20, 3)
        crf.setUnaryEnergy(energies)
        crf.addPairwiseBilateral(20, 13, image, 3)
        np.testing.assert_allclose(crf.inference(3), wanted, atol=1e-6)


def test_labels_with_zero_unsure_as_uint8():
    """The peer wraps 0 - 1 to 255 and fails."""
    unary = unary_from_labels(np.array([[0, 1], [2, 2]], np.uint8), 2, 0.9)
    np.testing.assert_allclose(np.exp(-unary), [[0.5, 0.9, 0.1, 0.1], [0.5, 0.1, 0.9, 0.9]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(-unary_from_labels(np.array([0, 0, 1]), 2, 0.7, zero_unsure=False)),
                               [[0.7, 0.7, 0.3], [0.3, 0.3, 0.7]], rtol=1e-5)
    assert unary_from_labels(np.zeros(4, int), 1, 0.7, zero_unsure=False).shape == (1, 4)


def test_softmax_clips_what_enlargement_leaves_outside_0_to_1_as_the_peer_does():
    soft = np.array([[-0.01, 0.5], [1.01, 0.5]], np.float32)
    np.testing.assert_allclose(unary_from_softmax(soft), -np.log(np.clip(soft, 1e-5, 1)), rtol=1e-6)


@pytest.mark.parametrize("compat", [3, 3.0, np.float16(3), np.longdouble(3), Fraction(3), np.float32(3)])
def test_weight_may_be_any_real_number(compat):
    crf, other = dcrf.DenseCRF2D(5, 4, 2), dcrf.DenseCRF2D(5, 4, 2)
    energies = np.random.default_rng(1).random((2, 20), np.float32)
    for each, weight in ((crf, compat), (other, 3.0)):
        each.setUnaryEnergy(energies)
        each.addPairwiseGaussian(2, weight)
    np.testing.assert_array_equal(crf.inference(2), other.inference(2))


def test_softmax_clips_and_scales():
    soft = np.array([[1.0, 0.25], [0.0, 0.75]])
    np.testing.assert_allclose(np.exp(-unary_from_softmax(soft)), [[1, 0.25], [1e-5, 0.75]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(-unary_from_softmax(soft, scale=0.5)), [[0.75, 0.375], [0.25, 0.625]], rtol=1e-5)
    assert unary_from_softmax(soft, clip=None)[1, 0] == np.inf


def test_deprecated_names_warn():
    with pytest.warns(DeprecationWarning):
        assert compute_unary(np.array([0, 1, 2]), 2).shape == (2, 3)
    with pytest.warns(DeprecationWarning):
        assert softmax_to_unary(np.full((2, 3), 0.5)).shape == (2, 3)


def test_map_is_the_argmax():
    crf = crf2d()
    assert np.array_equal(crf.map(2), crf.inference(2).argmax(axis=0))
