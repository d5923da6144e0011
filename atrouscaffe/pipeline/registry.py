"""Known models, found by their name, by their net's name or by their weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrouscaffe.errors import ArgumentError, FileMissingError
from atrouscaffe.formats.prototxt import parse_net, read_net
from atrouscaffe.pipeline.known import EMBEDDED, KNOWN, VOC_MEAN, KnownModel
from atrouscaffe.resources import resource
from atrouscaffe.spec import NetSpec

__all__ = ["EMBEDDED", "KNOWN", "VOC_MEAN", "KnownModel", "by_name", "by_weights", "find_prototxt", "missing_weights",
           "net_and_model", "shipped_weights", "split_model"]


def by_name(name: str) -> KnownModel | None:
    """Return the entry of that name or alias, None where there is none; case does not matter."""
    wanted = name.strip().lower()
    for model in KNOWN:
        if wanted in (model.name.lower(), *(alias.lower() for alias in model.aliases)):
            return model
    return None


def by_weights(path: str | os.PathLike) -> KnownModel | None:
    """Return the entry whose weights this file is, by its SHA-256; None for an unknown file."""
    if not os.path.isfile(path):
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return next((model for model in KNOWN if digest.hexdigest() in model.sha256), None)


def split_model(model: str) -> tuple[KnownModel | None, str]:
    """Return the entry and the file of ``--model``: NAME, NAME=FILE or FILE; None and "" for what is not there.

    Raises
    ------
    ArgumentError
        NAME=FILE with an unknown name.
    """
    name, equals, file = model.partition("=")
    if not equals or os.path.isfile(model):
        known = None if os.path.isfile(model) else by_name(model)
        return known, "" if known else model
    known = by_name(name)
    if known is None:
        raise ArgumentError(f"model: expected the name of a known model before '=', got {name!r}; docs/zoo.md lists "
                            "them")
    return known, file


def find_prototxt(model: str | os.PathLike, weights: str | os.PathLike | None = None) -> Path:
    """Return the net of ``--model``: a file, or an entry's net.

    An entry's net comes with this package, or is given as ``NAME=FILE``, or lies beside the weights
    under the name that its authors gave it.

    Raises
    ------
    FileMissingError, ArgumentError
        Neither a file nor a known name; a known model whose net is not to be found.
    """
    known, file = split_model(os.fspath(model))
    if file:
        if Path(file).is_file():
            return Path(file)
        names = ", ".join(entry.name for entry in KNOWN if entry.prototxt)
        raise FileMissingError(f"model: no such file; expected a prototxt or one of {names}, or another of docs/zoo.md",
                               file)
    assert known is not None
    if known.prototxt:
        return resource("prototxt", f"{known.prototxt}/deploy.prototxt")
    beside = None if weights is None else Path(os.fspath(weights).split(",")[0]).parent / known.net
    if beside is not None and beside.is_file():
        return beside
    raise ArgumentError(f"model {known.name}: its net does not come with this package; put its authors' {known.net} "
                        f"beside the weights{f' (see {known.published})' if known.published else ''}, or name it: "
                        f"--model {known.name}=FILE.prototxt")


def shipped_weights(model: KnownModel | None) -> Path | None:
    """Return the weights of a model that come with this package, None where none do."""
    return resource("prototxt", f"{model.prototxt}/{model.shipped}") if model is not None and model.shipped else None


def missing_weights(model: KnownModel) -> str:
    """Say which file a model needs, who published it and where."""
    if not model.weights:
        return f"{model.title}: {model.note}; train it, or use another model"
    size = f"about {model.megabytes:.0f} MB" if model.parameters else ""
    where = f"published at {model.published}" if model.published else ""
    about = ", ".join(text for text in (size, where) if text)
    return f"{model.title} needs {model.weights}{f' ({about})' if about else ''}; give it with --weights FILE"


def net_and_model(prototxt: Any, weights: Any, variables: Mapping[str, str] | None,
                   dialect: str | None) -> tuple[NetSpec, KnownModel | None]:
    """Read a net and find the known model that it, or its weights, belong to.

    Parameters
    ----------
    prototxt, weights, variables, dialect
        As `atrouscaffe.pipeline.segment.Segmenter` takes them.

    Raises
    ------
    ArgumentError
        Neither the net nor weights that are known.
    """
    model = None
    if prototxt is None and weights is None:
        prototxt = EMBEDDED
    if prototxt is None:
        path = weights if isinstance(weights, (str, Path)) else None
        model = by_weights(path) if path is not None else None
        if model is None or not model.prototxt:
            raise ArgumentError("prototxt: expected a net, or the name of a model, since the weights are not known")
        prototxt = model.name
    if isinstance(prototxt, NetSpec):
        spec = prototxt
    elif isinstance(prototxt, str) and "{" in prototxt:
        spec = parse_net(prototxt, variables=variables, dialect=dialect)
    else:
        model = model or split_model(str(prototxt))[0]
        first = weights if isinstance(weights, (str, Path)) else next(iter(weights or ()), None)
        spec = read_net(find_prototxt(prototxt, first), variables=variables, dialect=dialect)
    if model is None:
        model = by_name(spec.name)
    if model is None and isinstance(weights, (str, Path)):
        model = by_weights(weights)
    return spec, model
