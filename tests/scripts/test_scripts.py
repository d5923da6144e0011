"""Old scripts run unchanged on real models: in a process of ``python -m atrouscaffe.pycaffe``, and in this one.

In this process `install` lets the scripts' ``import caffe`` mean this package. Results are compared with
what other engines computed for the same models.
"""

from __future__ import annotations

import gzip
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atrouscaffe.pycaffe.install import install, uninstall

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@pytest.fixture
def models(shared_data):
    return shared_data / "models"


def in_process(name, *args):
    """Import a script as a module and call its main."""
    install()
    try:
        importlib.import_module(f"tests.scripts.{name}").main([str(arg) for arg in args])
    finally:
        uninstall()


def as_program(name, *args):
    """Run a script by ``python -m atrouscaffe.pycaffe``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "atrouscaffe.pycaffe", str(HERE / f"{name}.py"), *map(str, args)],
                          capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout


both = pytest.mark.parametrize("run", [in_process, as_program])


@pytest.fixture
def cat(models, tmp_path):
    """SqueezeNet, its weights, the cat as a picture, and what other engines say of it."""
    from PIL import Image

    folder = models / "squeezenet_v1.0_dc"
    golden = np.load(folder / "golden.npz")
    pixels = golden["input_u8_bgr"]
    pixels = pixels[0] if pixels.ndim == 4 else pixels
    pixels = pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(tmp_path / "cat.png")
    return (folder / "deploy.prototxt", folder / "squeezenet_v1.0_dc.caffemodel", tmp_path / "cat.png",
            golden["pool_final"].ravel())


@both
def test_classification_with_classifier(cat, run, tmp_path):
    model, weights, picture, expected = cat
    run("classify_classifier", model, weights, tmp_path / "out.npy", picture)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy")[0].ravel(), expected, atol=2e-4)


@both
def test_classification_with_transformer(cat, run, tmp_path):
    model, weights, picture, expected = cat
    np.save(tmp_path / "mean.npy", np.ones((3, 9, 8)) * np.array([104.0, 117.0, 123.0])[:, None, None])
    run("classify_transformer", model, weights, tmp_path / "out.npy", picture)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=2e-4)


@both
def test_net_surgery_gives_a_map_that_equals_its_patches(models, run, tmp_path):
    folder = models / "lenet_mnist"
    run("net_surgery", folder / "deploy.prototxt", folder / "lenet_iter_10000.caffemodel", tmp_path / "out.npz")
    out = np.load(tmp_path / "out.npz")
    assert out["maps"].shape == (1, 10, 4, 4) and out["rows"].shape == (16, 10)
    np.testing.assert_allclose(out["maps"][0].reshape(10, 16).T, out["rows"], atol=1e-5)


@both
def test_filters_and_activations(models, run, tmp_path):
    from PIL import Image

    folder = models / "lenet_mnist"
    run("dump_filters", folder / "deploy.prototxt", folder / "lenet_iter_10000.caffemodel", tmp_path)
    dump = np.load(tmp_path / "activations.npz")
    assert {"data", "conv1", "pool1", "conv2", "pool2", "ip1", "ip2", "prob"} <= set(dump)
    np.testing.assert_allclose(dump["prob"].sum(1), 1, rtol=1e-5)
    with Image.open(tmp_path / "filters.png") as picture:
        assert picture.size == (30, 30)
    pooled = dump["conv1"].reshape(64, 20, 12, 2, 12, 2).max((3, 5))
    np.testing.assert_array_equal(dump["pool1"], pooled)


@pytest.fixture
def digits(shared_data, tmp_path):
    """An LMDB of 100 of MNIST's digits, and the digits."""
    lmdb = pytest.importorskip("lmdb")
    from atrouscaffe.formats.datum import serialize_datum

    def read(name, skip):
        with gzip.open(shared_data / "mnist" / name) as file:
            return np.frombuffer(file.read(), np.uint8)[skip:]

    images = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:100]
    labels = read("t10k-labels-idx1-ubyte.gz", 8)[:100]
    env = lmdb.open(str(tmp_path / "digits_lmdb"), map_size=1 << 24)
    with env.begin(write=True) as txn:
        for i, (image, label) in enumerate(zip(images, labels)):
            txn.put(f"{i:08d}".encode(), serialize_datum(image, int(label)))
    env.close()
    return tmp_path / "digits_lmdb", images, labels


@both
def test_lmdb_to_hdf5(digits, run, tmp_path):
    import h5py

    folder, images, labels = digits
    run("lmdb_to_hdf5", folder, tmp_path / "digits.h5")
    with h5py.File(tmp_path / "digits.h5") as file:
        np.testing.assert_array_equal(file["data"][:], images.astype(np.float32) / 256)
        np.testing.assert_array_equal(file["label"][:], labels)


@both
def test_learning_lenet_step_by_step(digits, run, tmp_path):
    in_process("lmdb_to_hdf5", digits[0], tmp_path / "digits.h5")
    run("learn_lenet", tmp_path / "digits.h5.txt", tmp_path, 31)
    curves = np.load(tmp_path / "curves.npz")
    assert curves["loss"][-5:].mean() < 0.5 * curves["loss"][0]
    assert curves["accuracy"].shape == (4,) and curves["accuracy"][-1] > 0.7
    assert (tmp_path / "curves.png").is_file() and (tmp_path / "final.caffemodel").is_file()


@both
def test_bilinear_surgery_and_scores(models, shared_data, run, tmp_path):
    folder, voc = models / "deeplabv3_mnv2", shared_data / "voc"
    ids = (voc / "ImageSets" / "Segmentation" / "devval.txt").read_text().split()[:2]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    run("fcn_score", folder / "deploy_257.prototxt", folder / "deeplabv3_mnv2_dm05_voc.caffemodel", voc,
        tmp_path / "ids.txt", tmp_path / "out.npz")
    hist = np.load(tmp_path / "out.npz")["hist"]
    assert hist.shape == (21, 21) and np.diag(hist).sum() / hist.sum() > 0.8


@both
def test_deeplab_inference_with_mat_files_and_crf(models, run, tmp_path):
    from atrouscaffe.cli.main import main
    from atrouscaffe.data.mat import read_mat
    from atrouscaffe.data.palette import read_labels

    folder = models / "deeplabv3_mnv2"
    (tmp_path / "list.txt").write_text("input_257_a\ninput_257_b\n")
    run("deeplab_infer", folder / "deploy_257.prototxt", folder / "deeplabv3_mnv2_dm05_voc.caffemodel",
        tmp_path / "list.txt", folder, tmp_path)
    golden = np.load(folder / "golden.npz")
    for name in "ab":
        scores = read_mat(tmp_path / "fc8" / f"input_257_{name}_blob_0.mat")["data"]
        labels = scores.reshape(257, 257, 21).argmax(2).T  # MATLAB's order is (W, H, C, N)
        assert (labels == golden[f"label_257_{name}"]).mean() > 0.9999
        refined = read_labels(tmp_path / f"input_257_{name}_label.png")
        assert 0.9 < (refined == labels).mean() < 1
    photo = folder / "input_257_a.png"
    assert main(["crf", str(photo), "--scores", str(tmp_path / "fc8" / "input_257_a_blob_0.mat"), "--iterations", "3",
                 "--position-sigma", "3", "--position-weight", "3", "--bilateral-sigma-xy", "49",
                 "--bilateral-sigma-rgb", "5", "--bilateral-weight", "4", "--out", str(tmp_path / "again"),
                 "--no-overlay"]) == 0
    again = read_labels(tmp_path / "again" / "input_257_a.png")
    assert (again == read_labels(tmp_path / "input_257_a_label.png")).mean() > 0.995
