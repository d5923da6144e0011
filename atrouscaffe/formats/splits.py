"""Nets as people write them, from nets as Caffe saves them."""

from __future__ import annotations

import dataclasses

from atrouscaffe.formats.fields import net_record, net_spec
from atrouscaffe.spec import NetSpec

__all__ = ["as_written"]


def as_written(net: NetSpec) -> NetSpec:
    """Take out what Caffe adds when it saves a net: Split layers and the phase in every layer.

    A Split that Caffe made is named ``<blob>_<layer>_<i>_split``, its tops ``..._split_<j>``; its
    readers read the blob again. The phase goes if all layers have the same one.
    """
    names: dict[str, str] = {}
    kept = []
    for layer in net.layers:
        bottoms = tuple(names.get(bottom, bottom) for bottom in layer.bottoms)
        made = layer.type == "Split" and layer.name.endswith("_split") and len(bottoms) == 1
        if made and all(top == f"{layer.name}_{i}" for i, top in enumerate(layer.tops)):
            names.update(dict.fromkeys(layer.tops, bottoms[0]))
        else:
            kept.append(dataclasses.replace(layer, bottoms=bottoms))
    if len({layer.phase for layer in kept}) == 1:
        kept = [dataclasses.replace(layer, phase=None) for layer in kept]
    # through a record, so that the layers' fields say the same as the specs
    return net_spec(net_record(dataclasses.replace(net, layers=tuple(kept))), net.dialect, net.path)
