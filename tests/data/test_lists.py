"""Lists and the VOC layout."""

import numpy as np
import pytest

from atrouscaffe.data.lists import atoi, read_ids, read_lines, read_pairs
from atrouscaffe.data.palette import encode_labels
from atrouscaffe.data.voc import VocFolder
from atrouscaffe.errors import DataError, FileMissingError


def write(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_segmentation_lines_are_two_words(tmp_path):
    path = write(tmp_path, "/a.jpg /a.png\r\n\n  /b.jpg\t/b.png extra\n/c.jpg\n")
    assert read_pairs(path) == [("/a.jpg", "/a.png", 1), ("/b.jpg", "/b.png", 3), ("/c.jpg", "", 4)]


def test_image_names_with_spaces_keep_them_when_the_label_is_last(tmp_path):
    path = write(tmp_path, "my photo.jpg 3\nb.jpg 0\n")
    assert read_pairs(path, spaces=True) == [("my photo.jpg", "3", 1), ("b.jpg", "0", 2)]


def test_ids_come_from_ids_and_from_paths(tmp_path):
    path = write(tmp_path, "2007_000033\n/JPEGImages/2007_000042.jpg /SegmentationClass/2007_000042.png\nx.y\n")
    assert read_ids(path) == [("2007_000033", 1), ("2007_000042", 2), ("x.y", 3)]


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("-3x", -3), ("/a.png", 0), ("", 0), ("+7", 7), ("1.9", 1),
                                             ("9" * 40, 999999999999)])
def test_atoi_is_cs(text, value):
    assert atoi(text) == value


@pytest.mark.parametrize(("content", "word"), [
    ("", "empty"), ("\n \n", "empty"), (b"a\0b", "binary"), ("x" * 20000 + " y\n", "20002 bytes"),
])
def test_lists_that_cannot_be_used_are_refused(content, word, tmp_path):
    with pytest.raises(DataError, match=word):
        read_lines(write(tmp_path, content))


def test_missing_list_is_an_error(tmp_path):
    with pytest.raises(FileMissingError):
        read_pairs(tmp_path / "none.txt")


def test_names_that_are_no_utf8_survive(tmp_path):
    path = write(tmp_path, b"caf\xe9.jpg 1\n")
    assert read_pairs(path)[0].image.encode("utf-8", "surrogateescape") == b"caf\xe9.jpg"


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"x")
        (root / "SegmentationClass" / f"{name}.png").write_bytes(encode_labels(np.zeros((2, 3), int)))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    return tmp_path


def test_voc_folder_is_found_from_above(voc):
    samples = VocFolder(voc).samples("val")
    assert [(s.id, s.image.name, s.label.name, s.line) for s in samples] == [("a", "a.jpg", "a.png", 1),
                                                                            ("b", "b.jpg", "b.png", 2)]
    assert VocFolder(voc / "VOCdevkit").root == VocFolder(voc).root
    assert VocFolder(voc).samples("val", with_labels=False)[0].label is None


def test_missing_files_of_a_list_are_counted(voc):
    (voc / "VOCdevkit/VOC2012/SegmentationClass/b.png").unlink()
    with pytest.raises(DataError, match=r"val\.txt:2: 1 of the files"):
        VocFolder(voc).samples("val")


def test_unknown_list_and_folder_say_what_there_is(voc, tmp_path):
    with pytest.raises(FileMissingError, match="there: val"):
        VocFolder(voc).list_file("test")
    with pytest.raises(FileMissingError, match="JPEGImages"):
        VocFolder(tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets")


@pytest.mark.parametrize("line", ["my photo", "2007_000033 second third"])
def test_ids_with_spaces_are_refused_with_their_line(line, tmp_path):
    (tmp_path / "list.txt").write_text(f"first\n{line}\n")
    with pytest.raises(DataError, match="white space") as caught:
        read_ids(tmp_path / "list.txt")
    assert "list.txt:2" in str(caught.value)


@pytest.mark.parametrize("line", ["2007_000033 -1", "JPEGImages/a.jpg SegmentationClass/a.png", "a.jpg 3"])
def test_lines_of_other_lists_give_their_ids(line, tmp_path):
    (tmp_path / "list.txt").write_text(line + "\n")
    assert read_ids(tmp_path / "list.txt")[0][1] == 1
