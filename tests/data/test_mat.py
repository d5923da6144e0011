"""MAT files against the forks' own and against SciPy."""

import io

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrouscaffe.data.mat import encode_mat, read_mat
from atrouscaffe.errors import ArgumentError, DataError, FileMissingError

DTYPES = ["f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


def arrays():
    rng = np.random.default_rng(0)
    return {f"v_{kind}": (rng.random((2, 3, 5)) * 100).astype(kind) for kind in DTYPES}


@pytest.mark.parametrize("name", ["img_a", "img_b"])
def test_files_of_the_fork_are_read_and_written_byte_for_byte(name, oracle):
    path = oracle / "files" / f"mat_{name}_blob_0.mat"
    expected = np.load(oracle / "files" / "mat_arrays.npz")[name]
    data = read_mat(path)["data"]
    assert data.dtype == np.float32
    assert np.array_equal(data.transpose(), expected)
    assert encode_mat({"data": expected.transpose()})[128:] == path.read_bytes()[128:]


def test_scipy_reads_what_we_write():
    back = scipy.io.loadmat(io.BytesIO(encode_mat(arrays())))
    for name, array in arrays().items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array)


@pytest.mark.parametrize("compress", [False, True])
def test_we_read_what_scipy_writes(compress, tmp_path):
    path = tmp_path / "a.mat"
    extra = {"row": np.arange(7.0), "text": "person", "mask": np.array([[True, False]]), "empty": np.zeros((0, 3))}
    truth = {"Segmentation": np.arange(12, dtype=np.uint8).reshape(3, 4), "CategoriesPresent": np.array([[1, 15]])}
    scipy.io.savemat(path, arrays() | extra | {"GTcls": truth, "cell": np.array([[1, "x"]], object)},
                     do_compression=compress)
    found = read_mat(path)
    for name, array in arrays().items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert np.array_equal(found["row"], [np.arange(7.0)])
    assert found["text"] == "person"
    assert found["mask"].tolist() == [[1, 0]]
    assert found["empty"].shape == (0, 3)
    assert np.array_equal(found["GTcls"]["Segmentation"], truth["Segmentation"])
    assert found["GTcls"]["CategoriesPresent"].tolist() == [[1, 15]]
    assert found["cell"][0].tolist() == [[1]]
    assert found["cell"][1] == "x"


def test_one_dimension_becomes_a_row_and_bool_a_byte(tmp_path):
    (tmp_path / "a.mat").write_bytes(encode_mat({"x": np.arange(3.0), "b": np.array([[True]])}))
    assert read_mat(tmp_path / "a.mat")["x"].shape == (1, 3)
    assert read_mat(tmp_path / "a.mat")["b"].dtype == np.uint8


@pytest.mark.parametrize("compress", [False, True])
def test_truncation_at_every_byte_is_an_error(compress, tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": np.arange(6.0).reshape(2, 3), "s": {"f": np.arange(4)}}, do_compression=compress)
    data = path.read_bytes()
    whole = read_mat(path)
    starts = []
    at = 128
    while at < len(data):  # a cut between two variables leaves a whole file
        starts.append(at)
        size = int.from_bytes(data[at + 4:at + 8], "little")
        at += 8 + size + (0 if compress else -size % 8)
    for end in range(len(data)):
        path.write_bytes(data[:end])
        if end in starts:
            assert set(read_mat(path)) < set(whole)
        else:
            with pytest.raises(DataError):
                read_mat(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_give_values_or_an_error(data, tmp_path):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"x": np.arange(6.0).reshape(2, 3), "s": {"f": np.arange(4)}, "t": "abc"},
                     do_compression=data.draw(st.booleans()))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(124, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "a.mat").write_bytes(bytes(content))
    try:
        read_mat(tmp_path / "a.mat")
    except DataError as error:
        assert str(tmp_path) in str(error)


@pytest.mark.parametrize(("content", "word"), [
    (b"MATLAB 7.3 MAT-file" + bytes(200), "-v7"), (b"text", "another kind"), (b"", "another kind"),
])
def test_other_files_are_named(content, word, tmp_path):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=word):
        read_mat(tmp_path / "a.mat")
    with pytest.raises(FileMissingError):
        read_mat(tmp_path / "b.mat")


def test_zip_bomb_is_refused(tmp_path):
    import struct
    import zlib

    inner = zlib.compress(bytes(50_000_000), 9)
    bomb = bytes(124) + struct.pack("<H2s", 0x0100, b"IM") + struct.pack("<II", 15, len(inner)) + inner
    (tmp_path / "a.mat").write_bytes(bomb)
    with pytest.raises(DataError):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_values_that_are_no_real_numbers_are_refused(value):
    with pytest.raises(ArgumentError, match="real numbers"):
        encode_mat({"x": value})
