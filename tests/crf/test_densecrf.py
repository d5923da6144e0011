"""The public CRF: the net's layer, brute force, shapes, dtypes and errors."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import refine_scores

LAYERS = {
    "v1_densecrf_default3": ([(3, 3)], [(5, 10, 4)], 3),
    "v2_densecrf_default3": ([(3, 3)], [(5, 10, 4)], 3),
    "v1_densecrf_two_kernels": ([(3, 3), (1, 1.5)], [(5, 10, 4), (9, 30, 2)], 2),
    "v2_densecrf_two_kernels": ([(3, 3), (1, 1.5)], [(5, 10, 4), (9, 30, 2)], 2),
    "v1_densecrf_padded": ([(3, 3)], [(5, 10, 4)], 2),
    "v2_densecrf_padded": ([(3, 3)], [(5, 10, 4)], 2),
    "v2_densecrf_score": ([(3, 3)], [(5, 10, 4)], 3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_matches_recording(oracle, name):
    position, bilateral, iterations = LAYERS[name]
    data = np.load(oracle / "cases" / name / "arrays.npz")
    rows, columns = data["in:dim"].ravel().astype(int)
    scores = data["in:data"][0, :, :rows, :columns]
    unary = -scores
    if name.startswith("v1"):
        unary = unary - unary.min(axis=0)
        unary = unary + np.log(np.exp(-unary).sum(axis=0))
    beliefs = refine_scores(unary, data["in:im"][0, :, :rows, :columns], position, bilateral, iterations)
    if name.endswith("score"):
        beliefs = np.log(beliefs)
    recorded = data["out:out"][0, :, :rows, :columns]
    assert beliefs.dtype == np.float32
    np.testing.assert_allclose(beliefs, recorded, atol=5e-6 * np.abs(recorded).max(), rtol=2e-5)
