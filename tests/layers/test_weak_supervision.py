"""The forks' weak-supervision layers against naive loops and the properties that they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special as sp

from atrouscaffe.errors import DataError, FileMissingError, LayerError, ShapeError
from atrouscaffe.layers.gain_channel import drift_threshold
from tests.check import check_layer
from tests.conftest import ORACLE
from tests.layers.one_layer import check_gradients, gradients, small_net
from tests.oracle_run import Case

SHAPE = (2, 4, 5, 7)


def layer(kind: str, options: str = "", bottoms: str = "x", top: str = "y") -> str:
    named = " ".join(f'bottom: "{name}"' for name in bottoms)
    return f'layer {{ name: "l" type: "{kind}" {named} top: "{top}" {options} }}'


def run(kind, options="", dialect="v1", **inputs):
    net = small_net(layer(kind, options, "".join(inputs)), inputs, force=False, dialect=dialect, seed=2)
    return net.forward()["y"]


def lists(*rows):
    """Label lists (N, max, 1, 1), filled up with -1."""
    longest = max(len(row) for row in rows)
    return np.array([list(row) + [-1] * (longest - len(row)) for row in rows], float)[:, :, None, None]


@pytest.mark.parametrize("kind, options", [
    ("AdaptiveBiasChannel", ""),
    ("GainChannel", 'gain_channel_param { gain_filler { type: "constant" value: 1 } num_output_nz: 2 }')])
def test_scores_without_pixels_are_refused(kind, options):
    inputs = {"x": np.ones((2, 4, 5, 0))} | ({"t": lists([0], [1])} if kind == "AdaptiveBiasChannel" else {})
    with pytest.raises(ShapeError, match="at least one value"):
        run(kind, options, **inputs)


# -- labels to labels -----------------------------------------------------------------------------

def test_unique_label_lists_each_images_labels():
    t = np.array([[3, 3, 255, 0], [2, 255, 255, 2]], float).reshape(2, 1, 2, 2)
    assert np.array_equal(run("UniqueLabel", "unique_label_param { max_labels: 4 ignore_label: 255 }", x=t),
                          lists([0, 3, -1, -1], [2]))
    assert np.array_equal(run("UniqueLabel", "unique_label_param { max_labels: 3 ignore_label: 255 ignore_label: 3 "
                              "force_label: 7 force_label: 2 }", x=t), lists([0, 2, 7], [2, 7]))
    with pytest.raises(DataError, match=r"image 0 has 3 labels \(0, 3, 255\).*max_labels 2"):
        run("UniqueLabel", "unique_label_param { max_labels: 2 }", x=t)
    with pytest.raises(LayerError, match="max_labels"):
        run("UniqueLabel", x=t)


def test_censor_label_keeps_listed_ones(rng):
    t = rng.integers(-1, 5, (2, 1, 5, 7)).astype(float)
    out = run("CensorLabel", "censor_label_param { ignore_label: 255 }", x=t, s=lists([1, 3], [4]))
    for image, allowed, found in zip(t, ([1, 3], [4]), out):
        assert found.ravel().tolist() == [value if value in allowed else 255 for value in image.ravel()]
    with pytest.raises(LayerError, match="ignore_label"):
        run("CensorLabel", x=t, s=lists([1], [2]))


def test_ignore_overlay():
    mask, t = np.array([[[[255, 1, 0]]]]), np.array([[[[2, 3, 255]]]])
    out = run("IgnoreOverlay", "ignore_overlay_param { ignore_label: 255 }", x=mask, t=t)
    assert out.tolist() == [[[[255, 3, 255]]]]


def test_histogram_counts_each_image_by_itself(rng):
    t = rng.integers(0, 5, (3, 1, 5, 7)).astype(float)
    t[1, 0, 2, 1:4] = 255
    out = run("Histogram", "histogram_param { num_labels: 6 ignore_label: 255 }", x=t)
    assert out.shape == (3, 6, 1, 1)
    assert np.array_equal(out[:, :, 0, 0], [[np.sum(image == c) for c in range(6)] for image in t])
    with pytest.raises(DataError, match="got 255 at image 1, row 2, column 1"):
        run("Histogram", "histogram_param { num_labels: 6 }", x=t)


def test_recorded_histogram_of_a_batch_is_the_sum_of_ours():
    case = Case(ORACLE / "cases" / "v1_histogram_batch")
    ours = run("Histogram", "histogram_param { num_labels: 5 }", x=case.arrays["in:label"])
    theirs = case.arrays["out:out"]
    assert np.array_equal(theirs[0], ours.sum(axis=0)) and not theirs[1:].any()


def test_one_hot_marks_listed_labels_and_leaves_fillers_out(rng):
    t = rng.integers(-1, 5, (2, 3, 5, 7)).astype(float)
    out = run("OneHot", "onehot_param { num_labels: 5 }", x=t)
    for n, row, column in np.ndindex(2, 5, 7):
        assert np.array_equal(np.nonzero(out[n, :, row, column])[0], sorted({*t[n, :, row, column]} - {-1}))
    assert set(np.unique(out)) == {0, 1}
    with pytest.raises(DataError, match="got 4"):
        run("OneHot", "onehot_param { num_labels: 4 }", x=t)


def test_dominant_channel(rng):
    x = rng.standard_normal(SHAPE) + np.array([0, 0.5, 0.4, 0.2]).reshape(1, 4, 1, 1)
    out = run("DominantChannel", "dominant_channel_param { top_k: 3 }", x=x)
    for image, found in zip(x, out[:, :, 0, 0]):
        order = np.argsort(-image, axis=0)
        key = {c: tuple(np.sum(order[rank] == c) for rank in range(3)) for c in range(4)}
        assert found.tolist() == sorted(range(4), key=lambda c: key[c], reverse=True)[:3]
    with pytest.raises(LayerError, match="top_k"):
        run("DominantChannel", "dominant_channel_param { top_k: 4 }", x=x)


# -- biases ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("background", [0, 2])
def test_bias_channel_by_image(background, rng):
    x, listed = rng.standard_normal(SHAPE), [[0, 2, 3], [1]]
    option = f"background_label: {background}" if background else ""
    out = run("BiasChannel", f"bias_channel_param {{ bg_bias: 0.5 fg_bias: 3 ignore_label: 3 {option} }}", "v2",
              x=x, s=lists(*listed))
    expected = x.copy()
    for n, labels in enumerate(listed):
        for label in set(labels) - {3}:
            expected[n, label] += 0.5 if label == background else 3
    np.testing.assert_allclose(out, expected, rtol=1e-14)


@pytest.mark.parametrize(("options", "background"), [("", None), ("bg_bias: 0.5", 0), ("background_label: 2", 2)])
def test_bias_channel_by_pixel(options, background, rng):
    x, t = rng.standard_normal(SHAPE), rng.integers(0, 4, (2, 1, 5, 7)).astype(float)
    t[0, 0, 1, 2:5] = 255
    options_text = f"bias_channel_param {{ label_type: PIXEL ignore_label: 255 {options} }}"
    net = small_net(layer("BiasChannel", options_text, "xt"), {"x": x, "t": t}, dialect="v2")
    dy = rng.standard_normal(SHAPE)
    assert np.array_equal(gradients(net, {"y": dy}, "x")["x"], dy)
    expected, bg_bias = x.copy(), 0.5 if "0.5" in options else 1
    for n, row, column in np.ndindex(2, 5, 7):
        label = int(t[n, 0, row, column])
        if label == 255:
            continue
        if background is not None:
            expected[n, background, row, column] += bg_bias
        if label != background:
            expected[n, label, row, column] += 2
    np.testing.assert_allclose(net.blobs["y"].data, expected, rtol=1e-14)


def test_recorded_background_label_with_image_labels_differs_only_in_the_background():
    case = Case(ORACLE / "cases" / "v2_biaschannel_bglabel_image")
    x, labels, theirs = (case.arrays[key] for key in ("out:x", "in:label", "out:out"))
    ours = run("BiasChannel", "bias_channel_param { bg_bias: 1.5 fg_bias: 2.5 background_label: 3 }", "v2",
               x=x, s=labels)
    swapped = ours.copy()
    swapped[0, 0] += 1.5 - 2.5  # label 0 is a foreground class here, the background there
    swapped[1, 3] += 2.5 - 1.5
    np.testing.assert_allclose(swapped, theirs, rtol=1e-6, atol=1e-6)


def test_bias_channel_checks(rng):
    x = rng.standard_normal(SHAPE)
    with pytest.raises(DataError, match="label list.*got 4"):
        run("BiasChannel", x=x, s=lists([1, 2], [4]))
    with pytest.raises(LayerError, match="fg_bias"):
        run("BiasChannel", "bias_channel_param { fg_bias: -1 }", x=x, s=lists([1], [2]))
    with pytest.raises(LayerError, match="background_label"):
        run("BiasChannel", "bias_channel_param { background_label: 4 }", x=x, s=lists([1], [2]))
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        run("BiasChannel", x=x, s=np.zeros((2, 1, 5, 7)))


def wins(scores, label):
    """Share of the pixels at which `label` is a largest channel."""
    return np.mean(scores[label] >= scores.max(axis=0) - 1e-9)


def check_adapted(x, y, labels, portions):
    """What the layer promises for an image with labels."""
    assert abs(y[labels].max(axis=0).mean() - x[labels].max(axis=0).mean()) < 1e-5  # the mean maximum stays
    for label in labels:  # the label's scores have moved by one constant
        assert np.ptp(y[label] - x[label]) < 1e-4
    last = [label for label in labels if wins(y, label) >= portions[label]]
    assert last, "the label whose turn was the last wins its portion"
    others = [c for c in range(len(x)) if c not in labels]
    if others:
        assert np.all(y[others].max(axis=0) <= y[labels].max(axis=0))


@pytest.mark.parametrize("rounds", [1, 4])
def test_adaptive_bias_channel(rounds, rng):
    x = rng.standard_normal((3, 5, 7, 11))
    options = f"adaptive_bias_channel_param {{ num_iter: {rounds} bg_portion: 0.4 fg_portion: 0.25 }}"
    y = run("AdaptiveBiasChannel", options, x=x, s=lists([0, 2, 4], [], [3]))
    assert np.array_equal(y[1], x[1])
    for n, labels in ((0, [0, 2, 4]), (2, [3])):
        check_adapted(x[n], y[n], labels, {0: 0.4, 2: 0.25, 3: 0.25, 4: 0.25})


def test_adaptive_bias_channel_with_two_labels_is_the_papers_rule(rng):
    x = rng.standard_normal((1, 3, 5, 7))
    y = run("AdaptiveBiasChannel", "adaptive_bias_channel_param { bg_portion: 0.4 fg_portion: 0.2 "
            "suppress_others: false }", x=x, s=lists([0, 2]))
    scores, m = x[0].reshape(3, -1).copy(), np.maximum(x[0, 0], x[0, 2]).ravel()
    mean = m.mean()
    for label, portion in ((0, 0.4), (2, 0.2)):
        scores[label] += sorted(m - scores[label])[int(portion * 35)]
        m = np.maximum(m, scores[label])
    np.testing.assert_allclose(y[0].reshape(3, -1), scores + mean - m.mean(), rtol=1e-12)


def test_adaptive_bias_channel_takes_whole_portions():
    x = np.arange(12.0).reshape(1, 2, 2, 3)
    y = run("AdaptiveBiasChannel", "adaptive_bias_channel_param { bg_portion: 1 fg_portion: 1 }", x=x, s=lists([0, 1]))
    assert np.isfinite(y).all() and wins(y[0], 1) == 1


def test_adaptive_bias_channel_repeats_with_the_seed(rng):
    x, s = rng.standard_normal((1, 8, 7, 11)), lists([1, 2, 3, 4, 5, 6, 7])
    nets = [small_net(layer("AdaptiveBiasChannel", "", "xs"), {"x": x, "s": s}, force=False, seed=seed)
            for seed in (5, 5, 6)]
    first, second, third = (net.forward()["y"] for net in nets)
    assert np.array_equal(first, second) and not np.array_equal(first, third)


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_recorded_adaptive_bias_of_many_labels_promises_the_same(dialect, monkeypatch):
    folder = ORACLE / "cases" / f"{dialect}_adaptivebias_multi_random"
    monkeypatch.chdir(folder)
    case = Case(folder)
    net = case.net(seed=1)
    net.forward()
    x = case.arrays["in:data"]
    for y in (net.blobs["out"].data, case.arrays["out:out"]):
        for n, listed in enumerate(case.arrays["in:label"].reshape(len(x), -1)):
            labels = sorted(int(label) for label in listed if label >= 0)
            check_adapted(x[n], y[n], labels, dict.fromkeys(range(4), 0.2))


@pytest.mark.parametrize("options", ["num_iter: 0", "num_iter: 2147483647", "bg_portion: 1.5", "fg_portion: -0.1",
                                     "margin_others: -1"])
def test_adaptive_bias_channel_names_bad_options(options):
    with pytest.raises(LayerError, match=options.split(":")[0]):
        run("AdaptiveBiasChannel", f"adaptive_bias_channel_param {{ {options} }}", x=np.zeros(SHAPE), s=lists([1], [2]))


# -- channels -------------------------------------------------------------------------------------

def test_channel_aggregator(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.txt").write_text("0 2\n1\n3 3 0\n")
    x = rng.standard_normal(SHAPE)
    net = small_net(layer("ChannelAggregator", 'channel_aggregator_param { label_map_file: "map.txt" }'), {"x": x},
                    dialect="v1")
    net.forward()
    expected = [sp.logsumexp(x[:, group], axis=1) for group in ([0, 2], [1], [3, 3, 0])]
    np.testing.assert_allclose(net.blobs["y"].data, np.stack(expected, 1), rtol=1e-12)
    check_gradients(net, "x")


@pytest.mark.parametrize(("content", "error", "told"), [
    (None, FileMissingError, "map.txt"), ("0 1\n\n", DataError, "map.txt:2"), ("0\nx 1\n", DataError, "map.txt:2"),
    ("", DataError, "empty"), ("0 4\n", DataError, "0 to 3"), ("-1\n", DataError, "map.txt:1")])
def test_channel_aggregator_names_bad_maps(content, error, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "map.txt").write_text(content)
    with pytest.raises(error, match=told):
        run("ChannelAggregator", 'channel_aggregator_param { label_map_file: "map.txt" }', x=np.zeros(SHAPE))


GAIN = 'gain_channel_param { num_output_nz: 2 gain_filler { type: "constant" value: 1 } %s }'


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
def test_gain_channel_without_projection_is_a_scale(in_place, rng):
    top = "h" if in_place else "y"
    net = small_net('layer { name: "p" type: "Power" bottom: "x" top: "h" }'
                    + layer("GainChannel", GAIN % "norm_mean: false", "h", top), {"x": rng.standard_normal(SHAPE)},
                    dialect="v1")
    net.params["l"][0].data[...] = rng.uniform(0.5, 2, (1, 4, 1, 1))
    net.forward()
    np.testing.assert_allclose(net.blobs[top].data, net.blobs["x"].data * net.params["l"][0].data, rtol=1e-13)
    check_gradients(net, ["x", "l:0"], [top])


def test_gain_channel_puts_gains_in_order_and_drifts_small_ones(rng):
    x, dy = rng.standard_normal((2, *SHAPE))
    net = small_net(layer("GainChannel", GAIN % "drift: 0.25 thresh: 0.125"), {"x": x}, dialect="v1")
    net.params["l"][0].data[...] = np.array([-3, 2, 0.5, 1]).reshape(1, 4, 1, 1)
    found = gradients(net, {"y": dy}, ["x", "l:0"])
    gain = np.array([0.125, 2, 0.5, 1]) / (3.625 / 4)
    np.testing.assert_allclose(net.params["l"][0].data.ravel(), gain, rtol=1e-13)
    np.testing.assert_allclose(found["x"], dy * gain.reshape(1, 4, 1, 1), rtol=1e-12)
    expected = (x * dy).sum(axis=(0, 2, 3)) + 0.25 * (gain < drift_threshold(gain.tolist(), 2))
    np.testing.assert_allclose(found["l:0"].ravel(), expected - expected.mean(), rtol=1e-10, atol=1e-12)
    before = net.params["l"][0].diff.copy()
    net.backward()
    np.testing.assert_allclose(net.params["l"][0].diff, 2 * before)


def test_gain_channel_noise_has_its_deviation():
    net = small_net(layer("GainChannel", GAIN % "stdev: 0.5 norm_mean: false"), {"x": np.zeros((1, 4000, 1, 1))},
                    dialect="v1", seed=3)
    noise = gradients(net, {"y": 1.0}, ["l:0"])["l:0"]
    assert abs(noise.std() - 0.5) < 0.03 and abs(noise.mean()) < 0.04


@pytest.mark.parametrize(("gains", "kept", "recorded"), [  # what std::nth_element of libstdc++ 12 leaves there
    ([0.42913866, 1.9866309, 0.05, 1.8672161, 0.05], 2, 1.9866309),
    ([0.14, 0.15, 3.0, 1.96, 0.7, 1.3, 2.92], 3, 3.0),
    ([0.68, 2.69, 2.62, 0.06, 2.12, 0.0, 1.51, 1.31, 0.61, 0.97, 2.42, 0.95], 5, 2.12),
    ([2.02, 2.05, 1.39, 0.67, 1.92, 0.32, 2.08, 1.91, 1.13, 2.4, 0.58, 1.17, 2.39, 1.14, 2.14, 1.84, 2.82, 2.98,
     2.17, 2.43, 0.46], 6, 2.43),
    ([2.14, 2.54, 1.2, 1.66, 1.44, 2.88, 0.95, 1.21, 0.0, 1.26, 1.89, 2.8, 2.77, 0.98, 2.97, 0.56, 2.47, 0.47, 1.22,
     0.22, 2.57], 10, 1.89)])
def test_drift_threshold_is_the_originals(gains, kept, recorded):
    assert drift_threshold(gains, kept) == recorded


def test_drift_threshold_is_one_of_the_largest(rng):
    for size in range(1, 40):
        gains = rng.integers(0, 9, size).astype(float).tolist()
        for kept in range(1, size + 1):
            assert drift_threshold(gains, kept) in sorted(gains, reverse=True)[:kept]
    assert np.isnan(drift_threshold([1.0, float("nan"), 2.0, 3.0, 0.5], 2))


@pytest.mark.parametrize("options", [GAIN % "drift: -1", GAIN % "stdev: -1", GAIN % "thresh: 0",
                                     GAIN.replace("nz: 2", "nz: 5") % "", "gain_channel_param { num_output_nz: 1 }"])
def test_gain_channel_names_bad_options(options):
    with pytest.raises(LayerError, match="gain_channel_param"):
        run("GainChannel", options, x=np.zeros(SHAPE))


@pytest.mark.parametrize("kind", ["IMAGE", "PIXEL"])
def test_bias_channel_passes_gradients_on(kind, rng):
    labels = lists([0, 2], [1]) if kind == "IMAGE" else rng.integers(0, 4, (2, 1, 5, 7))
    check_layer('layer { name: "l" type: "BiasChannel" bottom: "x" bottom: "s" top: "y" '
                f"bias_channel_param {{ label_type: {kind} }} }}",
                {"x": rng.standard_normal(SHAPE), "s": labels}, dialect="v2", constant=("s",))
