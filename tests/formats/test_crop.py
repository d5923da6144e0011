"""Offsets of Crop layers that do not say them, against published offsets and the pixels that must meet."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, Net
from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.prototxt import parse_net, write_net

INPUT = 'input: "data" input_shape { dim: 1 dim: 1 dim: 12 dim: 13 }\n'


def layer(kind: str, bottoms: str, top: str, options: str = "") -> str:
    below = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    return f'layer {{ name: "{top}" type: "{kind}" {below} top: "{top}" {options} }}\n'


def window(bottom: str, top: str, kind: str = "Convolution", **numbers: int) -> str:
    words = " ".join(f"{name}: {value}" for name, value in numbers.items())
    field = "pooling_param" if kind == "Pooling" else "convolution_param"
    return layer(kind, bottom, top, f"{field} {{ {'' if kind == 'Pooling' else 'num_output: 1 '}{words} }}")


def trunk(pad: int) -> str:
    """VGG-16's windows, of one convolution a stage."""
    text = window("data", "conv1", kernel_size=3, pad=pad)
    for i in range(1, 6):
        text += window(f"conv{i}", f"pool{i}", "Pooling", kernel_size=2, stride=2)
        text += window(f"pool{i}", f"conv{i + 1}", kernel_size=3, pad=1) if i < 5 else ""
    return text


def offsets(text: str) -> list[tuple[int, ...]]:
    return [tuple(spec.fields.crop_param.offset) for spec in parse_net(text).layers if spec.type == "Crop"]


def test_offsets_of_hed_are_those_of_its_published_reimplementations():
    text = INPUT + trunk(35) + layer("Crop", "conv1 data", "side1")
    for i in range(2, 6):
        up = 2 ** (i - 1)
        text += window(f"conv{i}", f"up{i}", "Deconvolution", kernel_size=2 * up, stride=up)
        text += layer("Crop", f"up{i} data", f"side{i}")
    assert offsets(text) == [(n, n) for n in (34, 35, 36, 38, 42)]
    assert [note.split(", from")[0].split()[-1] for note in parse_net(text).notes] == ["34", "35", "36", "38", "42"]


def test_offsets_of_fcn_8s_are_those_that_its_later_files_say():
    text = INPUT + trunk(100) + window("pool5", "fc6", kernel_size=7)
    text += window("fc6", "up2", "Deconvolution", kernel_size=4, stride=2) + layer("Crop", "pool4 up2", "pool4c")
    text += layer("Eltwise", "up2 pool4c", "fuse4") + window("fuse4", "up4", "Deconvolution", kernel_size=4, stride=2)
    text += layer("Crop", "pool3 up4", "pool3c") + layer("Eltwise", "up4 pool3c", "fuse3")
    text += window("fuse3", "up8", "Deconvolution", kernel_size=16, stride=8) + layer("Crop", "up8 data", "score")
    assert offsets(text) == [(5, 5), (9, 9), (31, 31)]


def test_a_pixel_stays_where_it_was(rng):
    text = INPUT + window("data", "c", kernel_size=3, pad_h=5, pad_w=4) + layer("ReLU", "c", "c")
    net = Net(text + layer("Crop", "c data", "y"), TEST)
    net.params["c"][0].data[...] = 0
    net.params["c"][0].data[0, 0, 1, 1] = 1
    x = np.abs(rng.standard_normal((1, 1, 12, 13))).astype(np.float32)
    np.testing.assert_allclose(net.forward(data=x)["y"], x, atol=1e-5)
    assert net.spec.notes == ("layer 'y' (Crop) cuts at offset 4 x 3, from the layers between its bottoms",)
    again = parse_net(write_net(net.spec))  # said in the file from now on, for every Caffe
    assert again.notes == () and again.layers[-1].fields.crop_param.offset == (4, 3)


PADDED = window("data", "c", kernel_size=3, pad=5)


@pytest.mark.parametrize("text, expected, note", [
    (PADDED + layer("BatchNorm", "c", "b") + layer("Crop", "b data", "y"), (), ""),
    (PADDED + layer("Scale", "data", "s") + layer("Crop", "c data", "y"), (), "BVLC's Caffe"),
    (window("data", "c", kernel_size=3, pad=5, dilation=2) + layer("Crop", "c data", "y"), (), "BVLC's Caffe"),
    (PADDED + layer("Crop", "c data", "z", "crop_param { offset: 1 }") + layer("Crop", "c data", "y"), (), "BVLC's"),
    (PADDED + layer("Crop", "c data", "y", "crop_param { }"), (), ""),
    (window("data", "c", kernel_size=3, pad=1) + layer("Crop", "c data", "y"), (), ""),
    (window("data", "c", kernel_size=2, pad=5) + layer("Crop", "c data", "y"), (), ""),
    (window("data", "c", kernel_size=3) + layer("Crop", "data c", "y"), (1, 1), "offset 1"),
    (layer("InnerProduct", "data", "c", "inner_product_param { }") + layer("Crop", "c data", "y"), (), ""),
    ("".join(window(f"d{i}" if i else "data", f"d{i + 1}", "Deconvolution", kernel_size=60001, stride=60000)
             for i in range(9)) + layer("Crop", "d9 data", "y"), (), ""),
], ids=["no map", "Scale", "dilation", "other offset", "crop_param", "aligned", "half", "smaller", "flat", "huge"])
def test_crop_of_bvlc_keeps_its_offset_of_0_and_that_of_older_forks_gets_theirs(text, expected, note):
    net = parse_net(INPUT + text)
    assert net.layers[-1].fields.crop_param.offset == expected
    assert note in " ".join(net.notes) and bool(note) == bool(net.notes)


@pytest.mark.parametrize("text, words", [
    (INPUT + PADDED + layer("MultiStageMeanfield", "c c data", "m") + layer("Input", "", "other")
     + layer("Crop", "c data", "y"), "with MultiStageMeanfield, .* with a layer of type Input it is BVLC's and 0"),
    ('input: "a" input: "b" layers { name: "y" type: CROP bottom: "a" bottom: "b" top: "y" }', "not connected"),
    ('input: "a" layers { type: POOLING bottom: "a" top: "b" pooling_param { kernel_size: 2 stride: 2 } } '
     'layers { name: "y" type: CROP bottom: "a" bottom: "b" top: "y" }', "2 times as many pixels"),
    ('input: "a" layers { type: CONVOLUTION bottom: "a" top: "b" convolution_param { num_output: 1 kernel_size: 3 } } '
     'layers { name: "y" type: CROP bottom: "b" bottom: "a" top: "y" }', "begin 1 pixels before"),
], ids=["ambiguous", "apart", "scale", "negative"])
def test_crop_that_cannot_be_decided_is_refused_with_its_place(text, words):
    with pytest.raises(PrototxtError, match=rf"net.prototxt:\d+:\d+: layer 'y' \(Crop\): .*{words}"):
        parse_net(text, path="net.prototxt")


def test_crop_of_the_old_form_is_found_and_rounded_where_it_is_half_a_pixel():
    text = """input: "data" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 12
    layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv"
      convolution_param { num_output: 2 kernel_size: 3 pad: 4 } }
    layers { name: "up" type: DECONVOLUTION bottom: "conv" top: "up"
      convolution_param { num_output: 2 kernel_size: 4 stride: 2 } }
    layers { name: "down" type: POOLING bottom: "up" top: "down" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
    layers { name: "crop" type: CROP bottom: "down" bottom: "data" top: "score" }"""
    net = Net(text, TEST)
    assert net.spec.layers[-1].fields.crop_param.offset == (4, 4) and net.dialect == "bvlc"
    assert "offset 4, from the layers between its bottoms (rounded from 3.5)" in net.spec.notes[0]
    score = net.forward()["score"]
    np.testing.assert_array_equal(score, net.blobs["down"].data[:, :, 4:12, 4:16])
