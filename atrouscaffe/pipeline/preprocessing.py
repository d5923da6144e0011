"""How images go into a net, and which CRF refines what comes out: from arguments, the net, or what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.mean import read_mean
from atrouscaffe.pipeline.deploy import Deploy
from atrouscaffe.pipeline.known import KnownModel

__all__ = ["crf_options", "preprocessing"]


def preprocessing(deploy: Deploy, model: KnownModel | None, mean: Any,
                  scale: float | None) -> tuple[np.ndarray, float, str]:
    """Return mean (C, 1, 1), scale, and where they come from: the arguments, the net, or what is known of it.

    Parameters
    ----------
    deploy : Deploy
    model : KnownModel or None
    mean, scale
        As `atrouscaffe.pipeline.segment.Segmenter` takes them.

    Raises
    ------
    ArgumentError
        Nobody says how images go in, or numbers that cannot be.
    """
    option, channels = deploy.transform, deploy.channels
    if mean is not None:
        values, factor, where = mean, 1.0 if scale is None else scale, "arguments"
    elif option is not None and (option.mean_value or option.mean_file or option.has("scale")):
        values = option.mean_value or 0.0
        if option.mean_file:
            values = deploy.paths.resolve(option.mean_file, "mean_file")
        factor, where = option.scale if scale is None else scale, "transform_param"
    elif model is not None:
        values, where = model.mean, f"known model {model.name}"
        factor = model.scale if scale is None else scale
    else:
        raise ArgumentError("preprocessing: the net has no transform_param and is no known model; give mean= (one "
                            "number, or one a channel in the order B, G, R) and scale=, as it was trained with "
                            "(--mean, --scale)", deploy.spec.path)
    if isinstance(values, (str, Path)):
        picture = read_mean(values)
        values = picture.reshape(picture.shape[-3], -1).mean(1, dtype=np.float64)
    array = np.atleast_1d(np.asarray(values, np.float32))
    if array.ndim != 1 or array.size not in (1, channels) or not np.isfinite(array).all():
        raise ArgumentError(f"mean: expected one number or {channels}, got {np.asarray(values).tolist()}")
    if not np.isfinite(factor) or factor == 0:
        raise ArgumentError(f"scale: expected a finite number other than 0, got {factor}")
    return np.broadcast_to(array, (channels,)).reshape(channels, 1, 1).copy(), float(factor), where


def crf_options(model: KnownModel | None, crf: bool | str | Mapping[str, Any],
                params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the arguments of `atrouscaffe.crf.densecrf.refine`, None for no CRF.

    Parameters
    ----------
    model : KnownModel or None
    crf, params
        As `atrouscaffe.pipeline.segment.Segmenter` takes them.
    """
    if crf is False or crf is None:
        return None
    found: dict[str, Any] = {"preset": model.crf if model else "paper"}
    if isinstance(crf, str):
        found["preset"] = crf
    elif isinstance(crf, Mapping):
        found.update(crf)
    found.update(params or {})
    from atrouscaffe.crf.densecrf import INFER_OPTIONS, chosen_preset

    others = {"preset", "clip", *INFER_OPTIONS}
    chosen_preset(found["preset"], {name: value for name, value in found.items() if name not in others})
    return found  # unknown names are errors now, not at the first image
