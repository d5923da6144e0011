"""Several passes of a net that drops when it is tested: against all of its masks, and against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from atrouscaffe import Segmenter
from atrouscaffe.data.image import check_image
from atrouscaffe.errors import ArgumentError
from tests.pipeline.nets import photo

NET = """input: "data" input_shape { dim: 1 dim: 3 dim: 20 dim: 30 }
layer { name: "drop" type: "Dropout" bottom: "data" top: "scores" dropout_param { dropout_ratio: 0.25
    sample_weights_test: true } }"""
OPTIONS = {"mean": 0, "scale": 1 / 64, "allow_missing": True}


def softmax(scores, axis=0):
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def test_mean_and_variance_approach_those_of_all_masks(device):
    image = photo(20, 30)
    scores = image.transpose(2, 0, 1) / 64.0
    mean, square = np.zeros(scores.shape), np.zeros(scores.shape)
    for mask in itertools.product((0, 1), repeat=3):
        kept = np.array(mask)[:, None, None]
        share = 0.75 ** sum(mask) * 0.25 ** (3 - sum(mask))
        p = softmax(scores * kept / 0.75)
        mean, square = mean + share * p, square + share * p * p
    samples = 100
    found = Segmenter(NET, device=device, samples=samples, **OPTIONS).sampled(image)
    variance = square - mean**2
    assert np.abs(found.probabilities - mean).max() < 6 * np.sqrt(variance.max() / samples)
    assert np.abs((found.probabilities - mean).mean()) < 1e-6  # each mean is a distribution
    assert found.uncertainty.mean() == pytest.approx(variance.mean() * (samples - 1) / samples, rel=0.03)
    assert np.array_equal(found.labels, found.probabilities.argmax(0))


def test_mean_and_variance_are_numpys_of_the_same_passes():
    image = photo(20, 30)
    one = Segmenter(NET, **OPTIONS)
    passes = np.stack([softmax(np.float64(one(image).scores)) for _ in range(7)])
    found = Segmenter(NET, samples=7, **OPTIONS).sampled(image)
    np.testing.assert_allclose(found.probabilities, passes.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.uncertainty, passes.var(0).mean(0), atol=1e-6)
    np.testing.assert_allclose(found.scores, np.log(passes.mean(0)), atol=1e-4)


def test_calls_and_streams_take_the_mean_too(device):
    image = photo(20, 30)
    made = [Segmenter(NET, device=device, samples=3, **OPTIONS) for _ in range(3)]
    found = made[0].sampled(image)
    assert np.array_equal(made[1](image).probabilities, found.probabilities)
    assert np.array_equal(made[2].labels(image), found.labels)


def test_the_crf_refines_the_mean():
    image = check_image(photo(20, 30))
    found = Segmenter(NET, samples=4, crf="paper", **OPTIONS).sampled(image)
    plain = Segmenter(NET, samples=4, **OPTIONS).sampled(image)
    assert np.array_equal(found.scores, plain.scores)
    assert not np.array_equal(found.probabilities, plain.probabilities)


@pytest.mark.parametrize("samples", [0, -1, 2.0, True])
def test_other_numbers_of_samples_are_refused(samples):
    with pytest.raises(ArgumentError, match="at least 1"):
        Segmenter(NET, samples=samples, **OPTIONS)


def test_a_net_that_never_drops_is_refused():
    with pytest.raises(ArgumentError, match="1 Dropout layers without it"):
        Segmenter(NET.replace("true", "false"), samples=2, **OPTIONS)
