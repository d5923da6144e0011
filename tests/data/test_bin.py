"""The .bin files of the CRF programs."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.data.bin import encode_bin, read_bin
from atrouscaffe.errors import DataError


def test_floats_and_labels_come_back(tmp_path):
    random = np.random.default_rng(0)
    for values in (random.normal(size=(2, 3, 5)).astype(np.float32), random.integers(-5, 300, (7, 3))):
        (tmp_path / "x.bin").write_bytes(encode_bin(values))
        assert np.array_equal(read_bin(tmp_path / "x.bin"), values.reshape(*values.shape, *[1] * (3 - values.ndim)))


def test_truncated_files_are_refused(tmp_path):
    whole = encode_bin(np.zeros((2, 3, 5), np.float32))
    for cut in range(len(whole)):
        if cut - 12 == 2 * 30:
            continue  # a whole file of labels
        (tmp_path / "x.bin").write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read_bin(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(np.array([2**30, 2**30, 2**30], "<i4").tobytes())
    with pytest.raises(DataError):
        read_bin(tmp_path / "x.bin")
