"""Net's public face: constructors, passes, gradients, weights, as pycaffe's users know them."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.errors import (
    ArgumentError,
    BudgetError,
    FileAccessError,
    GraphError,
    NameNotFoundError,
    ShapeError,
    WeightsError,
)
from atrouscaffe.formats.caffemodel import write_caffemodel

TEXT = """
name: "small"
input: "data" input_shape { dim: 2 dim: 3 dim: 5 dim: 7 }
force_backward: true
layer { name: "c1" type: "Convolution" bottom: "data" top: "x"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "r1" type: "ReLU" bottom: "x" top: "x" }
layer { name: "c2" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "c3" type: "Convolution" bottom: "x" top: "z"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "s" type: "Eltwise" bottom: "y" bottom: "z" top: "out" }
"""


@pytest.fixture
def prototxt(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def weights(prototxt, tmp_path):
    path = tmp_path / "net.caffemodel"
    Net(prototxt, TEST, seed=5).save(path)
    return str(path)


@pytest.fixture
def data(rng):
    return rng.standard_normal((2, 3, 5, 7)).astype(np.float32)


def reference(net, data):
    """The net's output by plain sums over taps, in float64."""
    def conv(x, name, pad):
        weight, bias = (blob.data.astype(np.float64) for blob in net.params[name])
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        k = weight.shape[2]
        out = 0
        for i in range(k):
            for j in range(k):
                patch = x[:, :, i:x.shape[2] - k + 1 + i, j:x.shape[3] - k + 1 + j]
                out = out + np.einsum("oc,nchw->nohw", weight[:, :, i, j], patch)
        return out + bias[:, None, None]

    x = np.maximum(conv(data.astype(np.float64), "c1", 1), 0)
    return conv(x, "c2", 0) + conv(x, "c3", 0)


@pytest.mark.parametrize("how", ["weights, phase", "phase, weights=", "phase=, weights=", "list", "Path"])
def test_constructors_of_pycaffe_load_the_same_net(prototxt, weights, data, how, tmp_path):
    net = {"weights, phase": lambda: Net(prototxt, weights, TEST),
           "phase, weights=": lambda: Net(prototxt, TEST, weights=weights),
           "phase=, weights=": lambda: Net(prototxt, phase=TEST, weights=weights),
           "list": lambda: Net(prototxt, [weights, weights], TEST),
           "Path": lambda: Net(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", TEST)}[how]()
    assert net.phase == TEST
    out = net.forward(data=data)
    assert list(out) == ["out"] == net.outputs
    np.testing.assert_allclose(out["out"], reference(net, data), atol=1e-5)


def test_names_are_those_of_pycaffe(prototxt):
    net = Net(prototxt, TRAIN)
    assert net.inputs == ["data"]
    assert list(net.blobs) == ["data", "x", "y", "z", "out"]
    assert list(net.params) == ["c1", "c2", "c3"]
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "ReLU", "Convolution", "Convolution",
                                                    "Eltwise"]
    assert net.layer_dict["c1"].blobs[0].data.shape == (4, 3, 3, 3)
    assert net.top_names["r1"] == net.bottom_names["r1"] == ["x"]
    assert net.params["c1"][1].data.shape == (4,)


def test_what_was_last_written_to_an_input_is_what_runs(prototxt, data, device):
    net = Net(prototxt, TEST, seed=1, device=device)
    net.blobs["data"].data[...] = data
    first = net.forward()["out"].copy()
    np.testing.assert_allclose(first, reference(net, data), atol=1e-5)
    np.testing.assert_array_equal(net.forward()["out"], first)


def test_forward_in_parts_equals_forward_at_once(prototxt, data, device):
    net = Net(prototxt, TEST, seed=1, device=device)
    whole = net.forward(data=data)["out"].copy()
    net.blobs["out"].data[...] = 0
    assert list(net.forward(end="r1", data=data)) == ["x"]
    assert list(net.forward(start="c2", blobs=["y"])) == ["out", "y"]
    np.testing.assert_array_equal(net.blobs["out"].data, whole)


def test_reshape_of_an_input_reshapes_all(prototxt, rng, device):
    net = Net(prototxt, TEST, seed=1, device=device)
    data = rng.standard_normal((1, 3, 9, 4)).astype(np.float32)
    net.blobs["data"].reshape(*data.shape)
    net.reshape()
    assert net.blobs["out"].data.shape == (1, 3, 9, 4)
    np.testing.assert_allclose(net.forward(data=data)["out"], reference(net, data), atol=1e-5)


def test_reshape_that_fails_is_refused_again_by_the_next_pass_and_can_be_undone(prototxt, data, device):
    net = Net(prototxt, TEST, seed=1, device=device)
    whole = net.forward(data=data)["out"].copy()
    net.blobs["data"].reshape(1, 2, 9, 4)
    for run in (net.reshape, net.forward, net.forward):
        with pytest.raises(ShapeError, match="expected \\(4, 3, 3, 3\\)"):
            run()
    net.blobs["data"].reshape(*data.shape)
    np.testing.assert_array_equal(net.forward(data=data)["out"], whole)


@pytest.mark.parametrize("layer", [
    'type: "Dropout" bottom: "x" top: "x"', 'type: "Scale" bottom: "x" top: "x"', 'type: "PReLU" bottom: "x" top: "x"',
    'type: "MVN" bottom: "x" top: "y"', 'type: "BatchNorm" bottom: "x" top: "y"',
    'type: "SigmoidCrossEntropyLoss" bottom: "x" bottom: "data" top: "y"'])
def test_backward_without_a_forward_in_these_shapes_is_refused(layer, device):
    net = Net('force_backward: true input: "data" input_shape { dim: 2 dim: 3 dim: 5 } layer { name: "p" type: "Power" '
              f'bottom: "data" top: "x" }} layer {{ name: "l" {layer} }}', TRAIN, seed=1, device=device)
    with pytest.raises(GraphError, match="layer 'l'.*needs a forward pass"):
        net.backward()
    net.forward(data=np.ones((2, 3, 5)))
    net.backward()
    net.blobs["data"].reshape(4, 3, 5)
    with pytest.raises(GraphError, match="needs a forward pass"):
        net.backward()
    net.forward(data=np.ones((4, 3, 5)))
    net.backward()


def test_reshape_above_the_budget_is_refused_again_by_the_next_pass(prototxt, data):
    net = Net(prototxt, TEST, seed=1, memory_budget=2**20)
    net.blobs["data"].reshape(1, 3, 500, 500)
    for run in (net.reshape, net.forward):
        with pytest.raises(BudgetError):
            run()
    net.blobs["data"].reshape(*data.shape)
    assert net.forward(data=data)["out"].shape == (2, 3, 5, 7)


def test_backward_starts_from_written_diffs_and_adds_to_parameters(prototxt, data, rng, device):
    net = Net(prototxt, TEST, seed=1, dtype=np.float64, device=device)
    top = rng.standard_normal((2, 3, 5, 7))
    net.forward(data=data)
    net.blobs["out"].diff[...] = top
    assert list(net.backward()) == ["data"]
    once = net.params["c1"][0].diff.copy()
    net.blobs["out"].diff[...] = top
    net.backward()
    np.testing.assert_allclose(net.params["c1"][0].diff, 2 * once)
    net.clear_param_diffs()
    assert not net.params["c1"][0].diff.any()

    def objective():
        return float((net.forward()["out"] * top).sum())

    data_gradient = net.blobs["data"].diff.copy()
    net.forward()
    net.backward(out=top)
    bias_gradient = net.params["c1"][1].diff.copy()
    for blob, gradient in [(net.blobs["data"], data_gradient), (net.params["c1"][0], once),
                           (net.params["c1"][1], bias_gradient)]:
        index = tuple(n // 2 for n in blob.shape)
        blob.data[index] += 1e-6
        above = objective()
        blob.data[index] -= 2e-6
        below = objective()
        blob.data[index] += 1e-6
        assert (above - below) / 2e-6 == pytest.approx(gradient[index], rel=1e-5, abs=1e-7)


def test_loss_tops_start_from_their_weight(device):
    text = """
    input: "s" input_shape { dim: 2 dim: 3 } input: "label" input_shape { dim: 2 }
    layer { name: "ip" type: "InnerProduct" bottom: "s" top: "p"
            inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "p" bottom: "label" top: "loss" loss_weight: 2 }
    """
    net = Net(text, TRAIN, seed=1, device=device)
    net.forward(s=np.eye(2, 3), label=np.array([0, 2]))
    assert net.blobs["loss"].diff == 2
    assert net.loss == pytest.approx(2 * float(net.blobs["loss"].data))
    net.backward()
    doubled = net.params["ip"][0].diff.copy()
    net.clear_param_diffs()
    net.blobs["loss"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.params["ip"][0].diff, doubled / 2, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".caffemodel", ".caffemodel.h5"])
def test_save_and_copy_from_give_the_same_numbers(prototxt, tmp_path, suffix, device):
    one, two = Net(prototxt, TEST, seed=1, device=device), Net(prototxt, TEST, seed=2, device=device)
    one.save(tmp_path / f"w{suffix}")
    report = two.copy_from(tmp_path / f"w{suffix}")
    assert report.complete and report.loaded == ["c1", "c2", "c3"]
    for name in one.params:
        for a, b in zip(one.params[name], two.params[name]):
            np.testing.assert_array_equal(a.data, b.data)


SHARING = """
input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 5 }
layer { name: "a" type: "Convolution" bottom: "x" top: "y" param { name: "w" }
        convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "b" type: "Convolution" bottom: "y" top: "z" param { name: "w" }
        convolution_param { num_output: 2 kernel_size: 1 } }
"""


def test_hdf5_of_caffe_leaves_out_shared_blobs(tmp_path):
    path, weight = tmp_path / "w.caffemodel.h5", np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1)
    with h5py.File(path, "w") as file:  # as Net::ToHDF5 writes it
        file["data/a/0"], file["data/a/1"], file["data/b/1"] = weight, np.float32([3, 5]), np.float32([7, 11])
    net = Net(SHARING, TEST, weights=path)
    assert net.reports[0].complete and net.reports[0].loaded == ["a", "b"]
    np.testing.assert_array_equal(net.params["b"][0].data, weight)
    np.testing.assert_array_equal(net.params["b"][1].data, [7, 11])
    with pytest.raises(WeightsError, match=r"b: expected 2 blobs, got 1 \(number 1\)"):
        Net(SHARING.replace('"w"', '"v"', 1), TEST, weights=path)


TWICE = """
input: "data" input_shape { dim: 1 dim: 2 dim: 5 dim: 7 }
layer { name: "c" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "b" }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "d" }
"""


def fill(net: Net, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Give every parameter of a net values; return them by layer."""
    blobs = [layer.blobs for layer in net.layers if len(layer.blobs)]
    for blob in (blob for layer in blobs for blob in layer):
        blob.data[...] = rng.standard_normal(blob.shape)
    return [[blob.data.copy() for blob in layer] for layer in blobs]


def test_a_name_that_repeats_finds_the_last_layer_and_its_weights_go_to_the_first(tmp_path, rng, capsys):
    one = TWICE.replace('"c" type: "Convolution" bottom: "b"', '"last" type: "Convolution" bottom: "b"')
    path = tmp_path / "one.caffemodel"
    stored = Net(one, TEST)
    values = fill(stored, rng)
    text = stored._as_run()
    write_caffemodel(path, dataclasses.replace(text, layers=text.layers[:3]), {"c": values[0]})
    net = Net(TWICE, TEST, seed=1)
    assert [blob.shape for blob in net.params["c"]] == [(2, 3, 1, 1), (2,)] and len(net.params) == 1
    assert net.layer_dict["c"].blobs is net.params["c"] and net.top_names["r"] == ["d"]
    assert list(net.forward(end="r")) == ["b"]  # as in pycaffe, passes end at the first of the name
    untouched = net.params["c"][0].data.copy()
    report = net.copy_from(path)
    assert report.loaded == ["c"] and report.repeated == ["c"] and "an earlier layer" in capsys.readouterr().err
    np.testing.assert_array_equal(net.layers[1].blobs[0].data, values[0][0])
    np.testing.assert_array_equal(net.params["c"][0].data, untouched)


def test_layers_of_one_name_are_saved_loaded_and_shared_each_for_itself(tmp_path, rng, data):
    net = Net(TWICE, TEST)
    values = fill(net, rng)
    net.save(tmp_path / "both.caffemodel")
    for other in (Net(TWICE, TEST, weights=tmp_path / "both.caffemodel"), Net(TWICE, TEST)):
        if not other.reports:
            other.share_with(net)
        for layer, wanted in zip((other.layers[1], other.layers[3]), values):
            for blob, array in zip(layer.blobs, wanted):
                np.testing.assert_array_equal(blob.data, array)
    with pytest.raises(WeightsError, match="'c' is there more than once: write a .caffemodel"):
        net.save(tmp_path / "both.h5")
    with pytest.raises(WeightsError, match="1 duplicate"):
        Net(TWICE.replace('"c" type: "Convolution" bottom: "b"', '"e" type: "Convolution" bottom: "b"'), TEST,
            weights=tmp_path / "both.caffemodel")


def test_random_streams_of_layers_of_one_name_are_resumed_each_for_itself():
    text = """input: "x" input_shape { dim: 2 dim: 3 dim: 5 dim: 7 }
    layer { name: "d" type: "Dropout" bottom: "x" top: "y" } layer { name: "d" type: "Dropout" bottom: "x" top: "z" }"""
    net, other = Net(text, TRAIN, seed=1), Net(text, TRAIN, seed=2)
    net.blobs["x"].data[...] = other.blobs["x"].data[...] = 1
    assert len(net.state()) == 3
    other.set_state(net.state())
    theirs = other.forward()
    for name, array in net.forward().items():
        np.testing.assert_array_equal(theirs[name], array)


def test_forward_up_to_a_layer_reshapes_only_what_runs(rng):
    """Caffe reshapes a layer in that layer's own forward pass (``Layer::Forward``)."""
    text = """input: "data" input_shape { dim: 1 dim: 1 dim: 9 dim: 9 } force_backward: true
    layer { name: "early" type: "Convolution" bottom: "data" top: "early"
      convolution_param { num_output: 2 kernel_size: 3 } }
    layer { name: "in place" type: "ReLU" bottom: "early" top: "early" }
    layer { name: "late" type: "Pooling" bottom: "early" top: "late"
      pooling_param { pool: AVE kernel_size: 7 stride: 1 } }"""
    net = Net(text, TEST)
    fill(net, rng)
    net.blobs["data"].reshape(1, 1, 5, 6)
    net.blobs["data"].data[...] = x = rng.standard_normal((1, 1, 5, 6))
    early = net.forward(end="early")["early"]
    assert early.shape == (1, 2, 3, 4) and net.blobs["late"].shape == (1, 2, 1, 1)
    windows = np.lib.stride_tricks.sliding_window_view(x[0, 0], (3, 3))
    weight, bias = (blob.data for blob in net.params["early"])
    np.testing.assert_allclose(early[0], np.einsum("yxab,kab->kyx", windows, weight[:, 0]) + bias[:, None, None],
                               rtol=1e-4, atol=1e-5)
    net.blobs["early"].diff[...] = 1
    assert net.backward(start="early")["data"].shape == (1, 1, 5, 6)
    with pytest.raises(ShapeError, match="'late'"):
        net.forward()
    net.blobs["data"].reshape(1, 1, 10, 11)
    net.forward(end="in place")
    assert net.forward()["late"].shape == (1, 2, 2, 3)


def test_missing_mismatched_and_unused_layers_are_told(weights, capsys):
    text = TEXT.replace('"c2"', '"new"').replace("num_output: 4", "num_output: 5")
    with pytest.raises(WeightsError) as caught:
        Net(text, TEST, weights=weights)
    for words in ("1 missing", "new: not in the file", "c1: blob 0: expected (5, 3, 3, 3), got (4, 3, 3, 3)",
                  "c2: not in the net", "allow_missing"):
        assert words in str(caught.value)
    net = Net(text, TEST, weights=weights, allow_missing=True)
    assert net.reports[0].missing == ["new"]
    assert [name for name, _ in net.reports[0].mismatched] == ["c1", "c3"]
    assert net.reports[0].unused == ["c2"]
    assert "missing     new" in capsys.readouterr().err


def test_nothing_is_copied_when_something_does_not_fit(weights):
    net = Net(TEXT.replace('"c3"', '"other"'), TEST, seed=9)
    before = net.params["c1"][0].data.copy()
    with pytest.raises(WeightsError):
        net.copy_from(weights)
    np.testing.assert_array_equal(net.params["c1"][0].data, before)


def test_weights_for_layers_that_the_net_lacks_are_no_error(weights):
    cut = TEXT[:TEXT.index('layer { name: "s"')].replace('"c3"', '"c2b"', 0)
    net = Net(cut[:cut.index('layer { name: "c3"')], TEST, weights=weights)
    assert net.reports[0].unused == ["c3"]


def test_share_with_uses_the_same_memory(prototxt, device):
    one, two = Net(prototxt, TEST, seed=1, device=device), Net(prototxt, TEST, seed=2, device=device)
    two.share_with(one)
    one.params["c1"][0].data[...] = 7
    assert (two.params["c1"][0].data == 7).all()


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_share_with_a_net_on_another_device_is_refused(prototxt, device):
    with pytest.raises(ArgumentError, match="expected a net on device 'cpu', got one on 'cuda:0'"):
        Net(prototxt, TEST).share_with(Net(prototxt, TEST, device=device))


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
@pytest.mark.parametrize("how", ["copy_from", "data", "share_with", "data of a sharer"])
def test_weights_that_change_are_used_in_half_precision_too(prototxt, data, tmp_path, how, device):
    """Half weights are kept between passes; whoever changes the weights must be heard of."""
    net, source = (Net(prototxt, TEST, seed=seed, device=device, precision="fp16") for seed in (1, 2))
    if how == "data of a sharer":
        net.share_with(source)
    before = net.forward(data=data)["out"].copy()
    if how == "copy_from":
        source.save(tmp_path / "w.caffemodel")
        net.copy_from(tmp_path / "w.caffemodel")
    elif how == "share_with":
        net.share_with(source)
    else:
        for blobs in source.params.values():
            for blob in blobs:
                blob.data[...] *= 2
        if how == "data":
            for name, blobs in net.params.items():
                for blob, theirs in zip(blobs, source.params[name]):
                    blob.data[...] = theirs.data
    after = net.forward(data=data)["out"]
    np.testing.assert_allclose(after, source.forward(data=data)["out"], rtol=1e-6)
    assert np.abs(after - before).max() > 0.1 * np.abs(before).max()


def test_forward_all_runs_more_rows_than_a_batch(prototxt, rng, device):
    net = Net(prototxt, TEST, seed=1, device=device)
    rows = rng.standard_normal((5, 3, 5, 7)).astype(np.float32)
    out = net.forward_all(data=rows, blobs=["x"])
    assert out["out"].shape == (5, 3, 5, 7) and out["x"].shape == (5, 4, 5, 7)
    np.testing.assert_allclose(out["out"], reference(net, rows), atol=1e-5)
    blobs, diffs = net.forward_backward_all(data=rows, out=np.ones_like(out["out"]))
    np.testing.assert_array_equal(blobs["out"], out["out"])
    assert diffs["data"].shape == rows.shape


def test_wrong_names_and_shapes_are_explained(prototxt, data):
    net = Net(prototxt, TEST)
    with pytest.raises(KeyError, match="nearest name is 'data'"):
        net.blobs["dta"]
    with pytest.raises(KeyError, match="no layer with parameters 'r1'"):
        net.params["r1"]
    with pytest.raises(NameNotFoundError, match="nearest name is 'c1'"):
        net.forward(end="c11")
    with pytest.raises(ArgumentError, match="no input image"):
        net.forward(image=data)
    with pytest.raises(ShapeError, match=r"expected shape \(2, 3, 5, 7\), got \(1, 3, 5, 7\)"):
        net.forward(data=data[:1])
    with pytest.raises(ArgumentError, match="phase"):
        Net(prototxt, 2)
    for weights in (5, ["a.caffemodel", None]):
        with pytest.raises(ArgumentError, match="expected a path or a list of paths"):
            Net(prototxt, weights=weights)
    with pytest.raises(ArgumentError, match="float32 or float64, got int32"):
        Net(prototxt, dtype="int32")
    with pytest.raises(FileAccessError, match="zero byte|null byte|null character"):
        Net("a\0b", TEST)
    with pytest.raises(ArgumentError, match="weight file or a phase"):
        Net(prototxt, 1.5)


def test_arrays_outlive_their_net(prototxt, data, device):
    import gc

    net = Net(prototxt, TEST, seed=1, device=device)
    out, weight = net.forward(data=data)["out"], net.params["c1"][0].data
    copies = out.copy(), weight.copy()
    del net
    gc.collect()
    np.testing.assert_array_equal(out, copies[0])
    np.testing.assert_array_equal(weight, copies[1])


def test_results_do_not_depend_on_the_number_of_threads(prototxt, data):
    from atrouscaffe.runtime.threads import set_num_threads

    results = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        try:
            net = Net(prototxt, TEST, seed=1)
            net.forward(data=data)
            net.backward(out=np.ones((2, 3, 5, 7)))
            results.append([net.blobs["out"].data.copy(), net.blobs["data"].diff.copy(),
                            net.params["c1"][0].diff.copy()])
        finally:
            set_num_threads(None)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)
