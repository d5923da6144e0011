"""Run, train and measure DeepLab and other Caffe-era segmentation networks without Caffe.

The names below are loaded when first used; importing this package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.spec import TEST, TRAIN

if TYPE_CHECKING:
    from atrouscaffe.crf.densecrf import DenseCRF
    from atrouscaffe.net import Net
    from atrouscaffe.pipeline.segment import Segmenter
    from atrouscaffe.solver.solver import (
        AdaDeltaSolver,
        AdaGradSolver,
        AdamSolver,
        NesterovSolver,
        RMSPropSolver,
        SGDSolver,
        get_solver,
    )

__version__ = "0.1.0"
__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "AtrousCaffeError",
    "DenseCRF",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Segmenter",
    "__version__",
    "get_solver",
]

_LAZY = {
    "DenseCRF": "atrouscaffe.crf.densecrf",
    "Net": "atrouscaffe.net",
    "Segmenter": "atrouscaffe.pipeline.segment",
    **dict.fromkeys(("AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "RMSPropSolver", "SGDSolver",
                     "get_solver"), "atrouscaffe.solver.solver"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'atrouscaffe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
