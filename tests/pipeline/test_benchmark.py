"""What `benchmark` measures: its stages, its check, its yardsticks, on every device."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import refine
from atrouscaffe.data.image import decode_image
from atrouscaffe.data.palette import read_labels
from atrouscaffe.errors import ArgumentError
from atrouscaffe.net import Net
from atrouscaffe.pipeline import benchmark as bench
from atrouscaffe.pipeline import yardstick
from atrouscaffe.runtime.backend import get_backend

NET = """name: "small"
input: "data" input_dim: 1 input_dim: 3 input_dim: 17 input_dim: 17
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 5 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
        convolution_param { num_output: 7 kernel_size: 3 pad: 2 dilation: 2 } }
layer { name: "up" type: "Interp" bottom: "b" top: "up" interp_param { zoom_factor: 2 } }
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.prototxt"
    path.write_text(NET)
    return path


def test_stages_add_up_and_the_result_is_the_cpus(device, small) -> None:
    found = bench.benchmark(small, bench.Settings(device, batch=2, size=37, repeats=3))
    assert list(found["stages"]) == ["decode", "net", "upsample", "CRF", "write"]
    assert all(row["count"] == 3 and 0 < row["fastest_ms"] <= row["p50_ms"] <= row["p95_ms"]
               for row in (*found["stages"].values(), found["whole"]))
    assert found["whole"]["fastest_ms"] >= sum(row["fastest_ms"] for row in found["stages"].values()) * 0.999
    assert found["images_per_second"]["net"] == pytest.approx(2e3 / found["stages"]["net"]["p50_ms"])
    assert found["score_map"] == [19, 19] and found["weights"] == "random" and found["crf_scores"] == "drawn"
    assert found["flops"] == 2 * 19 * 19 * (5 * 3 * 9 + 7 * 5 * 9)
    assert found["parameters"] == 5 * 27 + 5 + 7 * 45 + 7
    check = found["check"]
    assert check["equal_labels"] == 1 and check["largest_relative_difference"] < 1e-5
    assert (check["against"], "recorded" in found) == (("a second pass", False) if device == "cpu" else
                                                      ("fp32 on the CPU", True))
    assert check["same_bits"] or device != "cpu"
    if device != "cpu":
        assert found["stream"]["images"] == 6 and found["stream"]["images_per_second"] > 0
        assert found["recorded"]["count"] == 3 and found["recorded"]["images_per_second"] > 0


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_half_precision_is_checked_against_full(device, small) -> None:
    found = bench.benchmark(small, bench.Settings(device, "fp16", size=33, repeats=1, crf=False))
    assert 0 < found["check"]["largest_relative_difference"] < 1e-2 and not found["check"]["same_bits"]
    assert "CRF" not in found["stages"] and found["crf_scores"] is None


def test_labels_are_those_of_the_whole_net(small) -> None:
    settings = bench.Settings(size=37)
    subject = bench.Subject(small, settings)
    image = decode_image(bench.pictures(settings)[0].data)
    subject.fill(subject.net, [image])
    subject.net.run()
    whole = Net(NET, input_shapes={"data": (1, 3, 37, 37)}, seed=0)
    for name, blobs in subject.net.params.items():
        for ours, theirs in zip(blobs, whole.params[name]):
            theirs.data[...] = ours.data
    scores = whole.forward(data=(image.astype(np.float32) - subject.mean).transpose(2, 0, 1)[None])["up"][0]
    np.testing.assert_array_equal(subject.labels(subject.net)[0], scores[:, :37, :37].argmax(0))
    np.testing.assert_allclose(subject.full_scores(subject.net, 0), scores[:, :37, :37], rtol=1e-5, atol=1e-6)


def test_the_crf_is_the_one_of_refine_and_its_labels_are_written(small, tmp_path) -> None:
    settings = bench.Settings(size=37)
    subject, [given] = bench.Subject(small, settings), bench.pictures(settings)
    scores = bench.likely_scores(given, subject.classes, 0)
    bench._pass(subject, [given], [scores], tmp_path)
    expected = refine(decode_image(given.data)[..., ::-1].copy(), scores=scores, preset="paper").labels
    np.testing.assert_array_equal(read_labels(tmp_path / "0.png"), expected)


def test_drawn_pictures_are_the_same_each_time_and_have_objects() -> None:
    one, two = bench.synthetic_picture(61, 4), bench.synthetic_picture(61, 4)
    assert one.data == two.data and decode_image(one.data).shape == (61, 61, 3)
    assert len(np.unique(one.labels)) >= 2 and bench.synthetic_picture(61, 5).data != one.data


def test_photographs_take_the_place_of_drawn_pictures(small, tmp_path) -> None:
    (tmp_path / "a.jpg").write_bytes(bench.synthetic_picture(90, 1).data)
    found = bench.benchmark(small, bench.Settings(size=33, repeats=1, batch=2, crf=False, images=[tmp_path / "a.jpg"]))
    assert found["check"]["equal_labels"] == 1


def test_the_papers_figures_stand_beside_its_nets() -> None:
    known = {name: bench.net_and_model(name, None, None, None)[1] for name in bench.DEFAULT_MODELS}
    assert bench._paper(known["deeplab"]) == {"gpu": "Titan", "crf_seconds": 0.5, "net_images_per_second": 8}
    assert bench._paper(known["deeplab-largefov"])["net_images_per_second_by_table2"] == 13.4
    assert set(bench._paper(None)) == {"gpu", "crf_seconds"}


@pytest.mark.parametrize(("model", "whole", "side", "gigaflops"), [("deeplab", 306, 39, 229.4),
                                                                   ("deeplab-largefov", 313, 40, 95.7)])
def test_the_nets_of_the_papers_sentence(model, whole, side, gigaflops, monkeypatch) -> None:
    monkeypatch.setattr(bench.Subject, "make", lambda self, *_: SimpleNet(bench.Graph(
        self._spec, bench.TEST, input_shapes={self.input: (1, 3, 306, 306)})))
    subject = bench.Subject(model, bench.Settings(size=306))
    assert subject.whole == (whole, whole) and subject.net.blobs[subject.scores].shape == (1, 21, side, side)
    assert subject.flops / 1e9 == pytest.approx(gigaflops, abs=0.05)
    layers = [layer.name for layer in subject._spec.layers]
    assert layers[1] == "conv1_1" and layers[-1] == subject.scores and subject.mean[0] == pytest.approx(104.008)


class SimpleNet:
    """Of a net only what its graph says: the real ones take a gigabyte."""

    def __init__(self, graph) -> None:
        self.graph, self.blobs = graph, {value.name: value for value in graph.values}


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"repeats": 0}, {"size": 32}])
def test_settings_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(wrong))}: expected at least"):
        bench.Settings(**wrong)


def test_nets_that_take_something_else_are_refused(small) -> None:
    small.write_text(NET.replace("input_dim: 3", "input_dim: 1"))
    with pytest.raises(ArgumentError, match="image of 3 channels, got 1"):
        bench.Subject(small, bench.Settings())


def test_the_embedded_net_runs_with_its_own_weights_at_another_size() -> None:
    found = bench.benchmark("deeplab-mnv2-largefov", bench.Settings(size=129, repeats=1))
    assert found["weights"].endswith("voc12.caffemodel.h5") and found["crf_scores"] == "the net's"
    assert found["score_map"] == [17, 17] and found["check"]["same_bits"]


def test_yardsticks_are_positive_and_say_what_they_were_taken_on(device, monkeypatch) -> None:
    for name in ("cpu", "cuda"):
        monkeypatch.setitem(yardstick.SIDES, name, 96)
        monkeypatch.setitem(yardstick.COPIED, name, 1 << 18)
    for precision in ("fp32",) if device == "cpu" else ("fp32", "tf32", "fp16"):
        backend = get_backend(device, precision)
        assert yardstick.peak_flops(backend, 2) > 1e6 and yardstick.copy_bandwidth(backend, 2) > 1e6
    facts = yardstick.host_facts(backend)
    assert facts["versions"]["numpy"] == np.__version__ and facts["date"].endswith("+00:00")
    assert ("device" in facts) == (device != "cpu")


def test_times_are_told_by_percentiles() -> None:
    found = bench.measured([0.003, 0.001, 0.002])
    assert found == {"p50_ms": 2.0, "p95_ms": pytest.approx(2.9), "fastest_ms": 1.0, "count": 3}
