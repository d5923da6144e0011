import numpy as np
import pytest

from atrouscaffe.errors import LayerError, ShapeError
from tests.check import make_net

FOUND = np.array([
    [0, 1, 0.9, 0.1, 0.1, 0.5, 0.5],     # right
    [0, 1, 0.8, 0.12, 0.1, 0.5, 0.5],    # the same box again: wrong
    [0, 2, 0.7, 0.6, 0.6, 0.9, 0.9],     # difficult
    [0, 2, 0.6, 0.0, 0.0, 0.1, 0.1],     # nowhere: wrong
    [1, 1, 0.5, 0.1, 0.1, 0.5, 0.5],     # no box in this image: wrong
    [2, -1, -1, -1, -1, -1, -1],         # nothing found there
], np.float32).reshape(1, 1, 6, 7)
TRUTH = np.array([[0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0], [0, 2, 0, 0.6, 0.6, 0.9, 0.9, 1], [2, 1, 0, 0, 0, 1, 1, 0]],
                 np.float32).reshape(1, 1, 3, 8)


def evaluate(options=""):
    return ('layer { name: "l" type: "DetectionEvaluate" bottom: "d" bottom: "t" top: "y" '
            f"detection_evaluate_param {{ num_classes: 4 {options} }} }}")


@pytest.mark.parametrize(("options", "counts", "difficult"), [
    ("", (2, 1, 0), (1, 0)), ("evaluate_difficult_gt: false", (2, 0, 0), (0, 0))])
def test_detection_evaluate_marks_what_is_right(options, counts, difficult, device):
    out = make_net(evaluate(options), {"d": FOUND, "t": TRUTH}, device=device).forward()["y"]
    heads = [[-1, label, count, -1, -1] for label, count in zip((1, 2, 3), counts)]
    rows = [[0, 1, 0.9, 1, 0], [0, 1, 0.8, 0, 1], [0, 2, 0.7, *difficult], [0, 2, 0.6, 0, 1], [1, 1, 0.5, 0, 1]]
    assert out.shape == (1, 1, 8, 5)
    np.testing.assert_allclose(out[0, 0], heads + rows, rtol=1e-6)


def test_detection_evaluate_when_another_threshold_then_fewer_are_right():
    out = make_net(evaluate("overlap_threshold: 0.99"), {"d": FOUND[:, :, 1:2], "t": TRUTH}).forward()["y"]
    np.testing.assert_allclose(out[0, 0, 3], [0, 1, 0.8, 0, 1], rtol=1e-6)


def test_detection_evaluate_when_it_cannot_be_taken_then_refused():
    with pytest.raises(LayerError, match="name_size_file"):
        make_net(evaluate('name_size_file: "sizes.txt"'), {"d": FOUND, "t": TRUTH}).forward()
    with pytest.raises(LayerError, match="overlap_threshold"):
        make_net(evaluate("overlap_threshold: 0"), {"d": FOUND, "t": TRUTH})
    with pytest.raises(ShapeError, match=r"bottom\[1\]"):
        make_net(evaluate(), {"d": FOUND, "t": FOUND})
