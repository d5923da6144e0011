"""Fixtures that all tests share: where the recordings and the photographs are, which devices there are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
ORACLE = ROOT / "tests" / "oracle"


def pytest_addoption(parser):
    parser.addoption("--require-gpu", action="store_true",
                     help="fail instead of skipping where a GPU test finds no GPU")


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
