"""Memory of the device that does not exist: blocks with guards, pools, pinned memory.

    |<- 1024 x 0xFF ->|<------ block, aligned to 512 ------>|<- 1024 x 0xFF ->|

A fresh block is full of 0xFF too, which is NaN as a float and -1 as an int: what a kernel reads without
having written it shows, and so does what it writes outside of its arrays.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import threading
import weakref

import numpy as np

from tests.stand_in.errors import CUDARuntimeError, Fault, OutOfMemoryError

GUARD = 1024
UNIT = 512
_POISON = b"\xff" * GUARD
_local = threading.local()


class Device:
    """State of the one device: how much memory it has, which blocks are there."""

    def __init__(self):
        self.total = 8 << 30
        self.reset(self.total)

    def reset(self, total):
        self.total, self.taken = total, 0
        self.starts, self.blocks = [], {}
        self.pinned = weakref.WeakSet()
        self.launches = 0

    def find(self, pointer, nbytes, what):
        """Return the block that holds `nbytes` from `pointer` on."""
        at = bisect.bisect_right(self.starts, pointer) - 1
        block = self.blocks[self.starts[at]] if at >= 0 else None
        if block is None or pointer + nbytes > block.start + block.size:
            raise Fault(f"{what}: {nbytes} bytes at {pointer:#x} are not inside one allocation of the device")
        return block

    def check_guards(self, where, blocks=None):
        for block in list(self.blocks.values()) if blocks is None else blocks:
            block.check(where)

    def pinned_at(self, pointer, nbytes):
        """Return the page-locked memory that holds `nbytes` from `pointer` on, or None."""
        return next((p for p in self.pinned if p.ptr <= pointer and pointer + nbytes <= p.ptr + p.nbytes), None)

    def is_pinned(self, pointer, nbytes):
        return self.pinned_at(pointer, nbytes) is not None


device = Device()


class Block:
    """One allocation."""

    def __init__(self, size):
        self.size = size
        self.buffer = np.full(size + 2 * GUARD + UNIT, 0xFF, np.uint8)
        address = self.buffer.ctypes.data + GUARD
        self.offset = GUARD + -address % UNIT
        self.start = address + -address % UNIT
        self.released = False
        bisect.insort(device.starts, self.start)
        device.blocks[self.start] = self
        device.taken += size

    def poison(self):
        self.buffer[self.offset : self.offset + self.size] = 0xFF

    def release(self):
        if self.released:
            return
        self.released = True
        if device.blocks.get(self.start) is self:
            del device.blocks[self.start]
            device.starts.remove(self.start)
            device.taken -= self.size

    def check(self, where):
        for side, at in (("before", self.offset - GUARD), ("behind", self.offset + self.size)):
            if self.buffer[at : at + GUARD].tobytes() != _POISON:
                where_not = np.flatnonzero(self.buffer[at : at + GUARD] != 0xFF)
                distance = where_not[0] if side == "behind" else GUARD - 1 - where_not[-1]
                self.buffer[at : at + GUARD] = 0xFF
                raise Fault(f"{where}: wrote outside of an array: {where_not.size} bytes from {distance} bytes {side} "
                            f"an allocation of {self.size} bytes on")


class Memory:
    """Holds a block until nobody uses it."""

    def __init__(self, block, pool):
        # Not by a weak reference: the collector clears those that lie in a cycle before it calls __del__.
        self.block, self._pool = block, pool
        self.ptr, self.size, self.device_id = block.start, block.size, 0

    def __del__(self):
        if device is None:  # the interpreter is going
            return
        if self._pool is not None and not self.block.released:
            self._pool._give_back(self.block)
        else:
            self.block.release()


class MemoryPointer:
    """A place in a block."""

    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, 0

    def __int__(self):
        return self.ptr


def current_arena():
    """Return the handle of the current stream: like CuPy's, a pool keeps freed blocks for the stream they served."""
    from tests.stand_in import streams

    return streams.get_current_stream().ptr


class MemoryPool:
    """Gives freed blocks of a size out again on the same stream, like CuPy's.

    A pool that is dropped keeps its free blocks for ever, as those of CuPy 14 do.
    """

    def __init__(self, allocator=None):
        self._free, self._used, self._limit = {}, 0, 0
        self._allocator = allocator or (lambda size: malloc_raw(size))

    def malloc(self, size):
        size = max(-(-int(size) // UNIT) * UNIT, UNIT)
        arena = current_arena()
        waiting = self._free.get((arena, size))
        if waiting:
            block = waiting.pop()
            # No poison here: while work is recorded the block still belongs to what runs on replay.
        else:
            held = self.total_bytes()
            if self._limit and held + size > self._limit:
                self.free_all_blocks()
                held = self.total_bytes()
            if self._limit and held + size > self._limit:
                raise OutOfMemoryError(size, held, self._limit)
            try:
                pointer = self._allocator(size)
            except CUDARuntimeError as error:
                if error.status != 2:
                    raise
                self.free_all_blocks()
                try:
                    pointer = self._allocator(size)
                except CUDARuntimeError:
                    raise OutOfMemoryError(size, self.total_bytes(), self._limit) from None
            block = pointer.mem.block
            block.arena, block.raw = arena, pointer.mem
        self._used += size
        return MemoryPointer(Memory(block, self), 0)

    def _give_back(self, block):
        self._used -= block.size
        self._free.setdefault((block.arena, block.size), []).append(block)

    def free_all_blocks(self, stream=None):
        for blocks in self._free.values():
            for block in blocks:
                block.release()
        self._free.clear()

    free_all_free = free_all_blocks

    def n_free_blocks(self):
        return sum(len(blocks) for blocks in self._free.values())

    def used_bytes(self):
        return self._used

    def free_bytes(self):
        return sum(size * len(blocks) for (_, size), blocks in self._free.items())

    def total_bytes(self):
        return self._used + self.free_bytes()

    def set_limit(self, size=None, fraction=None):
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        self._limit = int(fraction * device.total) if fraction is not None else int(size or 0)

    def get_limit(self):
        return self._limit


class _Allocators:
    """The default pool, and what is used in its stead."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.pool = MemoryPool()
        self.malloc = self.pool.malloc


allocators = _Allocators()


def malloc_raw(size):
    """Allocate without a pool."""
    size = max(-(-int(size) // UNIT) * UNIT, UNIT)
    return MemoryPointer(raw_memory(size), 0)


def raw_memory(size):
    """``cupy.cuda.Memory``."""
    if device.taken + size > device.total:
        raise CUDARuntimeError(2)
    return Memory(Block(size), None)


def alloc(size):
    return get_allocator()(size)


def get_allocator():
    return getattr(_local, "malloc", None) or allocators.malloc


def set_allocator(allocator=None):
    if getattr(_local, "malloc", None):
        raise ValueError("Cannot change the global allocator inside `using_allocator` context manager.")
    allocators.malloc = allocator or malloc_raw


@contextlib.contextmanager
def using_allocator(allocator=None):
    before = getattr(_local, "malloc", None)
    _local.malloc = allocator or malloc_raw
    try:
        yield
    finally:
        _local.malloc = before


def alloc_pinned_memory(size):
    """Return memory of the host that asynchronous copies may use; it has the buffer protocol."""
    size = int(size)

    def size_of(self):
        return size

    cls = type("PinnedMemoryPointer", (ctypes.c_char * size,), {"size": size_of, "nbytes": size,
                                                                "__hash__": object.__hash__})
    memory = cls()
    memory.ptr = ctypes.addressof(memory)
    memory.mem = memory
    ctypes.memset(memory.ptr, 0xFF, size)
    device.pinned.add(memory)
    return memory


class PinnedMemoryPool:
    def __init__(self, allocator=None):
        pass

    def malloc(self, size):
        return alloc_pinned_memory(size)

    def free_all_blocks(self):
        pass

    def n_free_blocks(self):
        return 0
