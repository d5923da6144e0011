"""Evaluation against a plain loop, resuming, saved scores, other programs' predictions."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from sklearn.metrics import confusion_matrix

from atrouscaffe.crf.densecrf import refine
from atrouscaffe.data.dataset import find_samples
from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import encode_labels, read_labels
from atrouscaffe.errors import ArgumentError, DataError
from atrouscaffe.metrics import boundary_distance
from atrouscaffe.pipeline.evaluate import evaluate, evaluate_predictions, run_settings
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.pipeline.sources import NetSource, SavedSource, probabilities
from atrouscaffe.pipeline.store import RunStore, read_scores

from . import nets, voc

CRF = {"bilateral_sigma_xy": 20, "bilateral_sigma_rgb": 10, "iterations": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return voc.folder(tmp_path_factory.mktemp("data"), count=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return nets.weights(nets.finite(), tmp_path_factory.mktemp("weights") / "w.caffemodel")


def segmenter(weights, crf=True):
    return Segmenter(nets.finite(), weights, mean=100, scale=0.02, crf=CRF if crf else False)


class Counting(NetSource):
    """Counts the images that the net ran on; may fail on one."""

    ran = ()
    fails = None

    def scores(self, ident, image):
        if ident == self.fails:
            raise DataError("no scores today")
        self.ran = (*self.ran, ident)
        return super().scores(ident, image)


def figures(report):
    found = report.as_dict()
    return {key: value for key, value in found.items() if key not in ("seconds", "resumed")}


def test_figures_equal_those_of_a_plain_loop(data, weights):
    samples, net = find_samples(data, "val"), segmenter(weights)
    report = evaluate(net, samples)
    flat = {"truth": [], "plain": [], "crf": [], "near": []}
    for sample in samples:
        image, truth = read_image(sample.image), read_labels(sample.label)
        scores = net.scores(image)
        kept = truth != 255
        flat["truth"].append(truth[kept])
        flat["plain"].append(scores.argmax(0)[kept])
        flat["crf"].append(refine(image[..., ::-1], probabilities(scores), **net.crf).labels[kept])
        flat["near"].append((boundary_distance(truth) <= 4)[kept])
    flat = {key: np.concatenate(values) for key, values in flat.items()}
    for kind in ("plain", "crf"):
        counts = confusion_matrix(flat["truth"], flat[kind], labels=range(7))
        assert np.array_equal(report.evaluations[kind].matrix.counts, counts)
        found = report.as_dict()[kind]
        assert found["pixel_accuracy"] == pytest.approx(100 * np.trace(counts) / counts.sum(), abs=1e-3)
        near = flat["near"]
        accuracy = 100 * np.mean(flat[kind][near] == flat["truth"][near])
        assert found["trimap"]["4"]["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-3)
    assert list(report.per_image) == [sample.id for sample in samples]
    assert not report.failed


def test_bad_images_are_listed_and_the_rest_goes_on(tmp_path, weights):
    root = voc.folder(tmp_path, count=4)
    samples = find_samples(root, "val")
    samples[0].image.write_bytes(samples[0].image.read_bytes()[:200])
    samples[2].label.write_bytes(encode_labels(np.zeros((3, 4), int)))
    source = Counting(segmenter(weights, crf=False))
    source.fails = samples[3].id
    report = evaluate(source, samples)
    assert list(report.per_image) == [samples[1].id]
    bad = (samples[0].id, samples[2].id, samples[3].id)
    assert all(name in text for name, text in zip(bad, report.failed)) and len(report.failed) == 3
    assert "damaged" in report.failed[0] and "4x3" in report.failed[1] and "no scores today" in report.failed[2]


def test_stopped_run_goes_on_and_repeats_nothing(data, weights, tmp_path):
    samples = find_samples(data, "val")
    whole = evaluate(segmenter(weights), samples)
    first = Counting(segmenter(weights))
    settings = run_settings(first)

    def stop(done, report):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(first, samples, store=RunStore(tmp_path / "run", settings), progress=stop)
    finished = {path.stem for path in (tmp_path / "run" / "crf").glob("*.png")}
    assert len(finished) >= 2
    second = Counting(segmenter(weights))
    report = evaluate(second, samples, store=RunStore(tmp_path / "run", settings))
    assert set(second.ran) == {sample.id for sample in samples} - finished
    assert report.resumed == len(finished)
    assert figures(report) == figures(whole)
    third = Counting(segmenter(weights))
    assert figures(evaluate(third, samples, store=RunStore(tmp_path / "run", settings))) == figures(whole)
    assert not third.ran


def test_damaged_label_map_of_a_run_is_made_again(data, weights, tmp_path):
    samples, source = find_samples(data, "val"), Counting(segmenter(weights, crf=False))
    store = RunStore(tmp_path, run_settings(source))
    whole = evaluate(source, samples, store=store)
    path = store.path("plain", samples[1].id)
    path.write_bytes(path.read_bytes()[:40])
    source.ran = ()
    assert figures(evaluate(source, samples, store=store)) == figures(whole)
    assert source.ran == (samples[1].id,)


def test_folder_of_other_settings_is_refused_unless_fresh(data, weights, tmp_path):
    samples, source = find_samples(data, "val")[:1], NetSource(segmenter(weights))
    evaluate(source, samples, store=RunStore(tmp_path / "run", run_settings(source)))
    other = NetSource(Segmenter(nets.finite(), weights, mean=90, scale=0.02, crf=CRF))
    with pytest.raises(DataError, match=r"other settings: mean \[100.*90.*--fresh"):
        RunStore(tmp_path / "run", run_settings(other))
    harder = NetSource(Segmenter(nets.finite(), weights, mean=100, scale=0.02, crf=CRF | {"iterations": 4}))
    with pytest.raises(DataError, match="crf"):
        RunStore(tmp_path / "run", run_settings(harder))
    store = RunStore(tmp_path / "run", run_settings(harder), fresh=True)
    assert store.load(samples[0].id) is None
    changed = NetSource(segmenter(nets.weights(nets.finite(), tmp_path / "other.caffemodel", seed=1)))
    assert changed.settings()["weights"] != source.settings()["weights"]


@pytest.mark.parametrize("form", ["npz", "mat"])
def test_saved_scores_give_the_same_figures(data, weights, tmp_path, form):
    samples, source = find_samples(data, "val"), NetSource(segmenter(weights))
    whole = evaluate(source, samples, store=RunStore(tmp_path, run_settings(source), scores=form))
    if form == "mat":  # as MatWrite has it, read by SciPy
        stored = loadmat(tmp_path / "scores" / f"{samples[0].id}_blob_0.mat")["data"]
        height, width = read_image(samples[0].image).shape[:2]
        assert stored.shape[:3] == (width, height, 7) and stored.dtype == np.float32
    again = evaluate(SavedSource(tmp_path / "scores", 7, source.crf), samples)
    assert figures(again) == figures(whole)


def test_scores_of_the_nets_own_size_are_cut_to_the_image(tmp_path):
    scores = np.random.default_rng(0).normal(size=(7, 33, 41)).astype(np.float32)
    savemat(tmp_path / "x_blob_0.mat", {"data": scores[None].transpose()})
    assert np.array_equal(read_scores(tmp_path, "x", (29, 37)), scores[:, :29, :37])
    with pytest.raises(DataError, match="at least 34"):
        read_scores(tmp_path, "x", (34, 37))
    with pytest.raises(Exception, match=r"y_blob_0\.mat"):
        read_scores(tmp_path, "y", (3, 3))
    (tmp_path / "z.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"z\.npz"):
        read_scores(tmp_path, "z", (3, 3))


def test_scales_and_flip_average_probabilities(weights):
    net = segmenter(weights, crf=False)
    image = nets.photo(29, 37)
    source = NetSource(net, (1.0, 1.5), flip=True)
    import cv2

    large = cv2.resize(image, (56, 44), interpolation=cv2.INTER_LINEAR)
    passes = [probabilities(net.scores(image)), probabilities(net.scores(image[:, ::-1].copy()))[:, :, ::-1],
              np.stack([cv2.resize(plane, (37, 29)) for plane in probabilities(net.scores(large))]),
              np.stack([cv2.resize(np.ascontiguousarray(plane[:, ::-1]), (37, 29))
                        for plane in probabilities(net.scores(large[:, ::-1].copy()))])]
    assert np.allclose(np.exp(source.scores("x", image)), np.mean(passes, 0), atol=1e-6)
    assert np.array_equal(NetSource(net).scores("x", image), net.scores(image))
    with pytest.raises(ArgumentError, match="scales"):
        NetSource(net, (0.0,))


def test_other_programs_predictions_are_scored(data, weights, tmp_path):
    samples, source = find_samples(data, "val"), NetSource(segmenter(weights, crf=False))
    whole = evaluate(source, samples, store=RunStore(tmp_path, run_settings(source)))
    report = evaluate_predictions(tmp_path / "plain", samples, source.names)
    assert figures(report) == figures(whole)
    (tmp_path / "plain" / f"{samples[0].id}.png").unlink()
    (tmp_path / "plain" / f"{samples[1].id}.png").write_bytes(encode_labels(np.full((3, 4), 2)))
    (tmp_path / "plain" / f"{samples[2].id}.png").write_bytes(encode_labels(np.full((29, 37), 255)))
    report = evaluate_predictions(tmp_path / "plain", samples, source.names)
    assert len(report.failed) == 3 and list(report.per_image) == [sample.id for sample in samples[3:]]
    assert all(f"{sample.id}.png" in text for sample, text in zip(samples, report.failed))


def test_real_model_agrees_with_the_reference_image_by_image(shared_data):
    import json

    model = shared_data / "models" / "deeplabv3_mnv2"
    net = Segmenter(model / "deploy_513_relu6.prototxt", model / "deeplabv3_mnv2_dm05_voc.caffemodel", mean=127.5,
                    scale=1 / 127.5, crf="deeplabv3-mnv2")
    expected = json.loads((shared_data / "voc" / "reference_devval.json").read_text())["per_image"]
    samples = find_samples(shared_data / "voc", "devval")[10:13]
    report = evaluate(net, samples)
    for sample in samples:
        for kind, value, limit in zip(expected["columns"], expected[sample.id], (0.01, 0.1)):
            found = report.per_image[sample.id][kind]["pixel_accuracy"]
            assert found == pytest.approx(value, abs=limit), (sample.id, kind)
