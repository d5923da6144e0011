"""The other losses against formulas in float64, gradients by differences."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sp

from atrouscaffe.errors import DataError, FileMissingError, LayerError, ShapeError
from tests.layers.one_layer import check_gradients, gradients, small_net


def loss(kind: str, options: str = "", bottoms: str = "ab") -> str:
    named = " ".join(f'bottom: "{name}"' for name in bottoms)
    return f'layer {{ name: "l" type: "{kind}" {named} top: "y" loss_weight: 1.5 {options} }}'


def check(kind, options, inputs, expected, wanted="a", tolerance=1e-7, **net_options):
    """Compare the loss, and the gradients of `wanted`."""
    net = small_net(loss(kind, options, "".join(inputs)), inputs, **net_options)
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, expected, rtol=1e-12)
    assert net.blobs["y"].shape == ()
    check_gradients(net, list(wanted), tolerance=tolerance)


@pytest.mark.parametrize(("dialect", "options", "formula"), [
    ("v1", "", lambda d: 0.5 * np.sum(d**2) / d.size), ("v2", "", lambda d: 0.5 * np.sum(d**2) / len(d)),
    ("bvlc", "", lambda d: 0.5 * np.sum(d**2) / len(d)),
    ("v1", "euclidean_loss_param { type: L2sqrt }", lambda d: np.sqrt(np.mean(d**2)))])
def test_euclidean(dialect, options, formula, rng, device):
    a, b = rng.standard_normal((2, 3, 2, 5, 7))
    check("EuclideanLoss", options, {"a": a, "b": b}, formula(a - b), "ab", dialect=dialect, device=device)


def test_euclidean_root_of_equal_bottoms_has_a_finite_gradient(device):
    net = small_net(loss("EuclideanLoss", "euclidean_loss_param { type: L2sqrt }"),
                    {"a": np.ones((2, 3)), "b": np.ones((2, 3))}, device=device)
    assert not gradients(net, {}, "a")["a"].any()


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge(norm, rng, device):
    x, labels = rng.standard_normal((5, 7)), rng.integers(0, 7, 5)
    sign = np.where(np.arange(7) == labels[:, None], 1, -1)
    margin = np.maximum(0, 1 - sign * x)
    expected = np.sum(margin if norm == "L1" else margin**2) / 5
    check("HingeLoss", f"hinge_loss_param {{ norm: {norm} }}", {"a": x, "b": labels.astype(float)}, expected,
          device=device)


def test_multinomial_logistic(rng, device):
    p, labels = sp.softmax(rng.standard_normal((5, 7)), axis=1), rng.integers(0, 7, 5)
    check("MultinomialLogisticLoss", "", {"a": p, "b": labels.astype(float)}, -np.mean(np.log(p[range(5), labels])),
          tolerance=1e-6, device=device)


def test_multinomial_logistic_of_probability_zero_is_finite(device):
    net = small_net(loss("MultinomialLogisticLoss"), {"a": np.array([[0.0, 1.0]]), "b": np.array([0.0])},
                    dtype=np.float32, device=device)
    assert np.isfinite(gradients(net, {}, "a")["a"]).all()
    np.testing.assert_allclose(net.blobs["y"].data, -np.log(1e-20), rtol=1e-6)


@pytest.mark.parametrize(("options", "ignored", "divisor"), [
    ("", False, 3), ("loss_param { ignore_label: 255 }", True, 3),
    ("loss_param { ignore_label: 255 normalization: VALID }", True, 102),
    ("loss_param { normalization: FULL }", False, 105), ("loss_param { normalization: NONE }", False, 1)])
def test_sigmoid_cross_entropy(options, ignored, divisor, rng, device):
    x, target = 3 * rng.standard_normal((3, 5, 7)), rng.uniform(0, 1, (3, 5, 7))
    terms = -target * sp.log_expit(x) - (1 - target) * sp.log_expit(-x)
    if ignored:
        target[1, 2, 3:6] = 255
        terms[1, 2, 3:6] = 0
    check("SigmoidCrossEntropyLoss", options, {"a": x, "b": target}, np.sum(terms) / divisor, device=device)
    if ignored:
        net = small_net(loss("SigmoidCrossEntropyLoss", options), {"a": x, "b": target}, device=device)
        assert not gradients(net, {}, "a")["a"][1, 2, 3:6].any()


def test_sigmoid_cross_entropy_of_large_scores_is_finite(device):
    x = np.array([[-1e4, 1e4, -1e4, 1e4]])
    net = small_net(loss("SigmoidCrossEntropyLoss"), {"a": x, "b": np.array([[0, 1, 1, 0]])}, dtype=np.float32,
                    device=device)
    found = gradients(net, {}, "a")["a"]
    np.testing.assert_allclose(net.blobs["y"].data, 2e4)
    np.testing.assert_allclose(found, [[0, 0, -1.5, 1.5]], atol=1e-6)


@pytest.mark.parametrize(("dialect", "options", "legacy"), [
    ("v1", "", True), ("v2", "", False), ("bvlc", "", False), ("bvlc", "legacy_version: true", True)])
def test_contrastive(dialect, options, legacy, rng, device):
    a, b = rng.standard_normal((2, 7, 5))
    similar = np.array([1.0, 0, 0, 1, 0, 0, 1])
    b[2] = a[2] + 0.1  # well inside the margin
    squared = np.sum((a - b) ** 2, axis=1)
    apart = np.maximum(6 - squared, 0) if legacy else np.maximum(6 - np.sqrt(squared), 0) ** 2
    expected = np.sum(np.where(similar, squared, apart)) / 14
    # the original adds 1e-4 to the distance that the gradient is divided by, so that 0 is no trouble
    check("ContrastiveLoss", f"contrastive_loss_param {{ margin: 6 {options} }}", {"a": a, "b": b, "s": similar},
          expected, "ab", tolerance=1e-7 if legacy else 1e-3, dialect=dialect, device=device)


def test_contrastive_of_equal_vectors_is_finite(device):
    net = small_net(loss("ContrastiveLoss", "", "abs"), {"a": np.ones((2, 3)), "b": np.ones((2, 3)), "s": np.zeros(2)},
                    device=device)
    assert not gradients(net, {}, "a")["a"].any()


H = np.array([[1, 0.5, 0, 0], [0, 2, 0, 0.25], [0.1, 0, 1, 0], [0, 0, 0.3, 1]])


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_infogain_of_probabilities(dialect, rng, device):
    p, labels = sp.softmax(rng.standard_normal((5, 4)), axis=1), rng.integers(0, 4, 5)
    check("InfogainLoss", "", {"a": p, "b": labels.astype(float), "c": H.reshape(1, 1, 4, 4)},
          -np.sum(H[labels] * np.log(p)) / 5, tolerance=1e-6, dialect=dialect, device=device)


@pytest.mark.parametrize(("options", "divisor"), [
    ("ignore_label: 255", 66), ("ignore_label: 255 normalization: FULL", 70),
    ("ignore_label: 255 normalization: BATCH_SIZE", 2)])
def test_infogain_of_scores(options, divisor, rng, device):
    x, labels = rng.standard_normal((2, 4, 5, 7)), rng.integers(0, 4, (2, 1, 5, 7))
    labels[1, 0, 2, 1:5] = 255
    log_p = np.moveaxis(sp.log_softmax(x, axis=1), 1, 3)
    terms = np.where(labels[:, 0, :, :, None] == 255, 0, H[np.minimum(labels[:, 0], 3)] * log_p)
    inputs = {"a": x, "b": labels.astype(float), "c": H.reshape(1, 1, 4, 4)}
    check("InfogainLoss", f"loss_param {{ {options} }}", inputs, -np.sum(terms) / divisor, device=device)
    net = small_net(loss("InfogainLoss", f"loss_param {{ {options} }}", "abc").replace('top: "y"', 'top: "y" top: "p"'),
                    inputs, device=device)
    net.forward()
    np.testing.assert_allclose(net.blobs["p"].data, sp.softmax(x, axis=1), rtol=1e-12)


def test_infogain_matrix_from_a_file(tmp_path, monkeypatch, rng, device):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "H.npy", H.reshape(1, 4, 4).astype(np.float32))
    p, labels = sp.softmax(rng.standard_normal((5, 4)), axis=1), rng.integers(0, 4, 5)
    matrix = H.astype(np.float32).astype(np.float64)
    check("InfogainLoss", 'infogain_loss_param { source: "H.npy" }', {"a": p, "b": labels.astype(float)},
          -np.sum(matrix[labels] * np.log(p)) / 5, tolerance=1e-6, dialect="v2", device=device)
    inputs = {"a": np.ones((5, 3)), "b": np.zeros(5)}
    with pytest.raises(ShapeError, match="3 x 3"):
        small_net(loss("InfogainLoss", 'infogain_loss_param { source: "H.npy" }'), inputs, dialect="v2")
    with pytest.raises(FileMissingError, match="nothing"):
        small_net(loss("InfogainLoss", 'infogain_loss_param { source: "nothing.npy" }'), inputs, dialect="v2")
    with pytest.raises(LayerError, match="source"):
        small_net(loss("InfogainLoss"), inputs, dialect="v2")


def test_relative_error(rng, device):
    a, b = rng.standard_normal((2, 2, 3, 5, 7))
    layer = 'layer { name: "l" type: "RelativeError" bottom: "a" bottom: "b" top: "y" }'
    net = small_net(layer, {"a": a, "b": b}, force=False, device=device)
    np.testing.assert_allclose(net.forward()["y"], np.linalg.norm(a - b) / np.linalg.norm(b), rtol=1e-12)
    net = small_net(layer, {"a": a, "b": np.zeros_like(b)}, force=False, device=device)
    np.testing.assert_allclose(net.forward()["y"], np.sqrt(np.mean(a**2) / 1e-6), rtol=1e-12)


@pytest.mark.parametrize("kind", ["HingeLoss", "MultinomialLogisticLoss"])
def test_labels_are_checked(kind, device):
    net = small_net(loss(kind), {"a": np.full((3, 2), 0.5), "b": np.array([0.0, 1, 2])}, device=device)
    with pytest.raises(DataError, match="expected whole numbers 0 to 1, got 2"):
        net.forward()
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        small_net(loss(kind), {"a": np.zeros((3, 2)), "b": np.zeros(4)})


@pytest.mark.parametrize("kind", ["EuclideanLoss", "SigmoidCrossEntropyLoss", "ContrastiveLoss"])
def test_sizes_are_checked(kind):
    inputs = {"a": np.zeros((3, 5)), "b": np.zeros((3, 7)), "s": np.zeros(3)}
    named = "abs" if kind == "ContrastiveLoss" else "ab"
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        small_net(loss(kind, "", named), {name: inputs[name] for name in named})


def test_a_loss_without_a_top_gets_one():
    net = small_net('layer { name: "l" type: "EuclideanLoss" bottom: "a" bottom: "b" }',
                    {"a": np.ones((2, 3)), "b": np.zeros((2, 3))}, dialect="v2")
    assert np.array_equal(gradients(net, {}, "a")["a"], np.full((2, 3), 0.5))
