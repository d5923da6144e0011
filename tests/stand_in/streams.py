"""Streams, events and recorded work.

Work on the default stream is done at once. Work on every other stream is done as late as CUDA allows: when
the host waits for it, or when work on another stream that waits for it is done. So a missing wait shows:
old values are read, or what is still needed is overwritten. ``stand_in(late=True)`` treats the default
stream like the others.

Between `begin_capture` and `end_capture` work is only written down, as by CUDA: its results are not there
until the graph is launched. Waiting for the device or copying from or to memory that is not pinned is an
error meanwhile.
"""

from __future__ import annotations

import collections
import threading
import time
import weakref

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
        self._stream, self._place = None, 0

    def record(self, stream=None):
        stream = stream or get_current_stream()
        self._capture = stream._capture
        if self._capture:
            self._capture.open_forks.discard(stream)
            return
        stream._give(self._note)
        self._stream, self._place = stream, stream._given

    def _note(self):
        self._time = time.perf_counter()

    def _wait(self):
        """Do what comes before the event."""
        if self._stream is not None:
            self._stream._do(self._place)

    @property
    def done(self):
        self._forbid_in_capture()
        return self._stream is None or self._stream._done >= self._place

    def synchronize(self):
        self._forbid_in_capture()
        self._wait()

    def _forbid_in_capture(self):
        if self._capture:
            self._capture.invalid = True
            raise CUDARuntimeError(900)


def get_elapsed_time(start_event, end_event):
    if start_event.disable_timing or end_event.disable_timing or start_event._time is None or end_event._time is None:
        raise CUDARuntimeError(400)
    return (end_event._time - start_event._time) * 1e3


_streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
_waiting: set[Stream] = set()  # those with work to do


class Stream:
    """A queue of work."""

    null: Stream
    ptds: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.is_non_blocking, self._capture, self.device_id, self.priority = non_blocking, None, 0, priority or 0
        self._before = []
        self.ptr = 0 if null else id(self)
        self._late, self._queue, self._given, self._done = not null, collections.deque(), 0, 0
        _streams[self.ptr] = self

    def _give(self, action):
        """Take `action` in: to be done later, or now."""
        if not self.is_non_blocking:  # the default stream and blocking streams wait for each other
            for other in list(_waiting):
                if not other.is_non_blocking and (other.ptr == 0) != (self.ptr == 0):
                    other._do()
        self._given += 1
        if self._late:
            self._queue.append(action)
            _waiting.add(self)
        else:
            action()
            self._done += 1

    def _do(self, place=None):
        """Do what was given, up to `place`."""
        place = self._given if place is None else place
        while self._queue and self._done < place:
            action = self._queue.popleft()
            self._done += 1
            if not self._queue:
                _waiting.discard(self)
            action()

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
        if self._capture is not None:
            wait_for_host(self)
        return not self._queue

    def synchronize(self):
        wait_for_host(self)

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        if event._capture is None and self._capture is None:
            stream, place = event._stream, event._place  # as it is now, whatever is recorded later
            if stream is not None and stream is not self:
                self._give(lambda: stream._do(place))
            return
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
            stream._give(action)

    def upload(self, stream=None):
        pass


def get_current_stream(device_id=-1):
    return getattr(_local, "stream", None) or Stream.null


def reset(late=False):
    """Forget all work; `late` is how the default stream works."""
    _local.stream = None
    for stream in list(_waiting):
        stream._queue.clear()
    _waiting.clear()
    Stream.null._late, Stream.null._given, Stream.null._done = late, 0, 0


def deferred():
    """Tell whether work on the current stream is done later, or only written down."""
    stream = get_current_stream()
    return stream._capture is not None or stream._late


def recording():
    """Tell whether work on the current stream is only written down."""
    return get_current_stream()._capture is not None


def submit(action, blocks=(), stream=None):
    """Do `action`, now or later, or write it down; `blocks` is the memory that it uses."""
    stream = stream or get_current_stream()
    capture = stream._capture
    if capture is None:
        stream._give(action)
        return
    capture.actions.append(action)
    capture.blocks.extend(blocks)
    if stream is not capture.origin:
        capture.open_forks.add(stream)


def wait_for_host(stream=None):
    """Do the stream's work; raise while it is recorded: the host cannot see results that are not there."""
    stream = stream or get_current_stream()
    if stream._capture is not None:
        stream._capture.invalid = True
        raise CUDARuntimeError(900)
    stream._do()


def forbid_in_capture(stream=None):
    """Raise while the stream is recorded."""
    if (stream or get_current_stream())._capture is not None:
        wait_for_host(stream)


def refuse_to_be_recorded(stream=None, what="D2H transfers"):
    """Raise while the stream is recorded, as CuPy does for copies between host and device, pinned or not."""
    stream = stream or get_current_stream()
    if stream._capture is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def stream_of(pointer):
    """Return the stream whose handle is `pointer`."""
    stream = Stream.null if pointer == 0 else _streams.get(pointer)
    if stream is None:
        raise Fault("expected the handle of a stream")
    return stream


def waiting():
    """Return the streams that have work to do."""
    return list(_waiting)


def finish():
    """Do the work of all streams."""
    while _waiting:
        next(iter(_waiting))._do()


def synchronize_device():
    wait_for_host()
    finish()
    device.check_guards("device synchronisation")
