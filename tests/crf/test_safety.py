"""Threads, forks, random shapes and types: a result or a ValueError, the same bits every time."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrouscaffe.crf.densecrf import DenseCRF
from atrouscaffe.crf.features import clear_lattices
from atrouscaffe.runtime.threads import set_num_threads


def answer(seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (61, 83, 3)).astype(np.uint8) // 4
    crf = DenseCRF(random.uniform(0, 4, (5, 61, 83))).add_gaussian(3, 3)
    return crf.add_bilateral(image, 40, 13, 4).infer(4).probabilities


def test_eight_threads_with_different_images_give_the_bits_of_one():
    try:
        set_num_threads(1)
        wanted = [answer(seed) for seed in range(8)]
        set_num_threads(3)
        clear_lattices()
        found: dict[int, np.ndarray] = {}
        workers = [threading.Thread(target=lambda n=n: found.__setitem__(n, answer(n))) for n in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        set_num_threads(None)
    assert all(np.array_equal(found[n], wanted[n]) for n in range(8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_gives_the_same_bits():
    set_num_threads(2)
    try:
        wanted = answer(3)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                clear_lattices()
                same = np.array_equal(answer(3), wanted)
                os.write(writer, b"same" if same else b"else")
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read() == b"same"
        assert os.waitpid(child, 0)[1] == 0
    finally:
        set_num_threads(None)


DTYPES = ["float32", "float64", "float16", "int32", "uint8", "int64", ">f4", "bool"]
NUMBERS = st.sampled_from([0, 1e-9, 1e-3, 0.5, 3, 40, 1e6, -1, float("nan"), float("inf"), 1e30])


def odd_strides(draw, array):
    """Return the array with other strides: reversed, transposed, every second, read-only."""
    kind = draw(st.sampled_from(["plain", "fortran", "reversed", "sliced", "locked"]))
    if kind == "fortran":
        return np.asfortranarray(array)
    if kind == "reversed":
        return array[..., ::-1]
    if kind == "sliced":
        return np.repeat(array, 2, axis=0)[::2]
    array.setflags(write=kind != "locked")
    return array


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_random_calls_give_a_result_or_a_value_error(data):
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    labels = draw(st.integers(0, 11))
    unary = (random.uniform(0, 6, (labels, *shape))).astype(draw(st.sampled_from(DTYPES)))
    if unary.size and unary.dtype.kind == "f" and draw(st.booleans()):
        unary.flat[random.integers(unary.size)] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    channels = draw(st.integers(0, 4))
    image_shape = draw(st.sampled_from([(*shape, channels), shape, (channels, *shape), (*shape[::-1], channels)]))
    image = random.uniform(0, 255, image_shape).astype(draw(st.sampled_from(DTYPES)))
    norm = draw(st.sampled_from(["after", "before", "symmetric", "none", "both"]))
    try:
        crf = DenseCRF(odd_strides(draw, unary))
        if draw(st.booleans()):
            crf.add_gaussian(draw(NUMBERS), draw(NUMBERS), normalization=norm)
        if draw(st.booleans()):
            crf.add_bilateral(odd_strides(draw, image), draw(NUMBERS), draw(NUMBERS), draw(NUMBERS),
                              channel_axis=draw(st.sampled_from([-1, 0, 1, 5])))
        if draw(st.booleans()):
            pattern = random.normal(size=draw(st.sampled_from([(labels,), (labels, labels), (labels + 1,)])))
            pattern = pattern + pattern.T if pattern.ndim == 2 else pattern
            crf.add_pairwise(random.normal(size=(2, *shape)), 1.0, compatibility=pattern)
        result = crf.infer(draw(st.integers(-1, 3)), relax=draw(st.sampled_from([1.0, 0.5, 0])),
                           exact=draw(st.booleans()), diagnostics=draw(st.booleans()))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert result.probabilities.shape == (labels, *shape) and result.labels.shape == shape
    assert np.isfinite(result.probabilities).all()
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_bits(threads):
    try:
        set_num_threads(1)
        wanted = answer(11)
        set_num_threads(threads)
        clear_lattices()
        assert np.array_equal(answer(11), wanted)
    finally:
        set_num_threads(None)


def test_another_thread_runs_while_kernels_do():
    """The peer holds the interpreter's lock for the whole call."""
    random = np.random.default_rng(0)
    crf = DenseCRF(random.uniform(0, 4, (21, 150, 200))).add_gaussian(3, 3)
    crf.add_bilateral(random.integers(0, 256, (150, 200, 3)), 40, 30, 4)
    crf.infer(1)
    ticks, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            ticks[0] += 1
            stop.wait(0.0005)

    before = sys.getswitchinterval()
    worker = threading.Thread(target=count)
    worker.start()
    try:
        start = ticks[0]
        crf.infer(20, exact=True)
        assert ticks[0] - start > 20
    finally:
        stop.set()
        worker.join()
        assert sys.getswitchinterval() == before
