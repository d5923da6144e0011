"""Old nets and solvers made into the one modern form, and the modern form made old again.

The modern form is BVLC's ``layer {}`` with string types, ``param`` messages, one Input layer, and
``convolution_param.hole`` (repeated) as the only word for dilation. The rules are Caffe's
(``src/caffe/util/upgrade_proto.cpp``) with these differences:

- what Caffe logs and leaves out, such as a V0 option that the layer's type does not have, is an
  error here;
- ``scale``, ``mean_file``, ``crop_size`` and ``mirror`` move to ``transform_param`` from every data
  layer, IMAGE_SEG_DATA among them, which the original forgot, and from ``layer {}`` too, where BVLC
  ignores them;
- ``hole``, ``hole_h`` with ``hole_w``, and ``dilation`` become ``hole``;
- Crop layers of forks that find their offset themselves get it written into ``crop_param`` (`formats.crop`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.crop import write_offsets
from atrouscaffe.formats.record import Record

__all__ = ["V1_NAMES", "V1_TYPES", "fold_holes", "upgrade_net", "upgrade_solver"]

V1_TYPES = {
    "ABSVAL": "AbsVal", "ACCURACY": "Accuracy", "ADAPTIVE_BIAS_CHANNEL": "AdaptiveBiasChannel", "ARGMAX": "ArgMax",
    "BIAS_CHANNEL": "BiasChannel", "BNLL": "BNLL", "CENSOR_LABEL": "CensorLabel",
    "CHANNEL_AGGREGATOR": "ChannelAggregator", "CONCAT": "Concat", "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution", "CROP": "Crop", "DATA": "Data", "DECONVOLUTION": "Deconvolution",
    "DENSE_CRF": "DenseCRF",
    "DOMINANT_CHANNEL": "DominantChannel", "DROPOUT": "Dropout", "DUMMY_DATA": "DummyData", "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss", "EXP": "Exp", "FLATTEN": "Flatten", "GAIN_CHANNEL": "GainChannel",
    "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "HINGE_LOSS": "HingeLoss", "HISTOGRAM": "Histogram",
    "IGNORE_OVERLAY": "IgnoreOverlay", "IM2COL": "Im2col", "IMAGE_DATA": "ImageData",
    "IMAGE_SEG_DATA": "ImageSegData", "INFOGAIN_LOSS": "InfogainLoss", "INNER_PRODUCT": "InnerProduct",
    "INTERP": "Interp", "LRN": "LRN", "MAT_READ": "MatRead", "MAT_WRITE": "MatWrite", "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss", "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield",
    "MVN": "MVN", "NONE": "", "ONEHOT": "OneHot",
    "PADDING": "Padding", "POOLING": "Pooling", "POWER": "Power", "RELATIVE_ERROR": "RelativeError", "RELU": "ReLU",
    "SEG_ACCURACY": "SegAccuracy", "SIGMOID": "Sigmoid", "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence", "SLICE": "Slice", "SOFTMAX": "Softmax", "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split", "TANH": "TanH", "THRESHOLD": "Threshold", "UNIQUE_LABEL": "UniqueLabel",
    "WINDOW_DATA": "WindowData"}
"""The enum of ``layers {}`` and the name of ``layer {}``."""

V1_NAMES = {modern: old for old, modern in V1_TYPES.items() if modern}

_V0_TYPES = {
    "accuracy": "ACCURACY", "bnll": "BNLL", "concat": "CONCAT", "conv": "CONVOLUTION", "data": "DATA",
    "dropout": "DROPOUT", "euclidean_loss": "EUCLIDEAN_LOSS", "flatten": "FLATTEN", "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT", "im2col": "IM2COL", "images": "IMAGE_DATA", "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT", "lrn": "LRN", "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING", "relu": "RELU", "sigmoid": "SIGMOID", "softmax": "SOFTMAX", "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT", "tanh": "TANH", "window_data": "WINDOW_DATA"}

_PARAMS = {"conv": "convolution_param", "im2col": "convolution_param", "innerproduct": "inner_product_param",
           "pool": "pooling_param", "dropout": "dropout_param", "lrn": "lrn_param", "data": "data_param",
           "hdf5_data": "hdf5_data_param", "images": "image_data_param", "window_data": "window_data_param",
           "infogain_loss": "infogain_loss_param", "concat": "concat_param", "hdf5_output": "hdf5_output_param"}

_MESSAGES = {"convolution_param": "ConvolutionParameter", "inner_product_param": "InnerProductParameter",
             "pooling_param": "PoolingParameter", "dropout_param": "DropoutParameter", "lrn_param": "LRNParameter",
             "data_param": "DataParameter", "hdf5_data_param": "HDF5DataParameter",
             "image_data_param": "ImageDataParameter", "window_data_param": "WindowDataParameter",
             "infogain_loss_param": "InfogainLossParameter", "concat_param": "ConcatParameter",
             "hdf5_output_param": "HDF5OutputParameter", "dense_image_data_param": "DenseImageDataParameter"}

_READERS = ("data", "hdf5_data", "images", "window_data")
_V0_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "num_output": ("num_output", ("conv", "innerproduct")),
    "biasterm": ("bias_term", ("conv", "innerproduct")),
    "weight_filler": ("weight_filler", ("conv", "innerproduct")),
    "bias_filler": ("bias_filler", ("conv", "innerproduct")),
    "pad": ("pad", ("conv", "im2col", "pool")), "kernelsize": ("kernel_size", ("conv", "im2col", "pool")),
    "group": ("group", ("conv",)), "stride": ("stride", ("conv", "im2col", "pool")), "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)), "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)), "beta": ("beta", ("lrn",)), "k": ("k", ("lrn",)),
    "concat_dim": ("concat_dim", ("concat",)), "source": ("source", (*_READERS, "infogain_loss")),
    "batchsize": ("batch_size", _READERS), "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)), "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)), "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)), "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)), "det_crop_mode": ("crop_mode", ("window_data",))}
"""V0 field: its name in the type's own message, and the V0 types that have it."""

_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_REPEATED_IN_CONVOLUTION = ("pad", "kernel_size", "stride")
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")
_DATA_PARAMS = ("data_param", "image_data_param", "window_data_param")
_SOLVERS = {"SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp",
            "ADADELTA": "AdaDelta", "ADAM": "Adam"}


def _fail(record: Record, message: str) -> None:
    place = str(record.source) if record.source is not None else ""
    name = record.get("name")
    raise PrototxtError(message, f"{place}: layer '{name}'" if name and place else place or (name and f"layer '{name}'")
                        or "")


def upgrade_net(net: Record) -> tuple[Record, tuple[str, ...]]:
    """Return a NetParameter in the modern form, and notes on what the file leaves to its Caffe.

    Parameters
    ----------
    net : Record
        As parsed; it is not changed.

    Raises
    ------
    PrototxtError
        ``layers`` and ``layer`` in one net, inputs without their dimensions, V0 options that do
        not fit, ``hole`` against ``dilation``, a CROP without a place.
    """
    net = net.copy()
    old, new = net.get("layers", []), net.get("layer", [])
    if old and new:
        _fail(new[0], "the net has both `layers {}` (old form) and `layer {}` (new form); use one of them")
    if any(layer.has("layer") for layer in old):
        old = [_from_v0(layer) for layer in _without_padding_layers(old)]
    layers = [_from_v1(layer) for layer in old] or new
    for layer in layers:
        _move_transform(layer)
        fold_holes(layer)
        _still_batch_norm(layer)
    notes = write_offsets(layers, [layer.get("type") == "CROP" for layer in old] or [False] * len(layers))
    inputs = _input_layer(net, layers)
    values = {name: value for name, value in net.values.items()
              if name not in ("layers", "layer", "input", "input_dim", "input_shape")}
    values["layer"] = ([inputs] if inputs else []) + layers
    return Record("NetParameter", values, net.source), tuple(notes)


def _without_padding_layers(layers: list[Record]) -> list[Record]:
    """Fold V0's padding layers into the ``pad`` of the convolution or pooling behind them."""
    producer: dict[str, Record] = {}
    kept = []
    for layer in layers:
        inner = layer.get("layer") or Record("V0LayerParameter")
        for i, bottom in enumerate(layer.get("bottom", [])):
            padding = producer.get(bottom)
            if padding is None or padding.get("layer", Record("")).get("type") != "padding":
                continue
            if inner.get("type") not in ("conv", "pool", "im2col"):
                _fail(inner, f"a padding layer must lead into conv, pool or im2col, not {inner.get('type')!r}")
            if len(layer.get("bottom")) != 1 or len(padding.get("bottom", [])) != 1:
                _fail(inner, "a padding layer and the layer behind it must have one bottom each")
            inner.values["pad"] = padding.get("layer").get("pad", 0)
            layer.values["bottom"][i] = padding.get("bottom")[0]
        for top in layer.get("top", []):
            producer[top] = layer
        if inner.get("type") != "padding":
            kept.append(layer)
    return kept


def _from_v0(layer: Record) -> Record:
    inner = layer.get("layer")
    values = {name: value for name, value in layer.values.items() if name != "layer"}
    out = Record("V1LayerParameter", values, layer.source)
    if inner is None:
        return out
    inner.source = inner.source or layer.source
    kind = inner.get("type", "")
    if kind not in _V0_TYPES:
        _fail(inner, f"unknown type {kind!r} of the oldest layer format; known are {', '.join(sorted(_V0_TYPES))}")
    out.values["type"] = _V0_TYPES[kind]
    for name, value in inner.values.items():
        if name in ("name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param"):
            out.values[name] = value
        elif name in _V0_TRANSFORM and kind in ("data", "images", "window_data"):
            out.child("transform_param", "TransformationParameter").values[_V0_TRANSFORM[name]] = value
        elif name in _V0_FIELDS and kind in _V0_FIELDS[name][1]:
            param = _PARAMS[kind]
            modern = _V0_FIELDS[name][0]
            many = param == "convolution_param" and modern in _REPEATED_IN_CONVOLUTION
            out.child(param, _MESSAGES[param]).values[modern] = [value] if many else value
        elif name != "type":
            _fail(inner, f"a layer of type {kind!r} has no option '{name}'")
    return out


def _from_v1(layer: Record) -> Record:
    values: dict[str, Any] = {}
    for name in ("name", "type", "bottom", "top"):
        if layer.has(name):
            values[name] = layer.get(name)
    kind = layer.get("type", "NONE")
    values["type"] = V1_TYPES.get(kind, kind)  # of a fork's caffe.proto: named, though not known
    rates, decays = layer.get("blobs_lr", []), layer.get("weight_decay", [])
    names, modes = layer.get("param", []), layer.get("blob_share_mode", [])
    params = []
    for i in range(max(map(len, (rates, decays, names, modes)))):
        given = {key: column[i] for key, column in
                 (("name", names), ("share_mode", modes), ("lr_mult", rates), ("decay_mult", decays))
                 if i < len(column)}
        params.append(Record("ParamSpec", given, layer.source))
    if params:
        values["param"] = params
    done = {"name", "type", "bottom", "top", "blobs_lr", "weight_decay", "param", "blob_share_mode", "layer"}
    values.update((name, value) for name, value in layer.values.items() if name not in done)
    return Record("LayerParameter", values, layer.source, layer.unknown)


def _move_transform(layer: Record) -> None:
    for param in _DATA_PARAMS:
        data = layer.get(param)
        if data is None:
            continue
        for name in _TRANSFORM:
            if data.has(name):
                value = data.values.pop(name)
                transform = layer.child("transform_param", "TransformationParameter")
                if transform.get(name, value) != value:
                    _fail(layer, f"{param}.{name} is {value!r} but transform_param.{name} is {transform.get(name)!r}")
                transform.values[name] = value


def fold_holes(layer: Record) -> None:
    """Make ``hole`` the only word for dilation in a layer, in place.

    Raises
    ------
    PrototxtError
        Two of the words with different values.
    """
    param = layer.get("convolution_param")
    if param is None:
        return
    words = {}
    if param.get("hole"):
        words["hole"] = param.values["hole"]
    if param.has("hole_h") or param.has("hole_w"):
        words["hole_h, hole_w"] = [param.get("hole_h", 1), param.get("hole_w", 1)]
    if param.get("dilation"):
        words["dilation"] = param.values["dilation"]
    if not words:
        return
    pairs = {tuple(v * 2) if len(v) == 1 else tuple(v) for v in words.values()}
    if len(pairs) > 1:
        _fail(layer, "contradictory dilations: " + ", ".join(f"{word} {value}" for word, value in words.items()))
    value = next(iter(words.values()))
    for name in ("hole_h", "hole_w", "dilation"):
        param.values.pop(name, None)
    param.values["hole"] = list(value)


def _still_batch_norm(layer: Record) -> None:
    """Freeze the three blobs of BatchNorm where the file names them, as BVLC's upgrade does."""
    if layer.get("type") == "BatchNorm" and len(layer.get("param", [])) == 3:
        for param in layer.get("param"):
            param.values.update(lr_mult=0.0, decay_mult=0.0)


def _input_layer(net: Record, layers: Sequence[Record]) -> Record | None:
    """Return one Input layer for the net's ``input`` fields, named "input" unless a layer has taken that name."""
    taken = {layer.get("name") for layer in layers}
    written = {top for layer in layers if layer.get("type") == "Input" for top in layer.get("top", [])}
    names, dims, shapes = net.get("input", []), net.get("input_dim", []), net.get("input_shape", [])
    if names and not (dims or shapes) and written.issuperset(names):
        return None  # Input layers say their shapes; Caffe drops such names, too
    if not names:
        if dims or shapes:
            _fail(net, f"the net has {'input_dim' if dims else 'input_shape'} but no `input`")
        return None
    if dims and shapes:
        _fail(net, "the net has both input_dim and input_shape; use one of them")
    if dims and len(dims) != 4 * len(names):
        _fail(net, f"{len(names)} inputs need {4 * len(names)} input_dim (num, channels, height, width of each), "
                   f"got {len(dims)}")
    if shapes and len(shapes) != len(names):
        _fail(net, f"{len(names)} inputs need as many input_shape, got {len(shapes)}")
    if dims:
        shapes = [Record("BlobShape", {"dim": dims[i:i + 4]}, net.source) for i in range(0, len(dims), 4)]
    for shape in shapes:
        if any(dim < 0 for dim in shape.get("dim", [])):
            _fail(net, f"negative dimension in an input: {shape.get('dim')}")
    name = next(name for name in ("input" + "_" * i for i in range(len(taken) + 1)) if name not in taken)
    values: dict[str, Any] = {"name": name, "type": "Input", "top": list(names)}
    if shapes:
        values["input_param"] = Record("InputParameter", {"shape": shapes}, net.source)
    return Record("LayerParameter", values, net.source)


def upgrade_solver(solver: Record) -> None:
    """Turn the old ``solver_type`` enum into ``type``, in place.

    Raises
    ------
    PrototxtError
        Both are given.
    """
    if not solver.has("solver_type"):
        return
    old = _SOLVERS[solver.values.pop("solver_type")]
    if solver.has("type"):
        _fail(solver, f"the solver has both type ({solver.get('type')!r}) and the old solver_type ({old}); use type")
    solver.values["type"] = old
