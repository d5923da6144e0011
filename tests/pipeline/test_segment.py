"""Segmenter: padding, large images, tiles, preprocessing, CRF."""

import cv2
import numpy as np
import pytest

from atrouscaffe import TEST, Net, Segmenter
from atrouscaffe.errors import (
    ArgumentError,
    AtrousCaffeError,
    BudgetError,
    DataError,
    FileMissingError,
    NameNotFoundError,
)

from .nets import conv, finite, head, image_pooling, photo, weights

MEAN = (104.0, 116.0, 122.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def finite_weights(folder):
    return weights(finite(), folder / "finite.caffemodel")


@pytest.fixture(scope="module")
def pooling_weights(folder):
    return weights(image_pooling(), folder / "pooling.caffemodel")


def one_pass(text, path, image, blob="up", mean=MEAN, scale=1.0):
    """What a plain net says about an image that is subtracted, scaled and padded by hand."""
    net = Net(text, TEST, weights=path)
    data = np.zeros(net.blobs["data"].shape, np.float32)
    data[0, :, :image.shape[0], :image.shape[1]] = (image.transpose(2, 0, 1) - np.float32(mean)[:, None, None]) * scale
    net.forward(data=data)
    return net.blobs[blob].data[0, :, :image.shape[0], :image.shape[1]].copy()


@pytest.mark.parametrize("size", [(33, 41), (20, 41), (33, 9), (1, 1)])
def test_smaller_images_are_padded_at_the_bottom_and_right(size, finite_weights):
    image = photo(*size)
    result = Segmenter(finite(), finite_weights, mean=MEAN)(image)
    expected = one_pass(finite(), finite_weights, image)
    assert np.array_equal(result.scores, expected)
    assert result.labels.dtype == np.uint8
    assert np.array_equal(result.labels, expected.argmax(0))
    softmax = np.exp(expected - expected.max(0)) / np.exp(expected - expected.max(0)).sum(0)
    assert np.abs(result.probabilities - softmax).max() < 1e-6


def test_larger_images_reshape_the_net(finite_weights):
    image = photo(50, 87)
    result = Segmenter(finite(), finite_weights, mean=MEAN, scale=0.5)(image)
    expected = one_pass(finite((53, 89)), finite_weights, image, scale=0.5)
    assert np.abs(result.scores - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("size", [(150, 131), (97, 40), (36, 200)])
@pytest.mark.parametrize("up", ["zoom_factor: 4", ""])
def test_tiles_give_the_scores_of_one_large_pass(size, up, finite_weights):
    image = photo(*size)
    whole = Segmenter(finite(up=up), finite_weights, mean=MEAN)(image)
    tiled = Segmenter(finite(up=up), finite_weights, mean=MEAN, tile=64)
    runs = []
    forward = tiled.net.forward
    tiled.net.forward = lambda: runs.append(1) or forward()
    result = tiled(image)
    assert len(runs) > 1
    assert np.abs(result.scores - whole.scores).max() <= 1e-6 * np.abs(whole.scores).max()
    assert np.array_equal(result.labels, whole.labels)


def test_tiles_hold_for_a_net_of_even_grid_and_cropped_scores(folder):
    """DeepLab's own geometry in small: 2x2 pools with pad 1, sizes 4k+2, scores cut by Padding."""
    pairs = ((1, "data"), (2, "p1"))
    text = 'name: "even" input: "data" input_dim: 1 input_dim: 3 input_dim: 34 input_dim: 34' + "".join(f'''
        layers {{ name: "c{i}" type: CONVOLUTION bottom: "{bottom}" top: "c{i}"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 }} }}
        layers {{ name: "p{i}" type: POOLING bottom: "c{i}" top: "p{i}"
        pooling_param {{ pool: MAX kernel_size: 2 stride: 2 pad: 1 }} }}''' for i, bottom in pairs) + '''
        layers { name: "s" type: CONVOLUTION bottom: "p2" top: "s"
        convolution_param { num_output: 5 kernel_size: 3 pad: 2 hole: 2 } }
        layers { name: "u" type: INTERP bottom: "s" top: "u" interp_param { zoom_factor: 4 } }
        layers { name: "crop" type: PADDING bottom: "u" top: "out" padding_param { pad_beg: -2 pad_end: -1 } }'''
    path = weights(text, folder / "even.caffemodel")
    shape = Net(text, TEST).blobs["out"].shape
    assert shape == (1, 5, 34, 34)
    image = photo(120, 71)
    whole = Segmenter(text, path, mean=MEAN)(image)
    tiled = Segmenter(text, path, mean=MEAN, tile=60)(image)
    assert np.abs(tiled.scores - whole.scores).max() <= 1e-6 * np.abs(whole.scores).max()


@pytest.mark.parametrize(("net", "field"), [("v1_deeplab_vgg128_noup_test", 316), ("v2_deeplab_largefov", 435)])
def test_tiles_of_slim_deeplab_nets_of_true_geometry(net, field, oracle):
    folder = oracle / "nets" / net
    options = {"mean": MEAN, "scale": 1 / 64}
    image = photo(700, 130)
    whole = Segmenter(folder / "net.prototxt", folder / "weights.caffemodel", **options)(image)
    segmenter = Segmenter(folder / "net.prototxt", folder / "weights.caffemodel", tile=560, **options)
    tiled = segmenter(image)
    assert segmenter._axes[0].field.extent == field
    assert segmenter._runners.first.size[0] <= 560
    assert np.abs(tiled.scores - whole.scores).max() <= 1e-5 * np.abs(whole.scores).max()
    assert (tiled.labels == whole.labels).mean() > 0.9999


def test_memory_budget_leads_to_tiles_and_then_to_an_error(finite_weights):
    image = photo(230, 210)
    whole = Segmenter(finite(), finite_weights, mean=MEAN)(image)
    small = Segmenter(finite(), finite_weights, mean=MEAN, memory_budget=7_000_000)
    result = small(image)
    assert small._runners.first.size < (233, 213)
    assert np.abs(result.scores - whole.scores).max() <= 1e-6 * np.abs(whole.scores).max()
    with pytest.raises(BudgetError, match="above the budget of 7 MB"):
        small(photo(500, 500))


def test_net_with_a_global_average_is_reshaped_with_its_fixed_sizes(pooling_weights):
    image = photo(61, 45)
    result = Segmenter(image_pooling(), pooling_weights, mean=MEAN)(image)
    expected = one_pass(image_pooling((61, 45)), pooling_weights, image)
    assert np.abs(result.scores - expected).max() <= 1e-6 * np.abs(expected).max()


def test_net_with_a_global_average_cannot_be_tiled(pooling_weights):
    segmenter = Segmenter(image_pooling(), pooling_weights, mean=MEAN, memory_budget=8_000_000)
    with pytest.raises(BudgetError, match="depend on the whole image"):
        segmenter(photo(250, 250))
    assert segmenter(photo(20, 20)).labels.shape == (20, 20)


def test_sizes_may_change_from_image_to_image(pooling_weights):
    segmenter = Segmenter(image_pooling(), pooling_weights, mean=MEAN)
    for size in ((20, 30), (61, 45), (33, 41), (40, 90), (20, 30)):
        fresh = Segmenter(image_pooling(), pooling_weights, mean=MEAN)
        assert np.array_equal(segmenter(photo(*size)).scores, fresh(photo(*size)).scores)


def test_net_that_cannot_be_reshaped_says_which_layer_stands_in_the_way(folder):
    text = head((9, 9)) + '''
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 50 } }
        layer { name: "shape" type: "Reshape" bottom: "fc" top: "map"
        reshape_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }'''
    path = weights(text, folder / "fc.caffemodel")
    segmenter = Segmenter(text, path, mean=0)
    assert segmenter(photo(9, 9)).scores.shape == (2, 9, 9)
    with pytest.raises(ArgumentError, match="layer 'fc'"):
        segmenter(photo(12, 9))


def test_scores_on_a_coarse_grid_are_enlarged_with_aligned_corners(finite_weights):
    image = photo(33, 41)
    coarse = one_pass(finite(up=""), finite_weights, image, blob="score")
    result = Segmenter(finite(up=""), finite_weights, mean=MEAN)(image)
    assert result.scores.shape == (7, 33, 41)
    assert np.allclose(result.scores[:, ::4, ::4], coarse, atol=1e-5)
    assert np.allclose(result.scores, one_pass(finite(), finite_weights, image), atol=1e-5)


# -- preprocessing ------------------------------------------------------------------------------


def with_transform(option):
    return finite().replace('name: "small" input: "data" input_dim: 1 input_dim: 3 input_dim: 33 input_dim: 41', f'''
        name: "small" layer {{ name: "data" type: "ImageSegData" top: "data" top: "label" transform_param {{ {option} }}
        image_data_param {{ source: "nowhere.txt" label_type: PIXEL }} }}''') + '''
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "up" bottom: "label" top: "loss" }'''


def test_transform_param_of_a_test_net_is_used_and_its_list_is_not_read(finite_weights):
    text = with_transform("crop_size: 33 mean_value: 104 mean_value: 116 mean_value: 122 scale: 0.5")
    segmenter = Segmenter(text, finite_weights)
    assert segmenter.preprocessing == "transform_param"
    image = photo(33, 30)
    assert np.array_equal(segmenter(image).scores, Segmenter(finite((33, 33)), finite_weights, mean=MEAN,
                                                             scale=0.5)(image).scores)


def test_arguments_come_before_transform_param(finite_weights):
    text = with_transform("crop_size: 33 mean_value: 7")
    image = photo(10, 10)
    given = Segmenter(text, finite_weights, mean=[1, 2, 3], scale=2)
    assert (given.mean.ravel().tolist(), given.scale) == ([1, 2, 3], 2)
    assert np.allclose(given.prepare(image, (10, 10))[0], (image.transpose(2, 0, 1) - np.array(
        [1, 2, 3])[:, None, None]) * 2)
    assert Segmenter(text, finite_weights).mean.ravel().tolist() == [7, 7, 7]


def test_mean_file_gives_the_mean_of_each_channel(finite_weights, tmp_path):
    from atrouscaffe.formats.mean import write_mean

    picture = np.stack([np.full((4, 5), v, np.float32) for v in (1, 2, 3)])
    picture[:, 0, 0] += 20
    write_mean(tmp_path / "mean.binaryproto", picture)
    segmenter = Segmenter(finite(), finite_weights, mean=tmp_path / "mean.binaryproto")
    assert segmenter.mean.ravel() == pytest.approx([2, 3, 4])


def test_unknown_preprocessing_is_an_error_that_says_what_to_give(finite_weights):
    with pytest.raises(ArgumentError, match="--mean, --scale"):
        Segmenter(finite(), finite_weights)


def test_rgb_nets_get_their_channels_turned(finite_weights):
    image = photo(33, 41)
    rgb = Segmenter(finite(), finite_weights, mean=MEAN, channel_order="rgb")(image)
    bgr = Segmenter(finite(), finite_weights, mean=MEAN)(np.ascontiguousarray(image[..., ::-1]))
    assert np.array_equal(rgb.scores, bgr.scores)


def test_gray_nets_get_one_channel(folder):
    text = ('input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 9 layer { name: "c" type: "Convolution" '
            'bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }')
    segmenter = Segmenter(text, weights(text, folder / "gray.caffemodel"), mean=3, scale=2)
    image = photo(8, 9)
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    assert np.array_equal(segmenter.prepare(image, (8, 9))[0, 0], (gray - 3) * 2)


def test_a_known_net_by_name_brings_its_preprocessing(finite_weights, folder):
    text = finite().replace('"small"', '"deeplabv3_mnv2_dm05_voc"')
    segmenter = Segmenter(text, finite_weights)
    assert segmenter.preprocessing == "known model deeplabv3_mnv2_dm05_voc"
    assert segmenter.mean.ravel().tolist() == [127.5] * 3
    assert segmenter.scale == pytest.approx(1 / 127.5)


# -- results ------------------------------------------------------------------------------------


@pytest.mark.parametrize("crf", [True, "deeplab", {"bilateral_sigma_xy": 30, "iterations": 3}])
def test_crf_refines_what_the_net_says(crf, finite_weights):
    from atrouscaffe.crf.densecrf import refine

    image = photo(33, 41)
    plain = Segmenter(finite(), finite_weights, mean=MEAN)(image)
    result = Segmenter(finite(), finite_weights, mean=MEAN, crf=crf, crf_params={"position_weight": 2})(image)
    options = {"preset": crf} if isinstance(crf, str) else dict(crf) if isinstance(crf, dict) else {}
    expected = refine(image[..., ::-1].copy(), plain.probabilities, **{"preset": "paper", **options}, position_weight=2)
    assert np.array_equal(result.scores, plain.scores)
    assert np.array_equal(result.probabilities, np.asarray(expected.probabilities, np.float32))
    assert np.array_equal(result.labels, result.probabilities.argmax(0))
    assert np.abs(result.probabilities - plain.probabilities).max() > 0.01


def test_a_path_a_gray_array_and_an_array_give_the_same(finite_weights, tmp_path):
    gray = photo(20, 30)[..., 0]
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([gray] * 3))
    segmenter = Segmenter(finite(), finite_weights, mean=MEAN)
    expected = segmenter(np.dstack([gray] * 3)).scores
    assert np.array_equal(segmenter(tmp_path / "a.png").scores, expected)
    assert np.array_equal(segmenter(gray).scores, expected)


@pytest.mark.parametrize("net", ["v1_deeplab_largefov_deploy", "v2_deeplab_largefov_deploy"])
def test_a_dense_crf_layer_at_the_end_gives_the_probabilities(net, oracle):
    folder = oracle / "nets" / net
    image = photo(50, 61)
    result = Segmenter(folder / "net.prototxt", folder / "weights.caffemodel", mean=MEAN)(image)
    plain = Net(folder / "net.prototxt", TEST, weights=folder / "weights.caffemodel")
    data = np.zeros((1, 3, 65, 65), np.float32)
    data[0, :, :50, :61] = image.transpose(2, 0, 1) - np.float32(MEAN)[:, None, None]
    plain.forward(data=data, data_dim=np.reshape([50, 61], plain.blobs["data_dim"].shape))
    beliefs = plain.blobs["crf_inf"].data[0, :, :50, :61]
    assert np.abs(result.probabilities - beliefs).max() < 1e-5
    assert np.array_equal(result.labels, beliefs.argmax(0))


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_memory_when_it_is_too_little_to_record_then_images_of_one_size_go_on(device, finite_weights, monkeypatch):
    def full(self):
        raise BudgetError("device 'cuda:0': out of memory")

    images = [photo(50, 87) for _ in range(3)]
    segmenter = Segmenter(finite(), finite_weights, device, mean=MEAN)
    wanted = list(segmenter.stream(images))
    assert segmenter._runners.first.recorded is not None
    monkeypatch.setattr(Net, "record", full)
    segmenter = Segmenter(finite(), finite_weights, device, mean=MEAN)
    for found, expected in zip(segmenter.stream(images), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_a_layer_that_looks_at_values_when_sizes_repeat_then_is_launched_every_time(device, oracle):
    folder = oracle / "nets" / "v2_deeplab_largefov_deploy"
    files = folder / "net.prototxt", folder / "weights.caffemodel"
    images = [photo(50, 61, seed=i) for i in range(4)]
    ours, theirs = (Segmenter(*files, where, mean=MEAN) for where in (device, "cpu"))
    for image, labels in zip(images, ours.stream(images), strict=True):
        ordered = np.sort(theirs(image).probabilities, 0)
        clear = ordered[-1] - ordered[-2] > 1e-3
        assert (labels == theirs(image).labels)[clear].all() and clear.mean() > 0.8


def test_results_stay_when_the_next_image_comes(finite_weights):
    segmenter = Segmenter(finite(), finite_weights, mean=MEAN)
    first = segmenter(photo(33, 41, seed=1))
    copy = first.scores.copy()
    segmenter(photo(33, 41, seed=2))
    assert np.array_equal(first.scores, copy)


@pytest.mark.parametrize(("options", "error", "word"), [
    ({"channel_order": "hsv"}, ArgumentError, "channel_order"),
    ({"mean": [1, 2]}, ArgumentError, "one number or 3"),
    ({"mean": float("nan")}, ArgumentError, "mean"),
    ({"scale": 0.0}, ArgumentError, "scale"),
    ({"crf": "nonsense"}, ArgumentError, "nonsense"),
    ({"tile": 0}, ArgumentError, "tile"),
    ({"output": "nothing"}, ArgumentError, "'nothing'"),
    ({"device": "tpu"}, AtrousCaffeError, "tpu"),
])
def test_wrong_arguments_are_refused(options, error, word, finite_weights):
    with pytest.raises(error, match=word):
        Segmenter(finite(), finite_weights, **{"mean": MEAN, **options})


def test_missing_files_and_weights_are_errors(finite_weights, tmp_path):
    with pytest.raises(FileMissingError, match=r"none\.prototxt"):
        Segmenter(tmp_path / "none.prototxt", finite_weights, mean=0)
    with pytest.raises(FileMissingError):
        Segmenter(finite(), tmp_path / "none.caffemodel", mean=0)
    with pytest.raises(ArgumentError, match="weights"):
        Segmenter(finite(), mean=0)
    with pytest.raises(ArgumentError, match=r"train2_iter_8000\.caffemodel"):
        Segmenter("deeplab-largefov")
    with pytest.raises(ArgumentError, match="not known"):
        Segmenter(weights=finite_weights)


def test_what_is_no_image_is_refused(finite_weights, tmp_path):
    segmenter = Segmenter(finite(), finite_weights, mean=0)
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="text file"):
        segmenter(tmp_path / "a.jpg")
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        segmenter(np.full((4, 5, 3), 7, np.float32))


def test_blobs_on_the_way_are_dropped(finite_weights):
    segmenter = Segmenter(finite(), finite_weights, mean=0)
    with pytest.raises(NameNotFoundError):
        segmenter.net.blobs["c1"]


def test_outputs_that_are_not_clear_must_be_named(folder):
    text = finite() + conv("other", "c2", 3)
    path = weights(text, folder / "two.caffemodel")
    with pytest.raises(ArgumentError, match="output="):
        Segmenter(text, path, mean=0)
    assert Segmenter(text, path, mean=0, output="other").classes == 3


def test_labels_alone_equal_those_of_the_whole_result(device, finite_weights):
    segmenter = Segmenter(finite(up=""), finite_weights, device, mean=MEAN, tile=49)
    sizes = [(33, 41), (33, 41), (33, 41), (20, 30), (20, 31), (33, 41), (90, 130)]
    images = [photo(*size, seed=i) for i, size in enumerate(sizes)]
    whole = Segmenter(finite(), finite_weights, mean=MEAN, tile=49)
    results = [whole(image) for image in images]
    for image, labels, result in zip(images, segmenter.stream(images), results, strict=True):
        assert labels.shape == image.shape[:2] and labels.dtype == np.uint8
        ordered = np.sort(result.scores, 0)
        clear = ordered[-1] - ordered[-2] > 1e-4
        assert clear.mean() > 0.95 and (labels == result.labels)[clear].all()
    assert np.array_equal(segmenter.labels(images[3]), segmenter(images[3]).labels)
    np.testing.assert_allclose(segmenter(images[6]).scores, results[6].scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_crf_on_the_device_is_the_cpus(device, finite_weights):
    options = {"mean": MEAN, "crf": {"iterations": 3, "exact": True}}
    ours, theirs = (Segmenter(finite(), finite_weights, where, **options) for where in (device, "cpu"))
    images = [photo(20, 30, seed=1), photo(20, 30, seed=2), photo(25, 22, seed=3)]
    expected = [theirs(image) for image in images]
    found = ours(images[0])
    np.testing.assert_allclose(found.probabilities, expected[0].probabilities, rtol=0, atol=1e-4)
    for labels, result in zip(ours.stream(images), expected, strict=True):
        ordered = np.sort(result.probabilities, 0)
        clear = ordered[-1] - ordered[-2] > 1e-3
        assert labels.dtype == np.uint8 and clear.mean() > 0.8 and (labels == result.labels)[clear].all()


def test_layers_of_other_forks_when_they_shift_with_the_image_are_cut_into_tiles_too():
    text = """input: "data" input_shape { dim: 1 dim: 3 dim: 48 dim: 48 }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
        layer { name: "d" type: "DepthwiseConvolution" bottom: "c" top: "d"
          convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
        layer { name: "h" type: "HardSwish" bottom: "d" top: "d" }
        layer { name: "s" type: "ShuffleChannel" bottom: "d" top: "s" shuffle_channel_param { group: 2 } }
        layer { name: "n" type: "Normalize" bottom: "s" top: "n" norm_param { across_spatial: false } }"""
    image = np.random.default_rng(0).integers(0, 256, (100, 110, 3)).astype(np.uint8)
    whole = Segmenter(text, mean=100, allow_missing=True)
    cut = Segmenter(text, mean=100, allow_missing=True, tile=64)
    np.testing.assert_allclose(cut(image)[2], whole(image)[2], rtol=1e-5, atol=1e-6)
    assert cut.net.blobs["data"].shape == (1, 3, 64, 64)
