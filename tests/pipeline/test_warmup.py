"""Compiling ahead on a device: every file of kernels, and what CuPy makes for nets and the CRF."""

from __future__ import annotations

import pytest

from atrouscaffe.errors import FileAccessError
from atrouscaffe.pipeline import warmup
from atrouscaffe.runtime import kernels


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_every_kernel_is_compiled(device, monkeypatch, tmp_path) -> None:
    asked = set()
    compiled = kernels._function

    def watched(file, function, options):
        asked.add((file, function))
        return compiled(file, function, options)

    watched.cache_clear = compiled.cache_clear
    monkeypatch.setattr(kernels, "_function", watched)
    steps = list(warmup.warm_device(device))
    assert [step.name for step in steps] == [*(f"{file}.cu" for file in kernels.kernel_files()), *warmup.NETS,
                                             "CRF of 21 labels"]
    assert {(file, name) for file in kernels.kernel_files() for name in kernels.signatures(file)} <= asked
    assert all(step.there + len(step.compiled) == 1 and step.seconds >= 0 for step in steps)


@pytest.mark.parametrize("device", ["stand-in"], indirect=True)
def test_what_is_new_on_disk_was_compiled(device, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("CUPY_CACHE_IN_MEMORY", raising=False)
    monkeypatch.setattr(warmup, "NETS", {})
    monkeypatch.setattr(warmup, "_run_crf", lambda labels, device: None)
    monkeypatch.setattr(kernels, "compile_kernels", lambda file: (tmp_path / file).touch())
    assert all(step.compiled == (step.name,) for step in list(warmup.warm_device(device))[:-1])
    assert not any(step.compiled for step in warmup.warm_device(device))


@pytest.mark.parametrize("device", ["stand-in"], indirect=True)
def test_nothing_is_compiled_ahead_that_is_not_kept(device, monkeypatch) -> None:
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    with pytest.raises(FileAccessError, match="unset CUPY_CACHE_IN_MEMORY"):
        next(warmup.warm_device(device))
