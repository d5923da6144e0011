"""Reading ahead: the same order whatever the number of threads, bounded, forkable."""

import os
import threading
import time

import pytest

from atrouscaffe.data.prefetch import Prefetch
from atrouscaffe.errors import DataError


def slow_first(index, row):
    time.sleep(0.01 if index % 3 == 0 else 0)  # so that later ones are ready earlier
    return index, row


@pytest.mark.parametrize(("ahead", "workers"), [(0, 2), (3, 0), (1, 1), (5, 4)])
def test_order_does_not_depend_on_threads(ahead, workers):
    source = Prefetch(slow_first, lambda i: i % 4, 2, ahead=ahead, workers=workers)
    assert [source.take() for _ in range(9)] == [(i, i % 4) for i in range(2, 11)]
    assert source.position == 11
    source.close()


def test_no_more_is_read_ahead_than_asked_for():
    begun = []
    source = Prefetch(lambda i, row: begun.append(i), lambda i: i, ahead=3, workers=2)
    source.take()
    deadline = time.monotonic() + 5
    while len(begun) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert sorted(begun) == [0, 1, 2, 3]
    source.close()


def test_error_comes_in_its_turn_and_later_rows_follow():
    def load(index, row):
        if index == 2:
            raise DataError("bad", "list.txt:3")
        return index

    source = Prefetch(load, lambda i: i, ahead=4, workers=2)
    assert [source.take(), source.take()] == [0, 1]
    with pytest.raises(DataError, match="list.txt:3"):
        source.take()
    assert source.take() == 3
    source.close()


def test_close_ends_the_threads():
    source = Prefetch(slow_first, lambda i: i, ahead=2, workers=2)
    source.take()
    threads = [t for t in threading.enumerate() if t.name.startswith("atrouscaffe-data")]
    source.close()
    for thread in threads:
        thread.join(5)
    assert threads
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_reads_on():
    source = Prefetch(slow_first, lambda i: i, ahead=2, workers=2)
    source.take()
    child = os.fork()
    if child == 0:
        os._exit(0 if [source.take(), source.take()] == [(1, 1), (2, 2)] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert source.take() == (1, 1)
    source.close()
