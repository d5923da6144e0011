"""docs/zoo.md: the published segmentation systems of the Caffe era, what opens here, and what differs."""

from __future__ import annotations

from typing import NamedTuple

from atrouscaffe.data.label_sets import label_set, label_set_names
from atrouscaffe.errors import AtrousCaffeError
from atrouscaffe.formats.dialect import FORKS, spec_dialect
from atrouscaffe.formats.prototxt import parse_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.pipeline.known import KNOWN, KnownModel
from atrouscaffe.spec import TEST


class System(NamedTuple):
    """One row: whose nets, which Caffe wrote them, layers that only it has, what differs, since when, one command."""

    name: str
    fork: str
    opens: str
    probe: str
    differs: str
    command: str
    since: str = "0.1.0"


def _layer(type_name: str, options: str = "", bottoms: int = 1, params: int = 0) -> str:
    """Return a layer that reads the image, as often as it has bottoms."""
    words = ['bottom: "data"'] * bottoms + ["param { lr_mult: 1 }"] * params
    return f'layer {{ name: "l" type: "{type_name}" top: "top" {" ".join(words)} {options} }}'


_BN_OF_FOUR = _layer("BN", "bn_param { slope_filler { value: 1 } bias_filler { value: 0 } }", params=4)
_UPSAMPLE = """
    layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "mask"
        pooling_param { kernel_size: 2 stride: 2 } }
    layer { name: "up" type: "Upsample" bottom: "pool" bottom: "mask" top: "up" upsample_param { scale: 2 } }
    layer { name: "bn" type: "BN" bottom: "up" top: "up" bn_param { bn_mode: INFERENCE } }"""
SEGMENT = "segment photo.jpg --model {model} --weights {weights}"

SYSTEMS = (
    System("DeepLab", "v1", "deploy, test and training nets, solvers",
           _layer("Interp", "interp_param { zoom_factor: 2 }"),
           "label maps are read by index, not by luminance; [defects](defects.md) that the originals have",
           "segment photo.jpg --model deeplab-largefov --weights train2_iter_8000.caffemodel --crf"),
    System("PSPNet", "pspnet", "deploy nets", _BN_OF_FOUR,
           "larger photographs by overlapping crops, averaged, as by the authors' scripts; one scale, not mirrored",
           SEGMENT),
    System("ICNet", "pspnet", "deploy nets, with BN merged or not", _BN_OF_FOUR, "", SEGMENT),
    System("SegNet", "segnet", "deploy and training nets", _UPSAMPLE,
           "photographs are resized to the net's input, as by the authors' scripts, and the scores back again",
           SEGMENT),
    System("Bayesian SegNet", "segnet", "deploy and training nets",
           _layer("Dropout", "dropout_param { sample_weights_test: true }"),
           "the samples are passes one after the other, not copies in a batch", SEGMENT + " --samples 8"),
    System("ENet", "enet", "`enet_deploy_final`; training nets where their Python layer is allowed",
           _UPSAMPLE, "", SEGMENT),
    System("ESPNet", "bvlc", "deploy nets", _layer("BatchNorm"), "", SEGMENT),
    System("FCN", "bvlc", "deploy nets; test nets, whose Python layer of data gives way to an input",
           _layer("Crop", "crop_param { axis: 2 offset: 0 }", 2),
           "training nets read data by Python layers, which need to be allowed",
           SEGMENT),
    System("CRF-as-RNN", "crfrnn", "deploy and training nets, `layer {}` and `layers {}`",
           _layer("MultiStageMeanfield", "multi_stage_meanfield_param { num_iterations: 5 }", 3),
           "each image of a batch has its own lattice; `spatial.par` and `bilateral.par` are looked for in the working "
           "folder and beside the prototxt", SEGMENT),
    System("DilatedNet", "bvlc", "deploy nets",
           _layer("Convolution", "convolution_param { num_output: 3 kernel_size: 3 dilation: 2 }"),
           "the nets have no padding: photographs get a mirrored margin, as in the authors' script", SEGMENT),
    System("ParseNet", "ssd", "deploy nets", _layer("Normalize", "norm_param { across_spatial: false }"),
           "its own Caffe was the one before SSD's, by whose numbers binary files are read", SEGMENT),
    System("HED", "crfrnn", "deploy and training nets", _layer("Crop", "", 2),
           "its scores are edges and not classes: they are taken from the net itself (`Net`)", "inspect {net}"),
)

HEAD = """# The zoo

Published segmentation nets of the Caffe era: which Caffe each was written for, what of it opens here, what differs, and
the command. Their nets and weights are not part of this package: `--model NAME` finds the authors' prototxt beside the
weights, and `--model NAME=FILE.prototxt` names it. An entry brings preprocessing, classes, colours and, where the net's
data layer does not say it, the input's size. Written by `tools/make_docs.py` from `atrouscaffe/pipeline/known.py` and
`tools/zoo.py`: edit those.

## Systems

| system | fork | what opens | what differs | since | command |
| --- | --- | --- | --- | --- | --- |
{systems}

A binary net or caffemodel of each fork is read by its own field numbers, which are told from what is in the file, or
named with `--weights-dialect`; `--proto FILE` reads those of any other fork.

## Models

| name | system | net | weights | classes | where its authors put it |
| --- | --- | --- | --- | --- | --- |
{models}

## Classes and colours

| name | data set | classes | background |
| --- | --- | --- | --- |
{labels}
"""


def _lacking(system: System) -> str:
    """Return why a net with the system's layers cannot be built, "" where it can."""
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 16 dim: 24 }' + system.probe
    try:
        Graph(parse_net(text, dialect=spec_dialect(system.fork)), TEST)
    except AtrousCaffeError as error:
        return error.message
    return ""


def _example(system: System, models: list[KnownModel]) -> str:
    """Return the command with the names of the system's first model."""
    model = models[0]
    return system.command.format(model=model.name, weights=model.weights, net=model.net)


def zoo_text() -> str:
    """Return docs/zoo.md."""
    rows = []
    for system in SYSTEMS:
        models = [model for model in KNOWN if model.system == system.name]
        if not models or system.fork not in FORKS:
            raise SystemExit(f"make_docs: docs/zoo.md: {system.name} has no entry in known.py, or no fork")
        lacking = _lacking(system)
        opens = f"not yet: {lacking}" if lacking else system.opens
        rows.append(f"| {system.name} | {FORKS[system.fork]} (`{system.fork}`) | {opens} | {system.differs} | "
                    f"{system.since} | `atrouscaffe {_example(system, models)}` |")
    unknown = {model.system for model in KNOWN} - {system.name for system in SYSTEMS}
    if unknown:
        raise SystemExit(f"make_docs: docs/zoo.md has no row for {', '.join(sorted(unknown))}")
    models = [f"| `{model.name}` | {model.system} | {_quoted(model.net) or 'comes along'} | {_quoted(model.weights)} | "
              f"{model.labels} | {_where(model)} |" for model in KNOWN]
    sets = [label_set(name) for name in label_set_names()]
    labels = [f"| `{known.name}` | {known.title} | {len(known.classes)} | "
              f"{'none' if known.background is None else known.background} |" for known in sets]
    return HEAD.format(systems="\n".join(rows), models="\n".join(models), labels="\n".join(labels))


def _quoted(name: str) -> str:
    return f"`{name}`" if name else ""


def _where(model: KnownModel) -> str:
    """Return where the weights are, and what else is to be known."""
    where = "comes along" if model.shipped else model.published
    return "; ".join(text for text in (where, model.note) if text)
