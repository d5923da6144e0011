"""The command ``atrouscaffe``: finds the sub-command, runs it, turns errors into one paragraph.

Nothing but argparse is imported until a command runs: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from atrouscaffe.cli.caffe_options import respell
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, nearest

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "segment": ("atrouscaffe.cli.segment", "segment photographs, folders and videos"),
    "detect": ("atrouscaffe.cli.detect", "find objects in photographs and draw their boxes"),
    "crf": ("atrouscaffe.cli.crf", "refine saved scores or scribbles by the fully connected CRF"),
    "crf-search": ("atrouscaffe.cli.crf_search", "find CRF parameters on a list of images"),
    "evaluate": ("atrouscaffe.cli.evaluate", "score a model on a list of images with ground truth"),
    "reproduce": ("atrouscaffe.cli.reproduce", "run the paper's tables and figures, ours beside the published ones"),
    "submit": ("atrouscaffe.cli.submit", "make or check the archive that VOC's evaluation server takes"),
    "compare": ("atrouscaffe.cli.compare", "find the first layer at which two nets, devices or precisions diverge"),
    "sbd-to-png": ("atrouscaffe.cli.sbd_to_png", "build SegmentationClassAug from SBD's MAT files and VOC's labels"),
    "train": ("atrouscaffe.cli.train", "train a net as its solver file says"),
    "test": ("atrouscaffe.cli.test", "run a net over its data and write the mean of its outputs"),
    "time": ("atrouscaffe.cli.time", "time a net forward and backward, by layer"),
    "adapt": ("atrouscaffe.cli.adapt", "fit weights to a net with other classes or a decimated fc6"),
    "dataset-check": ("atrouscaffe.cli.dataset_check", "check a list of images and label maps before training"),
    "classify": ("atrouscaffe.cli.classify", "classify pictures"),
    "inspect": ("atrouscaffe.cli.inspect", "say what is in a net, weight or mean file, or why it will not load"),
    "convert": ("atrouscaffe.cli.convert", "convert nets and weights between dialects and formats"),
    "draw": ("atrouscaffe.cli.draw", "draw a net"),
    "device-query": ("atrouscaffe.cli.device_query", "say what nets can run on"),
    "benchmark": ("atrouscaffe.cli.benchmark", "measure how fast nets run here, stage by stage"),
    "warmup": ("atrouscaffe.cli.warmup", "compile ahead what the first run would compile"),
    "doctor": ("atrouscaffe.cli.doctor", "say what works here, and what to install for what does not"),
    **{name: ("atrouscaffe.cli.upgrade", f"Caffe's name for convert: an old {what} in today's form")
       for name, what in (("upgrade_net_proto_text", "text net"), ("upgrade_net_proto_binary", "caffemodel"),
                          ("upgrade_solver_proto_text", "solver"))},
}
"""Name → (module with HELP, add_arguments(parser) and run(args) -> int, one line of help)."""

TELL_THEMSELVES = ("doctor", "warmup")
"""Commands that say themselves what they compile."""
USER_ERROR, INTERRUPTED = 2, 130
WIDTH = 100
"""Longest line of help and messages, where the terminal has room for it."""
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _width() -> int:
    return min(WIDTH, shutil.get_terminal_size((WIDTH + 2, 24)).columns - 2)


class _Formatter(argparse.HelpFormatter):
    """Argparse's layout, with room for long option names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=_width())


class _Parser(argparse.ArgumentParser):
    """A parser that names the nearest command, option or choice where one is not known."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, exit with 2."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            message += nearest(choice.group(1), re.findall(r"[\w.+-]+", choice.group(2)))
        elif message.startswith("unrecognized arguments: "):
            words = message.removeprefix("unrecognized arguments: ").split()
            message += nearest(words[0].partition("=")[0], self._options()) if words[0].startswith("-") else ""
        super().error(message)

    def _options(self) -> list[str]:
        """Return the options of this parser and of its commands."""
        found = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [option for sub in action.choices.values() for option in sub._option_string_actions]
        return found


def _add_common(parser: argparse.ArgumentParser, *, default: bool) -> None:
    """Add the options that stand before or behind a command; only those before it set defaults."""
    def absent(value: object) -> object:
        return value if default else argparse.SUPPRESS

    parser.add_argument("--threads", type=int, metavar="N", default=absent(None),
                        help="threads for all computation (ATROUSCAFFE_NUM_THREADS; all processors)")
    parser.add_argument("--allow-path", action="append", metavar="DIR", default=[],
                        dest="allow_path" if default else "allow_path_behind",
                        help="let files named inside a prototxt lie in DIR too; may be repeated")
    parser.add_argument("--overwrite", action="store_true", default=absent(False),
                        help="let results replace files that this program did not make; inputs are never written over")
    parser.add_argument("--debug", action="store_true", default=absent(False), help="show the traceback of an error")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, with the options of `command` alone: only its module is imported."""
    parser = _Parser(
        prog="atrouscaffe", formatter_class=_Formatter, allow_abbrev=False,
        description="Run, train and measure DeepLab and other Caffe-era segmentation networks without Caffe.",
        epilog="atrouscaffe COMMAND --help shows the options of a command.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    _add_common(parser, default=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module_name, line) in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=line, add_help=False)
            continue
        module = importlib.import_module(module_name)
        sub = commands.add_parser(name, help=line, description=module.HELP, formatter_class=_Formatter,
                                  allow_abbrev=False)
        module.add_arguments(sub)
        _add_common(sub, default=False)
        sub.set_defaults(run=module.run)
    return parser


def _command_of(argv: Sequence[str]) -> str | None:
    """Return the first word of `argv` that is a command, skipping options and their values."""
    words = iter(argv)
    for word in words:
        if word in ("--threads", "--allow-path"):
            next(words, None)
        elif not word.startswith("-"):
            return word if word in COMMANDS else None
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Returns
    -------
    int
        0, the command's own status, 2 for an error that the user can mend, 130 when interrupted.
    """
    argv = respell(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what its decoders complain of are errors of ours already
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    debug = "--debug" in argv
    standard = warnings.formatwarning
    if not debug:
        warnings.formatwarning = _with_paragraphs(standard)
    try:
        status = _run(argv)
        print(end="", flush=True)  # while an error can still be told
        return status
    except AtrousCaffeError as error:
        if debug:
            raise
        _complain(str(error))
        return USER_ERROR
    except MemoryError:
        if debug:
            raise
        _complain("out of memory; use a smaller input, or raise the limit that this process runs under")
        return USER_ERROR
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away: that is its business
        _settle_output()
        return 0
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)  # NumPy raises it of its own accord, for a Python layer's file
        if debug or (error.errno is None and not missing):  # no answer of the system, but a defect
            raise
        _settle_output()
        _complain(f"{'' if error.filename is None else f'{error.filename}: '}{error.strerror or error}; --debug shows "
                  "where this came up")
        return USER_ERROR
    finally:
        warnings.formatwarning = standard


def _run(argv: Sequence[str]) -> int:
    args = build_parser(_command_of(argv)).parse_args(argv)
    if args.version:
        from atrouscaffe import __version__

        print(f"atrouscaffe {__version__}")
        return 0
    if args.command is None:
        build_parser().print_help(sys.stderr)
        return USER_ERROR
    args.allow_path = args.allow_path + args.allow_path_behind
    if args.threads is not None:
        _set_threads(args.threads)
    from atrouscaffe.formats.written import guarding

    with guarding(args.overwrite, _given_files(args)):
        if args.command in TELL_THEMSELVES:
            return args.run(args)
        from atrouscaffe.cli.progress import compile_notice

        with compile_notice():
            return args.run(args)


RESULTS = ("out", "json", "target", "log", "plot", "output", "report")
"""Options and arguments that name results; every other file that a command is given is an input."""


def _given_files(args: argparse.Namespace) -> list[str]:
    """Return what the command line names and may be an input: words, parts between commas, values after ``=``."""
    words: list[str] = []
    for name, value in vars(args).items():
        if name not in RESULTS:
            words += [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
    return [part for word in words for part in (word, *word.split(","), word.partition("=")[2]) if part]


def _settle_output() -> None:
    """Write what waits for standard output; where that cannot be written (a full disk), let it go nowhere."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_paragraphs(standard: Callable[..., str]) -> Callable[..., str]:
    """Return a format of warnings: one paragraph for those of this package, `standard` for others."""
    def shown(message: Warning | str, category: type[Warning], filename: str, lineno: int,
              line: str | None = None) -> str:
        if os.path.abspath(filename).startswith(PACKAGE + os.sep):
            return f"atrouscaffe: {' '.join(str(message).split())}\n"
        return standard(message, category, filename, lineno, line)

    return shown


def _set_threads(n: int) -> None:
    if n < 1:
        raise ArgumentError(f"--threads: expected at least 1, got {n}")
    os.environ["ATROUSCAFFE_NUM_THREADS"] = str(n)  # for processes that this one starts
    from atrouscaffe.runtime.threads import set_num_threads

    set_num_threads(n)


def _complain(message: str) -> None:
    """Write one paragraph to stderr, wrapped to the terminal, if it is one."""
    text = f"atrouscaffe: {' '.join(message.split())}"
    if sys.stderr.isatty():
        text = textwrap.fill(text, _width(), break_long_words=False, break_on_hyphens=False)
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
