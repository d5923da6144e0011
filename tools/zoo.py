"""docs/zoo.md: the published segmentation systems of the Caffe era, what opens here, and what differs."""

from __future__ import annotations

from typing import NamedTuple

from atrouscaffe.data.label_sets import label_set, label_set_names
from atrouscaffe.formats.dialect import FORKS
from atrouscaffe.formats.schema import schema
from atrouscaffe.layers.base import layer_types
from atrouscaffe.pipeline.known import KNOWN, KnownModel


class System(NamedTuple):
    """One row: whose nets, which Caffe wrote them, what they need, what differs, since when, one command."""

    name: str
    fork: str
    opens: str
    needs: tuple[str, ...]
    differs: str
    command: str
    since: str = "0.1.0"


SEGMENT = "segment photo.jpg --model {model} --weights {weights}"

SYSTEMS = (
    System("DeepLab", "v1", "deploy, test and training nets, solvers", ("ImageSegData", "DenseCRF", "Interp"),
           "label maps are read by index, not by luminance; [defects](defects.md) that the originals have",
           "segment photo.jpg --model deeplab-largefov --weights train2_iter_8000.caffemodel --crf"),
    System("PSPNet", "pspnet", "deploy nets", ("BN.slope_filler", "Interp"),
           "one scale; photographs above the net's size are cut into tiles that overlap by what a score sees",
           SEGMENT),
    System("ICNet", "pspnet", "deploy nets, with BN merged or not", ("BN.slope_filler", "Interp"), "", SEGMENT),
    System("SegNet", "segnet", "deploy and training nets", ("BN", "Upsample", "DenseImageData"),
           "photographs are resized to the net's input, as by the authors' scripts, and the scores back again",
           SEGMENT),
    System("Bayesian SegNet", "segnet", "deploy and training nets", ("BN", "Upsample", "Dropout.sample_weights_test"),
           "the samples are passes one after the other, not copies in a batch", SEGMENT + " --samples 8"),
    System("ENet", "enet", "`enet_deploy_final`; training nets where their Python layer is allowed",
           ("BN", "Upsample", "DenseImageData.label_divide_factor"), "", SEGMENT),
    System("ESPNet", "bvlc", "deploy nets", ("BatchNorm", "Deconvolution"), "", SEGMENT),
    System("FCN", "bvlc", "deploy nets; test nets, whose Python layer of data gives way to an input",
           ("Crop", "Deconvolution"), "training nets read data by Python layers, which need to be allowed",
           SEGMENT),
    System("CRF-as-RNN", "crfrnn", "deploy and training nets, `layer {}` and `layers {}`",
           ("MultiStageMeanfield", "Crop"),
           "each image of a batch has its own lattice; `spatial.par` and `bilateral.par` are looked for in the working "
           "folder and beside the prototxt", SEGMENT),
    System("DilatedNet", "bvlc", "deploy nets", ("Convolution",),
           "the nets have no padding: photographs get a mirrored margin, as in the authors' script", SEGMENT),
    System("ParseNet", "ssd", "deploy nets", ("Normalize",),
           "its own Caffe was the one before SSD's, by whose numbers binary files are read", SEGMENT),
    System("HED", "crfrnn", "deploy and training nets", ("ImageLabelmapData", "Crop"),
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


def _lacking(needs: tuple[str, ...]) -> list[str]:
    """Return what of the needed layer types and options is not there; ``Type.field`` is a field of TypeParameter."""
    types, messages = set(layer_types()), schema("open").messages
    found = []
    for need in needs:
        name, _, field = need.partition(".")
        fields = messages.get(f"{name}Parameter")
        if name not in types or (field and (fields is None or field not in fields.by_name)):
            found.append(need)
    return found


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
        lacking = ", ".join(_lacking(system.needs))
        opens = f"not yet: there is no {lacking}" if lacking else system.opens
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
