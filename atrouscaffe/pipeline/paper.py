"""What the DeepLab v1 paper published, and which of our models stand for its rows.

Source: ICLR 2015 paper, arXiv 1412.7062v4; the curves of Fig. 5 from the authors' plotting script.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any

__all__ = ["METHODS", "TABLE2", "method_name", "paper_numbers", "seen_in_training"]

METHODS = {"deeplab": "DeepLab", "deeplab-msc": "DeepLab-MSc", "deeplab-4x4": "DeepLab-4x4",
           "deeplab-7x7": "DeepLab-7x7", "deeplab-largefov": "DeepLab-LargeFOV",
           "deeplab-msc-largefov": "DeepLab-MSc-LargeFOV"}
"""The paper's name of each net."""

TABLE2 = {"DeepLab-CRF-7x7": "deeplab-7x7", "DeepLab-CRF": "deeplab", "DeepLab-CRF-4x4": "deeplab-4x4",
          "DeepLab-CRF-LargeFOV": "deeplab-largefov"}
"""Rows of Table 2 and their nets."""

SCORED = ("val", "devval")
"""Lists whose images are in trainval."""


@functools.cache
def paper_numbers() -> dict[str, Any]:
    """Return the published figures."""
    return json.loads(resources.files("atrouscaffe.pipeline").joinpath("paper_numbers.json").read_text("utf-8"))


def method_name(model: str, kind: str) -> str:
    """Return what the paper calls a net without (``"plain"``) or with its CRF (``"crf"``).

    The paper puts CRF in front of what changes the field of view: DeepLab-MSc-CRF-LargeFOV.
    """
    name = METHODS[model]
    if kind == "plain":
        return name
    for tail in ("-LargeFOV", "-7x7", "-4x4"):
        if name.endswith(tail):
            return f"{name.removesuffix(tail)}-CRF{tail}"
    return f"{name}-CRF"


def seen_in_training(weights: str | Path | None, name: str) -> str:
    """Return a warning where weights trained on trainval are scored on images of val, "" elsewhere.

    Parameters
    ----------
    weights : path
        The authors call weights trained on trainval_aug ``train2_iter_*``.
    name : str
        The list.
    """
    file = Path(weights).name if weights else ""
    if file.startswith("train2_") and Path(name).stem.removesuffix("_id") in SCORED:
        return (f"{file} was trained on trainval_aug, which contains the images of {Path(name).stem}: these figures do "
                "not compare with the paper's Table 1(a), whose nets were trained on train_aug (train_iter_*)")
    return ""
