"""The log of a training run: one JSON object a line, and the chart drawn from it."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from atrouscaffe.errors import FileAccessError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.pipeline.chart import Panel, Series, draw
from atrouscaffe.solver.solver import Event

__all__ = ["TrainLog", "read_log", "write_chart"]

RUNNING = 20  # iterations whose mean is drawn over a loss that the solver does not average itself


class TrainLog:
    """Appends what a solver does to a JSONL file; a line that a killed run left unfinished is taken out first.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileAccessError
        The file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab+")  # noqa: SIM115  (kept open until close)
            self._cut_torn_line()
        except OSError as error:
            raise FileAccessError(f"the log {self.path} cannot be written: {error.strerror}") from error
        self._began = time.perf_counter()

    def _cut_torn_line(self) -> None:
        end = self._file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            begin = max(0, keep - 4096)
            self._file.seek(begin)
            block = self._file.read(keep - begin)
            newline = block.rfind(b"\n")
            keep = begin + newline + 1
            if newline >= 0:
                break
        if keep < end:
            self._file.truncate(keep)

    def write(self, record: dict[str, Any]) -> None:
        """Append one object.

        Raises
        ------
        FileAccessError
            The disk is full, for instance.
        """
        line = json.dumps({"seconds": round(time.perf_counter() - self._began, 3), **record}, default=str) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise FileAccessError(f"the log {self.path} cannot be written: {error.strerror}") from error

    def event(self, event: Event, **more: Any) -> None:
        """Append what a solver tells its listeners."""
        record: dict[str, Any] = {"kind": event.kind, "iteration": event.iteration}
        outputs = {name: [value if math.isfinite(value) else None for value in values]  # a score over no pixels
                   for name, values in event.outputs.items()}
        if event.kind == "iteration":
            record |= {"loss": event.loss, "smoothed_loss": event.smoothed_loss, "lr": event.rate,
                       "gradient_norm": event.gradient_norm, "outputs": outputs}
        elif event.kind == "test":
            record |= {"net": event.net, "outputs": outputs}
            record |= {} if math.isnan(event.loss) else {"loss": event.loss}
        else:
            record["path"] = event.path
        self.write({**record, **more})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of a log in order; what a resumed run did over again replaces what it did before."""
    records: list[dict[str, Any]] = []
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
    except OSError as error:
        raise FileAccessError(f"cannot read the log {path}: {error.strerror}") from error
    for line in lines:
        if not line.endswith("\n"):  # a run that was killed, or is writing just now
            continue
        record = json.loads(line)
        if record.get("kind") in ("restore", "start"):
            done = record["iteration"]
            records = [r for r in records if r["iteration"] < done + (r["kind"] == "snapshot")]
        records.append(record)
    return records


def _scores(records: Iterable[dict[str, Any]], kind: str, losses: set[str]) -> dict[str, tuple[list, list]]:
    """Return name → (iterations, values) of outputs that are no losses."""
    lines: dict[str, tuple[list, list]] = {}
    for record in records:
        if record["kind"] != kind:
            continue
        where = f"test {record['net']} " if record.get("net") else ""
        for name, values in record.get("outputs", {}).items():
            for i, value in enumerate(values):
                if name in losses or value is None:
                    continue
                label = f"{where}{name}" + (f"[{i}]" if len(values) > 1 else "")
                xs, ys = lines.setdefault(label, ([], []))
                xs.append(record["iteration"])
                ys.append(value)
    return lines


def _running_mean(values: Sequence[float]) -> list[float]:
    """Return the mean of each value and those in front of it, RUNNING in all."""
    sums = list(itertools.accumulate(values, initial=0.0))
    return [(sums[i + 1] - sums[max(0, i + 1 - RUNNING)]) / min(i + 1, RUNNING) for i in range(len(values))]


def write_chart(log: str | Path, path: str | Path, title: str, losses: Iterable[str] = ()) -> None:
    """Draw loss, scores and learning rate of a log as SVG.

    Parameters
    ----------
    log, path : path
        The JSONL file; the chart to write, whole or not at all.
    title : str
    losses : iterable of str
        Outputs that are losses: they stand in the chart of the loss.
    """
    records, losses = read_log(log), set(losses)
    steps = [record for record in records if record["kind"] == "iteration"]
    at = [record["iteration"] for record in steps]
    raw, smooth = [r["loss"] for r in steps], [r["smoothed_loss"] for r in steps]
    name = "smoothed"
    if raw == smooth and len(raw) > 2 * RUNNING:
        name, smooth = f"mean of {RUNNING}", _running_mean(raw)
    loss = [Series("loss", at, raw, faint=raw != smooth)]
    if raw != smooth:
        loss.append(Series(name, at, smooth))
    tests = [record for record in records if record["kind"] == "test"]
    for name in sorted(losses):
        points = [(r["iteration"], r["outputs"][name][0]) for r in tests
                  if r["outputs"].get(name) and r["outputs"][name][0] is not None]
        if points:
            loss.append(Series(f"test {name}", [x for x, _ in points], [y for _, y in points]))
    panels = [Panel("loss", loss, logarithmic=True)]
    for kind, what in (("test", "scores of the test net"), ("iteration", "scores of the train net")):
        lines = _scores(records, kind, losses)
        if lines:
            panels.append(Panel(what, [Series(name, *line) for name, line in lines.items()], within=(0, 1)))
    rates = [record["lr"] for record in steps]
    wide = bool(rates) and max(rates) > 100 * min(rates)
    panels.append(Panel("learning rate", [Series("lr", at, rates)], logarithmic=wide, within=() if wide else (0,)))
    with atomic_write(path) as file:
        file.write(draw(title, panels).encode())
