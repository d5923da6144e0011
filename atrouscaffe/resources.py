"""Find the files that come with the package: ``kernels/`` and ``prototxt/``.

In a checkout, and in an editable install of one, the folders stand at the top of the repository; a
wheel carries them in ``atrouscaffe/_data``.
"""

from __future__ import annotations

from pathlib import Path

from atrouscaffe.errors import FileMissingError, nearest

__all__ = ["FOLDERS", "resource"]

FOLDERS = ("kernels", "prototxt")
PACKAGE = Path(__file__).resolve().parent


def resource(folder: str, name: str = "") -> Path:
    """Return the path of a file, or of a whole folder.

    Parameters
    ----------
    folder : {"kernels", "prototxt"}
    name : str, optional
        Path inside the folder, such as ``"deeplab-largefov/deploy.prototxt"``; "" is the folder.

    Raises
    ------
    FileMissingError
        There is no such file; the message names the nearest one.
    """
    places = [root / folder for root in (PACKAGE / "_data", PACKAGE.parent)]
    if folder not in FOLDERS:
        raise FileMissingError(f"resource folder: expected one of {', '.join(FOLDERS)}, got {folder!r}")
    for place in places:
        if place.is_dir():
            path = (place / name).resolve()
            if path.is_relative_to(place.resolve()) and path.exists():
                return path
            files = sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())
            raise FileMissingError(f"{folder}: there is no file {name!r} in {place}{nearest(name, files)}")
    raise FileMissingError(f"the folder {folder!r} is missing from this installation (looked in "
                           f"{' and '.join(str(place) for place in places)}); install the package again")
