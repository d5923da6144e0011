"""Values that are no finite numbers never become labels."""

import cv2
import numpy as np
import pytest

from atrouscaffe import TEST, Net, Segmenter
from atrouscaffe.cli.main import main
from atrouscaffe.errors import DataError

from .nets import finite, photo, weights


def damaged(folder, layer, index, value):
    """Weights with one number replaced."""
    net = Net(finite(), TEST, weights=weights(finite(), folder / "whole.caffemodel"))
    net.params[layer][index].data.flat[0] = value
    net.save(folder / "damaged.caffemodel")
    return folder / "damaged.caffemodel"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("layer", "index"), [("c2", 0), ("c2", 1), ("score", 1)])
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(layer, index, value, tmp_path):
    segmenter = Segmenter(finite(), damaged(tmp_path, layer, index, value), mean=0)
    for call in (segmenter, segmenter.labels, segmenter.scores):
        with pytest.raises(DataError, match=f"first in layer '{layer}'.*parameter {index} hold"):
            call(photo(30, 40))


def test_weights_whose_products_overflow_are_an_error_that_says_they_are_finite(tmp_path):
    net = Net(finite(), TEST, weights=weights(finite(), tmp_path / "whole.caffemodel"))
    for layer in ("c1", "c2"):
        net.params[layer][0].data[...] *= 1e25
    net.save(tmp_path / "large.caffemodel")
    with pytest.raises(DataError, match=r"first in layer 'c2'.*its parameters are finite"):
        Segmenter(finite(), tmp_path / "large.caffemodel", mean=0)(photo(30, 40))


def test_segment_names_the_layer_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(finite())
    cv2.imwrite(str(tmp_path / "a.png"), photo(30, 40))
    assert main(["segment", str(tmp_path / "a.png"), "--model", str(tmp_path / "net.prototxt"), "--weights",
                 str(damaged(tmp_path, "c2", 0, np.nan)), "--mean", "0", "--out", str(tmp_path / "out")]) == 2
    assert "first in layer 'c2'" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_crf_refuses_scores_that_are_not_finite(value, tmp_path, capsys):
    scores = np.random.default_rng(1).random((3, 20, 30), np.float32)
    scores[1, 2, 3] = value
    np.save(tmp_path / "scores.npy", scores)
    cv2.imwrite(str(tmp_path / "a.png"), photo(20, 30))
    assert main(["crf", str(tmp_path / "a.png"), "--scores", str(tmp_path / "scores.npy"), "--out",
                 str(tmp_path / "out")]) == 2
    assert "scores.npy" in (said := capsys.readouterr().err)
    assert "1 of 1800 values" in said
