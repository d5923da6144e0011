"""SoftTargetLoss against its definition in float64 and against central differences."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sp

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.runtime.threads import set_num_threads
from tests.layers.one_layer import check_gradients, gradients, small_net

SHAPE = (2, 5, 3, 7)
IGNORED = 255


def body(options: str = "", labels: bool = False) -> str:
    bottoms = 'bottom: "x" bottom: "t"' + (' bottom: "label"' if labels else "")
    return (f'layer {{ name: "l" type: "SoftTargetLoss" {bottoms} top: "y" propagate_down: true propagate_down: false '
            f'{"propagate_down: false" if labels else ""} {options} }}')


def expected(x, teacher, temperature, counted, divisor):
    q, log_p = sp.softmax(teacher / temperature, axis=1), sp.log_softmax(x / temperature, axis=1)
    return temperature**2 * (-(q * log_p).sum(1) * counted).sum() / divisor


def bottoms(rng, labels=False):
    found = {"x": 3 * rng.standard_normal(SHAPE), "t": 3 * rng.standard_normal(SHAPE)}
    if labels:
        found["label"] = np.where(rng.random((2, 1, 3, 7)) < 0.3, IGNORED, rng.integers(0, 5, (2, 1, 3, 7)))
    return found


@pytest.mark.parametrize("temperature", [1, 2.5])
@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("labels", [False, True], ids=["all pixels", "some ignored"])
def test_loss_and_gradient_are_those_of_the_definition(temperature, mode, labels, rng, device):
    given = bottoms(rng, labels)
    ignore = f"ignore_label: {IGNORED}" if labels else ""
    net = small_net(body(f"loss_weight: 0.75 soft_target_loss_param {{ temperature: {temperature} }} "
                         f"loss_param {{ normalization: {mode} {ignore} }}", labels), given, force=False, device=device)
    counted = np.ones((2, 3, 7)) if not labels else given["label"][:, 0] != IGNORED
    divisor = {"VALID": counted.sum(), "FULL": 42, "BATCH_SIZE": 2, "NONE": 1}[mode]
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, expected(given["x"], given["t"], temperature, counted, divisor),
                               rtol=1e-12)
    assert net.loss == pytest.approx(0.75 * float(net.blobs["y"].data))


@pytest.mark.parametrize("labels", [False, True], ids=["all pixels", "some ignored"])
def test_gradient_agrees_with_central_differences(labels, rng, device):
    ignore = f"loss_param {{ ignore_label: {IGNORED} }}" if labels else ""
    given = bottoms(rng, labels)
    net = small_net(body(f"loss_weight: 0.75 soft_target_loss_param {{ temperature: 2 }} {ignore}", labels), given,
                    device=device)
    check_gradients(net, ["x"])
    if labels:
        found = gradients(net, {}, ["x"])["x"]
        assert not np.abs(found).sum(1)[given["label"][:, 0] == IGNORED].any()


def test_loss_is_least_where_scores_equal_the_teacher(rng):
    teacher = 3 * rng.standard_normal(SHAPE)
    net = small_net(body("soft_target_loss_param { temperature: 2 }"), {"x": teacher + 4.0, "t": teacher})
    assert np.abs(gradients(net, {}, ["x"])["x"]).max() < 1e-15  # a constant added to all channels changes nothing
    q = sp.softmax(teacher / 2, axis=1)
    assert float(net.blobs["y"].data) == pytest.approx(4 * -(q * np.log(q)).sum() / 42)


def test_result_when_threads_differ_is_the_same_bits(rng):
    given = {name: rng.standard_normal((2, 5, 130, 131)) for name in ("x", "t")}
    net = small_net(body(), given, dtype=np.float32)
    found = []
    for threads in (1, 3):
        set_num_threads(threads)
        try:
            found.append((gradients(net, {}, ["x"])["x"], float(net.blobs["y"].data)))
        finally:
            set_num_threads(None)
    assert np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


def test_other_shapes_and_options_are_refused(rng):
    with pytest.raises(ShapeError, match=r"bottom\[1\]: expected shape \(2, 5, 3, 7\)"):
        small_net(body(), {"x": np.zeros(SHAPE), "t": np.zeros((2, 5, 3, 8))})
    with pytest.raises(LayerError, match="temperature: expected a number above 0, got 0"):
        small_net(body("soft_target_loss_param { temperature: 0 }"), bottoms(rng))
    with pytest.raises(LayerError, match="expected loss_param.ignore_label"):
        small_net(body(labels=True), bottoms(rng, True))
    with pytest.raises(ShapeError, match=r"bottom\[2\]"):
        small_net(body("loss_param { ignore_label: 255 }", labels=True),
                  {**bottoms(rng), "label": np.zeros((2, 1, 3, 6))})
