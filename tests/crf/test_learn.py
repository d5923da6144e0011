"""Gradients against central differences in float64; learning lowers the loss."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.learn import backward, fit_weights, forward, label_loss
from atrouscaffe.errors import ArgumentError

PATTERNS = {"scalar": None, "vector": np.array([1.0, 0.4, 1.7]),
            "matrix": np.array([[0.1, 1, 2], [1, 0.3, 0.5], [2, 0.5, -0.2]])}


def small(kind, normalization):
    random = np.random.default_rng(4)
    unary = random.uniform(0, 2, (3, 5, 7))
    image = random.integers(0, 80, (5, 7, 3))
    crf = DenseCRF(unary).add_gaussian((2, 3), 1.5, normalization=normalization, compatibility=PATTERNS[kind])
    crf.add_bilateral(image, 4, 30, 0.8, normalization=normalization, compatibility=PATTERNS[kind])
    return crf, unary.reshape(3, -1), random.normal(size=(3, 35))


def difference(function, step=1e-5):
    return (function(step) - function(-step)) / (2 * step)


@pytest.mark.parametrize("normalization", ["after", "before", "symmetric", "none"])
@pytest.mark.parametrize("kind", PATTERNS)
def test_gradients_match_central_differences(kind, normalization):
    crf, unary, gradient = small(kind, normalization)

    def loss(energies):
        return float((forward(crf, 3, unary=energies).last * gradient).sum())

    found = backward(crf, forward(crf, 3, unary=unary), gradient)
    for l, n in [(0, 0), (1, 17), (2, 34), (0, 20)]:
        def along(step, l=l, n=n):
            moved = unary.copy()
            moved[l, n] += step
            return loss(moved)
        assert found.unary[l, n] == pytest.approx(difference(along), rel=1e-5, abs=1e-9)
    for k, kernel in enumerate(crf.kernels):
        weight = kernel.weight

        def heavier(step, kernel=kernel, weight=weight):
            kernel.weight = weight + step
            return loss(unary)
        assert found.weights[k] == pytest.approx(difference(heavier), rel=1e-6, abs=1e-9)
        kernel.weight = weight
        if kernel.pattern is None:
            assert found.compatibilities[k] is None
            continue
        pattern = kernel.pattern.astype(np.float64)
        for place in [(0,), (2,)] if kind == "vector" else [(0, 1), (2, 2)]:
            def other(step, kernel=kernel, pattern=pattern, place=place):
                kernel.pattern = pattern.copy()
                kernel.pattern[place] += step
                if kernel.pattern.ndim == 2 and place[0] != place[1]:
                    kernel.pattern[place[::-1]] += step
                return loss(unary)
            expected = difference(other)
            mine = found.compatibilities[k][place]
            if len(place) == 2 and place[0] != place[1]:
                mine += found.compatibilities[k][place[::-1]]
            assert mine == pytest.approx(expected, rel=1e-5, abs=1e-9)
        kernel.pattern = pattern


def test_gradient_of_a_weight_at_zero():
    crf, unary, gradient = small("scalar", "after")
    crf.set_weight(0, 0.0)
    found = backward(crf, forward(crf, 2, unary=unary), gradient).weights[0]

    def heavier(step):
        crf.set_weight(0, step)
        return float((forward(crf, 2, unary=unary).last * gradient).sum())
    assert found == pytest.approx(difference(heavier), rel=1e-6)


def test_forward_equals_inference():
    crf, _, _ = small("scalar", "after")
    np.testing.assert_allclose(forward(crf, 4).last, crf.infer(4, exact=True).probabilities.reshape(3, -1), atol=1e-5)


def test_label_loss_matches_central_differences_and_ignores():
    random = np.random.default_rng(0)
    beliefs = random.dirichlet(np.ones(3), 6).T
    truth = np.array([0, 2, 255, 1, 1, 0])
    value, gradient = label_loss(beliefs, truth)
    assert value == pytest.approx(-np.log(beliefs[[0, 2, 1, 1, 0], [0, 1, 3, 4, 5]]).mean())
    assert (gradient[:, 2] == 0).all()
    for l, n in [(0, 0), (2, 1), (1, 0)]:
        def along(step, l=l, n=n):
            moved = beliefs.copy()
            moved[l, n] += step
            return label_loss(moved, truth)[0]
        assert gradient[l, n] == pytest.approx(difference(along), rel=1e-6, abs=1e-10)
    assert label_loss(beliefs, np.full(6, 255))[0] == 0
    with pytest.raises(ArgumentError):
        label_loss(beliefs, np.full(6, 3))


def test_learning_lowers_the_loss():
    random = np.random.default_rng(1)
    samples = []
    for _ in range(3):
        truth = (np.mgrid[:20, :24][1] > random.integers(6, 18)).astype(np.uint8)
        image = truth[..., None] * 90 + random.integers(0, 20, (20, 24, 3))
        scores = np.stack([truth == 0, truth == 1]) + random.normal(size=(2, 20, 24))
        crf = DenseCRF(-scores).add_gaussian(2, 0.3).add_bilateral(image, 20, 20, 0.3)
        samples.append((crf, truth))
    learned = fit_weights(samples, steps=8, rate=0.2)
    assert min(learned.losses) < 0.8 * learned.losses[0]
    assert samples[0][0].kernels[1].weight == pytest.approx(learned.weights[1])
    with pytest.raises(ArgumentError):
        fit_weights([])


@pytest.mark.parametrize("normalization", ["after"])
def test_learning_on_photographs_lowers_the_loss(shared_data, normalization):
    """Scores are the ground truth, blurred and made uncertain: the images must help to sharpen it."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    ids = (shared_data / "voc/ImageSets/Segmentation/train.txt").read_text().split()[:20]
    random = np.random.default_rng(0)
    samples = []
    for name in ids:
        image = np.array(Image.open(shared_data / f"voc/JPEGImages/{name}.jpg").convert("RGB"))[::4, ::4]
        truth = np.array(Image.open(shared_data / f"voc/SegmentationClass/{name}.png"))[::4, ::4]
        soft = np.stack([gaussian_filter((truth == l).astype(np.float64), 3) for l in range(21)])
        scores = 3 * soft + 0.7 * random.normal(size=soft.shape)
        crf = DenseCRF(-scores).add_gaussian(1, 0.5, normalization=normalization)
        samples.append((crf.add_bilateral(image, 20, 10, 0.5, normalization=normalization), truth))
    learned = fit_weights(samples, steps=4, rate=0.4, iterations=3)
    assert min(learned.losses) < 0.9 * learned.losses[0]
