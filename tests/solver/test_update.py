"""Update rules against the published formulas, worked out number by number in plain Python."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from atrouscaffe.runtime.backend import get_backend
from atrouscaffe.runtime.blob import Blob
from atrouscaffe.solver.spec import read_spec
from atrouscaffe.solver.update import HISTORIES, RULES, clip_scale, make_step, regularize
from atrouscaffe.solver.updater import Updater

RATE, MOMENTUM, MOMENTUM2, DECAY, DELTA = 0.1, 0.8, 0.95, 0.7, 1e-3


def formula(kind: str, gradients: list[float]) -> list[float]:
    """Updates of one number over several iterations."""
    a = b = 0.0
    out = []
    for t, g in enumerate(gradients, 1):
        if kind == "SGD":
            a = MOMENTUM * a + RATE * g
            out.append(a)
        elif kind == "Nesterov":
            before, a = a, MOMENTUM * a + RATE * g
            out.append((1 + MOMENTUM) * a - MOMENTUM * before)
        elif kind == "AdaGrad":
            a += g * g
            out.append(RATE * g / (math.sqrt(a) + DELTA))
        elif kind == "RMSProp":
            a = DECAY * a + (1 - DECAY) * g * g
            out.append(RATE * g / (math.sqrt(a) + DELTA))
        elif kind == "AdaDelta":
            a = MOMENTUM * a + (1 - MOMENTUM) * g * g
            change = g * math.sqrt((b + DELTA) / (a + DELTA))
            b = MOMENTUM * b + (1 - MOMENTUM) * change * change
            out.append(RATE * change)
        else:
            a = MOMENTUM * a + (1 - MOMENTUM) * g
            b = MOMENTUM2 * b + (1 - MOMENTUM2) * g * g
            correction = math.sqrt(1 - MOMENTUM2**t) / (1 - MOMENTUM**t)
            out.append(RATE * correction * a / (math.sqrt(b) + DELTA))
    return out


@pytest.fixture
def spec():
    base = read_spec('net_param { layer { name: "d" type: "DummyData" top: "d" } }\n'
                     'lr_policy: "fixed" base_lr: 1 max_iter: 9\n')
    return dataclasses.replace(base, momentum=MOMENTUM, momentum2=MOMENTUM2, rms_decay=DECAY, delta=DELTA)


class Entry:
    """What `Updater` looks at, with the values and gradients that a test gives."""

    def __init__(self, backend, values, lr_mult=1.0, decay_mult=1.0):
        self.blob = Blob(values.shape, backend, values.dtype)
        self.blob.data[...] = values
        self.lr_mult, self.decay_mult = lr_mult, decay_mult


@pytest.mark.parametrize("decay", ["none", "L2", "L1"])
@pytest.mark.parametrize("kind", sorted(RULES))
def test_updater_is_the_rule_with_clipping_and_decay(kind, decay, device, spec, rng):
    spec = dataclasses.replace(spec, type=kind, clip_gradients=3.0, iter_size=2, regularization_type=decay[-2:],
                               weight_decay=0.0 if decay == "none" else 0.05)
    values = [rng.standard_normal(shape) for shape in ((70, 3, 11), (5,), (4, 3))]
    values[1][2] = 0  # its sign is 0
    entries = [Entry(get_backend(device), value, *mults) for value, mults in zip(values, ((1, 1), (2, 0.5), (0, 1)))]
    updater = Updater(entries, spec)
    mine = [[np.zeros(value.shape) for _ in range(HISTORIES[kind])] for value in values]
    for t in range(3):
        grads = [rng.standard_normal(value.shape) for value in values]
        for entry, grad in zip(entries, grads):
            entry.blob.diff[...] = grad
        total = updater.sum_of_squares()
        assert total == pytest.approx(sum((grad**2).sum() for grad in grads), rel=1e-12)
        updater.apply(RATE, t, total)
        for entry, grad, value, histories in zip(entries, grads, values, mine):
            if not entry.lr_mult:
                continue
            grad *= clip_scale(total, 3.0) / 2
            regularize(grad, value, spec.weight_decay * entry.decay_mult, spec.regularization_type)
            RULES[kind](grad, histories, make_step(spec, RATE * entry.lr_mult, t))
            value -= grad
            np.testing.assert_allclose(entry.blob.host_grad(), grad, rtol=1e-10, atol=1e-14)
    for entry, value, histories, ours in zip(entries, values, mine, updater.histories):
        np.testing.assert_allclose(entry.blob.host(), value, rtol=1e-10, atol=1e-14)
        for theirs, array in zip(histories, ours):
            np.testing.assert_allclose(entry.blob.backend.to_numpy(array), theirs, rtol=1e-10, atol=1e-14)


def test_updates_of_shared_values_come_from_the_same_values(device, spec, rng):
    backend, value = get_backend(device), rng.standard_normal(7)
    entries = [Entry(backend, value), Entry(backend, value)]
    entries[1].blob.share_data(entries[0].blob)
    grads = rng.standard_normal((2, 7))
    for entry, grad in zip(entries, grads):
        entry.blob.diff[...] = grad
    Updater(entries, dataclasses.replace(spec, weight_decay=0.5)).apply(RATE, 0, 1.0)
    expected = value - RATE * (grads + 0.5 * value).sum(axis=0)
    np.testing.assert_allclose(entries[1].blob.host(), expected, rtol=1e-12)


def test_norm_of_huge_or_broken_gradients(device, spec):
    entry = Entry(get_backend(device), np.zeros(5, np.float32))
    updater = Updater([entry], spec)
    assert updater.sum_of_squares() == 0
    entry.blob.diff[...] = 1e30
    assert updater.sum_of_squares() == pytest.approx(5e60, rel=1e-6)
    entry.blob.diff[3] = np.nan
    assert math.isnan(updater.sum_of_squares())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", sorted(RULES))
def test_rule_is_the_published_formula(kind, dtype, spec):
    spec = dataclasses.replace(spec, type=kind)
    gradients = np.random.default_rng(3).normal(size=(5, 7)).astype(dtype)
    histories = [np.zeros(7, dtype) for _ in range(HISTORIES[kind])]
    expected = np.array([formula(kind, [float(g) for g in column]) for column in gradients.T]).T
    for t, grad in enumerate(gradients.copy()):
        RULES[kind](grad, histories, make_step(spec, RATE, t))
        assert grad.dtype == dtype
        np.testing.assert_allclose(grad, expected[t], rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_histories_are_written_in_place(spec):
    for kind, rule in RULES.items():
        histories = [np.zeros(3) for _ in range(HISTORIES[kind])]
        rule(np.ones(3), histories, make_step(dataclasses.replace(spec, type=kind), RATE, 0))
        assert all(history.any() for history in histories), kind


def test_decay_adds_value_or_sign():
    value = np.array([2.0, -3.0, 0.0])
    for kind, expected in (("L2", [1.2, 0.7, 1.0]), ("L1", [1.1, 0.9, 1.0])):
        grad = np.ones(3)
        regularize(grad, value, 0.1, kind)
        np.testing.assert_allclose(grad, expected)
    grad = np.ones(3)
    regularize(grad, np.array([np.inf] * 3), 0.0, "L2")
    assert (grad == 1).all()


def test_clip_brings_the_norm_down_and_never_up():
    assert clip_scale(25.0, 2.0) == pytest.approx(0.4)
    assert clip_scale(25.0, 5.0) == 1
    assert clip_scale(25.0, -1.0) == 1
    assert clip_scale(25.0, 0.0) == 0
