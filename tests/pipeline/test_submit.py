"""Archives for VOC's server: what is made passes the rules, what breaks one is found."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from atrouscaffe.cli.main import main
from atrouscaffe.data.dataset import find_samples
from atrouscaffe.data.image import read_image
from atrouscaffe.data.palette import color_map, encode_labels
from atrouscaffe.errors import ArgumentError, DataError
from atrouscaffe.pipeline.submit import check_archive, make_archive, member_folder

from . import nets, voc

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


@pytest.fixture
def samples(tmp_path):
    return find_samples(voc.folder(tmp_path / "data", count=3, name="test"), "test", with_labels=False)


def labels(sample):
    height, width = read_image(sample.image).shape[:2]
    return np.random.default_rng(len(sample.id)).integers(0, 21, (height, width)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_archive_is_as_the_rules_want_it(samples, tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    make_archive(path, samples, labels, member_folder())
    assert check_archive(path, samples) == []
    with tarfile.open(path) as archive:  # read without our own code
        assert archive.getnames() == [f"{FOLDER}/{sample.id}.png" for sample in samples]
        for sample in samples:
            with Image.open(archive.extractfile(f"{FOLDER}/{sample.id}.png")) as picture:
                assert picture.mode == "P"
                assert np.array_equal(np.asarray(picture), labels(sample))
                assert np.array_equal(np.array(picture.getpalette()).reshape(-1, 3)[:21], color_map()[:21])
    first = path.read_bytes()
    make_archive(path, samples, labels, member_folder())
    assert path.read_bytes() == first


def rewritten(path, target, change):
    """Copy an archive; `change` maps (name, data) to a list of such pairs."""
    with tarfile.open(path) as source, tarfile.open(target, "w") as archive:
        for member in source:
            for name, data in change(member.name, source.extractfile(member).read()):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def grey(data):
    out = io.BytesIO()
    Image.fromarray(np.asarray(Image.open(io.BytesIO(data)))).save(out, "PNG")
    return out.getvalue()


def other_palette(data):
    return encode_labels(np.asarray(Image.open(io.BytesIO(data))), palette=color_map()[::-1])


BREAKS = {
    "missing": (lambda n, d, last: [] if last else [(n, d)], "1 of 3 images are missing, the first is"),
    "twice": (lambda n, d, last: [(n, d), (n, d)] if last else [(n, d)], "stands in the archive twice"),
    "unknown": (lambda n, d, last: [(n, d), (f"{FOLDER}/x.png", d)], "no image of the list has this id"),
    "elsewhere": (lambda n, d, last: [(n.replace("results/", "my/"), d)], f"expected {FOLDER}/ID.png"),
    "upwards": (lambda n, d, last: [(n, d), (f"{FOLDER}/../../{'up'}.png", d)], "expected plain files"),
    "grey": (lambda n, d, last: [(n, grey(d))], "expected an indexed PNG of 8 bits"),
    "palette": (lambda n, d, last: [(n, other_palette(d))], "not VOC's colour map"),
    "void": (lambda n, d, last: [(n, encode_labels(np.full((29, 37), 255)))], "expected classes 0 to 20, got 255"),
    "size": (lambda n, d, last: [(n, encode_labels(np.zeros((3, 4), int)))], "expected the image's size"),
    "cut": (lambda n, d, last: [(n, d[:60])], "PNG"),
    "other": (lambda n, d, last: [(n, b"hello")], "not a picture"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_every_broken_rule_is_named(samples, tmp_path, name):
    change, words = BREAKS[name]
    make_archive(tmp_path / "good.tar", samples, labels, member_folder())
    rewritten(tmp_path / "good.tar", tmp_path / "bad.tar", lambda n, d: change(n, d, samples[-1].id in n))
    problems = check_archive(tmp_path / "bad.tar", samples)
    assert any(words in text for text in problems), problems


def test_truncated_archive_and_no_archive_are_named(samples, tmp_path):
    make_archive(tmp_path / "a.tgz", samples, labels, member_folder())
    data = (tmp_path / "a.tgz").read_bytes()
    for content in (data[:len(data) // 2], b"<html></html>" * 100):
        (tmp_path / "b.tgz").write_bytes(content)
        assert "damaged or no tar archive" in check_archive(tmp_path / "b.tgz", samples)[0]


def test_wrong_label_maps_are_refused_and_leave_nothing(samples, tmp_path):
    for bad, word in ((lambda s: np.zeros((2, 2), np.uint8), "size"), (lambda s: labels(s) + 200, "void")):
        with pytest.raises(DataError, match=word):
            make_archive(tmp_path / "a.tgz", samples, bad, member_folder())
    with pytest.raises(ArgumentError, match=r"\.tgz"):
        make_archive(tmp_path / "a.zip", samples, labels, member_folder())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_command_makes_and_checks(samples, tmp_path, capsys):
    net = tmp_path / "net.prototxt"
    net.write_text(nets.finite())
    weights = nets.weights(nets.finite(), tmp_path / "w.caffemodel")
    archive, data = tmp_path / "r.tgz", str(tmp_path / "data")
    assert main(["submit", "--model", str(net), "--weights", str(weights), "--mean", "100", "--crf", "--voc", data,
                 "--out", str(archive)]) == 0
    assert "as the development kit wants it" in capsys.readouterr().out
    assert main(["submit", "--voc", data, "--check", str(archive)]) == 0
    assert main(["submit", "--voc", data, "--check", str(archive), "--competition", "comp5"]) == 1
    assert "comp5_test_cls" in capsys.readouterr().err
    samples[1].image.unlink()
    assert main(["submit", "--voc", data, "--predictions", str(tmp_path), "--out", str(archive)]) == 2
    assert "1 of the list's 3 images cannot be used" in capsys.readouterr().err
