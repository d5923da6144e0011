"""The thread pool: every call once, errors out, nesting, forks, several callers at once."""

from __future__ import annotations

import os
import platform
import threading
import time

import numpy as np
import pytest

from atrouscaffe.errors import ArgumentError
from atrouscaffe.runtime import threads


@pytest.fixture(params=[1, 2, 5])
def some_threads(request):
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(None)


@pytest.mark.parametrize("count", [0, 1, 2, 97])
def test_parallel_calls_each_index_once(some_threads, count):
    calls = [0] * count

    def work(i):
        calls[i] += 1

    threads.parallel(work, count)
    assert calls == [1] * count


def test_parallel_raises_the_error_of_a_worker(some_threads):
    def work(i):
        if i == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        threads.parallel(work, 10)


def test_parallel_inside_parallel_runs_serially(some_threads):
    done = []
    threads.parallel(lambda i: threads.parallel(lambda j: done.append((i, j)), 3), 4)
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_parallel_from_several_threads_at_once(some_threads):
    sums = [0] * 6

    def caller(k):
        cells = [0] * 50
        threads.parallel(lambda i: cells.__setitem__(i, i), 50)
        sums[k] = sum(cells)

    callers = [threading.Thread(target=caller, args=(k,)) for k in range(6)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert sums == [49 * 25] * 6


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_parallel_works_in_a_forked_child(some_threads):
    threads.parallel(lambda i: None, 8)
    child = os.fork()
    if child == 0:
        cells = [0] * 8
        threads.parallel(lambda i: cells.__setitem__(i, 1), 8)
        os._exit(0 if sum(cells) == 8 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_chunks_cover_the_range_and_do_not_depend_on_threads():
    threads.set_num_threads(7)
    try:
        assert threads.chunks(10, 4) == [(0, 4), (4, 8), (8, 10)]
        assert threads.chunks(0, 4) == []
    finally:
        threads.set_num_threads(None)


def test_num_threads_reads_the_environment(monkeypatch):
    monkeypatch.setenv("ATROUSCAFFE_NUM_THREADS", "3")
    assert threads.num_threads() == 3
    monkeypatch.setenv("ATROUSCAFFE_NUM_THREADS", "many")
    with pytest.raises(ArgumentError, match="'many'"):
        threads.num_threads()
    with pytest.raises(ArgumentError, match="at least 1"):
        threads.set_num_threads(0)


def test_serial_blas_is_restored_when_the_last_leaves():
    from threadpoolctl import threadpool_info

    numpys = {pool["filepath"] for pool in threads._blas_controller().info()}  # SciPy's may have come later

    def blas():
        return [pool["num_threads"] for pool in threadpool_info()
                if pool["user_api"] == "blas" and pool["filepath"] in numpys]

    before = blas()
    with threads.serial_blas():
        with threads.serial_blas():
            assert set(blas()) == {1}
        assert set(blas()) == {1}
    assert blas() == before


@pytest.mark.parametrize("count", [1, 3])
def test_no_denormals_when_threads_work_then_each_flushes_and_forgets_it_afterwards(count):
    tiny, found = np.full(4, 1e-39, np.float32), np.zeros(8)

    def work(i):
        found[i] = (tiny * np.float32(1)).sum()
        time.sleep(0.002)  # let every thread have some

    try:
        threads.set_num_threads(count)
        with threads.no_denormals():
            threads.parallel(work, 8)
        assert (found == 0).all() or platform.machine() not in ("x86_64", "AMD64")
        threads.parallel(work, 8)
        assert (found > 0).all()
    finally:
        threads.set_num_threads(None)
