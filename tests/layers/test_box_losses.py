"""FocalLoss, DiceLoss and SmoothL1Loss against their definitions in float64."""

import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

DRAW = np.random.default_rng(0)
X, Z, U, V = DRAW.standard_normal((4, 2, 4, 3, 5)).astype(np.float32)
LABELS = DRAW.integers(0, 4, (2, 1, 3, 5)).astype(np.float32)
LABELS[0, 0, 1] = 255
TARGETS = DRAW.random((2, 4, 3, 5)).astype(np.float32)


def loss(kind, bottoms="x t", options="", tops='top: "y"'):
    words = " ".join(f"bottom: {name!r}" for name in bottoms.split())
    return f'layer {{ name: "l" type: "{kind}" {words} {tops} {options} }}'


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (1, 0), (0.5, 0.5), (2, 3)])
@pytest.mark.parametrize(("mode", "divisor"), [("VALID", 25), ("FULL", 30), ("BATCH_SIZE", 2), ("NONE", 1)])
def test_focal_loss_is_its_definition(alpha, gamma, mode, divisor, device):
    def reference(b, _):
        share = np.exp(b["x"]) / np.exp(b["x"]).sum(axis=1, keepdims=True)
        total = 0
        for n, i, j in np.ndindex(2, 3, 5):
            label = int(LABELS[n, 0, i, j])
            if label != 255:
                p = share[n, label, i, j]
                total -= alpha * (1 - p) ** gamma * np.log(p)
        return total / divisor

    text = loss("FocalLoss", options=f"focal_loss_param {{ alpha: {alpha} gamma: {gamma} }} "
                f"loss_param {{ ignore_label: 255 normalization: {mode} }}")
    check_layer(text, {"x": X, "t": LABELS}, constant=["t"], reference=reference, device=device, tolerance=1e-5)


def test_focal_loss_when_sure_then_loss_and_gradient_are_finite():
    sure = np.where(np.arange(4)[None, :, None, None] == 0, 200, -200) * np.ones((2, 4, 3, 5), np.float32)
    for label in (0, 1):
        net = make_net(loss("FocalLoss"), {"x": sure, "t": np.full((2, 1, 3, 5), label)})
        assert np.isfinite(net.forward()["y"])
        net.backward()
        assert np.isfinite(net.blobs["x"].diff).all()


def test_focal_loss_when_it_has_a_second_top_then_that_is_the_softmax():
    net = make_net(loss("FocalLoss", tops='top: "y" top: "p"', options="loss_param { ignore_label: 255 }"),
                   {"x": X, "t": LABELS})
    expected = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net.forward()["p"], expected, rtol=1e-5)


def test_dice_loss_is_its_definition(device):
    def reference(b, _):
        share = 1 / (1 + np.exp(-b["x"]))
        return 1 - (2 * (share * b["t"]).sum() + 1e-6) / (share.sum() + b["t"].sum() + 1e-6)

    check_layer(loss("DiceLoss"), {"x": X, "t": TARGETS}, constant=["t"], reference=reference, device=device)


@pytest.mark.parametrize(("bottoms", "sigma"), [("x t", 1), ("x t u", 3), ("x t u v", 0.5)])
def test_smooth_l1_loss_is_its_definition(bottoms, sigma, device):
    def reference(b, _):
        d = (b["x"] - b["t"]) * b.get("u", 1)
        each = np.where(abs(d) < 1 / sigma**2, (sigma * d) ** 2 / 2, abs(d) - 0.5 / sigma**2)
        return (each * b.get("v", 1)).sum() / 2

    check_layer(loss("SmoothL1Loss", bottoms, f"smooth_l1_loss_param {{ sigma: {sigma} }}"),
                {name: {"x": X, "t": Z, "u": U, "v": V}[name] for name in bottoms.split()},
                constant=[name for name in "uv" if name in bottoms], reference=reference, device=device)


@pytest.mark.parametrize(("text", "error", "told"), [
    (loss("FocalLoss", options="focal_loss_param { type: LINEAR }"), LayerError, "ORIGIN"),
    (loss("FocalLoss", options="focal_loss_param { gamma: -1 }"), LayerError, "gamma"),
    (loss("FocalLoss", "x x"), ShapeError, r"bottom\[1\]"), (loss("DiceLoss"), ShapeError, "one for each score"),
    (loss("SmoothL1Loss", options="smooth_l1_loss_param { sigma: 0 }"), LayerError, "sigma"),
    (loss("SmoothL1Loss"), ShapeError, r"bottom\[1\]")])
def test_loss_when_it_cannot_be_taken_then_refused(text, error, told):
    with pytest.raises(error, match=told):
        make_net(text, {"x": X} | ({"t": LABELS} if "'t'" in text else {}))
