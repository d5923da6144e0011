"""``atrouscaffe crf``: every kind of file in and out, the parameters, the figure, the errors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrouscaffe.cli.main import main
from atrouscaffe.crf.densecrf import DenseCRF, refine
from atrouscaffe.data.bin import encode_bin, read_bin
from atrouscaffe.data.mat import encode_mat, read_mat

SIZE = 21, 26


@pytest.fixture
def scene(tmp_path):
    """A picture, scores of three labels, and where they lie."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    truth = np.where(x < 12, 0, np.where(y < 10, 1, 2))
    image = np.array([[200, 40, 40], [40, 200, 60], [60, 60, 210]], np.uint8)[truth]
    scores = (np.eye(3)[truth].transpose(2, 0, 1) * 1.5 + random.normal(size=(3, *SIZE))).astype(np.float32)
    Image.fromarray(image).save(tmp_path / "scene.png")
    return tmp_path, image, scores, truth


def crf(tmp_path, *words, scores):
    return main(["crf", str(tmp_path / "scene.png"), "--scores", str(scores), "--out", str(tmp_path / "out"),
                 *map(str, words)])


def labels(tmp_path):
    return np.array(Image.open(tmp_path / "out" / "scene.png"))


def soft(scores):
    p = np.exp(scores - scores.max(axis=0))
    return p / p.sum(axis=0)


@pytest.mark.parametrize("kind", ["npz", "npz-probabilities", "npy", "mat", "bin"])
def test_scores_of_every_kind_give_the_same_labels(scene, kind, capsys):
    tmp_path, image, scores, truth = scene
    wanted = refine(image, scores=scores, preset="paper").labels
    path = tmp_path / f"known.{kind[:3]}"
    if kind == "npz":
        np.savez(path, scores=scores)
    elif kind == "npz-probabilities":
        np.savez(path, probabilities=soft(scores))
    elif kind == "npy":
        np.save(path, scores)
    elif kind == "mat":  # of a net larger than the picture
        large = np.pad(scores, ((0, 0), (0, 5), (0, 3)))
        path.write_bytes(encode_mat({"data": large[None].transpose()}))
    else:
        path.write_bytes(encode_bin(np.moveaxis(soft(scores), 0, -1)))
    assert crf(tmp_path, scores=path) == 0
    assert np.array_equal(labels(tmp_path), wanted) and (wanted == truth).mean() > 0.95
    assert (tmp_path / "out" / "scene_overlay.png").exists() and "10 iterations" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["npz", "npy", "mat", "bin"])
def test_results_are_written_as_the_original_programs_did(scene, form):
    tmp_path, image, scores, _ = scene
    np.save(tmp_path / "scene.npy", scores)
    assert crf(tmp_path, "--format", "bin", "--save-probabilities", form, "--no-overlay", "--iterations", 2,
               "--exact", scores=tmp_path) == 0
    wanted = refine(image, scores=scores, iterations=2, exact=True)
    stored = read_bin(tmp_path / "out" / "scene.bin")
    assert stored.dtype == np.int16 and np.array_equal(stored[..., 0], wanted.labels)
    path = tmp_path / "out" / f"scene_probabilities.{form}"
    if form == "bin":
        beliefs = np.moveaxis(read_bin(path), -1, 0)
    elif form == "mat":
        beliefs = read_mat(path)["data"].transpose().reshape(3, *SIZE)
    else:
        beliefs = np.load(path) if form == "npy" else np.load(path)["probabilities"]
    assert np.array_equal(beliefs, wanted.probabilities)
    assert not (tmp_path / "out" / "scene_overlay.png").exists()


def test_labels_and_scribbles(scene):
    tmp_path, _, _, truth = scene
    scribbles = np.full(SIZE, 255, np.uint8)
    scribbles[10, 2:6], scribbles[4, 18:22], scribbles[16, 18:22] = 0, 1, 2
    Image.fromarray(scribbles).save(tmp_path / "known.png")
    settings = ("--bilateral-sigma-xy", 30, "--bilateral-sigma-rgb", 20, "--bilateral-weight", 8)
    assert crf(tmp_path, "--kind", "scribbles", "--confidence", 0.9, *settings, scores=tmp_path / "known.png") == 0
    assert (labels(tmp_path) == truth).mean() > 0.95
    colours = np.zeros((*SIZE, 3), np.uint8)
    for label, colour in enumerate([(255, 10, 0), (0, 200, 0), (0, 0, 250)]):
        colours[scribbles == label] = colour
    Image.fromarray(colours).save(tmp_path / "known.png")
    assert crf(tmp_path, "--kind", "scribbles", *settings, scores=tmp_path / "known.png") == 0
    assert (labels(tmp_path) == truth).mean() > 0.95
    assert Image.open(tmp_path / "out" / "scene.png").getpalette()[:6] == [255, 10, 0, 0, 200, 0]
    noisy = np.where(np.random.default_rng(0).random(SIZE) < 0.25, 1, truth).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "known.png")
    assert crf(tmp_path, *settings, scores=tmp_path / "known.png") == 0
    assert (labels(tmp_path) == truth).mean() > max(0.95, (noisy == truth).mean())


def test_parameters_replace_the_presets(scene):
    tmp_path, image, scores, _ = scene
    np.save(tmp_path / "known.npy", scores)
    assert crf(tmp_path, "--preset", "deeplab", "--position-weight", 0, "--normalization", "symmetric",
               "--iterations", 3, "--save-probabilities", "npy", scores=tmp_path / "known.npy") == 0
    wanted = DenseCRF(-scores).add_bilateral(image, 50, 3, 5, normalization="symmetric").infer(3).probabilities
    assert np.array_equal(np.load(tmp_path / "out" / "scene_probabilities.npy"), wanted)


def test_iterations_are_shown_as_one_picture(scene):
    tmp_path, _, scores, _ = scene
    np.save(tmp_path / "known.npy", scores)
    assert crf(tmp_path, "--show-iterations", "--show-class", 1, scores=tmp_path / "known.npy") == 0
    picture = np.array(Image.open(tmp_path / "out" / "scene_iterations.png"))
    assert picture.shape == (24 + 2 * SIZE[0] + 6, 4 * SIZE[1] + 18, 3)
    first, last = picture[-SIZE[0]:, : SIZE[1], 0] / 255, picture[-SIZE[0]:, -SIZE[1]:, 0] / 255
    assert np.abs(first - soft(scores)[1]).max() < 0.01 and np.abs(last - 0.5).mean() > np.abs(first - 0.5).mean()


def test_a_folder_is_worked_through_and_failures_are_counted(scene, capsys):
    tmp_path, image, scores, _ = scene
    (tmp_path / "pictures").mkdir()
    for name in ("one", "two"):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "known").mkdir()
    np.save(tmp_path / "known" / "two.npy", scores)
    status = main(["crf", str(tmp_path / "pictures"), "--scores", str(tmp_path / "known"),
                   "--out", str(tmp_path / "out")])
    assert status == 2 and (tmp_path / "out" / "two.png").exists() and not (tmp_path / "out" / "one.png").exists()
    assert "one.npz" in capsys.readouterr().err


@pytest.mark.parametrize("name, content, words, message", [
    ("known.npy", b"not numpy", (), "NumPy"), ("known.txt", b"", (), "suffix|file of"),
    ("gone.npz", None, (), "no such"),
    ("known.bin", b"1234", (), "12 bytes"), ("known.bin", bytes(40), (), "expected"),
    ("known.npy", np.zeros((3, 5, 5), np.float32), (), "21 rows"), ("known.npy", np.zeros(5), (), "expected"),
    ("known.npy", np.full((3, *SIZE), np.nan, np.float32), (), "NaN"),
    ("known.npy", np.zeros((3, *SIZE)), ("--preset", "none"), "preset"),
    ("known.npy", np.zeros((3, *SIZE)), ("--bilateral-sigma-rgb", "0"), "sigma_rgb"),
    ("known.npy", np.zeros((3, *SIZE)), ("--iterations", "-1"), "iterations"),
    ("known.npy", np.zeros((3, *SIZE)), ("--kind", "labels"), "PNG"),
    ("known.npy", np.zeros((3, *SIZE)), ("--classes", "0"), "--classes: expected 1 to 256"),
    ("known.npy", np.zeros((3, *SIZE)), ("--classes", "257"), "--classes: expected 1 to 256"),
    ("known.npy", np.zeros((3, *SIZE)), ("--show-iterations", "--show-class", "7"), "show-class"),
])
def test_bad_input_is_one_paragraph_with_status_2(scene, capsys, name, content, words, message):
    import re

    tmp_path = scene[0]
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    assert crf(tmp_path, *words, scores=path) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_bin_files_hold_columns_first(tmp_path):
    values = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    data = encode_bin(values)
    assert data[:12] == np.array([2, 3, 5], "<i4").tobytes()
    assert np.frombuffer(data, "<f4", offset=12)[:3].tolist() == [0, 15, 5]
    (tmp_path / "x.bin").write_bytes(data)
    assert np.array_equal(read_bin(tmp_path / "x.bin"), values)
    with pytest.raises(ValueError):
        encode_bin(np.array([[40000]]))
    with pytest.raises(ValueError):
        encode_bin(np.zeros(3))


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_device_gives_the_cpus_labels_and_pictures(device, scene):
    tmp_path, image, scores, _ = scene
    np.savez(tmp_path / "known.npz", scores=scores)
    assert crf(tmp_path, "--device", device, "--show-iterations", "--save-probabilities", "npy",
               scores=tmp_path / "known.npz") == 0
    wanted = refine(image, scores=scores, preset="paper")
    assert np.array_equal(labels(tmp_path), wanted.labels)
    found = np.load(tmp_path / "out" / "scene_probabilities.npy")
    np.testing.assert_allclose(found, wanted.probabilities, rtol=0, atol=1e-5)
    assert (tmp_path / "out" / "scene_iterations.png").stat().st_size > 0


def test_device_that_is_not_there_is_refused(scene, capsys):
    tmp_path, *_, scores, _ = scene
    np.savez(tmp_path / "known.npz", scores=scores)
    assert crf(tmp_path, "--device", "tpu", scores=tmp_path / "known.npz") == 2
    assert "device: expected 'cpu', 'cuda' or 'cuda:N', got 'tpu'" in capsys.readouterr().err
