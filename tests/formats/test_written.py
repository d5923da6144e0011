import json
import os

import pytest

from atrouscaffe.errors import FileAccessError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.written import MANIFEST, guarding, protect


def put(path, data=b"new"):
    with atomic_write(path) as file:
        file.write(data)


def test_files_when_nothing_guards_them_then_they_are_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    put(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("way", ["itself", "symbolic link", "hard link", "other spelling", "link to its folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_input_when_a_result_would_replace_it_then_refused_and_whole(way, overwrite, tmp_path):
    (tmp_path / "d").mkdir()
    given = target = tmp_path / "d" / "photo.png"
    given.write_bytes(b"photo")
    if way == "symbolic link":
        target = tmp_path / "link.png"
        target.symlink_to(given)
    elif way == "hard link":
        target = tmp_path / "hard.png"
        os.link(given, target)
    elif way == "other spelling":
        target = tmp_path / "d" / ".." / "d" / "photo.png"
    elif way == "link to its folder":
        (tmp_path / "e").symlink_to(tmp_path / "d")
        target = tmp_path / "e" / "photo.png"
    with guarding(overwrite), pytest.raises(FileAccessError, match=r"it is the input .*photo\.png"):
        protect([given])
        put(target)
    assert given.read_bytes() == b"photo"
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["photo.png"]


def test_results_when_they_are_ours_then_a_later_run_replaces_them(tmp_path):
    for data in (b"first", b"second"):
        with guarding():
            put(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == b"second"
    with guarding():
        put(tmp_path / "a", b"once")
        put(tmp_path / "a", b"twice in one run")


@pytest.mark.parametrize("change", ["made by others", "edited", "replaced by one of its size", "manifest lost",
                                    "manifest damaged"])
def test_results_when_they_are_not_ours_any_more_then_only_overwrite_replaces_them(change, tmp_path):
    path = tmp_path / "a"
    if change == "made by others":
        path.write_bytes(b"theirs")
    else:
        with guarding():
            put(path, b"ours!!")
    if change in ("edited", "replaced by one of its size"):
        path.write_bytes(b"edited by hand" if change == "edited" else b"theirs")
    elif change == "manifest lost":
        (tmp_path / MANIFEST).unlink()
    elif change == "manifest damaged":
        (tmp_path / MANIFEST).write_bytes(b'{"name": "a", "si\n\xff\n[1]\n"x"\n')
    before = path.read_bytes()
    with guarding(), pytest.raises(FileAccessError, match="--overwrite"):
        put(path)
    assert path.read_bytes() == before
    with guarding(overwrite=True):
        put(path)
    assert path.read_bytes() == b"new"


def test_results_when_only_their_time_changed_then_still_ours(tmp_path):
    with guarding():
        put(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 1))
    with guarding():
        put(tmp_path / "a", b"again")


def test_manifest_holds_a_line_for_each_file(tmp_path):
    with guarding():
        put(tmp_path / "a")
        put(tmp_path / "b")
    entries = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    assert [entry["name"] for entry in entries] == ["a", "b"]
    assert entries[0]["size"] == 3


def test_file_when_it_comes_while_a_result_is_made_then_it_stays(tmp_path):
    with guarding(), pytest.raises(FileAccessError, match="--overwrite"), atomic_write(tmp_path / "a") as file:
        file.write(b"ours")
        (tmp_path / "a").write_bytes(b"theirs")
    assert (tmp_path / "a").read_bytes() == b"theirs"
