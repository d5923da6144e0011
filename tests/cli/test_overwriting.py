"""No command writes over its inputs, or over files that it did not make."""

import os
import shutil

import cv2
import numpy as np
import pytest

from atrouscaffe.cli.main import main
from atrouscaffe.data.video import VideoFile
from tests.pipeline.nets import finite, photo, weights

TEXT = 'name: "n" input: "data" input_shape { dim: 1 dim: 1 dim: 2 dim: 2 }\n'


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder, the working one, with an input of each kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(finite())
    weights(finite(), tmp_path / "net.caffemodel")
    (tmp_path / "x.prototxt").write_text(TEXT)
    cv2.imwrite("photo.png", photo(20, 30))
    np.save("scores.npy", np.random.default_rng(1).random((7, 20, 30), np.float32))
    video = VideoFile(tmp_path / "v.mp4", 10)
    video.write(photo(32, 40))
    video.close(keep=True)
    return tmp_path


MODEL = ["--model", "net.prototxt", "--weights", "net.caffemodel", "--mean", "104,116,122"]
OVER_INPUTS = {
    "segment": (["segment", "photo.png", *MODEL, "--out", "."], "photo.png"),
    "segment, folder": (["segment", ".", *MODEL, "--out", "."], "photo.png"),
    "crf": (["crf", "photo.png", "--scores", "scores.npy", "--out", "."], "photo.png"),
    "crf, scores": (["crf", "photo.png", "--scores", "photo_probabilities.npy", "--save-probabilities", "npy",
                     "--format", "bin", "--no-overlay", "--out", "."], "photo_probabilities.npy"),
    "convert": (["convert", "x.prototxt", "x.prototxt"], "x.prototxt"),
    "convert, link": (["convert", "x.prototxt", "link.prototxt"], "x.prototxt"),
    "upgrade": (["upgrade_net_proto_text", "x.prototxt", "x.prototxt"], "x.prototxt"),
    "adapt": (["adapt", "net.prototxt", "net.caffemodel", "net.caffemodel"], "net.caffemodel"),
    "draw": (["draw", "net.prototxt", "--out", "net.prototxt"], "net.prototxt"),
}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["plain", "overwrite"])
@pytest.mark.parametrize("command", OVER_INPUTS)
def test_no_command_writes_over_its_input(command, overwrite, files, capsys):
    arguments, name = OVER_INPUTS[command]
    os.symlink("x.prototxt", "link.prototxt")
    shutil.copy("scores.npy", "photo_probabilities.npy")
    before = (files / name).read_bytes()
    assert main([*arguments, *overwrite]) == 2
    assert (files / name).read_bytes() == before
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if command not in ("adapt", "draw"):  # these refuse for what the file is, or write what another suffix says
        assert "it is the input" in said


OVER_OTHERS = {
    "segment": (["segment", "photo.png", *MODEL, "--out", "out"], "out/photo.png"),
    "segment, overlay": (["segment", "photo.png", *MODEL, "--out", "out"], "out/photo_overlay.png"),
    "segment, video": (["segment", "v.mp4", *MODEL, "--out", "out"], "out/v_overlay.mp4"),
    "crf": (["crf", "photo.png", "--scores", "scores.npy", "--out", "out"], "out/photo.png"),
    "convert": (["convert", "x.prototxt", "y.prototxt"], "y.prototxt"),
    "convert, weights": (["convert", "net.caffemodel", "y.caffemodel.h5"], "y.caffemodel.h5"),
    "draw": (["draw", "net.prototxt", "--out", "y.dot"], "y.dot"),
}


@pytest.mark.parametrize("command", OVER_OTHERS)
def test_a_file_of_somebody_else_is_replaced_only_when_asked_for(command, files, capsys):
    arguments, name = OVER_OTHERS[command]
    target = files / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"somebody's")
    assert main(arguments) == 2
    assert target.read_bytes() == b"somebody's"
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert target.read_bytes() != b"somebody's"
    assert main(arguments) == 0  # now it is ours


@pytest.mark.parametrize("after", [False, True], ids=["before the rename", "after the rename"])
def test_a_run_killed_at_the_rename_still_knows_its_results(after, files, monkeypatch):
    convert = ["convert", "x.prototxt", "y.prototxt"]
    assert main(convert) == 0
    (files / "x.prototxt").write_text(TEXT.replace("dim: 2", "dim: 3"))
    replace = os.replace

    def killed(source, target):
        if after:
            replace(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        assert main(convert) == 130
    assert main(convert) == 0
