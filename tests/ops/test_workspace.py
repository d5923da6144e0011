import threading

import numpy as np

from atrouscaffe.ops.workspace import scratch


def test_scratch_when_asked_again_then_the_same_memory_unless_it_must_grow():
    first = scratch("test", (3, 4), np.float32)
    assert np.shares_memory(first, scratch("test", (2, 5), np.float32))
    assert not np.shares_memory(first, scratch("other", (3, 4), np.float32))
    assert not np.shares_memory(first, scratch("test", (3, 4), np.float64))
    large = scratch("test", (30, 4), np.float32)
    assert not np.shares_memory(first, large)
    assert large.flags.c_contiguous


def test_scratch_when_another_thread_asks_then_other_memory():
    mine, theirs = scratch("test", (7,), np.float32), []
    thread = threading.Thread(target=lambda: theirs.append(scratch("test", (7,), np.float32)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])
