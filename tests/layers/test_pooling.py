import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests import naive
from tests.check import check_layer, make_net

X = np.random.default_rng(0).permutation(2 * 3 * 7 * 9).reshape(2, 3, 7, 9).astype(np.float32) / 50


def pool(options, tops='top: "y"'):
    return f'layer {{ name: "p" type: "Pooling" bottom: "x" {tops} pooling_param {{ {options} }} }}'


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
@pytest.mark.parametrize(("options", "kernel", "stride", "pad", "out"), [
    ("kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), (3, 4)),
    ("kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), (4, 5)),
    ("kernel_size: 2 stride: 2 round_mode: FLOOR", (2, 2), (2, 2), (0, 0), (3, 4)),
    ("kernel_size: 2 stride: 2 ceil_mode: false", (2, 2), (2, 2), (0, 0), (3, 4)),
    ("kernel_size: 2 stride: 2 ceil_mode: true", (2, 2), (2, 2), (0, 0), (4, 5)),
    ("kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0), (4, 5)),
    ("kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0", (3, 2), (1, 2), (1, 0), (7, 5)),
    ("global_pooling: true", (7, 9), (1, 1), (0, 0), (1, 1))])
def test_pooling_when_compared_with_loops_and_differences_then_equal(kind, options, kernel, stride, pad, out, device):
    check_layer(pool(f"pool: {kind} {options}"), {"x": X}, exact=kind == "MAX",
                reference=lambda b, _: naive.pool(b["x"], kernel, stride, pad, out, kind)[0], device=device)


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
def test_pooling_when_the_kernel_is_larger_than_the_image_then_the_window_ends_with_it(kind, device):
    x = X[:, :, :2, :2]
    check_layer(pool(f"pool: {kind} kernel_size: 3 stride: 2"), {"x": x}, exact=kind == "MAX",
                reference=lambda b, _: naive.pool(b["x"], (3, 3), (2, 2), (0, 0), (1, 1), kind)[0], device=device)


def test_pooling_when_a_second_top_is_named_then_it_is_the_mask(device):
    net = make_net(pool("kernel_size: 3 stride: 2 pad: 1", 'top: "y" top: "mask"'), {"x": X}, device=device)
    net.forward()
    np.testing.assert_array_equal(net.blobs["mask"].data, naive.pool(X, (3, 3), (2, 2), (1, 1), (4, 5), "MAX")[1])
    flat = X.reshape(2, 3, -1)
    np.testing.assert_array_equal(np.take_along_axis(flat, net.blobs["mask"].data.astype(int).reshape(2, 3, -1), 2),
                                  net.blobs["y"].data.reshape(2, 3, -1))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_pooling_when_stochastic_then_gradient_follows_the_choice(phase, device):
    net = check_layer(pool("pool: STOCHASTIC kernel_size: 3 stride: 2"), {"x": X + 0.1}, phase=phase, device=device)
    picked = np.isin(net.blobs["y"].data, (X + 0.1).astype(np.float32))
    assert picked.all() if phase == "TRAIN" else not picked.all()


def test_pooling_when_stochastic_and_trained_then_each_pass_draws_anew(device):
    net = make_net(pool("pool: STOCHASTIC kernel_size: 3 stride: 2"), {"x": X + 0.1}, phase="TRAIN", device=device)
    assert not np.array_equal(net.forward()["y"].copy(), net.forward()["y"])


@pytest.mark.parametrize(("options", "tops", "error", "message"), [
    ("pool: AVE", 'top: "y"', LayerError, "kernel_size"),
    ("kernel_size: 3 pad: 3", 'top: "y"', LayerError, "less than the kernel"),
    ("kernel_size: 9", 'top: "y"', ShapeError, "does not fit"),
    ("kernel_size: 3 stride: 0", 'top: "y"', LayerError, "stride"),
    ("kernel_h: 3", 'top: "y"', LayerError, "kernel_h and kernel_w"),
    ("global_pooling: true kernel_size: 3", 'top: "y"', LayerError, "global_pooling"),
    ("global_pooling: true stride: 2", 'top: "y"', LayerError, "global_pooling"),
    ("pool: STOCHASTIC kernel_size: 3 pad: 1", 'top: "y"', LayerError, "STOCHASTIC"),
    ("pool: AVE kernel_size: 3", 'top: "y" top: "m"', ShapeError, "mask")])
def test_pooling_when_options_are_wrong_then_says_what(options, tops, error, message):
    with pytest.raises(error, match=message):
        make_net(pool(options, tops), {"x": X})


def test_pooling_when_the_mask_could_not_be_exact_then_refused():
    net = make_net(pool("kernel_size: 2 stride: 2", 'top: "y" top: "mask"'), {"x": X})
    layer = net.layers[-1].layer
    assert layer.infer_shapes([(1, 1, 4096, 4096)])[1] == (1, 1, 2048, 2048)
    with pytest.raises(ShapeError, match="float32"):
        layer.infer_shapes([(1, 1, 4096, 4098)])


@pytest.mark.parametrize(("mode", "ceil", "size"), [("FLOOR", "false", (3, 4)), ("CEIL", "true", (4, 5)),
                                                    ("FLOOR", "true", None), ("CEIL", "false", None)])
def test_pooling_when_both_words_for_rounding_agree_then_built_else_refused(mode, ceil, size):
    text = pool(f"kernel_size: 2 stride: 2 round_mode: {mode} ceil_mode: {ceil}")
    if size:
        assert make_net(text, {"x": X}).blobs["y"].shape[2:] == size
        return
    with pytest.raises(LayerError, match=f"ceil_mode: expected what round_mode says .{mode}.*, got {ceil}"):
        make_net(text, {"x": X})
