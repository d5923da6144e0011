"""Streams, events and recorded work.

Work is done at once, in the order in which it is given. Between `begin_capture` and `end_capture` it is
only written down, as by CUDA: its results are not there until the graph is launched. Waiting for the
device or copying from or to memory that is not pinned is an error meanwhile.
"""

from __future__ import annotations

import threading
import time

from tests.stand_in.errors import CUDARuntimeError, Fault
from tests.stand_in.memory import device

_local = threading.local()


class _Capture:
    def __init__(self, origin):
        self.origin, self.actions, self.blocks, self.joined, self.invalid = origin, [], [], {origin}, False
        self.open_forks = set()


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.disable_timing, self._time, self._capture, self.ptr = disable_timing, None, None, id(self)

    def record(self, stream=None):
        stream = stream or get_current_stream()
        self._capture = stream._capture
        if self._capture:
            self._capture.open_forks.discard(stream)
        self._time = time.perf_counter()

    @property
    def done(self):
        self._forbid_in_capture()
        return True

    def synchronize(self):
        self._forbid_in_capture()

    def _forbid_in_capture(self):
        if self._capture:
            self._capture.invalid = True
            raise CUDARuntimeError(900)


def get_elapsed_time(start_event, end_event):
    if start_event.disable_timing or end_event.disable_timing or start_event._time is None or end_event._time is None:
        raise CUDARuntimeError(400)
    return (end_event._time - start_event._time) * 1e3


class Stream:
    """A queue of work."""

    null: Stream
    ptds: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.is_non_blocking, self._capture, self.device_id, self.priority = non_blocking, None, 0, priority or 0
        self._before = []
        self.ptr = 0 if null else id(self)

    def use(self):
        _local.stream = self
        return self

    def __enter__(self):
        self._before.append(get_current_stream())
        return self.use()

    def __exit__(self, *exc):
        _local.stream = self._before.pop()

    @property
    def done(self):
        wait_for_host(self)
        return True

    def synchronize(self):
        wait_for_host(self)

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        if event._capture is None or event._capture is self._capture:
            return
        if self._capture is not None:
            raise CUDARuntimeError(900)
        self._capture = event._capture
        self._capture.joined.add(self)

    def is_capturing(self):
        return self._capture is not None

    def begin_capture(self, mode=None):
        if self.ptr == 0 or self._capture is not None:
            raise CUDARuntimeError(900)
        self._capture = _Capture(self)

    def end_capture(self):
        capture = self._capture
        if capture is None or capture.origin is not self:
            raise CUDARuntimeError(1)
        for stream in capture.joined:
            stream._capture = None
        if capture.invalid:
            raise CUDARuntimeError(901)
        if capture.open_forks - {self}:
            raise CUDARuntimeError(904)
        return Graph(capture)


Stream.null = Stream(null=True)
Stream.ptds = Stream(null=True)


class Graph:
    """What was written down."""

    def __init__(self, capture):
        self._actions, self._blocks = capture.actions, capture.blocks

    def launch(self, stream=None):
        for block in self._blocks:
            if block.released:
                raise Fault("a graph uses memory that was given back")
        stream = stream or get_current_stream()
        if stream._capture:
            stream._capture.actions.extend(self._actions)
            stream._capture.blocks.extend(self._blocks)
            return
        for action in self._actions:
            action()

    def upload(self, stream=None):
        pass


def get_current_stream(device_id=-1):
    return getattr(_local, "stream", None) or Stream.null


def reset():
    _local.stream = None


def recording():
    """Tell whether work on the current stream is only written down."""
    return get_current_stream()._capture is not None


def submit(action, blocks=(), stream=None):
    """Do `action`, or write it down; `blocks` is the memory that it uses."""
    stream = stream or get_current_stream()
    capture = stream._capture
    if capture is None:
        action()
        return
    capture.actions.append(action)
    capture.blocks.extend(blocks)
    if stream is not capture.origin:
        capture.open_forks.add(stream)


def wait_for_host(stream=None):
    """Raise while the stream is recorded: the host cannot see results that are not there."""
    stream = stream or get_current_stream()
    if stream._capture is not None:
        stream._capture.invalid = True
        raise CUDARuntimeError(900)


def stream_of(pointer):
    """Return the stream whose handle is `pointer`."""
    current = get_current_stream()
    if pointer in (0, current.ptr):
        return Stream.null if pointer == 0 else current
    raise Fault("memcpyAsync: expected the handle of the current stream or of the default stream")


def synchronize_device():
    wait_for_host()
    device.check_guards("device synchronisation")
