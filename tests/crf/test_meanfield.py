"""Mean field against the recordings: every saved iteration, every normalisation and compatibility."""

from __future__ import annotations

import numpy as np
import pytest

from tests.crf.recordings import CASES, build, check_saved, read


@pytest.mark.parametrize("name", CASES)
def test_beliefs_match_recording_at_every_iteration(name):
    arrays, params = read(name)
    crf = build(arrays, params)
    assert [kernel.lattice.vertices for kernel in crf.kernels] == arrays["vertices"].tolist()
    seen = {}
    result = crf.infer(10, callback=lambda i, q: seen.__setitem__(i, q.copy()))
    check_saved(arrays, seen, result.labels)
    if "Q_deeplab_v2_final" in arrays:
        assert np.abs(result.probabilities[:, ::_step(arrays), ::_step(arrays)] -
                      arrays["Q_deeplab_v2_final"]).max() <= 5e-4


def _step(arrays):
    rows = arrays["unary"].shape[1]
    return round(rows / arrays["Q_deeplab_v2_final"].shape[1])


@pytest.mark.parametrize("name", CASES)
def test_plain_run_gives_the_bits_of_the_watched_run(name):
    arrays, params = read(name)
    crf = build(arrays, params)
    watched = crf.infer(3, callback=lambda i, q: None).probabilities
    assert np.array_equal(watched, crf.infer(3).probabilities)
