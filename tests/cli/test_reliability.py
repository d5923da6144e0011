"""What happens to results where something goes wrong: the table of docs/reliability.md, by real processes."""

import os
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from atrouscaffe.cli.main import main
from tests.pipeline.nets import finite, photo, weights

MODEL = "--model net.prototxt --weights net.caffemodel --mean 104,116,122"
CLASSES = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }"""
CLASSIFY = "classify --model classes.prototxt --weights classes.caffemodel --center-only --out scores_of.npy"
WRITES = {
    "segment": f"segment large.png {MODEL} --out out",
    "crf": "crf large.png --scores scores.npy --out out",
    "classify": f"{CLASSIFY} large.png",
    "convert": "convert net.caffemodel y.caffemodel.h5",
    "draw": "draw net.prototxt --out y.dot",
}
MANY = {"segment": f"segment many {MODEL} --out out", "crf": "crf many --scores scores --out out"}
GIVEN = {"net.prototxt", "net.caffemodel", "classes.prototxt", "classes.caffemodel", "large.png", "scores.npy"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with nets and a picture that takes the CRF a while."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(finite())
    weights(finite(), tmp_path / "net.caffemodel")
    (tmp_path / "classes.prototxt").write_text(CLASSES)
    weights(CLASSES, tmp_path / "classes.caffemodel")
    cv2.imwrite("large.png", photo(300, 400))
    np.save("scores.npy", np.random.default_rng(1).random((7, 300, 400), np.float32))
    return tmp_path


def files(folder):
    """Return every file's content by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(command, **more):
    """Start a command as a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "atrouscaffe", *command.split()], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("command", WRITES)
def test_a_full_disk_is_one_paragraph_and_leaves_no_part_of_a_result(command, folder):
    assert main(WRITES[command].split()) == 0  # compiles what is not compiled yet
    for path in set(files(folder)) - GIVEN:
        (folder / path).unlink()
    before = files(folder)
    process = start(WRITES[command], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
                    env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot write" in said and "Traceback" not in said
    assert files(folder) == before


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
@pytest.mark.parametrize("command", ["segment", "crf"])
def test_a_stopped_run_leaves_whole_results_and_can_be_repeated(command, sent, status, folder):
    for made in ("scores", "many"):
        (folder / made).mkdir()
    for i in range(200):
        os.link("large.png", f"many/p{i:03}.png")
        os.link("scores.npy", f"scores/p{i:03}.npy")
    process = start(MANY[command])
    with process:
        try:
            deadline = time.monotonic() + 60
            while not (folder / "out" / "p001.png").exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in said
    done = list((folder / "out").glob("[!.]*.png"))
    assert 0 < len(done) < 400
    assert all(cv2.imread(str(path)) is not None for path in done)
    for i in range(3, 200):
        (folder / "many" / f"p{i:03}.png").unlink()
    assert main(MANY[command].split()) == 0


@pytest.mark.parametrize("command", WRITES)
def test_a_closed_pipe_ends_a_command_without_a_word(command, folder):
    with start(WRITES[command]) as process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert "Traceback" not in said and "Broken" not in said


@pytest.mark.parametrize("command", [f"segment pictures {MODEL} --out out", f"{CLASSIFY} pictures"])
@pytest.mark.parametrize("bad", ["empty.png", "cut.jpg", "link.png"])
def test_a_bad_file_is_named_and_the_rest_is_done(command, bad, folder, capsys):
    (folder / "pictures").mkdir()
    for name in ("a.png", "z.png"):
        cv2.imwrite(f"pictures/{name}", photo(9, 9))
    if bad == "link.png":
        os.symlink("nowhere", f"pictures/{bad}")
    else:
        (folder / "pictures" / bad).write_bytes(b"" if bad == "empty.png" else b"\xff\xd8\xff\xe0\0\x10JFIF")
    assert main(command.split()) == 2
    said = capsys.readouterr()
    assert bad in said.err and "pictures/a.png" in said.out and "pictures/z.png" in said.out
    if command.startswith("classify"):  # each row stays at its file's place
        assert np.isnan(np.load("scores_of.npy")).all(1).tolist() == [False, True, False]


@pytest.mark.parametrize("command", [f"segment pictures {MODEL} --out out", f"{CLASSIFY} pictures"])
def test_an_empty_folder_is_an_error_and_nothing_is_written(command, folder, capsys):
    (folder / "pictures").mkdir()
    before = files(folder)
    assert main(command.split()) == 2
    assert "without pictures" in capsys.readouterr().err
    assert files(folder) == before


def test_classify_reads_every_kind_of_picture_in_folders_and_names_the_others(folder, capsys):
    (folder / "pictures" / "deep").mkdir(parents=True)
    for name in ("a.png", "a.webp", "deep/a.png"):
        cv2.imwrite(f"pictures/{name}", photo(9, 9))
    (folder / "pictures" / "notes.txt").write_text("no picture")
    assert main(f"{CLASSIFY} pictures --recursive".split()) == 0
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if not line.startswith(" ")] == [
        "pictures/a.png", "pictures/a.webp", "pictures/deep/a.png"]
    assert "notes.txt" in said.err
