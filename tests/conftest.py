"""Fixtures that all tests share: where the recordings and the photographs are, which devices there are."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests import stand_in

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT / "tests" / "oracle"


def pytest_addoption(parser):
    parser.addoption("--require-gpu", action="store_true",
                     help="fail instead of skipping where a GPU test finds no GPU")
    parser.addoption("--own-allocations", action="store_true",
                     help="give every array on a GPU memory of its own: compute-sanitizer sees what lies beyond it")


def pytest_terminal_summary(terminalreporter):
    """Say once for each reason how many tests were skipped: a line for each place would be a thousand."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped
                      if isinstance(report.longrepr, tuple))
    if reasons:
        terminalreporter.section("skipped")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:5d}  {reason}")


def shared_folder() -> Path | None:
    """Folder with photographs and models that cannot be published: ATROUSCAFFE_SHARED, or ../shared."""
    named = os.environ.get("ATROUSCAFFE_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder if (folder / "data").is_dir() else None


@pytest.fixture(scope="session")
def oracle() -> Path:
    """Folder of the recordings made with the original programs."""
    return ORACLE


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of models and photographs; tests that need it are skipped without it."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("needs the folder shared/data beside the checkout (or ATROUSCAFFE_SHARED)")
    return folder / "data"


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same at every run."""
    return np.random.default_rng(1412_7062)


@pytest.fixture(params=["cpu", "stand-in", "cuda"])
def device(request, monkeypatch):
    """Name of a device for `Net` and `get_backend`: the CPU, the kernels run on the CPU, a GPU where there is one.

    A test can ask for some of them: ``@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)``.
    """
    if request.param == "cpu":
        yield "cpu"
    elif request.param == "stand-in":
        if stand_in.missing():
            pytest.skip(stand_in.missing())
        monkeypatch.setenv("ATROUSCAFFE_CONVOLUTION", "explicit")  # nothing is to be learnt from measuring here
        with stand_in.stand_in():
            yield "cuda"
    else:
        from atrouscaffe.runtime.cuda import probe

        found = probe()
        if found.state != "ready":
            if request.config.getoption("--require-gpu"):
                pytest.fail(found.message)
            pytest.skip(found.message)
        if request.config.getoption("--own-allocations"):
            import cupy

            cupy.cuda.set_allocator(None)
        yield "cuda"


@pytest.fixture(autouse=True, scope="session")
def no_word_of_compiling() -> None:
    """Let commands that tests run in this process not say that they compile, which only the first run here does."""
    from atrouscaffe.cli import progress

    progress.PATIENCE = float("inf")
