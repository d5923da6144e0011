"""Caffe's messages; `atrouscaffe.pycaffe.proto.caffe_pb2` has them all."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "caffe_pb2":
        return importlib.import_module("atrouscaffe.pycaffe.proto.caffe_pb2")
    raise AttributeError(f"module 'caffe.proto' has no attribute {name!r}")
