"""Files are whole or not there."""

from __future__ import annotations

import pytest

from atrouscaffe.errors import FileAccessError
from atrouscaffe.formats.atomic import atomic_path, atomic_write


def test_block_that_ends_well_leaves_the_file(tmp_path):
    path = tmp_path / "f.bin"
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"def")
        assert temporary.parent == tmp_path
        assert path.read_bytes() == b"abc"
    assert path.read_bytes() == b"def"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_block_that_raises_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(FileAccessError, match="No space left"), atomic_write(tmp_path / "f") as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_library_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileAccessError, match="cannot write"), atomic_path(tmp_path / "f"):
        pass


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(FileAccessError, match="there is no folder"), atomic_write(tmp_path / "none" / "f"):
        pass
    with pytest.raises(FileAccessError, match="it is a folder"), atomic_write(tmp_path):
        pass
