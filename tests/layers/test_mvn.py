import numpy as np
import pytest

from tests.check import check_layer

X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32) * 2 + 3


def mvn(options=""):
    return f'layer {{ name: "m" type: "MVN" bottom: "x" top: "y" mvn_param {{ {options} }} }}'


@pytest.mark.parametrize("dialect", ["v1", "v2", "bvlc"])
@pytest.mark.parametrize(("options", "axes", "divide"), [
    ("", (2, 3), True), ("across_channels: true", (1, 2, 3), True), ("normalize_variance: false", (2, 3), False)])
def test_mvn_when_in_any_dialect_then_normalised_with_its_gradient(dialect, options, axes, divide):
    def reference(bottoms, _):
        centred = bottoms["x"] - bottoms["x"].mean(axis=axes, keepdims=True)
        return centred / centred.std(axis=axes, keepdims=True) if divide else centred

    check_layer(mvn(options), {"x": X}, dialect=dialect, reference=reference)


def test_mvn_when_eps_is_given_then_added_to_the_deviation():
    def reference(bottoms, _):
        centred = bottoms["x"] - bottoms["x"].mean(axis=(2, 3), keepdims=True)
        return centred / (centred.std(axis=(2, 3), keepdims=True) + 0.5)

    check_layer(mvn("eps: 0.5"), {"x": X}, reference=reference, gradient=False)  # the gradient takes eps for small


def test_mvn_when_the_mean_is_large_then_precise():
    # The mean itself is a float32, so it is off by up to 2.4e-4 here.
    check_layer(mvn(), {"x": X + 4096}, gradient=False, tolerance=3e-4, reference=lambda b, _: (
        b["x"] - b["x"].mean(axis=(2, 3), keepdims=True)) / b["x"].std(axis=(2, 3), keepdims=True))
