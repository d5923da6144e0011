"""caffe.Net: constructors, names, passes, memory, weights, callbacks, errors."""

from __future__ import annotations

import gc
from collections import OrderedDict

import numpy as np
import pytest

import atrouscaffe.pycaffe as caffe
from atrouscaffe.errors import FileMissingError, PrototxtError, WeightsError
from atrouscaffe.runtime import cuda
from tests.pycaffe.nets import DEPLOY, simple


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(simple())
    return str(path)


@pytest.fixture
def net(net_file, rng):
    net = caffe.Net(net_file, caffe.TRAIN)
    net.blobs["label"].data[...] = rng.integers(6, size=net.blobs["label"].data.shape)
    return net


@pytest.fixture
def deploy(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(DEPLOY)
    return caffe.Net(str(path), caffe.TEST)


def test_arrays_stay_valid_when_the_net_is_gone(net):
    blobs, params = list(net.blobs.values()), [blob for blobs in net.params.values() for blob in blobs]
    net.forward()
    net.backward()
    before = [blob.data.copy() for blob in blobs + params] + [blob.diff.copy() for blob in blobs + params]
    arrays = [blob.data for blob in blobs + params] + [blob.diff for blob in blobs + params]
    del net, blobs, params
    gc.collect()
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy)


def test_names_of_layers_blobs_inputs_and_outputs(net):
    assert list(net._layer_names) == ["source", "conv", "ip", "loss"]
    assert list(net._blob_names) == list(net.blobs) == ["image", "label", "maps", "scores", "loss"]
    assert list(net.layer_dict) == net._layer_names
    assert [net.layer_dict[name].type for name in net._layer_names] == [layer.type for layer in net.layers]
    assert net.inputs == [] and net.outputs == ["loss"]
    assert net.top_names == OrderedDict([("source", ["image", "label"]), ("conv", ["maps"]), ("ip", ["scores"]),
                                         ("loss", ["loss"])])
    assert net.bottom_names == OrderedDict([("source", []), ("conv", ["image"]), ("ip", ["maps"]),
                                            ("loss", ["scores", "label"])])
    assert net.blob_loss_weights == OrderedDict(image=0, label=0, maps=0, scores=0, loss=1)
    assert list(net.params) == ["conv", "ip"]
    assert net.layers[1].blobs[0].data is net.params["conv"][0].data
    assert net._outputs == [4] and net._inputs == [] and net._bottom_ids(3) == [3, 1] and net._top_ids(0) == [0, 1]
    assert net._blobs[2] is net.blobs["maps"]


def test_blobs_have_the_properties_of_the_original(net):
    blob = net.blobs["image"]
    assert list(blob.shape) == [3, 2, 5, 7] and (blob.num, blob.channels, blob.height, blob.width) == (3, 2, 5, 7)
    assert blob.count == 210 and blob.data.dtype == blob.diff.dtype == np.float32
    blob.reshape(2, 3)
    assert blob.data.shape == (2, 3)


def test_forward_of_one_layer_reads_what_was_written(net, rng):
    net.blobs["maps"].data[...] = rng.random(net.blobs["maps"].data.shape)
    out = net.forward(start="ip", end="ip")
    assert list(out) == ["scores"]
    rows = net.blobs["maps"].data.reshape(3, -1).astype(np.float64)
    expected = rows @ net.params["ip"][0].data.T.astype(np.float64) + net.params["ip"][1].data
    np.testing.assert_allclose(out["scores"], expected, rtol=1e-4)


def test_backward_of_one_layer_reads_what_was_written(net, rng):
    net.blobs["scores"].diff[...] = rng.random(net.blobs["scores"].diff.shape)
    out = net.backward(start="ip", end="ip", diffs=["scores"])
    assert set(out) == {"maps", "scores"}
    expected = net.blobs["scores"].diff.astype(np.float64) @ net.params["ip"][0].data
    np.testing.assert_allclose(out["maps"].reshape(3, -1), expected, rtol=1e-4, atol=1e-6)


def test_parameter_gradients_are_cleared_in_place(net):
    net.forward()
    net.backward()
    diff = net.params["conv"][0].diff
    assert np.abs(diff).max() > 0
    net.clear_param_diffs()
    assert not diff.any()


def test_forward_returns_views_and_backward_returns_input_gradients(deploy, rng):
    data = rng.random((2, 3, 8, 9))
    out = deploy.forward(data=data, blobs=["conv"])
    assert set(out) == {"prob", "conv"} and out["prob"] is deploy.blobs["prob"].data
    np.testing.assert_allclose(out["prob"].sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(deploy.blobs["data"].data, data.astype(np.float32))
    assert set(deploy.backward(prob=np.ones((2, 5)))) == {"data"}


def test_an_input_is_broadcast_as_an_assignment_would(deploy):
    deploy.forward(data=np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1))
    assert (deploy.blobs["data"].data[1] == 1).all()


@pytest.mark.parametrize("arguments", [{"image": np.zeros((2, 3, 8, 9))}, {"data": np.zeros((1, 3, 8, 9))}])
def test_wrong_inputs_are_refused(deploy, arguments):
    with pytest.raises(Exception, match="do not match net inputs|not batch sized"):
        deploy.forward(**arguments)


def test_wrong_top_gradients_are_refused(deploy):
    with pytest.raises(Exception, match="do not match net outputs"):
        deploy.backward(conv=np.zeros((2, 4, 6, 7)))


def test_all_rows_forward_and_backward(deploy, rng):
    rows = rng.random((5, 3, 8, 9)).astype(np.float32)
    out = deploy.forward_all(data=rows, blobs=["ip"])
    assert out["prob"].shape == (5, 5) and out["ip"].shape == (5, 5)
    single = np.concatenate([deploy.forward(data=np.repeat(row[None], 2, 0))["prob"][:1].copy() for row in rows])
    np.testing.assert_allclose(out["prob"], single, rtol=1e-5)
    blobs, diffs = deploy.forward_backward_all(data=rows, prob=np.ones((5, 5)), diffs=["ip"])
    assert blobs["prob"].shape == (5, 5) and diffs["data"].shape == rows.shape and diffs["ip"].shape == (5, 5)
    blobs, diffs = deploy.forward_backward_all(data=rows)
    assert blobs["prob"].shape == (5, 5) and diffs["data"].shape == rows.shape


def test_reshape_follows_the_input(deploy, rng):
    deploy.blobs["data"].reshape(1, 3, 8, 9)
    deploy.reshape()
    assert deploy.blobs["prob"].data.shape == (1, 5)
    assert deploy.forward(data=rng.random((1, 3, 8, 9)))["prob"].shape == (1, 5)


@pytest.mark.parametrize("format", ["binary", "hdf5"])
def test_save_and_read_under_any_name(net, net_file, tmp_path, format):
    path = str(tmp_path / "weights")
    (net.save if format == "binary" else net.save_hdf5)(path)
    if format == "binary":
        others = [caffe.Net(net_file, path, caffe.TRAIN), caffe.Net(net_file, caffe.TRAIN, weights=path),
                  caffe.Net(net_file, caffe.TRAIN, 0, None, path), caffe.Net(net_file, caffe.TRAIN)]
        others[3].copy_from(path)
    else:
        others = [caffe.Net(net_file, caffe.TRAIN)]
        others[0].load_hdf5(path)
    for other in others:
        for name in net.params:
            for mine, theirs in zip(net.params[name], other.params[name]):
                np.testing.assert_array_equal(mine.data, theirs.data)


def test_layers_that_the_file_lacks_keep_their_fillers_and_other_shapes_are_refused(net, tmp_path, capsys):
    net.save(str(tmp_path / "w"))
    other = tmp_path / "other.prototxt"
    other.write_text(simple().replace('"ip"', '"new"'))
    tuned = caffe.Net(str(other), str(tmp_path / "w"), caffe.TRAIN)
    np.testing.assert_array_equal(tuned.params["conv"][0].data, net.params["conv"][0].data)
    assert "missing     new" in capsys.readouterr().err and tuned.params["new"][0].data.std() > 0.3
    other.write_text(simple(7))
    with pytest.raises(WeightsError, match="blob 0: expected") as caught:
        caffe.Net(str(other), str(tmp_path / "w"), caffe.TRAIN)
    assert isinstance(caught.value, RuntimeError)


def test_nets_share_parameters(net, net_file):
    other = caffe.Net(net_file, caffe.TEST)
    other.share_with(net)
    net.params["conv"][0].data[...] = 3
    assert (other.params["conv"][0].data == 3).all()


def test_callbacks_hear_every_layer_by_number(net):
    calls = []
    net.before_forward(lambda layer: calls.append(("bf", layer)))
    net.after_forward(lambda layer: calls.append(("af", layer)))
    net.before_backward(lambda layer: calls.append(("bb", layer)))
    net.after_backward(lambda layer: calls.append(("ab", layer)))
    net.forward()
    net.backward()
    assert calls == ([(when, i) for i in range(4) for when in ("bf", "af")]
                     + [(when, i) for i in (3, 2, 1, 0) for when in ("bb", "ab")])


def test_private_passes_by_number_return_the_loss(net):
    loss = net._forward(0, 3)
    assert loss == pytest.approx(float(net.blobs["loss"].data), rel=1e-6)
    net._backward(3, 1)
    assert net.params["conv"][0].diff.any()


LEVELS = """
layer { name: "in" type: "DummyData" top: "in" dummy_data_param { shape { dim: 1 dim: 2 } } }
layer { name: "any" type: "Power" bottom: "in" top: "any" }
layer { name: "zero" type: "Power" bottom: "in" top: "zero" include { min_level: 0 max_level: 0 } }
layer { name: "one" type: "Power" bottom: "in" top: "one" include { min_level: 1 } }
layer { name: "a" type: "Power" bottom: "in" top: "a" include { stage: "a" } }
layer { name: "a_or_b" type: "Power" bottom: "in" top: "a_or_b" include { stage: "a" } include { stage: "b" } }
layer { name: "a_and_b" type: "Power" bottom: "in" top: "a_and_b" include { stage: "a" stage: "b" } }
"""


@pytest.mark.parametrize(("args", "options", "expected"), [
    ((), {}, "any zero"), ((1,), {}, "any one"), ((), {"level": 1}, "any one"), ((0, ["a"]), {}, "any zero a a_or_b"),
    ((), {"stages": ["b"]}, "any zero a_or_b"), ((1, ["a", "b"]), {}, "any one a a_or_b a_and_b")])
def test_level_and_stages_choose_layers(tmp_path, args, options, expected):
    path = tmp_path / "net.prototxt"
    path.write_text(LEVELS)
    net = caffe.Net(str(path), caffe.TEST, *args, **options)
    assert [name for name in net.blobs if name != "in"] == expected.split()


MEMORY = """
layer { name: "m" type: "MemoryData" top: "data" top: "label"
        memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }
layer { name: "p" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } }
"""


def test_memory_data_takes_arrays(tmp_path, rng):
    path = tmp_path / "net.prototxt"
    path.write_text(MEMORY)
    net = caffe.Net(str(path), caffe.TEST)
    rows = rng.random((4, 3, 4, 5)).astype(np.float32)
    net.set_input_arrays(rows, np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(net.forward()["twice"], 2 * rows[:2])
    net.forward()
    assert net.blobs["label"].data.ravel().tolist() == [2, 3]
    for data, labels in [(rows.astype(float), np.zeros(4, np.float32)), (rows[:3], np.zeros(3, np.float32)),
                         (rows, np.zeros(3, np.float32)), (rows[:, :2].copy(), np.zeros(4, np.float32)),
                         (rows[:, :, ::-1], np.zeros(4, np.float32)), (rows[0], np.zeros(3, np.float32)),
                         (rows, np.zeros((4, 2, 1, 1), np.float32))]:
        with pytest.raises(RuntimeError):
            net.set_input_arrays(data, labels)


def test_memory_data_must_stand_first(net):
    with pytest.raises(RuntimeError, match="MemoryData"):
        net.set_input_arrays(np.zeros((2, 3, 4, 5), np.float32), np.zeros(2, np.float32))


def test_errors_are_the_engines_and_those_that_scripts_catch(net, net_file, tmp_path):
    with pytest.raises(RuntimeError, match="Could not open file: no such file") as caught:
        caffe.Net(str(tmp_path / "missing.prototxt"), caffe.TEST)
    assert isinstance(caught.value, FileMissingError) and isinstance(caught.value, FileNotFoundError)
    with pytest.raises(RuntimeError, match="no such file"):
        caffe.Net(net_file, str(tmp_path / "missing.caffemodel"), caffe.TEST)
    with pytest.raises(RuntimeError, match="no such file"):
        net.copy_from(str(tmp_path / "missing.caffemodel"))
    (tmp_path / "bad.prototxt").write_text('layer { name: "a" nmae: "b" }')
    with pytest.raises(RuntimeError, match="bad.prototxt:1") as caught:
        caffe.Net(str(tmp_path / "bad.prototxt"), caffe.TEST)
    assert isinstance(caught.value, PrototxtError) and isinstance(caught.value, ValueError)
    with pytest.raises(KeyError, match="nearest name is 'maps'"):
        net.blobs["map"]
    with pytest.raises(KeyError):
        net.params["loss"]
    for wrong in ({"start": "cnv"}, {"end": "cnv"}):
        with pytest.raises(ValueError, match="nearest name is 'conv'"):
            net.forward(**wrong)
        with pytest.raises(ValueError):
            net.backward(**wrong)
    with pytest.raises(KeyError):
        net.forward(blobs=["nothing"])
    with pytest.raises(ValueError, match="broadcast"):
        net.blobs["maps"].data[...] = np.zeros(8)


def test_seed_makes_nets_repeat_and_differ_from_each_other(net_file):
    def weights():
        return caffe.Net(net_file, caffe.TRAIN).params["conv"][0].data.copy()

    caffe.set_random_seed(5)
    first, second = weights(), weights()
    caffe.set_random_seed(5)
    np.testing.assert_array_equal(weights(), first)
    assert (first != second).any()


def test_mode_and_device_are_honest(net_file, monkeypatch):
    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe("no device", "device 'cuda': no CUDA device was found"))
    caffe.set_mode_cpu()
    with pytest.raises(RuntimeError, match="CUDA"):
        caffe.set_mode_gpu()
    with pytest.raises(RuntimeError, match="CUDA"):
        caffe.set_device(0)
    assert caffe.Net(net_file, caffe.TRAIN).backend.name == "cpu"
    assert not caffe.has_nccl() and caffe.solver_count() == 1 and caffe.solver_rank() == 0
    caffe.set_solver_count(1)
    with pytest.raises(ValueError):
        caffe.set_solver_count(2)


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_nets_made_after_set_mode_gpu_run_there(device, tmp_path, rng):
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    net_file = str(tmp_path / "deploy.prototxt")
    caffe.set_random_seed(5)
    on_cpu = caffe.Net(net_file, caffe.TEST)
    try:
        caffe.set_device(0)
        assert caffe.Net(net_file, caffe.TEST).backend.name == "cpu"  # chosen, not yet asked for
        caffe.set_mode_gpu()
        caffe.set_random_seed(5)
        net = caffe.Net(net_file, caffe.TEST)
    finally:
        caffe.set_mode_cpu()
    assert net.backend.name == "cuda:0" and caffe.Net(net_file, caffe.TEST).backend.name == "cpu"
    assert net.inputs
    for name in net.inputs:
        values = rng.normal(size=net.blobs[name].shape)
        net.blobs[name].data[...] = values
        on_cpu.blobs[name].data[...] = values
    found, wanted = net.forward(), on_cpu.forward()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5 * np.abs(value).max())


def test_log_lines_have_the_form_of_glog(capsys, monkeypatch):
    caffe.log("hello")
    assert __import__("re").fullmatch(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] hello\n", capsys.readouterr().err)
    monkeypatch.setenv("GLOG_minloglevel", "2")
    caffe.log("hello")
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("GLOG_minloglevel")
    caffe.init_log(1)
    caffe.log("hello")
    assert capsys.readouterr().err == ""
    caffe.init_log()


def test_timer_measures_milliseconds():
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    sum(range(10000))
    timer.stop()
    elapsed = timer.ms
    assert 0 < elapsed < 5000 and timer.ms == elapsed


def test_layer_types_are_listed():
    types = caffe.layer_type_list()
    assert {"Data", "Convolution", "InnerProduct", "Python", "Interp"} <= set(types)


def test_parameters_are_blob_vectors_of_the_module_that_scripts_name(net):
    vector = caffe._caffe.BlobVec
    assert caffe._caffe is caffe.pycaffe is caffe and vector is caffe.BlobVec
    assert {type(blobs) for blobs in net.params.values()} == {vector} == {type(layer.blobs) for layer in net.layers}
