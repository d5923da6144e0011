"""Choices by measurement: what there is no memory for is left out, and only whole choices are kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atrouscaffe.errors import BudgetError
from atrouscaffe.ops.choice_cuda import choose, known_choice
from atrouscaffe.runtime.backend import get_backend
from tests.ops.on_device import devices

pytestmark = devices


def test_way_when_there_is_no_memory_for_it_then_another_is_chosen_for_now(device, monkeypatch, tmp_path):
    monkeypatch.setenv("ATROUSCAFFE_CACHE_DIR", str(tmp_path))
    backend = get_backend(device)
    numbers = backend.zeros((7,), np.float32)

    def little() -> None:
        numbers[...] = 1

    def much() -> None:
        raise BudgetError("out of memory")

    with backend.active():
        assert choose(backend, "first", {"much": much, "little": little}) == "little"
        assert known_choice(backend, "first") == "little" and not list(tmp_path.iterdir())
        assert choose(backend, "second", {"little": little}) == "little"
        with pytest.raises(BudgetError, match="out of memory"):
            choose(backend, "third", {"much": much})
    (kept,) = tmp_path.glob("choices-*.json")
    assert json.loads(kept.read_text()) == {"second": "little"}
