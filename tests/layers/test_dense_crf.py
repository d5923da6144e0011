import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.net import Net
from atrouscaffe.spec import TEST
from tests.check import check_layer, make_net, net_text

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((2, 3, 8, 9)).astype(np.float32)
IMAGES = (RNG.random((2, 3, 8, 9)) * 255 - 110).astype(np.float32)
SIZES = np.array([[8, 9], [5, 7]], np.float32).reshape(2, 1, 1, 2)
KERNELS = "max_iter: 3 pos_xy_std: 3 pos_w: 3 bi_xy_std: 5 bi_rgb_std: 10 bi_w: 4"


def crf(options=KERNELS, image=True):
    third = 'bottom: "im"' if image else ""
    return (f'layer {{ name: "c" type: "DenseCRF" bottom: "x" bottom: "size" {third} top: "y" '
            f"dense_crf_param {{ {options} }} }}")


def run(options=KERNELS, dialect="v2", items=slice(None), **changes):
    bottoms = {"x": SCORES[items], "size": SIZES[items], "im": IMAGES[items]} | changes
    return make_net(crf(options), bottoms, dialect=dialect).forward()["y"].copy()


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_dense_crf_when_no_message_passes_then_softmax_inside_and_zero_outside(dialect):
    y = run("max_iter: 0 pos_xy_std: 3 pos_w: 3", dialect)
    np.testing.assert_allclose(y[0], softmax(SCORES)[0], atol=1e-5)
    np.testing.assert_allclose(y[1, :, :5, :7], softmax(SCORES)[1, :, :5, :7], atol=1e-5)
    assert not y[1, :, 5:].any()
    assert not y[1, :, :, 7:].any()


def test_dense_crf_when_in_a_batch_then_each_image_has_its_own_colours():
    both = run()
    for n in (0, 1):
        np.testing.assert_array_equal(run(items=slice(n, n + 1))[0], both[n])


def test_dense_crf_when_dialects_differ_then_only_by_rounding():
    np.testing.assert_allclose(run(dialect="v1"), run(dialect="v2"), atol=1e-5)  # softmax shifts each pixel's scores


def test_dense_crf_when_scores_are_wanted_then_logarithms():
    y, log = run(), run(KERNELS + " output_probability: false")
    np.testing.assert_allclose(np.exp(log[0]), y[0], rtol=1e-5)
    assert not log[1, :, 5:].any()


def test_dense_crf_when_only_positions_count_then_needs_no_image():
    options = "max_iter: 2 pos_xy_std: 2 pos_w: 3"
    y = make_net(crf(options, image=False), {"x": SCORES, "size": SIZES}).forward()["y"]
    np.testing.assert_array_equal(y, run(options))


@pytest.mark.parametrize("options", ["max_iter: -1", "pos_xy_std: 3", "pos_xy_std: 0 pos_w: 1", "bi_xy_std: 3 bi_w: 2",
                                     "bi_xy_std: 3 bi_rgb_std: -3 bi_w: 2"])
def test_dense_crf_when_kernels_are_wrong_then_refused(options):
    with pytest.raises(LayerError):
        make_net(crf(options), {"x": SCORES, "size": SIZES, "im": IMAGES})


def test_dense_crf_when_bottoms_are_wrong_then_refused():
    with pytest.raises(LayerError, match="image"):
        make_net(crf(image=False), {"x": SCORES, "size": SIZES})
    with pytest.raises(ShapeError, match="image"):
        make_net(crf(), {"x": SCORES, "size": SIZES, "im": IMAGES[:, :, :7]})
    for bad in (0, 10, np.nan):
        with pytest.raises(DataError, match="image 0"):
            run(size=np.full_like(SIZES, bad))


@pytest.mark.parametrize("dialect, extra", [("v1", ""), ("v2", ""), ("v2", " output_probability: false")])
def test_dense_crf_gradient_of_the_scores_matches_central_differences(dialect, extra):
    check_layer(crf(KERNELS + extra), {"x": SCORES, "size": SIZES, "im": IMAGES}, dialect=dialect,
                constant=("size", "im"))


@pytest.mark.parametrize("dialect, extra", [("v1", ""), ("v2", ""), ("v2", " output_probability: false")])
def test_dense_crf_gradient_in_float32_is_that_of_its_fast_forward(dialect, extra):
    """In float32 forward takes another way than backward; the differences are taken over a wide step."""
    random = np.random.default_rng(1)
    bottoms = {"x": SCORES, "size": SIZES, "im": IMAGES}
    net = make_net(crf(KERNELS + extra), bottoms, dialect=dialect)
    top = random.standard_normal(SCORES.shape).astype(np.float32)
    net.forward()
    net.blobs["y"].diff[...] = top
    net.backward()
    found = net.blobs["x"].diff.copy()
    assert not found[1, :, 5:].any()
    for _ in range(6):
        way = random.standard_normal(SCORES.shape).astype(np.float32)
        values = []
        for step in (0.001, -0.001):
            net.blobs["x"].data[...] = SCORES + step * way
            values.append(float((net.forward()["y"].astype(np.float64) * top).sum()))
        assert (values[0] - values[1]) / 0.002 == pytest.approx(float((found * way).sum()), rel=0.02, abs=0.02)


def test_dense_crf_and_the_net_before_it_learn_together():
    """Fifty steps of gradient descent through the layer lower the loss of the labels."""
    random = np.random.default_rng(2)
    truth = (np.mgrid[:8, :9][1] > 4).astype(np.float32)
    images = np.stack([truth * 8 - 4] * 3)[None] + random.standard_normal((1, 3, 8, 9)).astype(np.float32)
    text = ('layer { name: "f" type: "Convolution" bottom: "im" top: "x" convolution_param '
            '{ num_output: 2 kernel_size: 1 weight_filler { type: "gaussian" std: 0.001 } } }'
            + crf("max_iter: 3 pos_xy_std: 2 pos_w: 1 bi_xy_std: 5 bi_rgb_std: 4 bi_w: 2"))
    net = make_net(text, {"im": images.astype(np.float32), "size": SIZES[:1]}, dialect="v2")
    losses = []
    for _ in range(50):
        beliefs = net.forward()["y"]
        chosen = np.where(truth > 0, beliefs[0, 1], beliefs[0, 0])
        losses.append(float(-np.log(chosen).mean()))
        net.blobs["y"].diff[0, 0] = np.where(truth > 0, 0, -1 / chosen) / truth.size
        net.blobs["y"].diff[0, 1] = np.where(truth > 0, -1 / chosen, 0) / truth.size
        net.backward()
        for blob in net.params["f"]:
            blob.data[...] -= 3e-3 * blob.diff
            blob.diff[...] = 0
    assert losses[-1] < 0.5 * losses[0] and losses[-1] < losses[25] < losses[0]


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize("dialect, extra", [("v1", ""), ("v2", ""), ("v2", " output_probability: false")])
def test_dense_crf_on_the_device_is_the_cpus(device, dialect, extra):
    random = np.random.default_rng(5)
    bottoms = {"x": SCORES, "size": SIZES, "im": IMAGES}
    top = random.standard_normal(SCORES.shape).astype(np.float32)
    found = []
    for where in ("cpu", device):
        net = Net(net_text(crf(KERNELS + extra), bottoms), TEST, dialect=dialect, device=where)
        for name, array in bottoms.items():
            net.blobs[name].data[...] = array
        y = net.forward()["y"].copy()
        net.blobs["y"].diff[...] = top
        net.backward()
        found.append((y, net.blobs["x"].diff.copy()))
    for ours, theirs in zip(found[1], found[0]):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)
    assert not found[1][0][1, :, 5:].any() and not found[1][1][1, :, :, 7:].any()
