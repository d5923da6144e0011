"""Streams of images through a net on a CUDA device: copies overlap with the work.

An image goes to the device once and its labels come back once, both through page-locked memory on
streams of their own; while one image is computed, the next is on its way in and the last on its way
out.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["DEPTH", "stream_labels"]

DEPTH = 2
"""Images in flight behind the one that is computed."""


class _Slot:
    """Page-locked and device memory for one image and its labels, grown as needed."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._pinned: dict[str, np.ndarray] = {}
        self._buffer: Any = None
        self.arrived, self.labelled, self.done = (cuda.Event(disable_timing=True) for _ in range(3))
        self.labels: Any = None
        self.picture: np.ndarray | None = None

    def pinned(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return page-locked memory as a uint8 array."""
        size = int(np.prod(shape))
        buffer = self._pinned.get(name)
        if buffer is None or buffer.size < size:
            buffer = np.frombuffer(self._cuda.alloc_pinned_memory(size), np.uint8, size)
            self._pinned[name] = buffer
        return buffer[:size].reshape(shape)

    def arrive(self, backend: Any, staged: np.ndarray, inward: Any) -> Any:
        """Start to copy `staged` to the device on the stream `inward`; return what the current stream will find there.

        The device's memory is the slot's own, and free once the slot's last labels are out: the copy waits for
        no other image.
        """
        here = self._cuda.get_current_stream()
        if self._buffer is None or self._buffer.size < staged.size:
            self._buffer = backend.xp.empty(staged.size, np.uint8)
            here.record(self.arrived)  # fresh memory: work that was started before may still use it
            inward.wait_event(self.arrived)
        image = self._buffer[: staged.size].reshape(staged.shape)
        image.set(staged, stream=inward)
        inward.record(self.arrived)
        here.wait_event(self.arrived)
        return image


def stream_labels(backend: Any, images: Iterable[np.ndarray], prepare: Callable[[np.ndarray], np.ndarray],
                  label: Callable[[Any, np.ndarray], Any]) -> Iterator[np.ndarray]:
    """Yield the labels of each image, in order.

    Parameters
    ----------
    backend : CudaBackend
    images : iterable of array
    prepare : callable
        Returns what is copied to the device for an image: (H, W, C) uint8.
    label : callable
        Starts the work on (device copy, image) and returns (H, W) uint8 labels on the device.

    Yields
    ------
    (H, W) uint8 array
    """
    cuda = backend.xp.cuda
    with backend.active():
        inward, outward = cuda.Stream(non_blocking=True), cuda.Stream(non_blocking=True)
        slots = [_Slot(cuda) for _ in range(DEPTH + 1)]
    flying: collections.deque[_Slot] = collections.deque()

    def start(slot: _Slot, image: np.ndarray) -> None:
        with backend.active():
            pixels = prepare(image)
            staged = slot.pinned("image", pixels.shape)
            staged[...] = pixels
            slot.labels = label(slot.arrive(backend, staged, inward), image)
            cuda.get_current_stream().record(slot.labelled)
            outward.wait_event(slot.labelled)
            slot.picture = slot.pinned("labels", slot.labels.shape)
            slot.labels.get(stream=outward, out=slot.picture, blocking=False)
            outward.record(slot.done)

    def finish(slot: _Slot) -> np.ndarray:
        with backend.active():
            slot.done.synchronize()
        return slot.picture.copy()  # type: ignore[union-attr]

    try:
        for number, image in enumerate(images):
            slot = slots[number % len(slots)]
            if len(flying) > DEPTH:
                yield finish(flying.popleft())
            start(slot, image)
            flying.append(slot)
        while flying:
            yield finish(flying.popleft())
    finally:  # who stops early: page-locked memory may be lent to others only when no copy uses it any more
        with backend.active():
            inward.synchronize()
            outward.synchronize()
