import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError, ShapeError
from tests.check import make_net

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


def test_dense_crf_when_asked_for_gradients_then_none_pass():
    net = make_net(crf(), {"x": SCORES, "size": SIZES, "im": IMAGES})
    net.forward()
    net.blobs["x"].diff[...] = 5
    net.backward(y=SCORES)
    assert (net.blobs["x"].diff == 5).all()


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
