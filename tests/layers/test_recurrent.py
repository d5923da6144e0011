"""LSTM, LSTMUnit and RNN of BVLC against steps written out in float64."""

import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

T, N, D, H, S = 4, 3, 5, 2, 6
DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((T, N, D)).astype(np.float32)
STILL = DRAW.standard_normal((N, S)).astype(np.float32)
STATES = DRAW.standard_normal((2, 1, N, H)).astype(np.float32)
MARKS = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 1], [1, 1, 1]], np.float32)
FLUSHED = np.where(np.arange(T)[:, None] == 0, 0, MARKS).astype(np.float32)


def recurrent(kind, bottoms="x c", tops="y", options=""):
    words = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    return (f'layer {{ name: "l" type: "{kind}" {" ".join(words)} recurrent_param {{ num_output: {H} '
            f"weight_filler {{ type: 'xavier' }} {options} }} }}")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def steps(kind, bottoms, params, states):
    """Return the outputs and the last states."""
    inputs = bottoms["x"] @ params[0].T + params[1]
    if "s" in bottoms:
        inputs = inputs + bottoms["s"] @ params[2].T
    outputs = []
    if kind == "LSTM":
        h, c = states
        for t in range(T):
            mark = bottoms["c"][t][:, None]
            i, f, o, g = np.split(inputs[t] + (mark * h) @ params[-1].T, 4, axis=1)
            c = mark * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs), [h[None], c[None]]
    (h,) = states
    for t in range(T):
        h = np.tanh(inputs[t] + (bottoms["c"][t][:, None] * h) @ params[-3].T)
        outputs.append(np.tanh(h @ params[-2].T + params[-1]))
    return np.stack(outputs), [h[None]]


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("static", [False, True])
def test_recurrent_layer_when_sequences_begin_then_steps_from_zero(kind, static, device):
    bottoms = {"x": X, "c": FLUSHED} | ({"s": STILL} if static else {})
    start = [np.zeros((N, H))] * (2 if kind == "LSTM" else 1)
    text = {"LSTM": recurrent("LSTM", "x c s" if static else "x c"),
            "RNN": recurrent("RNN", "x c s" if static else "x c")}[kind]
    net = check_layer(text, bottoms, constant=["c"], device=device,
                      reference=lambda b, p: steps(kind, b, p["l"], start)[0])
    assert len(net.params["l"]) == (3 if kind == "LSTM" else 5) + static


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layer_when_states_are_exposed_then_they_come_and_go_with_gradients(kind, device):
    names = ["h", "k"][: 2 if kind == "LSTM" else 1]
    bottoms = {"x": X, "c": MARKS} | dict(zip(names, STATES))
    text = {"LSTM": recurrent("LSTM", "x c h k", "y p q", "expose_hidden: true"),
            "RNN": recurrent("RNN", "x c h", "y p", "expose_hidden: true")}[kind]

    def reference(b, p):
        outputs, states = steps(kind, b, p["l"], [b[name][0] for name in names])
        return {"y": outputs} | dict(zip("pq", states))

    check_layer(text, bottoms, constant=["c"], reference=reference, device=device)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layer_when_run_again_then_goes_on_from_the_last_state(kind):
    net = make_net(recurrent(kind), {"x": X, "c": MARKS}, dtype=np.float64)
    params = [blob.data.copy() for blob in net.params["l"]]
    bottoms = {"x": X.astype(float), "c": MARKS}
    states = [np.zeros((N, H))] * (2 if kind == "LSTM" else 1)
    for _ in range(3):
        expected, states = steps(kind, bottoms, params, states)
        np.testing.assert_allclose(net.forward()["y"], expected, rtol=1e-9)
        states = [state[0] for state in states]


def test_lstm_unit_is_one_step(device):
    gates = DRAW.standard_normal((1, N, 4 * H)).astype(np.float32)
    text = ('layer { name: "l" type: "LSTMUnit" bottom: "c" bottom: "x" bottom: "m" top: "d" top: "h" }')

    def reference(b, _):
        i, f, o, g = np.split(b["x"], 4, axis=2)
        c = b["m"][:, :, None] * sigmoid(f) * b["c"] + sigmoid(i) * np.tanh(g)
        return {"d": c, "h": sigmoid(o) * np.tanh(c)}

    check_layer(text, {"c": STATES[0], "x": gates, "m": MARKS[2:3]}, reference=reference, constant=["m"],
                device=device)


@pytest.mark.parametrize(("text", "error", "told"), [
    (recurrent("LSTM").replace("num_output: 2", ""), LayerError, "num_output"),
    (recurrent("LSTM", options="expose_hidden: true"), ShapeError, "expected 4 or 5 bottoms and 3 tops"),
    (recurrent("RNN", "x s"), ShapeError, r"bottom\[1\]"), (recurrent("RNN", "c c"), ShapeError, r"bottom\[0\]")])
def test_recurrent_layer_when_bottoms_do_not_fit_then_refused(text, error, told):
    names = {"x": X, "c": MARKS, "s": STILL}
    with pytest.raises(error, match=told):
        make_net(text, {name: array for name, array in names.items() if f'bottom: "{name}"' in text})
