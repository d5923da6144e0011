"""The public CRF: the net's layer, brute force, shapes, dtypes and errors."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import DenseCRF, refine, refine_scores
from atrouscaffe.crf.features import clear_lattices
from atrouscaffe.errors import ArgumentError, BudgetError

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


def brute_force(unary, kernels, iterations):
    """Mean field with exact float64 Gaussians; kernels: (features (d, N), weight, normalisation)."""
    flat = unary.reshape(len(unary), -1).astype(np.float64)
    matrices = []
    for features, weight, normalization in kernels:
        apart = ((features[:, :, None] - features[:, None]) ** 2).sum(axis=0)
        matrix = np.exp(-apart / 2)
        norm = matrix.sum(axis=1)
        matrix = {"after": matrix / norm[:, None], "before": matrix / norm, "none": matrix,
                  "symmetric": matrix / np.sqrt(np.outer(norm, norm))}[normalization]
        matrices.append(weight * matrix)
    logits = -flat
    for _ in range(iterations):
        q = np.exp(logits - logits.max(axis=0))
        q /= q.sum(axis=0)
        logits = -flat + sum((q @ matrix.T for matrix in matrices), np.zeros_like(flat))
    q = np.exp(logits - logits.max(axis=0))
    return (q / q.sum(axis=0)).reshape(unary.shape)


def blob_image(height=24, width=30):
    """A smooth colour picture and scores of three labels that follow it."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = np.stack([120 + 100 * np.tanh((x - 14) / 2), 100 + 4 * y, 60 + 90 * (y > 12)], axis=-1)
    random = np.random.default_rng(5)
    scores = np.stack([x < 14, (x >= 14) & (y <= 12), (x >= 14) & (y > 12)]) * 2.0
    return image.round().astype(np.uint8), -scores - random.normal(size=scores.shape)


@pytest.mark.parametrize("normalization, bound", [("after", 0.05), ("symmetric", 0.05), ("before", 0.05)])
def test_inference_is_near_brute_force(normalization, bound):
    """The lattice's own error: documented in docs/crf.md."""
    image, unary = blob_image()
    crf = DenseCRF(unary).add_gaussian(3, 3, normalization=normalization)
    crf.add_bilateral(image, 20, 20, 4, normalization=normalization)
    y, x = np.mgrid[:24, :30].astype(np.float64)
    place = np.stack([x.ravel(), y.ravel()])
    colour = image.reshape(-1, 3).T.astype(np.float64)
    exact = brute_force(unary, [(place / 3, 3, normalization),
                                (np.concatenate([place / 20, colour / 20]), 4, normalization)], 5)
    result = crf.infer(5)
    apart = np.abs(result.probabilities - exact)
    assert apart.mean() < bound / 5 and np.quantile(apart, 0.99) < 4 * bound
    assert (result.labels == exact.argmax(axis=0)).mean() > 0.985


def identity_kernel(crf, k):
    """Return the normalised operator of kernel k as a matrix, by filtering the identity."""
    return crf.kernels[k].apply(np.eye(crf.points)).T


@pytest.mark.parametrize("normalization", ["after", "before", "symmetric", "none"])
@pytest.mark.parametrize("kind", ["scalar", "vector", "matrix"])
def test_divergence_and_updates_match_dense_matrices(normalization, kind):
    image, unary = blob_image(12, 15)
    compatibility = {"scalar": None, "vector": np.array([1.0, 0.5, 2.0]),
                     "matrix": np.array([[0, 1, 2], [1, 0, 0.5], [2, 0.5, 0.0]])}[kind]
    weight = 0.02 if normalization == "none" else 2.0
    crf = DenseCRF(unary).add_gaussian(3, weight, normalization=normalization, compatibility=compatibility)
    crf.add_bilateral(image, 20, 30, weight, normalization=normalization, compatibility=compatibility)
    dense = [identity_kernel(crf, k) for k in range(2)]
    cost = {"scalar": -np.eye(3), "vector": -np.diag([1.0, 0.5, 2.0]), "matrix": compatibility}[kind]
    flat = unary.reshape(3, -1)
    q = np.exp(-flat)
    q /= q.sum(axis=0)
    divergences = []
    for _ in range(4):
        pairs = sum((q * (weight * cost @ q @ (m - np.diag(np.diag(m))).T)).sum() for m in dense) / 2
        divergences.append(((q * np.log(q)).sum() + (q * flat).sum() + pairs, (q * flat).sum() + pairs))
        logits = -flat - sum(weight * cost @ q @ m.T for m in dense)
        last = q
        q = np.exp(logits - logits.max(axis=0))
        q /= q.sum(axis=0)
    result = crf.infer(3, diagnostics=True)
    np.testing.assert_allclose(result.probabilities.reshape(3, -1), last, atol=2e-5)
    for k in range(2):
        np.testing.assert_allclose(_natural(crf, crf.kernels[k].own), np.diag(dense[k]), rtol=1e-5)
    kl, energy = np.array(divergences).T
    np.testing.assert_allclose(result.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(result.energy, energy, rtol=1e-5)
    assert np.array_equal(result.probabilities, crf.infer(3, exact=True).probabilities)


def _natural(crf, values):
    out = np.empty_like(values)
    out[crf.cut.order] = values
    return out


def test_tolerance_stops_early_and_relaxation_changes_the_path():
    image, unary = blob_image()
    crf = DenseCRF(unary).add_gaussian(3, 3).add_bilateral(image, 20, 20, 4)
    whole = crf.infer(40, diagnostics=True)
    assert len(whole.kl) == 41 and whole.kl[-1] < whole.kl[0]
    stopped = crf.infer(40, tolerance=1e-4)
    assert 2 < stopped.iterations < 40
    assert np.array_equal(stopped.probabilities, crf.infer(stopped.iterations, exact=True).probabilities)
    slow = crf.infer(40, relax=0.5)
    assert np.abs(slow.probabilities - whole.probabilities).max() < 0.05
    half = crf.infer(1, relax=0.5).probabilities
    np.testing.assert_allclose(half, (crf.infer(0).probabilities + crf.infer(1, exact=True).probabilities) / 2,
                               atol=1e-6)


def many_labels(labels=21, height=40, width=50):
    random = np.random.default_rng(2)
    y, x = np.mgrid[:height, :width]
    image = np.stack([3 * x, 4 * y, x + y], axis=-1).astype(np.uint8)
    unary = random.uniform(7, 12, (labels, height, width))
    for l, part in enumerate((x < 20, (x >= 20) & (y < 25), (x >= 20) & (y >= 25))):
        unary[l * 5][part] = random.uniform(0, 3, part.sum())
        unary[l * 5][~part] = random.uniform(2, 6, (~part).sum())
    return image, unary


def test_pruning_leaves_out_labels_within_its_bound():
    image, unary = many_labels()
    crf = DenseCRF(unary).add_gaussian(3, 3).add_bilateral(image, 20, 10, 4)
    pruned, exact = crf.infer(10), crf.infer(10, exact=True)
    assert len(pruned.pruned) == 14 and exact.pruned.size == 0 and exact.error_bound == 0
    apart = np.abs(pruned.probabilities - exact.probabilities).max()
    assert apart <= pruned.error_bound + 2e-6 and 0 < pruned.error_bound < 1e-2
    np.testing.assert_allclose(pruned.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(pruned.labels, exact.labels)


def test_pruning_when_no_proof_is_possible_then_all_labels_stay():
    _, unary = many_labels()
    assert DenseCRF(unary).add_gaussian(3, 3, normalization="symmetric").infer(2).pruned.size == 0
    assert DenseCRF(unary).add_gaussian(3, -3).infer(2).pruned.size == 0
    assert DenseCRF(unary / 8).add_gaussian(3, 3).infer(2).pruned.size == 0


def test_images_may_be_grey_planar_or_of_many_channels():
    image, unary = blob_image()
    wanted = DenseCRF(unary).add_bilateral(image, 20, 20, 4).infer(3).probabilities
    planar = DenseCRF(np.moveaxis(unary, 0, -1), labels_axis=-1)
    planar.add_bilateral(image.transpose(2, 0, 1), 20, 20, 4, channel_axis=0)
    assert np.array_equal(np.moveaxis(planar.infer(3).probabilities, -1, 0), wanted)
    assert planar.infer(3).labels.shape == (24, 30)
    grey = DenseCRF(unary).add_bilateral(image[..., 0], 20, 20, 4).infer(3).probabilities
    assert np.array_equal(grey, DenseCRF(unary).add_bilateral(image[..., :1], 20, [20], 4).infer(3).probabilities)
    seven = np.concatenate([image, image, image[..., :1]], axis=-1)
    assert DenseCRF(unary).add_bilateral(seven, (20, 10), 40, 4).infer(3).probabilities.shape == wanted.shape


def test_volumes_and_points():
    random = np.random.default_rng(0)
    volume = DenseCRF(random.uniform(0, 3, (3, 5, 7, 11)))
    volume.add_gaussian((1, 2, 3), 2).add_bilateral(random.normal(size=(5, 7, 11)), 3, 1, 2)
    assert volume.infer(3).labels.shape == (5, 7, 11)
    points = DenseCRF(random.uniform(0, 3, (2, 400))).add_pairwise(random.normal(size=(6, 400)), 3)
    assert points.infer(3).labels.shape == (400,)


@pytest.mark.parametrize("labels", [1, 2, 8, 9, 25, 33, 60])
def test_any_number_of_labels(labels):
    image, _ = blob_image()
    unary = np.random.default_rng(labels).uniform(0, 3, (labels, 24, 30))
    crf = DenseCRF(unary).add_gaussian(3, 3).add_bilateral(image, 20, 20, 4)
    result = crf.infer(3, exact=True)
    energies, q = unary.reshape(labels, -1), crf.infer(2, exact=True).probabilities.reshape(labels, -1)
    logits = crf.field().messages(q.astype(np.float64)) - energies
    expected = np.exp(logits - logits.max(axis=0))
    np.testing.assert_allclose(result.probabilities.reshape(labels, -1), expected / expected.sum(axis=0), atol=2e-5)


def test_without_kernels_inference_is_the_softmax():
    _, unary = blob_image()
    expected = np.exp(-unary) / np.exp(-unary).sum(axis=0)
    np.testing.assert_allclose(DenseCRF(unary).infer(10).probabilities, expected, rtol=1e-5)


def test_forbidden_labels_stay_at_zero():
    image, unary = blob_image()
    unary[1] = np.inf
    beliefs = DenseCRF(unary).add_gaussian(3, 3).add_bilateral(image, 20, 20, 4).infer(5).probabilities
    assert (beliefs[1] == 0).all() and np.isfinite(beliefs).all()


def test_memory_is_refused_before_it_is_taken():
    unary = np.broadcast_to(np.float32(0), (21, 30000, 30000))
    with pytest.raises(BudgetError, match="MiB"):
        DenseCRF(unary)
    image, unary = blob_image()
    clear_lattices()
    with pytest.raises(BudgetError, match="budget of 0 MiB"):
        DenseCRF(unary, memory_budget=60_000).add_bilateral(image, 20, 20, 4)
    crf = DenseCRF(unary).add_gaussian(3, 3)
    crf.budget = 10_000
    with pytest.raises(BudgetError, match="inference"):
        crf.infer(1)


@pytest.mark.parametrize("call, word", [
    (lambda u, i: DenseCRF(u[0, 0]), "unary"), (lambda u, i: DenseCRF(u[:, :0]), "unary"),
    (lambda u, i: DenseCRF(u.astype(complex)), "unary"), (lambda u, i: DenseCRF(u, labels_axis=3), "labels_axis"),
    (lambda u, i: DenseCRF(u).add_gaussian(0, 3), "sigma"),
    (lambda u, i: DenseCRF(u).add_gaussian((3, 3, 3), 3), "sigma"),
    (lambda u, i: DenseCRF(u).add_gaussian(1e-42, 3), "sigma"),
    (lambda u, i: DenseCRF(u).add_gaussian("3px", 3), "sigma"),
    (lambda u, i: DenseCRF(u).add_gaussian(1e-30, 3), "larger sigma"),
    (lambda u, i: DenseCRF(u).add_gaussian(3, np.nan), "weight"),
    (lambda u, i: DenseCRF(u).add_gaussian(3, None), "weight"),
    (lambda u, i: DenseCRF(u).add_bilateral(i[:5], 3, 3, 3), "image"),
    (lambda u, i: DenseCRF(u).add_bilateral(i * np.nan, 3, 3, 3), "image"),
    (lambda u, i: DenseCRF(u).add_bilateral(i, 3, (3, 3), 3), "sigma_rgb"),
    (lambda u, i: DenseCRF(u).add_gaussian(3, 3, normalization="sym"), "normalization"),
    (lambda u, i: DenseCRF(u).add_gaussian(3, 3, compatibility=np.eye(4)), "compatibility"),
    (lambda u, i: DenseCRF(u).add_gaussian(3, 3, compatibility=np.triu(np.ones((3, 3)))), "symmetric"),
    (lambda u, i: DenseCRF(u).add_gaussian(3, 3, compatibility=[1, 2, np.inf]), "compatibility"),
    (lambda u, i: DenseCRF(u).add_pairwise(np.zeros((2, 5)), 3), "features"),
    (lambda u, i: DenseCRF(u).infer(-1), "iterations"), (lambda u, i: DenseCRF(u).infer(True), "iterations"),
    (lambda u, i: DenseCRF(u).infer(1, relax=0), "relax"),
    (lambda u, i: DenseCRF(u).infer(1, tolerance=-1), "tolerance"),
    (lambda u, i: refine(i, np.exp(-u), preset="deepland"), "preset"),
    (lambda u, i: refine(i, np.exp(-u), sigma=3), "parameters"), (lambda u, i: refine(i), "either"),
    (lambda u, i: refine(i, u * np.nan), "probabilities"),
    (lambda u, i: refine_scores(u, None, [], [(3, 3, 3)]), "image"),
])
def test_bad_arguments_are_named(call, word):
    image, unary = blob_image()
    with pytest.raises(ArgumentError, match=word):
        call(unary, image)


def test_refine_follows_its_preset():
    image, unary = blob_image()
    soft = np.exp(-unary) / np.exp(-unary).sum(axis=0)
    crf = DenseCRF(-np.log(np.maximum(soft, 1e-5))).add_gaussian(3, 3).add_bilateral(image, 121, 5, 4)
    np.testing.assert_allclose(refine(image, soft).probabilities, crf.infer(10).probabilities, atol=1e-5)
    scores = (-unary).astype(np.float32)
    given = scores.copy()
    by_scores = refine(image, scores=scores, preset="deeplab", iterations=2)
    assert np.array_equal(scores, given)
    crf = DenseCRF(unary).add_gaussian(3, 3).add_bilateral(image, 50, 3, 5)
    assert np.array_equal(by_scores.probabilities, crf.infer(2).probabilities) and by_scores.iterations == 2
    alone = refine(image, soft, bilateral_weight=0, position_weight=0).probabilities
    np.testing.assert_allclose(alone, soft, atol=1e-5)


def test_image_lattice_is_kept_for_the_same_image_only():
    clear_lattices()
    image, unary = blob_image()
    first, again = (DenseCRF(unary).add_bilateral(image, 20, 20, 4) for _ in range(2))
    assert first.kernels[0].lattice is again.kernels[0].lattice
    image[3, 4, 1] ^= 1
    assert DenseCRF(unary).add_bilateral(image, 20, 20, 4).kernels[0].lattice is not first.kernels[0].lattice
    clear_lattices()
    assert DenseCRF(unary).add_gaussian(3, 3).kernels[0].lattice is not None
