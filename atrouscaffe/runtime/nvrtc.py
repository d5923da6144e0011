"""NVRTC, CUDA's runtime compiler, through ctypes: kernels compile without CuPy, a driver or a device."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from atrouscaffe.errors import DependencyError, DeviceError

__all__ = ["Nvrtc", "load_nvrtc"]

INSTALL = "pip install 'atrouscaffe[cuda13]', or a CUDA toolkit, brings it"
WHEELS = (("cu13/lib", "cu13/include"), ("cuda_nvrtc/lib", "cuda_runtime/include"))
"""Folders below the packages' common folder ``nvidia``: of the compiler, and of CUDA's headers."""


def _wheel_folders() -> list[Path]:
    try:
        found = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return []
    return [Path(place) for place in (found.submodule_search_locations or [])] if found else []


def _candidates() -> Iterator[tuple[str, list[Path]]]:
    """Yield (library, folders of headers) in the order in which they are tried."""
    for root in _wheel_folders():
        for library, _ in WHEELS:
            for path in sorted((root / library).glob("libnvrtc.so*")):
                yield str(path), [root / include for _, include in WHEELS if (root / include).is_dir()]
    toolkits = [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    for root in (*toolkits, Path("/usr/local/cuda")):
        for path in sorted(root.glob("lib64/libnvrtc.so")):
            yield str(path), [root / "include"]
    for name in (ctypes.util.find_library("nvrtc"), "libnvrtc.so.13", "libnvrtc.so.12"):
        if name:
            yield name, [Path("/usr/local/cuda/include")]


class Nvrtc:
    """The compiler.

    Attributes
    ----------
    path : str
    version : (int, int)
    architectures : tuple of int
        It compiles for, 90 for sm_90.
    includes : list of Path
        Folders of CUDA's headers.
    """

    def __init__(self, path: str, includes: Sequence[Path]) -> None:
        self._library = ctypes.CDLL(path)
        self.path, self.includes = path, list(includes)
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        self.architectures = tuple(numbers)

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self._library, name)(*args)
        if status:
            words = self._library.nvrtcGetErrorString
            words.restype = ctypes.c_char_p
            raise DeviceError(f"{name}: {words(status).decode()}")

    def compile(self, text: str, name: str, architecture: int, options: Sequence[str] = ()) -> int:
        """Compile CUDA text for a device; return the size of the code in bytes.

        Parameters
        ----------
        text : str
        name : str
            File name in messages.
        architecture : int
            90 for sm_90.
        options : sequence of str

        Raises
        ------
        DeviceError
            The text does not compile; the message begins with the compiler's first error.
        """
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            words = [f"--gpu-architecture=sm_{architecture}", "--std=c++17", *options,
                     *(f"-I{folder}" for folder in self.includes)]
            array = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
            failed = self._library.nvrtcCompileProgram(program, len(words), array)
            if failed:
                raise DeviceError(f"{name} does not compile for sm_{architecture}: {_first_error(self._log(program))}")
            size = ctypes.c_size_t()
            self._call("nvrtcGetCUBINSize", program, ctypes.byref(size))
            return size.value
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _log(self, program: ctypes.c_void_p) -> str:
        size = ctypes.c_size_t()
        self._call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call("nvrtcGetProgramLog", program, text)
        return text.value.decode(errors="replace")


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if re.search(r"\berror\b", line)), lines[0] if lines else "no reason given")


@functools.cache
def load_nvrtc() -> Nvrtc:
    """Return the first NVRTC that can be loaded.

    Raises
    ------
    DependencyError
        There is none.
    """
    reasons = []
    for path, includes in _candidates():
        try:
            return Nvrtc(path, [folder for folder in includes if folder.is_dir()])
        except (OSError, AttributeError, DeviceError) as error:  # not there, damaged, or too old to have these calls
            reasons.append(f"{path}: {str(error).removeprefix(f'{path}: ')}")
    raise DependencyError(f"NVRTC cannot be loaded ({reasons[0] if reasons else 'no libnvrtc was found'}); {INSTALL}")
