"""Lists in every layout, and the look at all files before a run."""

import numpy as np
import pytest

from atrouscaffe.data.dataset import check_samples, find_samples
from atrouscaffe.data.overlay import encode_picture
from atrouscaffe.data.palette import encode_labels
from atrouscaffe.errors import DataError, FileMissingError

PICTURE = encode_picture(np.full((5, 7, 3), 90, np.uint8), ".jpg")
LABELS = encode_labels(np.full((5, 7), 3))


@pytest.fixture
def root(tmp_path):
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation", "list"):
        (voc / folder).mkdir(parents=True)
    for name in ("a", "b", "c"):
        (voc / "JPEGImages" / f"{name}.jpg").write_bytes(PICTURE)
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            (voc / folder / f"{name}.png").write_bytes(LABELS)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\nc\n")
    (voc / "list" / "train_aug.txt").write_text(
        "".join(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in "ab"))
    (voc / "list" / "test.txt").write_text("/JPEGImages/c.jpg\n")
    return tmp_path


def places(samples):
    return [(s.id, s.image.parent.name, s.label.parent.name if s.label else None) for s in samples]


def test_voc_list_is_found_from_above(root):
    assert places(find_samples(root, "val")) == [(n, "JPEGImages", "SegmentationClass") for n in "abc"]
    assert places(find_samples(root / "VOCdevkit", "val", "SegmentationClassAug"))[0][2] == "SegmentationClassAug"


def test_deeplab_list_names_its_own_labels(root):
    voc = root / "VOCdevkit" / "VOC2012"
    assert places(find_samples(root, "train_aug")) == [(n, "JPEGImages", "SegmentationClassAug") for n in "ab"]
    assert find_samples(voc, str(voc / "list" / "train_aug.txt"))[1].label == voc / "SegmentationClassAug" / "b.png"
    assert places(find_samples(root, "test", with_labels=False)) == [("c", "JPEGImages", None)]
    assert places(find_samples(root, "train_aug", "SegmentationClass"))[0][2] == "SegmentationClass"


def test_plain_list_begins_at_its_own_folder_or_the_root(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "x.jpg").write_bytes(PICTURE)
    (tmp_path / "x_labels.png").write_bytes(LABELS)
    listed = tmp_path / "all.txt"
    listed.write_text("pictures/x.jpg x_labels.png\n")
    for samples in (find_samples(None, str(listed)), find_samples(tmp_path, "all"), find_samples(tmp_path, "all.txt")):
        assert (samples[0].id, samples[0].label) == ("x", tmp_path / "x_labels.png")
        assert not check_samples(samples)
    listed.write_text(f"{tmp_path / 'pictures' / 'x.jpg'} {tmp_path / 'x_labels.png'}\n")
    assert not check_samples(find_samples(None, str(listed)))


def test_twice_the_same_id_is_refused(root):
    path = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    path.write_text("a\nb\na\n")
    with pytest.raises(DataError, match=r"val\.txt:3: 'a' stands in the list twice, first in line 1"):
        find_samples(root, "val")


def test_missing_folder_or_list_says_where_it_looked(root):
    with pytest.raises(FileMissingError, match="folder with images"):
        find_samples(root / "nowhere", "val")
    with pytest.raises(FileMissingError, match="one image a line.*--voc ROOT"):
        find_samples(None, "nowhere.txt")
    with pytest.raises(FileMissingError, match="there: val"):
        find_samples(root, "trainval")


@pytest.mark.parametrize(("name", "data", "word"), [
    ("JPEGImages/b.jpg", None, "no such file"),
    ("JPEGImages/b.jpg", PICTURE[:-9], "truncated JPEG"),
    ("JPEGImages/b.jpg", b"<html>not found</html>", "not a picture"),
    ("SegmentationClass/b.png", None, "no such file"),
    ("SegmentationClass/b.png", encode_labels(np.zeros((7, 5), int)), "label map of 5x7 pixels"),
    ("SegmentationClass/b.png", encode_labels(np.full((5, 7), 38)), "label values 38"),
    ("SegmentationClass/b.png", PICTURE, "the palette was lost"),
])
def test_bad_files_are_found_before_the_run(root, name, data, word):
    path = root / "VOCdevkit/VOC2012" / name
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    problems = check_samples(find_samples(root, "val"))
    assert [problem.id for problem in problems] == ["b"]
    assert word in problems[0].why and path.name in problems[0].why
