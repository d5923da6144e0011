"""Every recorded case of the original programs, forward and backward, on every device."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ORACLE
from tests.oracle_exceptions import NOT_KEPT
from tests.oracle_run import Case, run

FOLDERS = {folder.name: folder for folder in sorted((ORACLE / "cases").iterdir())}
RANDOM = {name for name, folder in FOLDERS.items() if not json.loads((folder / "case.json").read_text())["exact"]}
"""Cases that depend on the original's random numbers: their properties are tested with their layers."""


@pytest.mark.parametrize("name", [name for name in FOLDERS if name not in RANDOM and name not in NOT_KEPT])
def test_case_equals_the_recording(name, device, monkeypatch):
    monkeypatch.chdir(FOLDERS[name])
    run(Case(FOLDERS[name]), device=device)


def test_exceptions_are_few_and_real():
    defects = {name for name, folder in FOLDERS.items() if json.loads((folder / "case.json").read_text()).get("defect")}
    assert set(NOT_KEPT) <= defects
    assert len(RANDOM) == 7


@pytest.mark.parametrize("name", sorted(folder.name for folder in (ORACLE / "nets").iterdir()))
def test_slim_net_equals_the_recording(name, device, monkeypatch):
    folder = ORACLE / "nets" / name
    monkeypatch.chdir(folder)
    run(Case(folder), device=device)
