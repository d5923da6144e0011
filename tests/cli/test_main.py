"""The command line itself: table, errors, exit statuses."""

import importlib.util
import os
import subprocess
import sys
import warnings
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


def in_a_process(body: str, before: str = "", **options):
    """Run a command whose body is `body` as a program."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import atrouscaffe.cli.inspect as inspect
def run(args):
    {body}
    return 0
inspect.run = run
{before}
from atrouscaffe.cli.main import main
sys.exit(main(["inspect", "x"]))
"""
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, **options)


def test_what_the_system_refuses_is_one_paragraph(command, capsys):
    command(raising(PermissionError(13, "Permission denied", "photos/a.jpg")))
    assert cli.main(["inspect", "x"]) == 2
    assert capsys.readouterr().err == "atrouscaffe: photos/a.jpg: Permission denied; --debug shows where this came up\n"
    with pytest.raises(PermissionError):
        cli.main(["inspect", "x", "--debug"])
    command(raising(FileNotFoundError("labels.txt not found.")))  # as NumPy raises it
    assert cli.main(["inspect", "x"]) == 2 and "labels.txt not found." in capsys.readouterr().err
    command(raising(OSError("raised by a library, without a number")))
    with pytest.raises(OSError, match="library"):
        cli.main(["inspect", "x"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("body", ["print('x')", "print('x', flush=True)", "print('x' * 100000)"])
def test_a_full_disk_behind_standard_output_is_one_paragraph(body):
    with open("/dev/full", "w") as full:
        done = in_a_process(body, stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"atrouscaffe: No space left on device; --debug shows where this came up\n"


def test_a_closed_standard_output_is_no_error():
    done = in_a_process("print('x')", before="sys.stdout = None")
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_that_the_terminal_cannot_show_are_spelt_out():
    done = in_a_process(r"print('Stra\u00dfe \udcff')", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, rb"Stra\xdfe \udcff" + b"\n", b"")
    done = in_a_process(r"print('Stra\u00dfe \udcff')", env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "Straße".encode() + rb" \udcff" + b"\n", b"")


def test_warnings_of_ours_are_paragraphs(command, capsys, monkeypatch):
    def warn(filename):
        def body(args):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = showwarning
                warnings.warn_explicit("not\n kept", RuntimeWarning, filename, 7)
            return 0
        return body

    def showwarning(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    before = warnings.formatwarning
    command(warn(cli.__file__))
    assert cli.main(["inspect", "x"]) == 0
    assert capsys.readouterr().err == "atrouscaffe: not kept\n"
    assert cli.main(["inspect", "x", "--debug"]) == 0
    assert "main.py:7: RuntimeWarning: not\n kept" in capsys.readouterr().err
    command(warn("elsewhere.py"))
    assert cli.main(["inspect", "x"]) == 0
    assert capsys.readouterr().err.startswith("elsewhere.py:7: RuntimeWarning")
    assert warnings.formatwarning is before


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        cli.main(["segment", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert min(columns, 100) - 12 < max(map(len, lines)) <= min(columns, 100)


@pytest.mark.parametrize(("words", "option"), [
    (["segment", "x.prototxt", "--model", "x.prototxt", "--weights", "w", "--crf-set", "nonsense=1"], "--crf-set"),
    (["inspect", "x.prototxt", "--set", "NAME=1"], "--set NAME"),
    (["convert", "x.prototxt", "y.prototxt", "--set", "NAME=1"], "--set NAME"),
    (["draw", "x.prototxt", "--out", "y.dot", "--set", "NAME=1"], "--set NAME"),
    (["time", "--model", "x.prototxt", "--set", "NAME=1"], "--set NAME")])
def test_options_without_effect_are_errors(words, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.prototxt").write_text('name: "n" input: "data" input_shape { dim: 1 dim: 1 dim: 2 dim: 2 }\n')
    assert cli.main(words) == 2
    assert option in (said := capsys.readouterr().err)
    assert "no effect" in said
    assert not (tmp_path / "y.prototxt").exists()


@pytest.mark.parametrize(("words", "hint"), [
    (["segmnt", "a.png"], "'segment'"), (["segment", "a.png", "--weigths", "x"], "'--weights'"),
    (["segment", "a.png", "--precision", "fp61"], "'fp16'"), (["crf", "a.png", "--scores", "s", "--preset", "deeplap"],
                                                              "'deeplab'")])
def test_the_nearest_name_is_offered(words, hint, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    try:
        status = cli.main(words)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert f"the nearest name is {hint}" in capsys.readouterr().err


def test_a_photograph_that_is_taken_for_a_preset_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert cli.main(["segment", "photo.jpg", "--crf", "photo.jpg"]) == 2
    assert "write the files before --crf" in capsys.readouterr().err


def test_a_missing_archive_is_told_before_the_list(capsys, tmp_path):
    assert cli.main(["submit", "--check", str(tmp_path / "missing.tgz"), "--voc", str(tmp_path), "--list", "test"]) == 2
    assert "no such archive" in capsys.readouterr().err
