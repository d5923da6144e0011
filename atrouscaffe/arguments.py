"""What a Net may be made from: pycaffe's orders of arguments, paths or text, lists of weight files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats import prototxt as prototxt_format
from atrouscaffe.spec import NetSpec, Phase

__all__ = ["net_spec_from", "sort_arguments", "weight_paths"]


def sort_arguments(args: Sequence[Any], phase: Any, level: Any, stages: Any,
                   weights: Any) -> tuple[Phase, int | None, Sequence[str] | None, Any]:
    """Sort what follows the prototxt: (phase, level, stages, weights), or the older (weights, phase).

    Returns
    -------
    phase, level, stages, weights

    Raises
    ------
    ArgumentError
        Something was given twice, or is neither of them.
    """
    if len(args) > 4:
        raise ArgumentError("Net: expected prototxt, phase, level, stages and weights, "
                            f"got {len(args) + 1} positional arguments")
    for i, arg in enumerate(args[:2]):
        if _is_integer(arg) and phase is None:
            phase = int(arg)
        elif _is_integer(arg):
            if i == 0 or not _is_integer(args[0]) or level is not None:
                raise ArgumentError(f"Net: {'level' if i and _is_integer(args[0]) else 'phase'} was given twice")
            level = int(arg)
        elif arg is None or isinstance(arg, (str, os.PathLike, list, tuple)):
            if weights is not None:
                raise ArgumentError("Net: weights were given twice")
            weights = arg
        else:
            raise ArgumentError(f"Net: expected a weight file or a phase (TRAIN, TEST), got {arg!r}")
    if len(args) > 2:
        if stages is not None or not _is_integer(args[1]):
            raise ArgumentError("Net: expected the order prototxt, phase, level, stages, weights")
        stages = args[2]
    if len(args) > 3:
        if weights is not None:
            raise ArgumentError("Net: weights were given twice")
        weights = args[3]
    phase = Phase.TEST if phase is None else phase
    if phase not in (0, 1):
        raise ArgumentError(f"phase: expected TRAIN (0) or TEST (1), got {phase!r}")
    return Phase(phase), level, stages, weights


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def net_spec_from(prototxt: Any, variables: Mapping[str, str] | None, dialect: str | None,
                  proto: str | Path | None = None) -> NetSpec:
    """Return the spec of a path, a text that contains ``{``, or a spec."""
    if isinstance(prototxt, NetSpec):
        return prototxt
    text = os.fspath(prototxt) if isinstance(prototxt, os.PathLike) else prototxt
    if not isinstance(text, str):
        raise ArgumentError(f"prototxt: expected a path, a NetSpec or text, got {type(prototxt).__name__}")
    if "{" in text and ("\n" in text or not os.path.exists(text)):
        return prototxt_format.parse_net(text, variables=variables, dialect=dialect, proto=proto)
    return prototxt_format.read_net(text, variables=variables, dialect=dialect, proto=proto)


def weight_paths(weights: Any) -> list[str | Path]:
    """Return weight files as a list; a string may name several, with commas.

    Raises
    ------
    ArgumentError
        Something else than paths.
    """
    if weights is None:
        return []
    if isinstance(weights, str):
        return [weights] if os.path.exists(weights) else [part for part in weights.split(",") if part]
    if isinstance(weights, os.PathLike):
        return [Path(weights)]
    if not isinstance(weights, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in weights):
        raise ArgumentError(f"weights: expected a path or a list of paths, got {weights!r}")
    return list(weights)
