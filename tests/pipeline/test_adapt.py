"""adapt: what is copied, decimated and initialised, against slices written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.cli.main import main
from atrouscaffe.errors import ArgumentError, WeightsError
from atrouscaffe.formats.hdf5 import write_hdf5
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.pipeline.adapt import adapt

CLASSES, FC, CHANNELS = 7, 16, 5


def net(fc6: str, fc: int, classes: int = 3, fc8: str = "fc8_voc12") -> str:
    """A trunk with one convolution and VGG's head as convolutions."""
    return f"""name: "target"
    input: "data" input_shape {{ dim: 1 dim: 3 dim: 33 dim: 31 }}
    layer {{ name: "conv5" type: "Convolution" bottom: "data" top: "conv5"
            convolution_param {{ num_output: {CHANNELS} kernel_size: 3 pad: 1 }} }}
    layer {{ name: "relu5" type: "ReLU" bottom: "conv5" top: "conv5" }}
    layer {{ name: "pool5" type: "Pooling" bottom: "conv5" top: "pool5"
            pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
    layer {{ name: "fc6" type: "Convolution" bottom: "pool5" top: "fc6"
            convolution_param {{ num_output: {fc} {fc6} }} }}
    layer {{ name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }}
    layer {{ name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" }}
    layer {{ name: "fc7" type: "Convolution" bottom: "fc6" top: "fc7"
            convolution_param {{ num_output: {fc} kernel_size: 1 }} }}
    layer {{ name: "{fc8}" type: "Convolution" bottom: "fc7" top: "fc8"
            convolution_param {{ num_output: {classes} kernel_size: 1
                                 weight_filler {{ type: "gaussian" std: 0.5 }} }} }}
    """


@pytest.fixture
def source(tmp_path, monkeypatch):
    """VGG-like weights with fully connected layers, in a file of each form."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    shapes = {"conv5": [(CHANNELS, 3, 3, 3), (CHANNELS,)], "fc6": [(FC, CHANNELS * 49), (FC,)],
              "fc7": [(FC, FC), (FC,)], "fc8": [(CLASSES, FC), (CLASSES,)]}
    arrays = {name: [rng.normal(size=shape).astype(np.float32) for shape in pair] for name, pair in shapes.items()}
    write_hdf5("vgg.caffemodel.h5", arrays)
    legacy = {name: [array.reshape((1,) * (4 - array.ndim) + array.shape) for array in pair]
              for name, pair in arrays.items()}
    write_hdf5("legacy.caffemodel.h5", legacy)
    return arrays


def adapted(text: str, weights: str = "vgg.caffemodel.h5", **options):
    with open("net.prototxt", "w") as file:
        file.write(text)
    report = adapt(weights, "net.prototxt", "out.caffemodel", seed=1, **options)
    loaded = {layer.name: [blob.load() for blob in layer.blobs] for layer in open_weights("out.caffemodel").layers
              if layer.blobs}
    return {name: action for name, action, _ in report.rows}, loaded, report


@pytest.mark.parametrize("weights", ["vgg.caffemodel.h5", "legacy.caffemodel.h5"])
@pytest.mark.parametrize(("kernel", "rows"), [(4, [0, 2, 4, 6]), (3, [0, 3, 6])])
def test_fc6_is_decimated_in_kernel_alone(source, kernel, rows, weights):
    actions, loaded, report = adapted(net(f"kernel_size: {kernel} pad: 6", FC), weights)
    assert actions == {"conv5": "copied", "fc6": "decimated", "fc7": "copied", "fc8_voc12": "initialised"}
    full = source["fc6"][0].reshape(FC, CHANNELS, 7, 7)
    np.testing.assert_array_equal(loaded["fc6"][0], full[:, :, rows][:, :, :, rows])
    np.testing.assert_array_equal(loaded["fc6"][1], source["fc6"][1])
    np.testing.assert_array_equal(loaded["fc7"][0][:, :, 0, 0], source["fc7"][0])
    assert loaded["fc8_voc12"][0].std() == pytest.approx(0.5, rel=0.5)
    assert f"kernel 7x7 to {kernel}x{kernel} (rows {', '.join(map(str, rows))})" in report.table()
    assert report.unused == ["fc8"] and "gaussian 0.5" in report.table()


def test_channels_are_subsampled_and_the_next_layer_follows(source):
    actions, loaded, report = adapted(net("kernel_size: 3 pad: 12 dilation: 12", FC // 4))
    assert actions["fc6"] == actions["fc7"] == "decimated"
    outputs = [0, 4, 8, 12]
    full = source["fc6"][0].reshape(FC, CHANNELS, 7, 7)[outputs]
    np.testing.assert_array_equal(loaded["fc6"][0], full[:, :, ::3, ::3])
    np.testing.assert_array_equal(loaded["fc6"][1], source["fc6"][1][outputs])
    np.testing.assert_array_equal(loaded["fc7"][0][:, :, 0, 0], source["fc7"][0][np.ix_(outputs, outputs)])
    np.testing.assert_array_equal(loaded["fc7"][1], source["fc7"][1][outputs])
    assert "outputs 16 to 4" in report.table() and "inputs 16 to 4" in report.table()


def test_whole_kernel_is_a_reshaped_copy_that_computes_the_same(source):
    actions, _, _ = adapted(net("kernel_size: 7", FC, CLASSES, "fc8"))
    assert set(actions.values()) == {"copied"}
    full = Net("net.prototxt", "out.caffemodel", TEST)
    image = np.random.default_rng(0).normal(size=full.blobs["data"].shape)
    full.forward(data=image)
    patch = full.blobs["pool5"].data[0, :, 2:9, 3:10].ravel()
    assert full.blobs["fc6"].data[0, :, 2, 3] == pytest.approx(
        np.maximum(source["fc6"][0] @ patch + source["fc6"][1], 0), rel=1e-3, abs=1e-3)


def test_rename_copies_a_classifier_and_hints_at_it(source):
    actions, loaded, report = adapted(net("kernel_size: 7", FC, CLASSES))
    assert actions["fc8_voc12"] == "initialised"
    assert "--rename fc8=fc8_voc12 would copy it" in report.table()
    actions, loaded, report = adapted(net("kernel_size: 7", FC, CLASSES), rename={"fc8": "fc8_voc12"})
    assert actions["fc8_voc12"] == "copied" and not report.unused and not report.hints
    np.testing.assert_array_equal(loaded["fc8_voc12"][0][:, :, 0, 0], source["fc8"][0])


def test_classifier_of_the_same_name_with_fewer_classes_starts_from_fillers(source):
    actions, loaded, _ = adapted(net("kernel_size: 4 pad: 6", FC, 3, "fc8"))
    assert actions["fc8"] == "initialised" and loaded["fc8"][0].shape == (3, FC, 1, 1)


@pytest.mark.parametrize("kernel", [5, 6, 2, 9])
def test_kernels_that_cannot_be_decimated_evenly_are_refused(source, kernel):
    if kernel == 2:
        adapted(net("kernel_size: 2", FC))  # positions 0 and 6
        return
    with pytest.raises(WeightsError, match=f"kernel of 7 cannot be decimated evenly to {kernel}"):
        adapted(net(f"kernel_size: {kernel} pad: 6", FC))


def test_join_behind_a_decimated_layer_is_refused(source):
    text = net("kernel_size: 3", 4).replace('name: "fc7" type', 'name: "sum" type: "Eltwise" bottom: "fc6" '
                                            'bottom: "fc6" top: "sum" }\nlayer { name: "fc7" type')
    with pytest.raises(WeightsError, match="'sum'.*cannot be told"):
        adapted(text)


def test_strange_renames_are_refused(source):
    for rename in ({"fc9": "fc8_voc12"}, {"fc8": "fc9"}):
        with pytest.raises(ArgumentError, match="fc9"):
            adapted(net("kernel_size: 7", FC), rename=rename)


def test_result_trains_without_allow_missing(source, capsys):
    with open("net.prototxt", "w") as file:
        file.write(net("kernel_size: 4 pad: 6", FC))
    assert main(["adapt", "vgg.caffemodel.h5", "net.prototxt", "out.caffemodel.h5", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "decimated" in out and "wrote out.caffemodel.h5" in out
    assert Net("net.prototxt", "out.caffemodel.h5", TRAIN).reports[0].complete
    assert main(["adapt", "vgg.caffemodel.h5", "net.prototxt", "x.caffemodel", "--rename", "fc8"]) == 2
