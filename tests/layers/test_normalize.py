import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import check_layer, make_net

X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
WIDE = np.random.default_rng(1).standard_normal((2, 3, 300, 301)).astype(np.float32)


def normalize(options=""):
    return f'layer {{ name: "n" type: "Normalize" bottom: "x" top: "y" norm_param {{ {options} }} }}'


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_normalize_divides_by_the_length_and_scales(across, shared, device):
    def reference(bottoms, params):
        x, scale = bottoms["x"], params["n"][0].reshape(1, -1, 1, 1)
        length = np.sqrt((x**2).sum(axis=(1, 2, 3) if across else 1, keepdims=True) + 0.25)
        return scale * x / length

    text = normalize(f"across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()} eps: 0.25")
    net = check_layer(text, {"x": X}, reference=reference, device=device)
    assert net.params["n"][0].shape == (() if shared else (3,))
    check_layer(text, {"x": WIDE}, reference=reference, gradient=False, device=device)


def test_normalize_when_two_axes_then_the_second_are_channels():
    x = X[:, :, 0, 0]
    check_layer(normalize("across_spatial: false"), {"x": x}, reference=lambda b, p: p["n"][0] * b["x"] / np.sqrt(
        (b["x"] ** 2).sum(axis=1, keepdims=True) + 1e-10))


def test_normalize_of_zeros_is_zero():
    np.testing.assert_array_equal(make_net(normalize(), {"x": 0 * X}).forward()["y"], 0 * X)


@pytest.mark.parametrize(("options", "start", "rate"), [
    ("", 1, 1), ("scale_filler { value: 20 }", 20, 1), ("scale_filler { value: 20 } fix_scale: true", 20, 0),
    ("fix_scale: false", 1, 1)])
def test_normalize_when_made_then_the_scale_starts_and_learns_as_the_file_says(options, start, rate):
    from atrouscaffe import Net

    net = Net('input: "x" input_shape { dim: 2 dim: 3 dim: 5 dim: 7 } ' + normalize(options))
    assert float(net.params["n"][0].data) == start
    assert [entry.lr_mult for entry in net.learnable] == [rate]


@pytest.mark.parametrize("eps", ["-1", "inf", "nan"])
def test_normalize_when_eps_is_no_small_number_then_refused(eps):
    with pytest.raises(LayerError, match="eps"):
        make_net(normalize(f"eps: {eps}"), {"x": X})


def test_normalize_when_there_are_no_channels_then_refused():
    with pytest.raises(ShapeError, match="at least 2 axes"):
        make_net(normalize(), {"x": X[0, 0, 0]})
