"""Which files a prototxt may name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from atrouscaffe.errors import DataError

__all__ = ["PathGuard"]


# Path.resolve and Path.exists raise at loops of links and at names that are too long.

def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _exists(path: Path) -> bool:
    return os.path.exists(path)


class PathGuard:
    """Resolves paths that stand inside a prototxt and keeps them inside allowed folders.

    A relative path means the working folder, as in Caffe, and if nothing is there, the prototxt's
    own folder. A file outside the working folder, the prototxt's folder and `allowed` is refused: a
    prototxt from elsewhere must not read or overwrite files of yours.

    Parameters
    ----------
    prototxt : path, optional
        The file whose folder is allowed; "" for text.
    allowed : iterable of path
        Further folders (``--allow-path``).
    """

    def __init__(self, prototxt: str | Path = "", allowed: Iterable[str | Path] = ()) -> None:
        self.base = Path(prototxt).resolve().parent if str(prototxt) else None
        self.allowed = tuple(Path(folder).resolve() for folder in allowed)

    def resolve(self, path: str, field: str, *, prefix: str = "") -> str:
        """Return `path` as an absolute one.

        Parameters
        ----------
        path : str
            As the prototxt or a list has it.
        field : str
            Name of the field, for the error, such as ``"source"``.
        prefix : str
            Put in front verbatim, as Caffe does with ``root_folder``.

        Raises
        ------
        DataError
            The path lies outside the allowed folders.
        """
        text = prefix + path
        if "\0" in text:
            raise DataError(f"{field}: expected a path, got one with a zero byte")
        working = Path.cwd()
        candidate = _real(working / text)
        if self.base is not None and not Path(text).is_absolute():
            beside = _real(self.base / text)
            if not _exists(candidate) and (_exists(beside) or not _exists(candidate.parent)):
                candidate = beside
        roots = (working, *((self.base,) if self.base else ()), *self.allowed)
        if not any(candidate.is_relative_to(root) for root in roots):
            raise DataError(f"{field}: {text!r} leads to {candidate}, outside the prototxt's folder and the working "
                            "folder; allow its folder with allow_paths=[...] or --allow-path")
        return str(candidate)
