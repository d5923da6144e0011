"""What a terminal is told while work goes on."""

import io
import sys
import threading
import time
import types

import pytest

from atrouscaffe.cli import progress
from atrouscaffe.cli.progress import NOTICE, Progress, compile_notice


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch):
    """Make stderr a terminal; in the test's own body, since pytest puts its capture in place before that."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def compiling(monkeypatch, *answers):
    """Let the compiler give these answers, the last over and over; return an event that is set at the last."""
    left, last = list(answers), threading.Event()

    def counts():
        if len(left) == 1:
            last.set()
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(sys.modules, "atrouscaffe.runtime.jit", types.SimpleNamespace(counts=counts))
    return last


def test_compiling_is_said_once(monkeypatch):
    terminal = on_terminal(monkeypatch)
    found = compiling(monkeypatch, {"f": (0, 1)}, RuntimeError("dictionary changed size during iteration"),
                      {"f": (1, 1), "g": (0, 0)})
    threads = threading.active_count()
    with compile_notice(0.001):
        assert found.wait(20)
    assert terminal.getvalue() == f"\r\033[K{NOTICE}\n"
    assert threading.active_count() == threads
    assert len(NOTICE) < 120 and "warmup" in NOTICE


def test_functions_found_on_disk_are_not_worth_a_word(monkeypatch):
    terminal = on_terminal(monkeypatch)
    found = compiling(monkeypatch, {"f": (0, 1)}, {"f": (0, 7)})
    with compile_notice(0.001):
        assert found.wait(20)
    assert terminal.getvalue() == ""


def test_an_error_in_the_body_ends_the_watch(monkeypatch):
    on_terminal(monkeypatch)
    compiling(monkeypatch, {})
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), compile_notice(0.001):
        raise KeyboardInterrupt
    assert threading.active_count() == threads


def test_no_terminal_when_compiling_takes_long_then_one_line(monkeypatch, capsys):
    compiling(monkeypatch, {"f": (1, 0)})
    with compile_notice(0.001):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""  # a short compilation is not worth a line
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with compile_notice(0.001):
        time.sleep(0.2)
    assert capsys.readouterr().err == f"{progress.NOTICE}\n"


def test_progress_is_one_line_that_is_wiped(monkeypatch):
    terminal = on_terminal(monkeypatch)
    progress = Progress(4, "images")
    progress.update(1)
    assert terminal.getvalue() == ""  # not in the first second
    progress.begin -= 2
    progress.update(2, "b.jpg")
    line = terminal.getvalue()
    assert line.startswith("\r[##########          ] 2/4 images, 0:02 left, b.jpg")
    progress.close()
    assert terminal.getvalue() == f"{line}\r{' ' * (len(line) - 1)}\r"
