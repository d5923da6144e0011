"""The names of pycaffe over this package: ``import atrouscaffe.pycaffe as caffe``.

``python -m atrouscaffe.pycaffe script.py ...`` runs a script whose ``import caffe`` means this package;
`install` does the same for a notebook. Names are loaded when first used, so importing costs no more
than ``import atrouscaffe``. docs/from-pycaffe.md compares every name with the original.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from atrouscaffe.pycaffe.install import install, uninstall
from atrouscaffe.spec import TEST, TRAIN, Phase

__version__ = "1.0.0"
"""The version of BVLC's pycaffe whose names and behaviour these are."""

_HOMES = {
    "atrouscaffe.pycaffe.net": ("AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NCCL", "NesterovSolver", "Net",
                                "RMSPropSolver", "SGDSolver", "Solver", "Timer", "get_solver"),
    "atrouscaffe.pycaffe.mode": ("has_nccl", "init_log", "log", "set_device", "set_mode_cpu", "set_mode_gpu",
                                 "set_multiprocess", "set_random_seed", "set_solver_count", "set_solver_rank",
                                 "solver_count", "solver_rank"),
    "atrouscaffe.pycaffe.net_spec": ("NetSpec", "layers", "params", "to_proto"),
    "atrouscaffe.pycaffe.classifier": ("Classifier",),
    "atrouscaffe.pycaffe.detector": ("Detector",),
    "atrouscaffe.runtime.blob": ("Blob",),
}
_LAZY = {name: (module, name) for module, names in _HOMES.items() for name in names} | {
    "Layer": ("atrouscaffe.layers.python", "PythonLayer"),
    "BlobVec": ("atrouscaffe.layers.python", "BlobVec"),
    "layer_type_list": ("atrouscaffe.layers.base", "layer_types"),
    "LayerParameter": ("atrouscaffe.pycaffe.proto.caffe_pb2", "LayerParameter"),
    "SolverParameter": ("atrouscaffe.pycaffe.proto.caffe_pb2", "SolverParameter"),
}
_CORES = ("_caffe", "pycaffe")  # modules of the original whose names all stand in this package itself
_MODULES = ("classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto")

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "Classifier",
    "Detector",
    "Layer",
    "LayerParameter",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "Phase",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        value = getattr(importlib.import_module(module), attribute)
        globals()[name] = value
        return value
    if name in _CORES:
        return sys.modules[__name__]
    if name in _MODULES:
        return importlib.import_module(f"atrouscaffe.pycaffe.{name}")
    raise AttributeError(f"module 'caffe' (atrouscaffe.pycaffe) has no attribute {name!r}; docs/from-pycaffe.md lists "
                         "all names")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__"})
