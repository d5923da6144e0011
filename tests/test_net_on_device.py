"""Nets on a CUDA device against the same nets on the CPU: values, precision, packed values, recorded passes."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.errors import ArgumentError, DeviceError, GraphError
from atrouscaffe.graph.fuse import folded_relus, packed_storages
from atrouscaffe.ops import conv_cuda
from atrouscaffe.runtime.backend import get_backend
from atrouscaffe.runtime.cuda import Recording, cached, recording

SIZE = (2, 5, 17, 23)


def conv(name: str, bottom: str, outputs: int = 12, kernel: int = 3, pad: int = 1, hole: int = 1, relu: bool = True,
         more: str = "") -> str:
    text = (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ '
            f'num_output: {outputs} kernel_size: {kernel} pad: {pad} hole: {hole} {more} '
            'weight_filler { type: "xavier" } bias_filler { type: "gaussian" std: 0.5 } } } ')
    return text + (f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }} ' if relu else "")


def pool(name: str, bottom: str, kind: str = "MAX", stride: int = 2) -> str:
    return (f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}" pooling_param {{ pool: {kind} '
            f'kernel_size: 3 stride: {stride} pad: 1 }} }} ')


DEEPLAB = (f'name: "deeplab in small" input: "data" input_shape {{ {" ".join(f"dim: {n}" for n in SIZE)} }} '
           + conv("conv1_1", "data", 8) + conv("conv1_2", "conv1_1", 9) + pool("pool1", "conv1_2")
           + conv("conv2", "pool1", 16, pad=2, hole=2) + pool("pool2", "conv2", stride=1)
           + pool("pool2a", "pool2", "AVE", 1) + conv("fc6", "pool2a", 24, pad=4, hole=4)
           + 'layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" } '
           + conv("fc7", "fc6", 20, kernel=1, pad=0) + conv("fc8", "fc7", 7, kernel=1, pad=0, relu=False))
CHANNELS = {"fp32": 1e-5, "tf32": 4e-3, "fp16": 4e-3}
"""Largest difference from the CPU's float32, relative to the largest score."""


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(4).standard_normal(SIZE, np.float32)


@pytest.fixture
def way(monkeypatch, tmp_path):
    """Decide how convolutions go, and keep what is measured out of the user's cache."""
    monkeypatch.setenv("ATROUSCAFFE_CACHE_DIR", str(tmp_path))

    def decide(name: str) -> None:
        monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", name)

    decide("explicit")
    return decide


def scores(image: np.ndarray) -> np.ndarray:
    return Net(DEEPLAB, TEST, seed=3).forward(data=image)["fc8"]


@pytest.mark.parametrize(("keep", "by"), [(None, "explicit"), ([], "explicit"), ([], "implicit")],
                         ids=["keeps all", "keeps nothing", "keeps nothing, implicit"])
@pytest.mark.parametrize("precision", CHANNELS)
def test_net_when_on_a_device_then_equals_the_cpu(device, precision, keep, by, image, way):
    if device == "cpu":
        pytest.skip("the CPU is the reference")
    way(by)
    net = Net(DEEPLAB, TEST, seed=3, device=device, precision=precision, keep=keep)
    assert bool(net._execution._packed) == (precision == "fp16" and by == "implicit")
    got = net.forward(data=image)["fc8"]
    expected = scores(image)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 0 < error < CHANNELS[precision]
    assert error > 1e-5 or precision == "fp32"  # the operands were rounded indeed
    again = net.forward(data=image)["fc8"]
    assert got.tobytes() == again.tobytes()


@pytest.mark.parametrize("precision", CHANNELS)
def test_convolutions_when_implicit_then_equal_the_explicit_ones(device, precision, image, way):
    if device == "cpu":
        pytest.skip("columns are the CPU's only way")
    by_columns = Net(DEEPLAB, TEST, seed=3, device=device, precision=precision).forward(data=image)["fc8"].copy()
    way("implicit")
    implicit = Net(DEEPLAB, TEST, seed=3, device=device, precision=precision).forward(data=image)["fc8"]
    close = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 2e-4}[precision]  # cuBLAS does not say how it rounds to TF32
    assert np.abs(implicit - by_columns).max() < close * np.abs(by_columns).max()


def test_packed_storages_are_those_between_convolutions_and_poolings(image):
    net = Net(DEEPLAB, TEST, seed=3, keep=[])
    graph, plan = net.graph, net._execution.plan
    packed = packed_storages(graph, set(plan.offsets), folded_relus(graph))
    names = {value.name for value in graph.values if value.storage in packed}
    assert names == {"conv1_1", "conv1_2", "pool1", "conv2", "pool2", "pool2a", "fc6", "fc7"}
    text = DEEPLAB.replace('num_output: 16', 'num_output: 18 group: 3')  # conv2 now wants plain values below and above
    graph = Net(text, TEST, seed=3, keep=[]).graph
    packed = packed_storages(graph, {value.storage for value in graph.values if value.readers}, folded_relus(graph))
    names = {value.name for value in graph.values if value.storage in packed}
    assert names == {"conv1_1", "fc6", "fc7"}
    text = DEEPLAB.replace('type: "Dropout"', 'type: "Dropout" dropout_param { sample_weights_test: true }')
    graph = Net(text, TEST, seed=3, keep=[]).graph
    packed = packed_storages(graph, {value.storage for value in graph.values if value.readers}, folded_relus(graph))
    assert len({value.name for value in graph.values if value.storage in packed} & {"fc6", "fc7"}) < 2


def test_weights_when_written_after_a_pass_then_count_in_the_next(device, image, way):
    if device == "cpu":
        pytest.skip("nothing is derived from weights on the CPU")
    way("implicit")
    net = Net(DEEPLAB, TEST, seed=3, device=device, precision="fp16", keep=[])
    before = net.forward(data=image)["fc8"].copy()
    net.params["conv1_1"][0].data[...] *= 2
    net.params["conv1_1"][1].data[...] = 0
    after = net.forward(data=image)["fc8"]
    cpu = Net(DEEPLAB, TEST, seed=3)
    cpu.params["conv1_1"][0].data[...] *= 2
    cpu.params["conv1_1"][1].data[...] = 0
    expected = cpu.forward(data=image)["fc8"]
    assert np.abs(after - expected).max() < 4e-3 * np.abs(expected).max() < np.abs(after - before).max()


def test_blob_when_read_and_written_in_turn_then_host_and_device_agree(device, image, way):
    net = Net(DEEPLAB, TEST, seed=3, device=device)
    first = net.forward(data=image)["fc8"].copy()
    net.blobs["data"].data[0] = 0
    second = net.forward()["fc8"].copy()
    assert not np.array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (net.blobs["data"].data[0] == 0).all() and np.array_equal(net.blobs["data"].host()[1], image[1])
    net.blobs["data"].reshape(1, *SIZE[1:])
    net.reshape()
    net.blobs["data"].data[...] = image[1:]
    np.testing.assert_allclose(net.forward()["fc8"][0], first[1], rtol=0, atol=1e-5 * np.abs(first).max())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_recorded_pass_when_replayed_then_takes_new_data(device, precision, image, way):
    if device == "cpu":
        with pytest.raises(DeviceError, match="CUDA device"):
            Net(DEEPLAB, TEST, seed=3).record()
        return
    way("implicit" if precision == "fp16" else "explicit")
    net = Net(DEEPLAB, TEST, seed=3, device=device, precision=precision, keep=[])
    other = image[:, :, ::-1, ::-1].copy()
    expected = [net.forward(data=x)["fc8"].copy() for x in (image, other)]
    recorded = net.record()
    for _ in range(2):
        for x, wanted in zip((image, other), expected):
            net.blobs["data"].data[...] = x
            recorded.replay()
            np.testing.assert_array_equal(net.blobs["fc8"].data, wanted)
    assert recorded.valid
    net.params["fc8"][1].data[...] += 1
    assert not recorded.valid
    with pytest.raises(GraphError, match="record it again"):
        recorded.replay()
    recorded = net.record()
    net.blobs["data"].reshape(1, *SIZE[1:])
    net.reshape()
    assert not recorded.valid


def test_pass_when_a_layer_looks_at_values_then_cannot_be_recorded(device, way):
    if device == "cpu":
        pytest.skip("passes are recorded on devices")
    text = ('input: "x" input_shape { dim: 2 dim: 3 } input: "label" input_shape { dim: 2 } '
            'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" }')
    net = Net(text, TEST, device=device)
    net.blobs["label"].data[...] = 1
    with pytest.raises(DeviceError, match="loss.*cannot be recorded|cannot be recorded.*loss"):
        net.record()


def test_choice_of_a_way_is_measured_once_and_kept(device, image, way, tmp_path):
    if device == "cpu":
        pytest.skip("nothing is measured on the CPU")
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 7 dim: 6 } ' + conv("a", "data", 8)
    way("measured")
    small = image[:1, :3, :7, :6].copy()
    first = Net(text, TEST, seed=3, device=device).forward(data=small)["a"].copy()
    files = list(tmp_path.glob("choices-*.json"))
    assert len(files) == 1 and files[0].read_text().count('"conv fp32') == 1
    files[0].write_text("not a table")  # what the process knows already is not read again
    assert Net(text, TEST, seed=3, device=device).forward(data=small)["a"].tobytes() == first.tobytes()
    way("fastest")
    with pytest.raises(ArgumentError, match="ATROUSCAFFE_CONVOLUTION.*fastest"):
        Net(text, TEST, seed=3, device=device).forward(data=small)


def test_recorded_pass_when_an_input_shrinks_where_it_lies_then_no_longer_fits(device, image, way):
    if device == "cpu":
        pytest.skip("passes are recorded on devices")
    net = Net(DEEPLAB, TEST, seed=3, device=device)  # keeps all blobs, whose buffers stay
    recorded = net.record()
    net.blobs["data"].reshape(1, *SIZE[1:])
    assert not recorded.valid
    with pytest.raises(GraphError, match="record it again"):
        recorded.replay()


def test_recorded_pass_when_dropout_draws_then_is_refused(device, way):
    if device == "cpu":
        pytest.skip("passes are recorded on devices")
    text = ('input: "x" input_shape { dim: 2 dim: 3 } layer { name: "drop" type: "Dropout" bottom: "x" top: "y" }')
    Net(text, TEST, device=device).record()
    with pytest.raises(DeviceError, match="drop.*cannot be recorded"):
        Net(text, TRAIN, device=device).record()


def test_net_when_its_blobs_were_read_then_gives_its_memory_back(device, image, way):
    if device == "cpu":
        pytest.skip("main memory has no mirror")
    net = Net(DEEPLAB, TEST, seed=3, device=device)
    memory = weakref.ref(net.blobs["data"].memory)
    net.forward(data=image)
    assert net.blobs["data"].data.shape == SIZE
    del net
    gc.collect()
    assert memory() is None


def test_weights_when_shared_by_layers_of_other_groups_then_each_reads_them_in_its_own(device, way):
    if device == "cpu":
        pytest.skip("nothing is derived from weights on the CPU")
    shape = ('convolution_param { num_output: 12 kernel_size: 3 %s bias_term: false weight_filler { type: "xavier" } } '
             'param { name: "w" }')
    text = ('input: "a" input_shape { dim: 1 dim: 5 dim: 7 dim: 6 } input: "b" input_shape { dim: 1 dim: 10 dim: 7 '
            f'dim: 6 }} layer {{ name: "one" type: "Convolution" bottom: "a" top: "one" {shape % ""} }} '
            f'layer {{ name: "two" type: "Convolution" bottom: "b" top: "two" {shape % "group: 2"} }}')
    rng = np.random.default_rng(5)
    inputs = {"a": rng.standard_normal((1, 5, 7, 6), np.float32), "b": rng.standard_normal((1, 10, 7, 6), np.float32)}
    wanted = Net(text, TEST, seed=3).forward(**inputs)
    found = Net(text, TEST, seed=3, device=device, precision="fp16").forward(**inputs)
    for name, expected in wanted.items():
        assert np.abs(found[name] - expected).max() < 4e-3 * np.abs(expected).max()


def test_recorded_pass_when_weights_were_just_written_then_derives_nothing_of_them(device, image, way, monkeypatch):
    if device == "cpu":
        pytest.skip("nothing is derived from weights on the CPU")
    way("implicit")
    derived = []

    def noted(*args: object) -> object:
        derived.append(recording())
        return pack_weight(*args)

    pack_weight = conv_cuda.pack_weight
    monkeypatch.setattr(conv_cuda, "pack_weight", noted)
    net = Net(DEEPLAB, TEST, seed=3, device=device)
    expected = net.forward(data=image)["fc8"].copy()
    for blobs in net.params.values():
        blobs[0].data[...] *= 1
    recorded = net.record()
    assert set(derived) == {False}  # else every replay would pack them again
    np.testing.assert_array_equal(net.forward(data=image)["fc8"], expected)
    recorded.replay()
    np.testing.assert_array_equal(net.blobs["fc8"].data, expected)


def test_form_that_is_derived_in_a_recording_is_not_taken_for_made(device):
    if device == "cpu":
        pytest.skip("passes are recorded on devices")
    backend = get_backend(device)
    array, out = backend.asarray(np.ones(3, np.float32)), backend.zeros((3,), np.float32)

    def work() -> None:
        backend.parameters_changed()
        out[...] = cached("twice", array, lambda: array * 2)

    Recording(backend, work)
    with backend.active():
        assert backend.to_numpy(cached("twice", array, lambda: array * 2)).tolist() == [2, 2, 2]


def test_weights_when_shared_from_net_to_net_then_the_last_hears_of_changes(device, image, way):
    net, cpu = (Net(DEEPLAB, TEST, seed=3, device=where, precision=precision)
                for where, precision in ((device, "fp32" if device == "cpu" else "fp16"), ("cpu", "fp32")))
    for _ in range(2):
        following = Net(DEEPLAB, TEST, seed=5, device=device, precision=net.backend.precision)
        following.share_with(net)
        net = following
        gc.collect()
    before = net.forward(data=image)["fc8"].copy()
    for one in (net, cpu):
        one.params["conv1_1"][0].data[...] *= 2
    wanted = cpu.forward(data=image)["fc8"]
    largest = 4e-3 * np.abs(wanted).max()
    assert np.abs(net.forward(data=image)["fc8"] - wanted).max() < largest < np.abs(before - wanted).max()


def test_backward_behind_a_replay_then_takes_what_the_replay_left(device, way):
    if device == "cpu":
        pytest.skip("passes are recorded on devices")
    text = ('force_backward: true input: "x" input_shape { dim: 2 dim: 3 dim: 5 } layer { name: "t" type: "TanH" '
            'bottom: "x" top: "y" } layer { name: "p" type: "PReLU" bottom: "y" top: "y" }')
    first, second, slope = np.random.default_rng(7).standard_normal((3, 2, 3, 5), np.float32)
    net, plain = (Net(text, TEST, seed=1, device=device) for _ in range(2))
    plain.forward(x=second)
    wanted = plain.backward(y=slope)["x"]
    recorded = net.record()
    with pytest.raises(GraphError, match="needs a forward pass"):
        net.backward(y=slope)  # recording computes nothing
    net.forward(x=first)
    net.blobs["x"].data[...] = second
    recorded.replay()
    np.testing.assert_array_equal(net.backward(y=slope)["x"], wanted)


def test_array_of_another_net_when_a_pass_is_replayed_meanwhile_then_still_takes_values(device, image, way):
    if device == "cpu":
        pytest.skip("passes are recorded on devices")
    first, second = (Net(DEEPLAB, TEST, seed=3, device=device, keep=[]) for _ in range(2))
    expected = first.forward(data=image)["fc8"].copy()
    recorded = first.record()
    held = second.blobs["data"].data
    recorded.replay()
    held[...] = image  # handed out before, written after the other net's pass
    np.testing.assert_array_equal(second.forward()["fc8"], expected)
