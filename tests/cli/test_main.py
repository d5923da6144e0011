"""The command line itself: table, errors, exit statuses."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atrouscaffe import __version__
from atrouscaffe.cli import main as cli
from atrouscaffe.errors import DataError
from atrouscaffe.runtime.threads import num_threads, set_num_threads

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_module_and_options(name, capsys):
    module_name, line = cli.COMMANDS[name]
    assert importlib.util.find_spec(module_name) is not None
    module = importlib.import_module(module_name)
    assert len(module.HELP) > 20
    assert callable(module.run)
    assert 5 < len(line) < 80
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert "--threads" in capsys.readouterr().out


def test_version_help_and_nothing(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"atrouscaffe {__version__}\n"
    assert cli.main([]) == 2
    assert "segment" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["segmnt"])
    assert caught.value.code == 2


@pytest.fixture
def command(monkeypatch):
    """Replace the body of `inspect` by what a test wants to happen."""
    def replace(body):
        monkeypatch.setattr("atrouscaffe.cli.inspect.run", body)
    return replace


def raising(error):
    def body(args):
        raise error
    return body


def test_errors_are_one_paragraph_and_status_2(command, capsys):
    command(raising(DataError("bad\n  thing", "list.txt:3")))
    assert cli.main(["inspect", "x"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "atrouscaffe: list.txt:3: bad thing\n"
    assert captured.out == ""


def test_debug_shows_the_traceback(command):
    command(raising(DataError("bad")))
    with pytest.raises(DataError):
        cli.main(["--debug", "inspect", "x"])
    with pytest.raises(DataError):
        cli.main(["inspect", "x", "--debug"])


def test_other_endings(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert cli.main(["inspect", "x"]) == 130
    command(raising(MemoryError()))
    assert cli.main(["inspect", "x"]) == 2
    assert "out of memory" in capsys.readouterr().err
    command(lambda args: 7)
    assert cli.main(["inspect", "x"]) == 7


def test_defects_of_ours_are_not_hidden(command):
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["inspect", "x"])


def test_common_options_may_stand_before_and_behind(command, monkeypatch):
    seen = []
    monkeypatch.setenv("ATROUSCAFFE_NUM_THREADS", "4")
    command(lambda args: seen.append((num_threads(), args.allow_path)) or 0)
    try:
        assert cli.main(["--threads", "3", "--allow-path", "a", "inspect", "x", "--allow-path", "b"]) == 0
        assert cli.main(["inspect", "x", "--threads", "2"]) == 0
    finally:
        set_num_threads(None)
    assert seen == [(3, ["a", "b"]), (2, [])]


@pytest.mark.parametrize("n", ["0", "-2"])
def test_impossible_numbers_of_threads_are_refused(n, capsys):
    assert cli.main(["inspect", "x", f"--threads={n}"]) == 2
    assert "--threads" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import atrouscaffe.cli.inspect as inspect
def run(args):
    for i in range(100000):
        print("line", i)
    return 0
inspect.run = run
from atrouscaffe.cli.main import main
sys.exit(main(["inspect", "x"]))
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
