"""A folder in which a run keeps what it has finished, so that a killed one goes on where it stopped.

A finished image is an index PNG, written whole or not at all. Figures are always worked out from those
files; nothing else has to survive. ``run.json`` says which net, weights and settings they belong to.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.image import read_bytes
from atrouscaffe.data.mat import encode_mat, read_mat
from atrouscaffe.data.palette import encode_labels, read_labels
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError, FileAccessError, FileMissingError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.pipeline.segment import Segmenter

__all__ = ["RunStore", "fingerprint", "read_scores"]


class RunStore:
    """The files of one model's run.

    Parameters
    ----------
    folder : path
        Made where it is missing: ``plain/ID.png``, ``crf/ID.png``, ``scores/ID.npz`` or ``ID_blob_0.mat``.
    settings : dict of str to dict
        For each kind (``"plain"``, ``"crf"``) what its results depend on, as plain data.
    scores : {"npz", "mat"}, optional
        Keep scores too.
    fresh : bool
        Forget what is there.

    Raises
    ------
    DataError
        The folder holds results of other settings.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, dict[str, Any]], *, scores: str | None = None,
                 fresh: bool = False) -> None:
        if scores not in (None, "npz", "mat"):
            raise ArgumentError(f"scores: expected 'npz', 'mat' or None, got {scores!r}")
        self.folder, self.kinds, self.keep = Path(folder), tuple(settings), scores
        try:
            for name in (*self.kinds, *(["scores"] if scores else [])):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileAccessError(f"the folder cannot be made: {error.strerror}", str(self.folder)) from None
        for rest in self.folder.glob("*/.*.tmp"):  # of a run that was killed while it wrote
            rest.unlink(missing_ok=True)
        self._agree(json.loads(json.dumps(settings)), fresh)

    def _agree(self, settings: dict[str, dict[str, Any]], fresh: bool) -> None:
        """Hold the settings against those of the run that is there, and note them."""
        note = self.folder / "run.json"
        old: dict[str, Any] = {}
        if note.is_file():
            try:
                old = json.loads(read_bytes(note, 2**24, "note of a run"))
            except ValueError:
                raise DataError("expected the note of a run, got no JSON; remove the folder, or name another one",
                                str(note)) from None
        for kind, wanted in settings.items():
            there = old.get(kind, wanted)
            if there == wanted:
                continue
            if not fresh:
                differs = [f"{key} {there.get(key)!r} there, {wanted.get(key)!r} now"
                           for key in sorted(there.keys() | wanted.keys()) if there.get(key) != wanted.get(key)]
                raise DataError(f"the folder holds results ({kind}) of other settings: {'; '.join(differs)}; name "
                                "another folder, or start it afresh (--fresh)", str(self.folder))
        if fresh:
            for kind in self.kinds:
                for path in (self.folder / kind).glob("*.png"):
                    path.unlink()
        with atomic_write(note) as file:
            file.write(json.dumps(old | settings, indent=1).encode())

    def path(self, kind: str, ident: str) -> Path:
        """Return the file of one image's label map."""
        return self.folder / kind / f"{ident}.png"

    def load(self, ident: str) -> dict[str, np.ndarray] | None:
        """Return the label maps of a finished image, None where one is missing or damaged."""
        found = {}
        for kind in self.kinds:
            path = self.path(kind, ident)
            if not path.is_file():
                return None
            try:
                found[kind] = read_labels(path)
            except AtrousCaffeError:  # done again, and written anew
                return None
        return found

    def save(self, ident: str, labels: dict[str, np.ndarray], scores: np.ndarray | None) -> None:
        """Write one image's label maps, and its scores where they are kept."""
        if scores is not None and self.keep:
            _write_scores(self.folder / "scores", ident, scores, self.keep)
        for kind, values in labels.items():
            with atomic_write(self.path(kind, ident)) as file:
                file.write(encode_labels(values))


def _write_scores(folder: Path, ident: str, scores: np.ndarray, form: str) -> None:
    if form == "mat":
        name, data = f"{ident}_blob_0.mat", encode_mat({"data": scores[None].transpose()})
    else:
        buffer = io.BytesIO()
        np.savez(buffer, scores=scores)
        name, data = f"{ident}.npz", buffer.getvalue()
    with atomic_write(folder / name) as file:
        file.write(data)


def read_scores(folder: str | os.PathLike, ident: str, size: tuple[int, int]) -> np.ndarray:
    """Read saved scores of an image.

    Parameters
    ----------
    folder : path
        With ``ID_blob_0.mat`` or ``ID.mat``, as MatWrite and the forks' tools leave them ((W, H, C, 1), of
        the net's size: the top left part counts), or ``ID.npz`` with ``scores`` (C, H, W).
    ident : str
    size : (int, int)
        Height and width of the image.

    Returns
    -------
    (C, H, W) float32

    Raises
    ------
    FileMissingError, DataError
        None of these files is there, or it does not hold scores of at least the image's size.
    """
    places = [Path(folder) / name for name in (f"{ident}.npz", f"{ident}_blob_0.mat", f"{ident}.mat")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileMissingError(f"no saved scores of {ident}; expected one of {', '.join(p.name for p in places)}",
                               str(folder))
    if path.suffix == ".npz":
        scores = _read_npz(path)
    else:
        found = read_mat(path)
        if not isinstance(found.get("data"), np.ndarray):
            raise DataError(f"expected a variable 'data', as MatWrite names it, got {', '.join(found) or 'none'}",
                            str(path))
        scores = found["data"].transpose()
    scores = scores[0] if scores.ndim == 4 and scores.shape[0] == 1 else scores
    if scores.ndim != 3 or scores.shape[1] < size[0] or scores.shape[2] < size[1] or not 1 <= scores.shape[0] <= 256:
        raise DataError(f"expected scores (classes, at least {size[0]}, at least {size[1]}), got {scores.shape}",
                        str(path))
    return np.ascontiguousarray(scores[:, :size[0], :size[1]], np.float32)


def _read_npz(path: Path) -> np.ndarray:
    import zipfile

    try:
        with np.load(io.BytesIO(read_bytes(path, 2**32, "file of scores")), allow_pickle=False) as file:
            return file["scores"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, AtrousCaffeError):
            raise
        raise DataError(f"expected an npz file with an array 'scores' ({error})", str(path)) from None


def fingerprint(segmenter: Segmenter) -> dict[str, Any]:
    """Return what the scores of a net depend on: its layers, its weights, how images go in."""
    layers, weights = hashlib.sha256(), hashlib.sha256()
    for spec in segmenter.deploy.spec.layers:
        layers.update(repr((spec.name, spec.type, spec.bottoms, spec.tops, spec.fields)).encode())
    for name, blobs in segmenter.net.params.items():
        weights.update(name.encode())
        for blob in blobs:
            weights.update(np.ascontiguousarray(blob.data).data)
    return {"layers": layers.hexdigest()[:16], "weights": weights.hexdigest()[:16], "output": segmenter.deploy.score,
            "mean": segmenter.mean.ravel().tolist(), "scale": segmenter.scale,
            "channel_order": segmenter.channel_order, "size": list(segmenter.deploy.size)}
