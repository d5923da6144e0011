"""``atrouscaffe segment``: files, folders, videos, and inputs that are none."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from atrouscaffe import Segmenter
from atrouscaffe.cli.main import main
from atrouscaffe.cli.pictures import find_pictures
from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import color_map, read_labels
from atrouscaffe.data.video import VideoFile
from atrouscaffe.errors import DataError, FileMissingError
from atrouscaffe.formats.written import MANIFEST
from tests.pipeline.nets import finite, photo, weights

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A small net with weights, as files."""
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.prototxt").write_text(finite())
    weights(finite(), folder / "net.caffemodel")
    return folder


SAMPLING = """input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 11 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" dropout_param { MORE } }
layer { name: "s" type: "Convolution" bottom: "c" top: "s" convolution_param { num_output: 3 kernel_size: 1 } }
""".replace("{", "{{").replace("}", "}}").replace("MORE", "{}")


def options(net, out):
    return ["--model", str(net / "net.prototxt"), "--weights", str(net / "net.caffemodel"), "--mean", "104,116,122",
            "--out", str(out)]


def test_a_photograph_gives_labels_and_overlay(net, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), photo(33, 41))
    assert main(["segment", str(tmp_path / "a.png"), *options(net, tmp_path / "out")]) == 0
    result = Segmenter(net / "net.prototxt", net / "net.caffemodel", mean=[104, 116, 122])(photo(33, 41))
    assert np.array_equal(read_labels(tmp_path / "out" / "a.png"), result.labels)
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "a.png"))[..., ::-1], color_map()[result.labels])
    assert cv2.imread(str(tmp_path / "out" / "a_overlay.png")).shape[0] > 33
    out = capsys.readouterr()
    assert "a.png" in out.out
    assert out.err == ""  # no progress bar for work of less than a second, or without a terminal


def test_samples_give_an_uncertainty_picture(tmp_path, capsys):
    """Kendall et al. (2015): the variance of the passes' probabilities, averaged over the classes."""
    text = SAMPLING.format("sample_weights_test: true")
    (tmp_path / "net.prototxt").write_text(text)
    weights(text, tmp_path / "net.caffemodel")
    cv2.imwrite(str(tmp_path / "a.png"), photo(9, 11))
    command = ["segment", str(tmp_path / "a.png"), *options(tmp_path, tmp_path / "out"), "--samples", "5", "--json",
               "--save-scores"]
    assert main(command) == 0
    entry = json.loads(capsys.readouterr().out)["results"][0]
    segmenter = Segmenter(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", mean=[104, 116, 122], samples=5)
    wanted = segmenter.sampled(photo(9, 11))
    saved = np.load(tmp_path / "out" / "a.npz")
    assert np.array_equal(saved["uncertainty"], wanted.uncertainty)
    assert np.array_equal(read_labels(tmp_path / "out" / "a.png"), wanted.labels)
    assert entry["largest_uncertainty"] == pytest.approx(wanted.uncertainty.max())
    picture = cv2.imread(entry["uncertainty"], cv2.IMREAD_UNCHANGED)
    assert picture.max() == 255
    assert np.abs(picture - wanted.uncertainty * 255 / wanted.uncertainty.max()).max() <= 0.51


@pytest.mark.parametrize(("more", "samples", "word"), [("", "3", "sample_weights_test"), ("", "0", "at least 1")])
def test_samples_that_cannot_be_are_refused(more, samples, word, tmp_path, capsys):
    text = SAMPLING.format(more)
    (tmp_path / "net.prototxt").write_text(text)
    weights(text, tmp_path / "net.caffemodel")
    cv2.imwrite(str(tmp_path / "a.png"), photo(9, 11))
    assert main(["segment", str(tmp_path / "a.png"), *options(tmp_path, tmp_path / "out"),
                 "--samples", samples]) == 2
    assert word in capsys.readouterr().err


def test_json_says_what_was_done(net, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), photo(20, 30))
    assert main(["segment", str(tmp_path / "a.png"), *options(net, tmp_path / "out"), "--json", "--save-scores",
                 "--no-overlay", "--crf", "paper", "--crf-set", "iterations=2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["crf"] == {"preset": "paper", "iterations": 2}
    entry = said["results"][0]
    assert (entry["height"], entry["width"]) == (20, 30)
    assert sum(entry["classes"].values()) == pytest.approx(1, abs=1e-4)
    assert "overlay" not in entry
    assert np.load(entry["scores"])["scores"].shape == (7, 20, 30)
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name != MANIFEST) == ["a.npz", "a.png"]


def test_a_folder_keeps_its_structure_and_names_what_is_passed_over(net, tmp_path, capsys):
    (tmp_path / "x" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "x" / "a.png"), photo(9, 9))
    (tmp_path / "x" / "picture").write_bytes((tmp_path / "x" / "a.png").read_bytes())  # known by its content
    cv2.imwrite(str(tmp_path / "x" / "deep" / "a.jpg"), photo(9, 9))
    (tmp_path / "x" / "notes.txt").write_text("no picture")
    arguments = ["segment", str(tmp_path / "x"), *options(net, tmp_path / "out")]
    assert main(arguments) == 0
    assert "passed over 1 files" in (said := capsys.readouterr().err)
    assert "notes.txt" in said
    assert main([*arguments, "--recursive"]) == 0
    out = tmp_path / "out"
    found = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert found == {f"{stem}{end}.png" for stem in ("a", "picture", "deep/a") for end in ("", "_overlay")}


@pytest.mark.parametrize("suffix", [".gif", ".jfif", ".jpe", ".webp", ".jp2", ".TIFF", ".pbm"])
def test_every_kind_of_picture_that_is_read_is_found_in_a_folder(suffix, tmp_path):
    forms = {".jfif": "JPEG", ".jpe": "JPEG", ".jp2": "JPEG2000", ".TIFF": "TIFF", ".pbm": "PPM"}
    picture = Image.fromarray(photo(40, 40)[:, :, ::-1]).convert("1" if suffix == ".pbm" else "RGB")
    picture.save(tmp_path / f"a{suffix}", forms.get(suffix, suffix[1:].upper()))
    assert [picture.path.name for picture in find_pictures([str(tmp_path)])] == [f"a{suffix}"]
    assert read_image(tmp_path / f"a{suffix}").shape == (40, 40, 3)


@pytest.mark.parametrize("names", [("a/x.jpg", "b/x.png"), ("x.png", "x_overlay.png"), ("a/X.jpg", "b/x.jpg")])
def test_results_of_one_name_are_an_error_before_anything_is_written(names, net, tmp_path, capsys):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), photo(9, 9))
    assert main(["segment", *(str(tmp_path / name) for name in names), *options(net, tmp_path / "out")]) == 2
    assert "would have the same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_video_gives_frames_and_a_video(net, tmp_path, capsys):
    video = VideoFile(tmp_path / "v.mp4", 10)
    for i in range(3):
        video.write(photo(32, 40, seed=i))
    video.close(keep=True)
    assert main(["segment", str(tmp_path / "v.mp4"), *options(net, tmp_path / "out"), "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)["results"][0]
    assert entry["frames"] == 3
    assert sorted(p.name for p in (tmp_path / "out" / "v").glob("*.png")) == [f"frame_{i:06}.png" for i in (1, 2, 3)]
    assert read_labels(tmp_path / "out" / "v" / "frame_000002.png").shape == (32, 40)
    assert (tmp_path / "out" / "v_overlay.mp4").stat().st_size > 0


def test_bad_inputs_are_told_and_the_rest_is_done(net, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "good.png"), photo(9, 9))
    (tmp_path / "text.jpg").write_text("words")
    (tmp_path / "text.mp4").write_text("words")
    status = main(["segment", *(str(tmp_path / n) for n in ("text.jpg", "text.mp4", "good.png")),
                   *options(net, tmp_path / "out")])
    captured = capsys.readouterr()
    assert status == 2
    assert len(captured.err.splitlines()) == 2
    assert (tmp_path / "out" / "good.png").exists()
    assert not (tmp_path / "out" / "text.png").exists()


def test_each_picture_is_told_when_it_is_done(net, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), photo(9, 9))
    seen, write = [], sys.stdout.write
    monkeypatch.setattr(sys.stdout, "write", lambda text: seen.append((text, (tmp_path / "out" / "b.png").exists()))
                        or write(text))
    assert main(["segment", str(tmp_path / "a.png"), str(tmp_path / "b.png"), *options(net, tmp_path / "out")]) == 0
    told = [(text.split(" -> ")[0][-5:], there) for text, there in seen if " -> " in text]
    assert told == [("a.png", False), ("b.png", True)]


def test_inputs_that_are_not_there_end_the_run_before_it_begins(tmp_path):
    with pytest.raises(FileMissingError, match="none"):
        find_pictures([str(tmp_path / "none.png")])
    with pytest.raises(DataError, match="without pictures"):
        find_pictures([str(tmp_path)])


def png(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b""))


HOSTILE = {
    "bomb.png": png(60000, 60000), "text.png": b"This is a text file.\n" * 9, "empty.jpg": b"",
    "page.jpg": b"<html><body>404</body></html>", "noise.jpg": bytes(range(256)) * 9,
    "lying.png": png(1000, 1000)[:400],
}


@pytest.fixture(scope="module")
def hostile_run(net, tmp_path_factory):
    """One run over all hostile files with 3 GB of address space, as a user would start it."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, content in HOSTILE.items():
        (folder / name).write_bytes(content)
    done = cv2.imencode(".jpg", photo(200, 200))[1].tobytes()
    (folder / "cut.jpg").write_bytes(done[:len(done) // 2])
    os.mkfifo(folder / "pipe.png")
    names = [*HOSTILE, "cut.jpg", "pipe.png"]
    begin = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "atrouscaffe", "segment", *names, *options(net, folder / "out")], cwd=folder, text=True,
        capture_output=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "2"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)))
    return run, names, time.monotonic() - begin


def test_hostile_pictures_end_in_a_line_each_and_status_2(hostile_run):
    run, names, seconds = hostile_run
    assert run.returncode == 2
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    assert "Traceback" not in run.stderr
    assert [line.split(":")[1].strip() for line in lines] == names
    assert seconds < 60


@pytest.mark.parametrize(("name", "word"), [
    ("bomb.png", "60000x60000"), ("text.png", "a text file"), ("empty.jpg", "an empty file"), ("page.jpg", "HTML"),
    ("cut.jpg", "truncated JPEG"), ("lying.png", "truncated PNG"), ("pipe.png", "no ordinary file"),
])
def test_hostile_pictures_are_named_for_what_they_are(name, word, hostile_run):
    assert any(name in line and word in line for line in hostile_run[0].stderr.splitlines())


@pytest.mark.parametrize(("arguments", "word"), [
    (["--mean", "a.npy"], "a.npy"), (["--mean", "dark"], "neither a number"),
    (["--crf", "--crf-set", "x"], "NAME=VALUE"), (["--set", "=3"], "NAME=VALUE"),
    (["--crf", "--crf-set", "iterations=many"], "many"), (["--crf", "nonsense"], "nonsense"),
    (["--crf", "--crf-set", "sigma=3"], "bilateral_sigma_xy"),
    (["--memory-budget", "-1"], "--memory-budget"),
    (["--device", "tpu"], "tpu"), (["--output", "nothing"], "nothing"), (["--alpha", "7"], "alpha"),
])
def test_wrong_options_are_one_line_and_status_2(arguments, word, net, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), photo(9, 9))
    assert main(["segment", str(tmp_path / "a.png"), *options(net, tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert word in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())  # told before the first picture


def test_a_folder_that_cannot_be_made_is_an_error(net, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    cv2.imwrite(str(tmp_path / "a.png"), photo(9, 9))
    assert main(["segment", str(tmp_path / "a.png"), *options(net, tmp_path / "out")]) == 2
    assert "folder" in capsys.readouterr().err


@pytest.mark.parametrize("kind, share", [("GIF", 0.5), ("TIFF", 0.6)])
def test_opencvs_own_complaints_do_not_stand_beside_the_error(kind, share, net, tmp_path):
    from PIL import Image

    path = tmp_path / f"half.{kind.lower()}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(path, kind)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    done = subprocess.run([sys.executable, "-m", "atrouscaffe", "segment", str(path), *options(net, tmp_path / "out")],
                          capture_output=True, text=True, cwd=ROOT,
                          env={name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
