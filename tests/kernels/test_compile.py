"""Every kernel compiles for every device it is meant for, without warnings; no GPU is needed."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from atrouscaffe.runtime.kernels import kernel_files, kernel_text
from atrouscaffe.runtime.nvrtc import Nvrtc

COMPILERS = {
    12: ("cuda_nvrtc/lib", "cuda_runtime/include", "nvidia-cuda-nvrtc-cu12 and nvidia-cuda-runtime-cu12"),
    13: ("cu13/lib", "cu13/include", "nvidia-cuda-nvrtc and nvidia-cuda-runtime"),
}
MACHINE = ("sm_70", "sm_80", "sm_90")
"""Down to machine code: what ptxas says about the PTX in the text is heard only here."""


@functools.cache
def compiler(major: int) -> Nvrtc:
    library, headers, packages = COMPILERS[major]
    found = importlib.util.find_spec("nvidia")
    for root in map(Path, found.submodule_search_locations or []) if found else []:
        for path in sorted((root / library).glob(f"libnvrtc.so.{major}")):
            if (root / headers / "cuda_fp16.h").is_file():
                return Nvrtc(str(path), [root / headers])
    pytest.skip(f"needs the packages {packages}")


CUPYS = ("-ftz=true", "--device-as-default-execution-space")
"""Options that CuPy adds."""


def compile_text(nvrtc: Nvrtc, text: str, name: str, *options: str) -> str:
    """Return what the compiler said; raise AssertionError where it failed."""
    program = ctypes.c_void_p()
    nvrtc._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
    try:
        words = [*options, "--std=c++17", *CUPYS, *(f"-I{folder}" for folder in nvrtc.includes)]
        array = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
        failed = nvrtc._library.nvrtcCompileProgram(program, len(words), array)
        log = nvrtc._log(program)
    finally:
        nvrtc._library.nvrtcDestroyProgram(ctypes.byref(program))
    assert not failed, f"{name} {' '.join(options)}\n{log}"
    return log


def complaints(log: str) -> list[str]:
    """Return the lines that are no report of ``--ptxas-options=-v``, and those that report registers spilled."""
    lines = [line for line in log.splitlines() if line.strip()]
    spills = [line for line in lines if any(int(n) for n in re.findall(r"(\d+) bytes spill", line))]
    return spills + [line for line in lines if not line.startswith(("ptxas info", "ptxas    ", "    "))
                     and "Architectures prior to" not in line]  # CUDA 12.9 is the last one that knows sm_70


def test_complaints_tell_warnings_and_spills_from_reports():
    quiet = ("ptxas info    : Used 30 registers, used 1 barriers\n"
             "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n")
    assert complaints(quiet) == []
    assert complaints(quiet.replace("0 bytes spill stores", "16 bytes spill stores"))
    assert complaints(quiet + 'x.cu(3): warning #177-D: variable "a" was declared but never referenced\n')


def test_compiler_warns_of_what_is_unused():
    log = compile_text(compiler(12), 'extern "C" __global__ void f(int* x) { int unused; x[0] = 1; }', "f.cu",
                       "-arch=compute_80")
    assert len(complaints(log)) >= 1 and "never referenced" in log


@pytest.mark.parametrize("architecture", MACHINE)
@pytest.mark.parametrize("file", kernel_files())
def test_float_compiles_to_machine_code_without_warning_or_spill(file, architecture):
    log = compile_text(compiler(12), kernel_text(file), f"{file}.cu", f"-arch={architecture}", "-DREAL=float",
                       "--ptxas-options=-v")
    assert complaints(log) == []


@pytest.mark.parametrize("file", [f for f in kernel_files() if len(re.findall(r"\breal\b", kernel_text(f))) > 4])
def test_double_compiles_without_warning(file):
    log = compile_text(compiler(12), kernel_text(file), f"{file}.cu", "-arch=compute_80", "-DREAL=double")
    assert complaints(log) == []


@pytest.mark.parametrize("file", kernel_files())
def test_cuda_13_compiles_without_warning(file):
    compile_text(compiler(13), kernel_text(file), f"{file}.cu", "-arch=compute_90", "-DREAL=float",
                 "-Werror=all-warnings")


@pytest.mark.parametrize("file", kernel_files())
def test_nvcc_compiles_without_warning(file, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc on the PATH")
    source = tmp_path / f"{file}.cu"
    source.write_text(kernel_text(file), encoding="utf-8")
    done = subprocess.run([nvcc, "-std=c++17", "-arch=compute_80", "-ptx", "-DREAL=float", "-Werror", "all-warnings",
                           "-o", os.devnull, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
