"""A training run from the command line's point of view: resume, log, chart, signals."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrouscaffe.errors import ArgumentError, BudgetError
from atrouscaffe.graph.graph import Value
from atrouscaffe.graph.memory import plan
from atrouscaffe.net import Net
from atrouscaffe.pipeline.trainlog import TrainLog, write_chart
from atrouscaffe.runtime.budget import default_budget
from atrouscaffe.solver import snapshot as snapshots
from atrouscaffe.solver.solver import Event, Solver, get_solver
from atrouscaffe.solver.spec import read_spec

__all__ = ["MemoryNeed", "images_per_iteration", "memory_need", "train"]

QUIET_SECONDS = 30.0  # a line of progress at least so often, where display is rare or off


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a solver's arrays take when all of them were touched."""

    blobs: int
    gradients: int
    parameters: int
    parameter_gradients: int
    histories: int
    tests: int

    @property
    def total(self) -> int:
        """All of them."""
        return (self.blobs + self.gradients + self.parameters + self.parameter_gradients + self.histories
                + self.tests)

    def __str__(self) -> str:
        def mb(n: int) -> str:
            return f"{n / 1e6:,.0f}"

        return (f"{mb(self.total)} MB (blobs {mb(self.blobs)}, their gradients {mb(self.gradients)}, parameters "
                f"{mb(self.parameters)}, their gradients {mb(self.parameter_gradients)}, histories "
                f"{mb(self.histories)}, test nets {mb(self.tests)})")


def memory_need(solver: Solver) -> MemoryNeed:
    """Return what training takes, from shapes alone: nothing has been touched yet."""
    net = solver.net
    size = net.dtype.itemsize
    values = plan(net.graph, itemsize=size, budget=0)
    both = plan(net.graph, gradients=True, itemsize=size, budget=0)
    trained = sum(entry.blob.count for entry in net.learnable if entry.lr_mult)
    per_parameter = len(solver.updater.histories[0]) if solver.updater.histories else 0
    tests = sum(plan(test.graph, itemsize=size, budget=0).activation_bytes for test in solver.test_nets)
    return MemoryNeed(values.activation_bytes, both.activation_bytes - values.activation_bytes, values.parameter_bytes,
                      both.parameter_bytes - values.parameter_bytes, trained * per_parameter * size, tests)


def images_per_iteration(solver: Solver) -> int:
    """Return how many images one iteration sees: the largest batch of a data layer, times iter_size."""
    batches = [net_top.shape[0] for net_top in _sources(solver.net) if net_top.shape]
    return max(batches, default=1) * solver.param.iter_size


def _sources(net: Net) -> Iterator[Value]:
    for node in net.graph.nodes:
        if not node.bottoms and node.tops:
            yield net.graph.values[node.tops[0]]


def _duration(seconds: float) -> str:
    """Return a time in words of at most two units."""
    seconds = max(0, round(seconds))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


class _Progress:
    """Tells standard error how a run goes."""

    def __init__(self, solver: Solver, say: Callable[[str], None]) -> None:
        self.solver, self.say = solver, say
        self.images = images_per_iteration(solver)
        self.first = solver.iter
        self.began = self.told = time.perf_counter()

    def __call__(self, event: Event) -> None:
        if event.kind == "restore":
            self.first = event.iteration
        if event.kind != "iteration":
            return
        now, display = time.perf_counter(), self.solver.param.display
        if not (display and event.iteration % display == 0) and now - self.told < QUIET_SECONDS:
            return
        self.told = now
        done = event.iteration + 1 - self.first
        left = self.solver.param.max_iter - event.iteration - 1
        seconds = (now - self.began) / done
        self.say(f"{event.iteration + 1} of {self.solver.param.max_iter} iterations, "
                 f"loss {event.smoothed_loss:.4g}, lr {event.rate:.4g}, {self.images / seconds:.3g} images/s, "
                 f"{_duration(left * seconds)} left")


@contextlib.contextmanager
def _signals(solver: Solver, say: Callable[[str], None], sigint: str, sighup: str) -> Iterator[list[int]]:
    """Let SIGINT and SIGHUP do what `sigint` and `sighup` say, SIGTERM stop; a second signal stops at once.

    Parameters
    ----------
    sigint, sighup : {"stop", "snapshot", "none"}
        Stopping writes a snapshot.

    Yields
    ------
    list of int
        The signals that asked to stop.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python lets the main thread alone set handlers
        yield received
        return

    def stop(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        say("stopping after this iteration, with a snapshot; once more stops at once, without")
        solver.request("stop")

    def save(number: int, frame: object) -> None:
        solver.request("snapshot")

    effects = {"stop": stop, "snapshot": save, "none": lambda number, frame: None}
    handlers = {signal.SIGINT: effects[sigint], signal.SIGTERM: stop}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = effects[sighup]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _begin(solver: Solver, weights: Sequence[str | Path], snapshot: str | None, allow_missing: bool,
           say: Callable[[str], None]) -> None:
    """Resume, or load weights, or start from fillers; say which."""
    if snapshot == "auto":
        found = snapshots.newest(snapshots.prefix(solver), say)
        if found is None:
            say(f"no whole snapshot with prefix {snapshots.prefix(solver)} yet: starting at iteration 0")
        snapshot = found
    elif snapshot is not None and weights:
        raise ArgumentError("expected weights to start from or a snapshot to resume, got both")
    if snapshot is not None:
        solver.restore(snapshot)
        say(f"resumed at iteration {solver.iter} from {snapshot}")
        return
    loaded: set[str] = set()
    for path in weights:
        loaded.update(solver.net.copy_from(path, allow_missing=allow_missing).loaded)
        say(f"weights from {path}")
    names = {entry.layer for entry in solver.net.learnable}
    if solver.net.reports:
        loaded = {name for report in solver.net.reports for name in report.loaded}
    fresh = [name for name in solver.net.params if name in names and name not in loaded]
    if fresh:
        say(f"from fillers: {', '.join(fresh)}")
    still = [entry.layer for entry in solver.net.learnable
             if entry.index == 0 and entry.lr_mult and entry.blob.count and not entry.blob.data.any()]
    if len(still) > 1:
        say(f"warning: all weights are 0 in {', '.join(still)} (Caffe's default filler); where several such layers "
            "stand in a row, none of them learns: load weights, or give them a weight_filler")


def train(solver_file: str | Path, *, weights: Sequence[str | Path] = (), snapshot: str | None = None,
          variables: Mapping[str, str] | None = None, device: str = "cpu", precision: str = "fp32",
          allow_paths: Sequence[str | Path] = (), allow_missing: bool = False, log: str | Path | None = None,
          plot: str | Path | None = None, say: Callable[[str], None] | None = None,
          level: int | None = None, stages: Sequence[str] = (), sigint: str = "stop", sighup: str = "snapshot",
          allow_python_layers: bool = False, skip_bad_images: bool = False) -> tuple[Solver, bool]:
    """Train as a solver file says.

    Parameters
    ----------
    solver_file : path
    weights : sequence of path, optional
        Caffemodels to start from.
    snapshot : path or "auto", optional
        Solverstate to resume; ``"auto"`` is the newest whole one with the solver's prefix, or none.
    variables : mapping of str to str, optional
        Fill ``${NAME}`` placeholders.
    device : str
    precision : {"fp32", "tf32", "fp16"}
        Of the operands of matrix products on a CUDA device; see `Net`.
    allow_paths : sequence of path
    allow_missing : bool
        Let `weights` lack layers.
    log, plot : path, optional
        JSONL file (appended to) and SVG chart; by default the snapshot prefix with ``.log.jsonl`` and
        ``.svg``.
    say : callable of str, optional
        Takes progress and Caffe's lines; standard error by default.
    level : int, optional
    stages : sequence of str
        Of the train net, beside what the solver says.
    sigint, sighup : {"stop", "snapshot", "none"}
        What these signals do; stopping writes a snapshot.
    allow_python_layers, skip_bad_images : bool
        See `Net`.

    Returns
    -------
    solver : Solver
    stopped : bool
        A signal ended the run before ``max_iter``.

    Raises
    ------
    AtrousCaffeError
        Before the first iteration for whatever can be found then; later for a loss that is not
        finite, bad data, or files that cannot be written.
    """
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    spec = read_spec(solver_file, variables)
    spec = dataclasses.replace(spec, train=dataclasses.replace(
        spec.train, level=spec.train.level if level is None else level, stages=(*spec.train.stages, *stages)))
    solver = get_solver(spec, variables=variables, device=device, precision=precision, allow_paths=allow_paths,
                        allow_missing=allow_missing, log=say, allow_python_layers=allow_python_layers,
                        skip_bad_images=skip_bad_images)
    need = memory_need(solver)
    say(f"memory planned: {need}")
    budget = default_budget()
    if need.total > budget:
        raise BudgetError(f"training needs {need}, above the budget of {budget / 1e6:,.0f} MB; use a smaller "
                          "batch_size with a larger iter_size, a smaller crop, or raise ATROUSCAFFE_MEMORY_BUDGET")
    snapshots.check_prefix(solver)
    stem = snapshots.prefix(solver)
    journal = TrainLog(log or f"{stem}.log.jsonl")
    chart = Path(plot or f"{stem}.svg")
    for left in chart.parent.glob(f".{glob.escape(chart.name)}.*.tmp"):  # by a run that was killed while drawing
        left.unlink(missing_ok=True)
    losses = {name for name, weight in solver.net.blob_loss_weights.items() if weight}

    def draw() -> None:
        write_chart(journal.path, chart, solver.net.name or Path(solver_file).stem, losses)

    try:
        _begin(solver, weights, snapshot, allow_missing, say)
        snapshots.check_names(solver)
        journal.write({"kind": "start", "iteration": solver.iter, "solver": str(solver_file),
                       "net": solver.net.name, "max_iter": solver.param.max_iter, "memory_bytes": need.total})
        _listen(solver, journal, draw, say)
        with _signals(solver, say, sigint, sighup) as received:
            solver.solve()
        draw()
    finally:
        journal.close()
    return solver, bool(received)


def _listen(solver: Solver, journal: TrainLog, draw: Callable[[], None], say: Callable[[str], None]) -> None:
    """Let the journal, the chart and the progress lines follow the solver."""
    images = images_per_iteration(solver)
    then = [time.perf_counter()]

    def record(event: Event) -> None:
        if event.kind == "iteration":
            now = time.perf_counter()
            journal.event(event, images_per_second=round(images / max(now - then[0], 1e-9), 3))
            then[0] = now
            return
        journal.event(event)
        draw()
        then[0] = time.perf_counter()

    solver.listeners += [record, _Progress(solver, say)]
