"""Estimates of memory against what NumPy takes, and arrays that are not copied."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.features import clear_lattices
from atrouscaffe.crf.lattice import Lattice, padded_lanes
from atrouscaffe.crf.memory import inference_bytes, lattice_bytes

SHAPE = (150, 210)


def scene(labels=21):
    random = np.random.default_rng(4)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    image = np.stack([x, y, x + y], axis=-1).astype(np.uint8) + random.integers(0, 6, (*SHAPE, 3), np.uint8)
    return image, random.uniform(0, 5, (labels, *SHAPE)).astype(np.float32)


def taken(work):
    """Return what `work` gave and the largest number of bytes that it held at once."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [False, True])
def test_inference_takes_what_is_estimated(keep):
    image, unary = scene()
    crf = DenseCRF(unary).add_gaussian(3, 3).add_bilateral(image, 40, 13, 4)
    options = {"callback": lambda i, q: None} if keep else {}
    crf.infer(1, exact=True, **options)  # compiled functions are loaded
    for kernel in crf.kernels:
        del kernel.lattice.inverse
    _, bytes_held = taken(lambda: crf.infer(2, exact=True, **options))
    lattices = [kernel.lattice for kernel in crf.kernels]
    lanes, blocks = padded_lanes(21)
    estimate = inference_bytes(crf.points, 21, lanes * blocks, 2, sum(x.named.size for x in lattices),
                               sum(x.vertices for x in lattices), keep)
    assert 0.75 * estimate < bytes_held < 1.1 * estimate + 500_000  # work space of the threads comes on top


def test_lattice_takes_no_more_than_estimated():
    image, _ = scene()
    features = np.concatenate([np.indices(SHAPE).reshape(2, -1) / 40, image.reshape(-1, 3).T / 13]).astype(np.float32)
    Lattice(features)
    lattice, bytes_held = taken(lambda: Lattice(features))
    estimate = lattice_bytes(lattice.points, 5, lattice.named.size, lattice.vertices)
    assert bytes_held < estimate + 500_000


def test_a_plain_unary_is_neither_copied_nor_changed():
    image, unary = scene(5)
    given = unary.copy()
    clear_lattices()
    crf = DenseCRF(unary).add_bilateral(image, 40, 13, 4)
    assert np.shares_memory(crf.energies, unary)
    first = crf.infer(3).probabilities
    assert np.array_equal(unary, given) and not np.shares_memory(first, unary)
    assert np.array_equal(crf.infer(3).probabilities, first)
