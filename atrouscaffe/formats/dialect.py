"""Which number a field has in which Caffe, and how to tell the Caffe that wrote something.

A *wire dialect* is one numbering of the messages in ``caffe.proto``:

======== =====================================================================================
v1       DeepLab's first fork: ``layers { type: CONVOLUTION }``, ``hole``
v2       DeepLab's second fork: ``layer { type: "Convolution" }``, ``dilation``, ``interp_param``
bvlc     BVLC's last master, and SSD's layers (their numbers, 200 to 207, are free everywhere)
segnet   SegNet's Caffe of 2015: like an old BVLC, but 137 and 138 mean Upsample and dense images
enet     ENet's Caffe: like a newer BVLC, but 147 means Upsample
pspnet   PSPNet's and ICNet's Caffe: like v2, but BN's options are another message, at 152
crfrnn   CRF-as-RNN's Caffe of 2015, and HED's: like an old BVLC, with Crop in ``layers {}``
ssd      SSD's Caffe: like a newer BVLC, with other options of transforms and solvers
rfcn     R-FCN's Caffe: like a newer BVLC, but 147 to 150 mean regions
======== =====================================================================================

pspnet behaves like v2 in every layer that they share, and those named after others than DeepLab and BVLC
otherwise like BVLC; a `NetSpec` read from them says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atrouscaffe.errors import ArgumentError
from atrouscaffe.spec import DIALECTS

__all__ = ["WIRE_DIALECTS", "Verdict", "check_dialect", "detect_wire", "infer_text", "localize", "spec_dialect"]

FORKS = {
    "v1": "DeepLab's first fork", "v2": "DeepLab's second fork", "bvlc": "BVLC's Caffe", "segnet": "SegNet's Caffe",
    "enet": "ENet's Caffe", "pspnet": "PSPNet's and ICNet's Caffe", "crfrnn": "CRF-as-RNN's or HED's Caffe",
    "ssd": "SSD's Caffe", "rfcn": "R-FCN's Caffe"}
"""Wire dialects and whose they are."""

WIRE_DIALECTS = tuple(FORKS)

PRIVATE = 20000
"""Numbers from here on are the union's own; a dialect that gives none lacks the field."""

_DILATED = {"force_nd_im2col": 17, "dilation": 18}
_SINCE_2016 = {"embed_param": 137, "tile_param": 138, "input_param": 143, "crop_param": 144,
               "parameter_param": 145, "recurrent_param": 146}

_FAST_RCNN = {"roi_pooling_param": 8266711, "smooth_l1_loss_param": 8266712}

NUMBERS: dict[str, dict[str, dict[str, int]]] = {
    "v1": {
        "ConvolutionParameter": {"hole": 17, "hole_h": 18, "hole_w": 19},
        "V1LayerParameter": {"seg_accuracy_param": 42},
        "V1LayerParameter.LayerType": {"IMAGE_SEG_DATA": 39},
    },
    "v2": {
        "ConvolutionParameter": _DILATED,
        "LayerParameter": {
            "embed_param": 137, "tile_param": 138, "interp_param": 143, "seg_accuracy_param": 144,
            "mat_write_param": 145, "dense_crf_param": 146, "domain_transform_param": 147,
            "adaptive_bias_channel_param": 148, "bias_channel_param": 149, "unique_label_param": 150,
            "mat_read_param": 151},
        "LossParameter": {"normalization": 3},
        "TransformationParameter": {"scale_factors": 8, "crop_width": 9, "crop_height": 10},
        "V1LayerParameter": {"loss_param": 42},
        "V1LayerParameter.LayerType": {"DECONVOLUTION": 39},
    },
    "bvlc": {
        "ConvolutionParameter": _DILATED,
        "LayerParameter": {**_SINCE_2016, "swish_param": 147, "clip_param": 148, **_FAST_RCNN,
                           "multi_stage_meanfield_param": 1000},
        "LossParameter": {"normalization": 3},
        "V1LayerParameter": {"loss_param": 42},
        "V1LayerParameter.LayerType": {"DECONVOLUTION": 39},
    },
    "segnet": {
        "ConvolutionParameter": _DILATED,
        "LayerParameter": {"upsample_param": 137, "dense_image_data_param": 138},
        "LossParameter": {"weight_by_label_freqs": 3, "class_weighting": 4},
        "V1LayerParameter": {"loss_param": 42},
        "V1LayerParameter.LayerType": {"DECONVOLUTION": 39},
    },
    "enet": {
        "ConvolutionParameter": _DILATED,
        "ImageDataParameter": {"label_divide_factor": 13},
        "LayerParameter": {**_SINCE_2016, "upsample_param": 147, "dense_image_data_param": 46},
        "LossParameter": {"weight_by_label_freqs": 3, "class_weighting": 4, "normalization": 5},
        "V1LayerParameter": {"loss_param": 42},
        "V1LayerParameter.LayerType": {"DECONVOLUTION": 39},
    },
    "crfrnn": {
        "LayerParameter": {"embed_param": 137, "tile_param": 138, "multi_stage_meanfield_param": 146},
        "V1LayerParameter": {"loss_param": 42},
        "V1LayerParameter.LayerType": {"DECONVOLUTION": 39, "CROP": 40},
    },
    "ssd": {
        "ConvolutionParameter": _DILATED,
        "LayerParameter": {**_SINCE_2016, **_FAST_RCNN, "mish_param": 150},
        "LossParameter": {"normalization": 3},
        "SolverParameter": {"eval_type": 41, "ap_version": 42},
        "TransformationParameter": {"resize_param": 8, "noise_param": 9, "emit_constraint": 10, "crop_h": 11,
                                    "crop_w": 12},
        "V1LayerParameter": {"loss_param": 42},
        "V1LayerParameter.LayerType": {"DECONVOLUTION": 39},
    },
}
NUMBERS["rfcn"] = {
    **NUMBERS["ssd"],
    "LayerParameter": {**_SINCE_2016, "roi_pooling_param": 147, "smooth_l1_loss_param": 148,
                       "psroi_pooling_param": 149, "box_annotator_ohem_param": 150}}
NUMBERS["pspnet"] = {
    **NUMBERS["v2"],
    "BNParameter": {"slope_filler": 1, "bias_filler": 2, "momentum": 3, "eps": 4, "frozen": 5, "engine": 6},
    "LayerParameter": {**NUMBERS["v2"]["LayerParameter"], "bn_param": 152}}
"""The disputed numbers: dialect, message or enum, field or value."""

TYPES = {"v2": {"UniqueLabelParameter": {"ignore_label": "int32", "force_label": "int32"}},
         "pspnet": {"UniqueLabelParameter": {"ignore_label": "int32"}}}
"""Fields whose type differs from the union's; with it their wire type."""

_IMAGE_SEG = ("ignore_label", "label_type")
_BATCH_OF_V1 = ("has_label", "max_labels")

ABSENT: dict[str, dict[str, tuple[str, ...]]] = {
    "v1": {
        "NetParameter": ("layer", "input_shape", "debug_info"),
        "FillerParameter": ("variance_norm",),
        "TransformationParameter": ("force_color", "force_gray"),
        "AccuracyParameter": ("axis", "ignore_label"),
        "ArgMaxParameter": ("axis",),
        "BiasChannelParameter": ("label_type", "background_label"),
        "ConcatParameter": ("axis",),
        "ContrastiveLossParameter": ("legacy_version",),
        "ConvolutionParameter": ("axis",),
        "DataParameter": ("force_encoded_color", "prefetch"),
        "DenseCRFParameter": ("output_probability",),
        "DummyDataParameter": ("shape",),
        "HDF5DataParameter": ("shuffle",),
        "InfogainLossParameter": ("axis",),
        "InnerProductParameter": ("axis", "transpose"),
        "LRNParameter": ("engine",),
        "MVNParameter": ("eps",),
        "PoolingParameter": ("round_mode",),
        "SegAccuracyParameter": ("reset",),
        "SliceParameter": ("axis",),
        "SoftmaxParameter": ("axis",),
        "SolverParameter": ("type", "momentum2", "rms_decay", "iter_size", "clip_gradients", "snapshot_format",
                            "weights", "layer_wise_reduce"),
    },
    "v2": {"ImageDataParameter": _BATCH_OF_V1, "PoolingParameter": ("round_mode",),
           "InfogainLossParameter": ("axis",), "SolverParameter": ("weights", "layer_wise_reduce")},
    "bvlc": {"ImageDataParameter": _BATCH_OF_V1 + _IMAGE_SEG, "BatchNormParameter": ("update_global_stats",)},
    "segnet": {"ImageDataParameter": _BATCH_OF_V1 + _IMAGE_SEG, "BatchNormParameter": ("update_global_stats",)},
    "enet": {"ImageDataParameter": _BATCH_OF_V1 + _IMAGE_SEG, "BatchNormParameter": ("update_global_stats",)},
    "crfrnn": {"ImageDataParameter": _BATCH_OF_V1 + _IMAGE_SEG, "BatchNormParameter": ("update_global_stats",)},
    "ssd": {"ImageDataParameter": _BATCH_OF_V1 + _IMAGE_SEG, "BatchNormParameter": ("update_global_stats",),
            "SolverParameter": ("weights", "layer_wise_reduce")},
}
ABSENT["rfcn"] = ABSENT["ssd"]
ABSENT["pspnet"] = {**ABSENT["v2"], "BNParameter": ("scale_filler", "shift_filler", "bn_mode")}
"""Undisputed fields that a dialect nevertheless does not have."""

_V1_TYPES = frozenset((
    "Padding", "DominantChannel", "CensorLabel", "ChannelAggregator", "IgnoreOverlay", "Histogram",
    "RelativeError", "GainChannel", "OneHot"))
_V2_TYPES = frozenset((
    "ImageSegData", "SegAccuracy", "Interp", "MatWrite", "MatRead", "DenseCRF", "BiasChannel",
    "AdaptiveBiasChannel", "UniqueLabel", "DomainTransform", "DomainTransformForwardOnly", "SpatialProduct"))
_V1_FIELDS = frozenset((
    "softmaxloss_param", "padding_param", "dominant_channel_param", "censor_label_param",
    "channel_aggregator_param", "ignore_overlay_param", "histogram_param", "gain_channel_param",
    "onehot_param", "euclidean_loss_param", "strict_dim"))
_V2_FIELDS = frozenset((
    "interp_param", "seg_accuracy_param", "mat_write_param", "mat_read_param", "dense_crf_param",
    "domain_transform_param", "adaptive_bias_channel_param", "bias_channel_param", "unique_label_param"))
_V1_ENUMS = frozenset((
    "IMAGE_SEG_DATA", "SEG_ACCURACY", "INTERP", "PADDING", "MAT_WRITE", "MAT_READ", "DENSE_CRF", "DOMINANT_CHANNEL",
    "BIAS_CHANNEL", "UNIQUE_LABEL", "CENSOR_LABEL", "ADAPTIVE_BIAS_CHANNEL", "CHANNEL_AGGREGATOR", "IGNORE_OVERLAY",
    "HISTOGRAM", "RELATIVE_ERROR", "GAIN_CHANNEL", "ONEHOT"))
_V1_ONLY_IN_LAYERS = _V1_FIELDS | (_V2_FIELDS - {"domain_transform_param"})


@dataclass(frozen=True)
class Verdict:
    """A dialect and why it was chosen."""

    dialect: str
    evidence: str


def check_dialect(name: str | None, known: Iterable[str] = WIRE_DIALECTS) -> str | None:
    """Return `name` if it is None or a known dialect.

    Raises
    ------
    ArgumentError
        Another name; the message lists the known ones.
    """
    known = tuple(known)
    if name is not None and name not in known:
        raise ArgumentError(f"unknown dialect {name!r}; known are {', '.join(known)}")
    return name


def spec_dialect(wire: str) -> str:
    """Return the dialect by which layers behave for a wire dialect."""
    return wire if wire in DIALECTS else "v2" if wire == "pspnet" else "bvlc"


def localize(file: Any, dialect: str, *, keep_all: bool = False) -> None:
    """Turn the union's FileDescriptorProto into a dialect's, in place.

    Disputed fields and enum values get the dialect's numbers, or go if it has none.

    Parameters
    ----------
    file : google.protobuf.descriptor_pb2.FileDescriptorProto
    dialect : str
        One of `WIRE_DIALECTS`.
    keep_all : bool, optional
        Keep what the dialect does not have, under the union's private numbers.
    """
    numbers, types, absent = NUMBERS[dialect], TYPES.get(dialect, {}), ABSENT[dialect]
    for message in file.message_type:
        given, gone = numbers.get(message.name, {}), absent.get(message.name, ())
        kept = []
        for field in message.field:
            if not keep_all and (field.name in gone or (field.number >= PRIVATE and field.name not in given)):
                continue
            field.number = given.get(field.name, field.number)
            kind = types.get(message.name, {}).get(field.name)
            if kind is not None:
                field.type = field.Type.Value(f"TYPE_{kind.upper()}")
            kept.append(field.SerializeToString())
        del message.field[:]
        for data in kept:
            message.field.add().ParseFromString(data)
        for enum in message.enum_type:
            given = numbers.get(f"{message.name}.{enum.name}", {})
            kept = []
            for value in enum.value:
                if not keep_all and value.name not in given and (
                        value.number >= PRIVATE or value.number in given.values()):
                    continue
                value.number = given.get(value.name, value.number)
                kept.append(value.SerializeToString())
            del enum.value[:]
            for data in kept:
                enum.value.add().ParseFromString(data)


def infer_text(net: Any) -> str:
    """Tell the dialect of a text net.

    ``layers {}`` means v1, unless it uses what only BVLC or other forks have there (DECONVOLUTION, CROP,
    ``loss_param``) and nothing that only v1 has. ``layer {}`` means bvlc, unless a type or field tells v2 or v1.

    Parameters
    ----------
    net : Record
        A NetParameter as parsed, before any upgrade.
    """
    if net.get("layers"):
        mine = other = False
        for layer in net.get("layers"):
            param = layer.get("convolution_param")
            mine = (mine or layer.get("type") in _V1_ENUMS or not _V1_ONLY_IN_LAYERS.isdisjoint(layer.values)
                    or (param is not None and param.has("hole")))
            other = other or layer.get("type") in ("CROP", "DECONVOLUTION") or "loss_param" in layer.values
        return "bvlc" if other and not mine else "v1"
    answer = "bvlc"
    for layer in net.get("layer") or ():
        if layer.get("type") in _V1_TYPES or not _V1_FIELDS.isdisjoint(layer.values):
            return "v1"
        if layer.get("type") in _V2_TYPES or not _V2_FIELDS.isdisjoint(layer.values):
            answer = "v2"
    return answer


_OWNER = {
    "interp_param": "Interp", "seg_accuracy_param": "SegAccuracy", "mat_write_param": "MatWrite",
    "dense_crf_param": "DenseCRF", "domain_transform_param": "DomainTransform",
    "adaptive_bias_channel_param": "AdaptiveBiasChannel", "bias_channel_param": "BiasChannel",
    "unique_label_param": "UniqueLabel", "mat_read_param": "MatRead", "input_param": "Input", "crop_param": "Crop",
    "parameter_param": "Parameter", "recurrent_param": "LSTM", "swish_param": "Swish", "clip_param": "Clip",
    "upsample_param": "Upsample", "dense_image_data_param": "DenseImageData", "embed_param": "Embed",
    "tile_param": "Tile", "multi_stage_meanfield_param": "MultiStageMeanfield", "bn_param": "BN",
    "roi_pooling_param": "ROIPooling", "smooth_l1_loss_param": "SmoothL1Loss", "psroi_pooling_param": "PSROIPooling",
    "box_annotator_ohem_param": "BoxAnnotatorOHEM", "mish_param": "Mish"}

_NEW_STYLE_TYPES = {
    "v2": _V2_TYPES,
    "bvlc": frozenset(("Input", "Crop", "Parameter", "Swish", "Clip", "LSTM", "RNN")),
    "segnet": frozenset(("BN", "Upsample", "DenseImageData")),
    "enet": frozenset(("BN", "Upsample", "DenseImageData", "Input", "Crop", "Parameter")),
    "pspnet": _V2_TYPES | {"BN"},
    "crfrnn": frozenset(("MultiStageMeanfield", "ImageLabelmapData", "Crop")),
    "ssd": frozenset(("AnnotatedData", "DetectionEvaluate", "DetectionOutput", "MultiBoxLoss", "Normalize", "PriorBox",
                      "VideoData", "Input", "Crop", "Mish", "Parameter")),
    "rfcn": frozenset(("BoxAnnotatorOHEM", "PSROIPooling", "SmoothL1LossOHEM", "SoftmaxWithLossOHEM"))}


def detect_wire(layers: Iterable[tuple[str, Any, dict[int, Any]]]) -> Verdict:
    """Tell the dialect of a binary net from its layers.

    Parameters
    ----------
    layers : iterable of (str, str or int, dict)
        Which field of NetParameter it came in (``"layers"`` or ``"layer"``), its type as on the
        wire, and its fields: number to None, or to the numbers and values inside for the
        convolution message.

    Returns
    -------
    Verdict
        v1 for ``layers`` and bvlc for ``layer`` if nothing disputes it.
    """
    layers = list(layers)
    old = [(kind, fields) for where, kind, fields in layers if where == "layers"]
    new = [(kind, fields) for where, kind, fields in layers if where == "layer"]
    if not new:
        return _detect_old(old) if old else Verdict("bvlc", "no layers")
    votes: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for dialect, types in _NEW_STYLE_TYPES.items():
        by_number = {number: _OWNER.get(field, "") for field, number in
                     NUMBERS[dialect]["LayerParameter"].items()}
        for kind, fields in new:
            points = 1 if kind in types else 0
            for number in fields:
                if number in by_number and by_number[number] == kind:
                    points += 2
                    if dialect not in ("enet", "ssd") or number not in _SINCE_2016.values():  # BVLC has these too
                        reasons.setdefault(dialect, f"field {number} on a layer of type {kind}")
                elif number in by_number and kind in _OWNER.values():
                    points -= 2
            if kind in types:
                kinds.setdefault(dialect, f"a layer of type {kind}")
            votes[dialect] += points
    best = max(("bvlc", "v2", "segnet", "enet", "pspnet", "crfrnn", "ssd", "rfcn"), key=lambda d: votes[d])
    if votes[best] <= 0:
        return Verdict("bvlc", "`layer` messages that v2 and BVLC number alike")
    return Verdict(best, reasons.get(best) or kinds.get(best, "the numbers of its fields"))


def _detect_old(layers: list[tuple[Any, dict[int, Any]]]) -> Verdict:
    kinds = {kind for kind, fields in layers if kind != 39 or 10 in fields}
    if {39, 40} <= kinds:
        return Verdict("crfrnn", "layer type 39 with convolution_param, and layer type 40")
    for kind, fields in layers:
        convolution = fields.get(10) or {}
        if isinstance(kind, int) and kind >= 40:
            return Verdict("v1", f"layer type {kind}")
        if kind == 39 and 15 in fields:
            return Verdict("v1", "layer type 39 with image_data_param")
        if kind == 39 and 10 in fields:
            return Verdict("bvlc", "layer type 39 with convolution_param")
        if kind == 21 and 42 in fields:
            return Verdict("bvlc", "loss_param (42) on SOFTMAX_LOSS")
        special = next((number for number in fields if 43 <= number <= 59 or number == 1003), None)
        if special is not None:
            return Verdict("v1", f"field {special} of `layers`")
        if convolution.get(17, 0) > 1 or 19 in convolution:
            return Verdict("v1", "convolution_param with hole (17 to 19)")
    return Verdict("v1", "`layers` messages that all forks number alike")
