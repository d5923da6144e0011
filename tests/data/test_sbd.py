"""SBD's MAT files, as SciPy writes them, and VOC's labels over them."""

import numpy as np
import pytest
from scipy.io import savemat

from atrouscaffe.cli.main import main
from atrouscaffe.data.palette import encode_labels, read_labels
from atrouscaffe.data.sbd import sbd_labels
from atrouscaffe.errors import DataError


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    cls, voc = tmp_path / "sbd" / "dataset" / "cls", tmp_path / "VOC2012"
    for folder in (cls, voc / "SegmentationClass", voc / "JPEGImages"):
        folder.mkdir(parents=True)
    maps = {name: rng.integers(0, 21, (5, 7), np.uint8) for name in ("a", "b")}
    for name, labels in maps.items():
        savemat(cls / f"{name}.mat", {"GTcls": {"Segmentation": labels, "Boundaries": np.zeros((20, 1)),
                                                "CategoriesPresent": np.unique(labels)}}, do_compression=name == "a")
    for name in ("b", "c"):
        maps[name] = np.where(rng.random((5, 7)) < 0.2, 255, 4).astype(np.uint8)
        (voc / "SegmentationClass" / f"{name}.png").write_bytes(encode_labels(maps[name]))
    return cls, voc, maps


@pytest.mark.parametrize("palette", [False, True])
def test_voc_takes_the_place_of_sbd(folders, tmp_path, capsys, palette):
    from PIL import Image

    _, voc, maps = folders
    out = tmp_path / "SegmentationClassAug"
    words = ["sbd-to-png", str(tmp_path / "sbd"), str(out), "--voc", str(voc)] + (["--palette"] if palette else [])
    assert main(words) == 0
    assert "3 label maps, 2 of VOC and 1 of SBD" in capsys.readouterr().out
    for name in ("a", "b", "c"):
        assert np.array_equal(read_labels(out / f"{name}.png"), maps[name])
        with Image.open(out / f"{name}.png") as picture:
            assert picture.mode == ("P" if palette else "L")


def test_bad_file_is_left_out_and_told(folders, tmp_path, capsys):
    cls, _, _ = folders
    (cls / "z.mat").write_bytes((cls / "a.mat").read_bytes()[:150])
    savemat(cls / "y.mat", {"GTinst": {"Segmentation": np.zeros((2, 2))}})
    assert main(["sbd-to-png", str(cls), str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "2 label maps, 0 of VOC and 2 of SBD" in told.out
    assert "z.mat" in told.err and "dataset/cls" in told.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png"]


def test_values_that_are_no_classes_are_refused(tmp_path):
    savemat(tmp_path / "x.mat", {"GTcls": {"Segmentation": np.full((2, 3), 21, np.uint8)}})
    with pytest.raises(DataError, match="label values 21"):
        sbd_labels(tmp_path / "x.mat")


def test_folder_without_mat_files_is_told(tmp_path, capsys):
    assert main(["sbd-to-png", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "dataset/cls of SBD" in capsys.readouterr().err
