"""Images that are resized for a net, or get a margin: against OpenCV, SciPy and a net with padding."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from atrouscaffe import TEST, Net, Segmenter
from atrouscaffe.errors import ArgumentError
from tests.pipeline.nets import photo, weights

MEAN = 100.0


def layers(conv_pad, pool_pad="", size=(61, 77), input_name="data"):
    """Three windows and a pooling by 2: a score every 2 pixels."""
    return f'''input: "{input_name}" input_dim: 1 input_dim: 3 input_dim: {size[0]} input_dim: {size[1]}
        layer {{ name: "c1" type: "Convolution" bottom: "{input_name}" top: "c1"
        convolution_param {{ num_output: 4 kernel_size: 13 pad: {conv_pad} }} }}
        layer {{ name: "p" type: "Pooling" bottom: "c1" top: "p" pooling_param {{ kernel_size: 2 stride: 2 }} }}
        layer {{ name: "c2" type: "Convolution" bottom: "p" top: "scores"
        convolution_param {{ num_output: 5 kernel_size: 9 pad: {conv_pad and 4} }} }}'''


def enlarge(values, size):
    """Bilinear, ends on ends (SciPy)."""
    rows, columns = (np.linspace(0, n - 1, m) for n, m in zip(values.shape[1:], size))
    places = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([map_coordinates(value.astype(float), places, order=1) for value in values])


@pytest.mark.parametrize("size", [(30, 40), (33, 45), (50, 71), (5, 4)])
def test_a_net_without_padding_sees_a_mirrored_margin(size, tmp_path, device):
    """14 pixels at either end: 6 of the first window, 4 times 2 of the second. Scores lie on every second pixel."""
    text = layers(0, size=(64, 80))
    path = weights(text, tmp_path / "net.caffemodel")
    image = photo(*size)
    segmenter = Segmenter(text, path, device=device, mean=MEAN, scale=1 / 64)
    assert segmenter.deploy.lost() == ((14, 2), (14, 2))
    found = segmenter(image)
    assert found.scores.shape == (5, *size)
    around = cv2.copyMakeBorder(image, 14, 20, 14, 20, cv2.BORDER_REFLECT_101)
    around = around[:28 + 2 * (size[0] // 2 + 1), :28 + 2 * (size[1] // 2 + 1)]  # so many scores reach the ends
    net = Net(text, TEST, weights=path, input_shapes={"data": (1, 3, *around.shape[:2])})
    coarse = net.forward(data=(around.transpose(2, 0, 1)[None] - MEAN) / 64)["scores"][0]
    wanted = enlarge(coarse, [2 * n - 1 for n in coarse.shape[1:]])[:, :size[0], :size[1]]
    scale = np.abs(wanted).max()
    assert np.abs(found.scores - wanted).max() < 1e-5 * scale
    assert np.array_equal(segmenter.labels(image), found.labels)


def test_the_margins_scores_are_those_of_a_padded_net_away_from_the_ends(tmp_path):
    size = (90, 110)
    path = weights(layers(0), tmp_path / "net.caffemodel")
    image = photo(*size)
    ours = Segmenter(layers(0, size=(60, 76)), path, mean=MEAN)(image).scores
    padded = Net(layers(6, size=size), TEST, weights=path)
    theirs = padded.forward(data=image.transpose(2, 0, 1)[None] - MEAN)["scores"][0]
    np.testing.assert_allclose(ours[:, 20:-20:2, 20:-20:2], theirs[:, 10:-10, 10:-10], rtol=1e-4, atol=1e-3)


def test_a_margin_that_is_no_whole_number_of_pixels_is_refused():
    with pytest.raises(ArgumentError, match="larger by 1"):
        Segmenter(layers(0, size=(63, 80)), mean=0, allow_missing=True)


@pytest.mark.parametrize("size", [(500, 480), (360, 480), (97, 131)])
def test_images_are_resized_where_the_authors_do(size, tmp_path, device):
    text = '''input: "data" input_dim: 1 input_dim: 3 input_dim: 360 input_dim: 480
        layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: AVE kernel_size: 8 stride: 8 } }
        layer { name: "s" type: "Convolution" bottom: "p" top: "s"
        convolution_param { num_output: 11 kernel_size: 1 } }'''
    (tmp_path / "segnet.prototxt").write_text(text)
    path = weights(text, tmp_path / "net.caffemodel")
    image = photo(*size)
    segmenter = Segmenter(f"segnet-camvid={tmp_path / 'segnet.prototxt'}", path, device=device)
    found = segmenter(image)
    net = Net(text, TEST, weights=path)
    coarse = net.forward(data=cv2.resize(image, (480, 360)).transpose(2, 0, 1)[None])["s"][0]
    wanted = enlarge(coarse, size)
    assert np.abs(found.scores - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert (found.labels == wanted.argmax(0)).mean() > 0.999
    assert np.array_equal(segmenter.labels(image), found.labels)
