"""Learning rates against what Caffe's own comments say, written down as numbers."""

from __future__ import annotations

import math

import pytest

from atrouscaffe.solver.policy import current_step, learning_rate
from atrouscaffe.solver.spec import read_spec

NET = 'net_param { layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 } } } }\n'


def spec(text: str):
    return read_spec(f"{NET}base_lr: 0.5 max_iter: 100 {text}\n")


@pytest.mark.parametrize(("text", "iteration", "expected"), [
    ('lr_policy: "fixed"', 70, 0.5),
    ('lr_policy: "step" gamma: 0.1 stepsize: 30', 29, 0.5),
    ('lr_policy: "step" gamma: 0.1 stepsize: 30', 30, 0.05),
    ('lr_policy: "step" gamma: 0.1 stepsize: 30', 91, 0.5e-3),
    ('lr_policy: "exp" gamma: 0.9', 3, 0.5 * 0.729),
    ('lr_policy: "inv" gamma: 0.5 power: 2', 4, 0.5 / 9),
    ('lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5 stepvalue: 6', 1, 0.5),
    ('lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5 stepvalue: 6', 5, 0.125),
    ('lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5 stepvalue: 6', 60, 0.0625),
    ('lr_policy: "poly" power: 2', 50, 0.125),
    ('lr_policy: "poly" power: 2', 100, 0.0),
    ('lr_policy: "poly" power: 0.9', 130, 0.0),
    ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 10', 10, 0.25),
    ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 10', 14, 0.5 / (1 + math.e**2)),
])
def test_rate_is_the_formula_worked_out(text, iteration, expected):
    rate = learning_rate(spec(text), iteration)
    assert rate == pytest.approx(expected, rel=1e-6, abs=1e-15)  # the fields are float32


def test_rate_beyond_a_floats_range_is_infinite():
    assert learning_rate(spec('lr_policy: "exp" gamma: 10'), 400) == math.inf
    assert learning_rate(spec('lr_policy: "sigmoid" gamma: -9 stepsize: 1'), 99) == 0


def test_steps_are_counted():
    steps = spec('lr_policy: "step" gamma: 0.1 stepsize: 3')
    assert [current_step(steps, i) for i in (0, 2, 3, 8, 9)] == [0, 0, 1, 2, 3]
    assert current_step(spec('lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5'), 4) == 1
    assert current_step(spec('lr_policy: "fixed"'), 50) == 0
