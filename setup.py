"""Put the folders kernels/ and prototxt/ into the package when it is built; all else is in pyproject.toml.

They stand at the top of the repository, where they are read and edited. A wheel carries them as
``atrouscaffe/_data/``; an editable install and a plain checkout read them where they stand
(``atrouscaffe.resources`` knows both).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDERS = ("kernels", "prototxt")
SUFFIXES = {".cu", ".cuh", ".prototxt", ".md", ".h5"}


def data_files() -> list[tuple[str, str]]:
    """Return (file relative to the repository, its place in the package)."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))
             if path.suffix in SUFFIXES and "data" not in path.relative_to(ROOT).parts]  # rows to train on stay here
    return [(str(path.relative_to(ROOT)), str(Path("atrouscaffe", "_data") / path.relative_to(ROOT))) for path in found]


class BuildWithData(build_py):
    """Copies the folders beside the modules, except for an editable install."""

    def run(self) -> None:
        """Build the modules, then copy; what an older build left there must not come along."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "atrouscaffe"), ignore_errors=True)
        super().run()
        if not self.editable_mode:
            for source, place in data_files():
                target = Path(self.build_lib, place)
                self.mkpath(str(target.parent))
                self.copy_file(str(ROOT / source), str(target))

    def get_source_files(self) -> list[str]:
        """Return what a source distribution must contain."""
        return super().get_source_files() + [source for source, _ in data_files()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return what is built."""
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs += [str(Path(self.build_lib, place)) for _, place in data_files()]
        return outputs


setup(cmdclass={"build_py": BuildWithData})
