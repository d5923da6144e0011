"""Nets written for SegNet's Caffe of 2015, told by their layers.

ENet's Caffe took over SegNet's layers, but has the Accuracy of a newer BVLC; its nets use what SegNet's Caffe lacks.
"""

from __future__ import annotations

from atrouscaffe.spec import LayerSpec, NetSpec

__all__ = ["is_segnet"]

_YOUNGER = frozenset(("BatchNorm", "Bias", "Crop", "ELU", "Interp", "LSTM", "Parameter", "RNN", "Scale"))
"""Types that SegNet's Caffe does not have and ENet's or PSPNet's has."""


def is_segnet(net: NetSpec) -> bool:
    """Tell whether a net has layers of SegNet's Caffe and none that it lacks."""
    return any(map(_of_segnet, net.layers)) and not any(map(_too_young, net.layers))


def _of_segnet(layer: LayerSpec) -> bool:
    fields = layer.fields
    return (layer.type in ("Upsample", "DenseImageData") or (layer.type == "Dropout" and
            fields.dropout_param.has("sample_weights_test"))
            or (layer.type == "BN" and any(fields.bn_param.has(word) for word in ("scale_filler", "bn_mode"))))


def _too_young(layer: LayerSpec) -> bool:
    fields = layer.fields
    return (layer.type in _YOUNGER or bool(fields.convolution_param.hole)
            or fields.dense_image_data_param.has("label_divide_factor") or fields.loss_param.has("normalization"))
