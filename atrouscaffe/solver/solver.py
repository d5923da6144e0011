"""Solver: pycaffe's face over a train net, its test nets, an update rule and snapshots.

Source: ``solver.cpp`` and ``sgd_solver.cpp`` of BVLC Caffe, and ``Solver`` of ``_caffe.cpp``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from atrouscaffe.data.paths import PathGuard
from atrouscaffe.errors import ArgumentError, SolverError
from atrouscaffe.net import Net
from atrouscaffe.solver import snapshot as snapshots
from atrouscaffe.solver.policy import learning_rate
from atrouscaffe.solver.report import Event, Lines, net_outputs
from atrouscaffe.solver.spec import NetSource, SolverSpec, read_spec
from atrouscaffe.solver.updater import Updater
from atrouscaffe.solver.watch import DebugInfo, gradient_origin, value_origin

__all__ = ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Event", "NesterovSolver", "RMSPropSolver", "SGDSolver",
           "Solver", "get_solver"]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Solver:
    """Trains a net as its solver file says.

    Parameters
    ----------
    source : path, text, Fields or SolverSpec
    variables : mapping of str to str, optional
        Fill ``${NAME}`` placeholders, in the solver and in its nets.
    device : str, optional
    precision : {"fp32", "tf32"}, optional
        See `Net`. Test nets run in it too.
    dtype : dtype, optional
        float32; float64 for checks.
    allow_paths : sequence of path, optional
        Folders, beside the working one and the files' own, that files named inside may lie in.
    allow_missing : bool, optional
        Let the ``weights`` that the solver names lack layers.
    dialect : str, optional
        Of the nets; see `Net`.
    log : callable of str, optional
        Takes Caffe's lines (``display``, tests, ``debug_info``); standard error by default.
    allow_python_layers, skip_bad_images : bool, optional
        See `Net`.

    Attributes
    ----------
    net : Net
        The train net.
    test_nets : list of Net
        They use the train net's parameters.
    iter : int
        Iterations done.
    param : SolverSpec
        What the solver goes by.
    listeners : list of callable of Event
        Called after each iteration, test and snapshot.

    Raises
    ------
    AtrousCaffeError
        SolverError for the solver file; what `Net` raises for its nets.
    """

    type: ClassVar[str] = ""
    net_class: ClassVar[Callable[..., Net]] = Net

    def __init__(self, source: Any, *, variables: Mapping[str, str] | None = None, device: str = "cpu",
                 precision: str = "fp32", dtype: Any = np.float32, allow_paths: Sequence[str | Path] = (),
                 allow_missing: bool = False, dialect: str | None = None, log: Callable[[str], None] | None = None,
                 allow_python_layers: bool = False, skip_bad_images: bool = False) -> None:
        if precision == "fp16":
            raise ArgumentError("precision: expected 'fp32' or 'tf32' for training, got 'fp16': gradients are too "
                                "small for half precision and would become 0")
        self.param: SolverSpec = read_spec(source, variables, type=self.type)
        self.paths = PathGuard(self.param.path, allow_paths)
        self.log = log or _to_stderr
        self.listeners: list[Callable[[Event], None]] = []
        self._options = {"device": device, "precision": precision, "dtype": dtype, "variables": variables,
                         "dialect": dialect,
                         "allow_python_layers": allow_python_layers, "skip_bad_images": skip_bad_images,
                         "allow_paths": [*allow_paths, *([self.paths.base] if self.paths.base else [])]}
        self.net = self._make_net(self.param.train, 0)
        self.test_nets = [self._make_net(test, 1 + i) for i, test in enumerate(self.param.tests)]
        for net in self.test_nets:
            net.share_with(self.net)
        for path in self.param.weights:
            for part in path.split(","):
                self.net.copy_from(self.paths.resolve(part.strip(), "weights"), allow_missing=allow_missing)
        self.updater = Updater(self.net.learnable, self.param)
        self._iteration = 0
        self._losses: list[float] = []
        self._smoothed = 0.0
        self._callbacks: list[tuple[Callable[[], Any] | None, Callable[[], Any] | None]] = []
        self._requests: set[str] = set()
        self._snapshot_at = -1
        self._prefix_checked = False
        self._lines = Lines(self.log)

    def _make_net(self, source: NetSource, number: int) -> Net:
        """Make the train net (number 0) or a test net."""
        from atrouscaffe.formats.prototxt import read_net

        options = dict(self._options)
        variables = options.pop("variables")
        net = source.net
        if isinstance(net, str):
            net = read_net(self.paths.resolve(net, source.field), variables=variables, dialect=options["dialect"])
        seed = None if self.param.random_seed is None else self.param.random_seed + number
        return self.net_class(net, phase=source.phase, level=source.level, stages=(*net.stages, *source.stages),
                              seed=seed, **options)

    # -- pycaffe's face -------------------------------------------------------------------------

    @property
    def iter(self) -> int:
        """Iterations done."""
        return self._iteration

    def add_callback(self, on_start: Callable[[], Any] | None = None,
                     on_gradients_ready: Callable[[], Any] | None = None) -> None:
        """Call functions in each iteration: before its first forward pass, and before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def step(self, n: int) -> None:
        """Run `n` iterations, with the tests, lines and snapshots that fall due.

        Raises
        ------
        SolverError
            The loss or a gradient is not finite, with the layer where that began; parameters are
            those from before this iteration.
        """
        if self.param.snapshot:
            self._check_prefix()
        for _ in range(n):
            if "stop" in self._requests:
                return
            self._run_iteration()

    def solve(self, resume_file: str | Path | None = None) -> None:
        """Train to ``max_iter``, beginning with `resume_file` where it is given.

        Stops early where somebody called ``request("stop")``; a snapshot is then written.
        """
        if resume_file is not None:
            self.restore(resume_file)
        if self.param.snapshot or self.param.snapshot_after_train:
            self._check_prefix()
        self._requests.discard("stop")
        self._lines.restart(self._iteration)
        self.log(f"Solving {self.net.name}")
        self.log(f"Learning Rate Policy: {self.param.lr_policy}")
        self.step(max(0, self.param.max_iter - self._iteration))
        stopped = "stop" in self._requests
        if (self.param.snapshot_after_train or stopped) and self._snapshot_at != self._iteration:
            self.snapshot()
        if stopped:
            self.log("Optimization stopped early.")
            return
        if self._due(self.param.display):
            self.net.forward()
            self._smooth(self.net.loss)
            self.log(f"Iteration {self._iteration}, loss = {self._smoothed:g}")
        if self._due(self.param.test_interval):
            self.test_all()
        self.log("Optimization Done.")

    def request(self, what: str) -> None:
        """Ask a running solver, from a signal handler or another thread, to do something after this iteration.

        Parameters
        ----------
        what : {"snapshot", "stop"}
            A solver that is stopped in `solve` writes a snapshot first.
        """
        if what not in ("snapshot", "stop"):
            raise ArgumentError(f"request: expected 'snapshot' or 'stop', got {what!r}")
        self._requests.add(what)

    def snapshot(self) -> str:
        """Write caffemodel, solverstate and our own file beside them; return the solverstate's path.

        Raises
        ------
        FileAccessError
            A file cannot be written; earlier snapshots are as they were.
        """
        path = snapshots.write(self)
        self._snapshot_at = self._iteration
        self._tell(Event("snapshot", self._iteration, path=path))
        return path

    def restore(self, path: str | Path) -> None:
        """Take back a snapshot: parameters, histories, iteration, and the order of the data.

        Where our own file is missing, as with Caffe's snapshots, the data starts at its first row.

        Raises
        ------
        SolverError, WeightsError
            The snapshot is damaged, or of another net or solver; nothing was changed.
        """
        snapshots.restore(self, path)
        self._snapshot_at = self._iteration
        self._tell(Event("restore", self._iteration, path=str(path)))

    def apply_update(self) -> None:
        """Update the parameters from the gradients that are there, at this iteration's rate."""
        total = self.updater.sum_of_squares()
        self.updater.apply(learning_rate(self.param, self._iteration), self._iteration, total)

    def share_weights(self, net: Net) -> None:
        """Let `net` use the train net's parameters."""
        net.share_with(self.net)

    def test_all(self) -> None:
        """Run every test net over its ``test_iter`` batches."""
        for i in range(len(self.test_nets)):
            if "stop" in self._requests:
                return
            self._test(i)

    # -- one iteration --------------------------------------------------------------------------

    def _due(self, interval: int) -> bool:
        return bool(interval) and self._iteration % interval == 0

    def _run_iteration(self) -> None:
        self.net.clear_param_diffs()
        if self._due(self.param.test_interval) and (self._iteration or self.param.test_initialization):
            self.test_all()
            if "stop" in self._requests:
                return
        for on_start, _ in self._callbacks:
            if on_start is not None:
                on_start()
        display = self._due(self.param.display)
        rate = learning_rate(self.param, self._iteration)
        if display and self.param.debug_info:
            with DebugInfo(self.net, self.log) as info:
                loss = self._accumulate(info)
        else:
            loss = self._accumulate(None)
        self._smooth(loss)
        norm = self._norm()
        outputs = net_outputs(self.net)
        if display:
            self._lines.iteration(self._iteration, self.param.display, self._smoothed, rate, self.net, outputs)
        for _, on_gradients_ready in self._callbacks:
            if on_gradients_ready is not None:
                on_gradients_ready()
        if self._callbacks:  # they may have changed gradients
            norm = self._norm()
        sizes = DebugInfo(self.net, self.log).sizes() if display and self.param.debug_info else None
        self.updater.apply(rate, self._iteration, norm * norm)
        if sizes is not None:
            DebugInfo(self.net, self.log).update(sizes)
        self._iteration += 1
        self._tell(Event("iteration", self._iteration - 1, loss=loss, smoothed_loss=self._smoothed, rate=rate,
                         gradient_norm=norm, outputs=outputs))
        if self._due(self.param.snapshot) or "snapshot" in self._requests:
            self._requests.discard("snapshot")
            self.snapshot()

    def _accumulate(self, info: DebugInfo | None) -> float:
        """Run iter_size batches forward and backward; return their mean loss."""
        total = 0.0
        for _ in range(self.param.iter_size):
            self.net.forward()
            loss = self.net.loss
            if not math.isfinite(loss):
                raise SolverError(f"iteration {self._iteration}: the loss is {loss}; that began in "
                                  f"{value_origin(self.net)}. A smaller base_lr, clip_gradients or other fillers help "
                                  "where values grow without bound", self.param.path)
            total += loss
            self.net.backward()
            if info is not None:
                info.totals()
        return total / self.param.iter_size

    def _norm(self) -> float:
        """Return the norm of the gradients; raise where one of them is not finite."""
        total = self.updater.sum_of_squares()
        if not math.isfinite(total):
            origin = gradient_origin(self.net)
            if origin is None:
                origin = "the sum over iter_size batches"
            raise SolverError(f"iteration {self._iteration}: a gradient is not finite, the loss is "
                              f"{self._losses[-1]:g}; that began in {origin}. A smaller base_lr or clip_gradients "
                              "helps where values grow without bound", self.param.path)
        return math.sqrt(total)

    def _smooth(self, loss: float) -> None:
        """Keep the mean of the last average_loss losses (``UpdateSmoothedLoss``)."""
        self._losses = [*self._losses, loss][-self.param.average_loss:]
        self._smoothed = sum(self._losses) / len(self._losses)

    def _test(self, index: int) -> None:
        """Run one test net and write its mean outputs (``Solver::Test``)."""
        net, batches = self.test_nets[index], self.param.test_iter[index]
        self.log(f"Iteration {self._iteration}, Testing net (#{index})")
        sums: dict[str, np.ndarray] = {}
        loss, state = 0.0, net.state()
        for _ in range(batches):
            if "stop" in self._requests:
                self.log("Test interrupted.")
                net.set_state(state)  # a resumed run does this test from its beginning
                return
            net.forward()
            loss += net.loss if self.param.test_compute_loss else 0.0
            for name, values in net_outputs(net).items():
                sums[name] = sums.get(name, 0.0) + np.asarray(values)
        means = {name: [float(x) for x in values / batches] for name, values in sums.items()}
        if self.param.test_compute_loss:
            self.log(f"Test loss: {loss / batches:g}")
        self._lines.outputs("Test", net, means)
        self._tell(Event("test", self._iteration, net=index, outputs=means,
                         loss=loss / batches if self.param.test_compute_loss else math.nan))

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def _check_prefix(self) -> None:
        """Find out before the first iteration whether snapshots can be written."""
        if not self._prefix_checked:
            snapshots.check_prefix(self)
            self._prefix_checked = True


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum, whatever type the file gives."""

    type = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    type = "Nesterov"


class AdaGradSolver(Solver):
    """AdaGrad."""

    type = "AdaGrad"


class RMSPropSolver(Solver):
    """RMSProp."""

    type = "RMSProp"


class AdaDeltaSolver(Solver):
    """AdaDelta."""

    type = "AdaDelta"


class AdamSolver(Solver):
    """Adam."""

    type = "Adam"


_CLASSES: dict[str, type[Solver]] = {cls.type: cls for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver,
                                                               AdaDeltaSolver, AdamSolver)}


def get_solver(source: Any, **options: Any) -> Solver:
    """Return the solver that a file describes, of the class for its ``type``.

    Parameters
    ----------
    source : path, text, Fields or SolverSpec
    **options
        See `Solver`.
    """
    spec = read_spec(source, options.get("variables"))
    return _CLASSES[spec.type](spec, **options)
