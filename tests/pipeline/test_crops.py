"""Crops of a net's size whose probabilities are averaged: against a plain net, crop by crop."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe import TEST, Net, Segmenter
from atrouscaffe.errors import ArgumentError
from atrouscaffe.pipeline.crops import crop_starts
from tests.pipeline.nets import photo, weights

MEAN = np.float32([103.939, 116.779, 123.68])
NET = """input: "data" input_dim: 1 input_dim: 3 input_dim: 33 input_dim: 33
    layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: AVE kernel_size: 33 stride: 33 } }
    layer { name: "u" type: "Interp" bottom: "p" top: "u" interp_param { height: 33 width: 33 } }
    layer { name: "c" type: "Concat" bottom: "data" bottom: "u" top: "c" }
    layer { name: "s" type: "Convolution" bottom: "c" top: "s"
    convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }"""


@pytest.mark.parametrize(("length", "side", "starts"), [(473, 473, [0]), (474, 473, [0, 1]), (1000, 473, [0, 316, 527]),
                                                       (789, 473, [0, 316]), (790, 473, [0, 316, 317])])
def test_crops_begin_every_two_thirds_and_the_last_one_ends_the_axis(length, side, starts):
    assert crop_starts(length, side) == starts


@pytest.mark.parametrize("size", [(20, 33), (33, 60), (70, 25), (50, 91)])
def test_probabilities_of_crops_are_averaged(size, tmp_path, device):
    (tmp_path / "net.prototxt").write_text(NET)
    path = weights(NET, tmp_path / "net.caffemodel")
    image = photo(*size)
    segmenter = Segmenter(f"pspnet101-voc={tmp_path / 'net.prototxt'}", path, device=device, scale=1 / 64)
    found = segmenter(image)
    net = Net(NET, TEST, weights=path)
    padded = np.zeros((3, max(33, size[0]), max(33, size[1])), np.float32)
    padded[:, :size[0], :size[1]] = (image.transpose(2, 0, 1) - MEAN[:, None, None]) / 64
    total, count = np.zeros((4, *padded.shape[1:])), np.zeros(padded.shape[1:])
    for row in crop_starts(padded.shape[1], 33):
        for column in crop_starts(padded.shape[2], 33):
            scores = net.forward(data=padded[None, :, row:row + 33, column:column + 33])["s"][0].astype(np.float64)
            powers = np.exp(scores - scores.max(0))
            total[:, row:row + 33, column:column + 33] += powers / powers.sum(0)
            count[row:row + 33, column:column + 33] += 1
    wanted = (total / count)[:, :size[0], :size[1]]
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
    assert np.array_equal(segmenter.labels(image), found.labels)


def test_scores_on_another_grid_are_refused(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET.replace("pad: 1", "pad: 1 stride: 2"))
    segmenter = Segmenter(f"pspnet101-voc={tmp_path / 'net.prototxt'}", allow_missing=True)
    with pytest.raises(ArgumentError, match="33x33 pixels"):
        segmenter(photo(40, 40))
