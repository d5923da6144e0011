"""Segmenters, nets and CRFs that threads share."""

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from atrouscaffe import TEST, Net, Segmenter
from atrouscaffe.errors import NetBusyError
from atrouscaffe.runtime.threads import set_num_threads

from .nets import finite, image_pooling, photo, weights

MEAN = (104.0, 116.0, 122.0)
SIZES = [(33, 41), (25, 30), (45, 33), (60, 70)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Nets and their weights: one that is reshaped, and one that is made anew for each size."""
    folder = tmp_path_factory.mktemp("trained")
    return {"reshaped": (finite(), weights(finite(), folder / "a.caffemodel")),
            "made anew": (image_pooling(), weights(image_pooling(), folder / "b.caffemodel"))}


@pytest.fixture
def threads():
    set_num_threads(4)
    yield
    set_num_threads(None)


@pytest.mark.parametrize("crf", [False, True], ids=["net", "crf"])
@pytest.mark.parametrize("kind", ["reshaped", "made anew"])
def test_eight_threads_share_a_segmenter_and_find_what_one_finds(kind, crf, trained, threads):
    segmenter = Segmenter(*trained[kind], mean=MEAN, crf=crf)
    images = [photo(*SIZES[i % len(SIZES)], seed=i) for i in range(24)]
    alone = [(segmenter.labels(image), segmenter(image)) for image in images]
    with ThreadPoolExecutor(8) as pool:
        labels = list(pool.map(segmenter.labels, images))
        results = list(pool.map(segmenter, images))
    for (want, (_, probabilities, scores)), got, result in zip(alone, labels, results):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(result.probabilities, probabilities)
        np.testing.assert_array_equal(result.scores, scores)


def test_runners_stay_within_the_memory_budget(trained, threads):
    plain = Segmenter(*trained["reshaped"], mean=MEAN).net.memory
    budget = plain.parameter_bytes + int(2.5 * plain.activation_bytes) + 2**20
    segmenter = Segmenter(*trained["reshaped"], mean=MEAN, memory_budget=budget)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(segmenter.labels, [photo(33, 41, seed=i) for i in range(16)]))
    made = segmenter._runners._all
    assert 1 <= len(made) <= 4
    assert plain.parameter_bytes + sum(runner.net.memory.activation_bytes for runner in made) <= budget


def test_an_error_in_one_thread_leaves_the_segmenter_usable(trained, threads):
    segmenter = Segmenter(*trained["reshaped"], mean=MEAN)
    want = segmenter.labels(photo(33, 41))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(segmenter.labels, "no such file.png" if i % 2 else photo(33, 41)) for i in range(12)]
        errors = [job.exception() for job in jobs]
    assert [error is not None for error in errors] == [bool(i % 2) for i in range(12)]
    np.testing.assert_array_equal(segmenter.labels(photo(33, 41)), want)


PYTHON_LAYER_NET = 'input: "x" input_shape { dim: 1 } layer { name: "p" type: "Power" bottom: "x" top: "y" }'


@pytest.mark.parametrize("entered", ["forward", "backward"])
def test_a_net_that_a_second_thread_enters_says_so(entered):
    net = Net('force_backward: true ' + PYTHON_LAYER_NET, TEST)
    net.forward()
    inside, leave, found = threading.Event(), threading.Event(), []

    def wait(_):
        inside.set()
        leave.wait(10)

    net._execution.callbacks[f"before_{entered}"].append(wait)
    first = threading.Thread(target=getattr(net, entered))
    first.start()
    inside.wait(10)
    for name in ("forward", "backward"):
        with pytest.raises(NetBusyError, match="another thread"):
            getattr(net, name)()
        found.append(name)
    leave.set()
    first.join()
    net._execution.callbacks[f"before_{entered}"].clear()
    net.forward()
    assert found == ["forward", "backward"]


def test_a_net_may_be_entered_again_by_the_thread_that_runs_it():
    net = Net(PYTHON_LAYER_NET, TEST)
    depth = []

    def again(_):
        if not depth:
            depth.append(1)
            net.forward()

    net._execution.callbacks["after_forward"].append(again)
    net.forward()
    assert depth == [1]


@pytest.mark.parametrize("kind", ["paths", "text"])
def test_a_segmenter_goes_through_pickle(kind, trained, tmp_path, monkeypatch):
    text, path = trained["reshaped"]
    if kind == "paths":
        monkeypatch.chdir(path.parent)
        (path.parent / "net.prototxt").write_text(text)
        segmenter = Segmenter("net.prototxt", path.name, mean=MEAN, crf=True)
    else:
        segmenter = Segmenter(text, path, mean=MEAN, crf=True)
    data = pickle.dumps(segmenter)
    (tmp_path / "pickled").write_bytes(data)
    np.save(tmp_path / "image.npy", photo(30, 40))
    code = ("import pickle, sys, numpy as np; segmenter = pickle.load(open(sys.argv[1] + '/pickled', 'rb')); "
            "np.save(sys.argv[1] + '/labels.npy', segmenter.labels(np.load(sys.argv[1] + '/image.npy')))")
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}", str(tmp_path)],
                   check=True, cwd="/")
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), segmenter.labels(photo(30, 40)))
