"""Models that are known by name or by their weights: which net, how images go in, which CRF, where from.

Nothing is downloaded: an entry says which file its authors published and where they put it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrouscaffe.errors import ArgumentError, FileMissingError
from atrouscaffe.formats.prototxt import parse_net, read_net
from atrouscaffe.resources import resource
from atrouscaffe.spec import NetSpec

__all__ = ["EMBEDDED", "KNOWN", "KnownModel", "by_name", "by_weights", "find_prototxt", "missing_weights",
           "net_and_model", "shipped_weights"]

EMBEDDED = "deeplab-mnv2-largefov"
"""The model that is used where none is named; its weights come with this package."""
VOC_MEAN = (104.008, 116.669, 122.675)


@dataclass(frozen=True)
class KnownModel:
    """One entry.

    Attributes
    ----------
    name : str
        What ``--model`` takes, and the deploy net's own name.
    title : str
    prototxt : str
        Folder below ``prototxt/`` with the net, "" where it comes with its weights.
    mean : tuple of float
        Subtracted from each channel, in the order in which channels go in.
    scale : float
        Applied after the mean.
    crf : str
        Preset of the CRF.
    weights : str
        File name that the authors gave the published weights.
    shipped : str
        Weights that come with this package: a file beside the net, "" where none do.
    parameters : int
        Numbers in it; the file is four times as many bytes and a little.
    published : str
        Where its authors put it.
    trained_on : str
    sha256 : tuple of str
        Of files that are known to be these weights.
    aliases : tuple of str
        Names under which others know the net.
    note : str
    """

    name: str
    title: str
    prototxt: str = ""
    mean: tuple[float, ...] = VOC_MEAN
    scale: float = 1.0
    crf: str = "paper"
    weights: str = ""
    shipped: str = ""
    parameters: int = 0
    published: str = ""
    trained_on: str = ""
    sha256: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    note: str = ""

    @property
    def megabytes(self) -> float:
        """Size of the weights as float32, in MB."""
        return self.parameters * 4 / 1e6


def _deeplab(name: str, title: str, parameters: int, released: str, aliases: tuple[str, ...], *, weights: str = "",
             note: str = "") -> KnownModel:
    published = (f"http://www.cs.jhu.edu/~alanlab/ccvl/{released}/, formerly "
                 f"http://ccvl.stat.ucla.edu/ccvl/{released}/; "
                 "see http://liangchiehchen.com/projects/DeepLab.html") if released else ""
    return KnownModel(name, title, name, crf=name, weights=weights, parameters=parameters, published=published,
                      trained_on="VOC 2012 trainval_aug" if weights.startswith("train2") else "", aliases=aliases,
                      note=note)


_NEVER = "its authors never released weights"
_SEEN = "file name as in public download scripts"
_LIKELY = "file name as the authors' solver2.prototxt makes it"

KNOWN: tuple[KnownModel, ...] = (
    _deeplab("deeplab", "DeepLab (fc6 4x4, hole 4)", 65_140_565, "DeepLab", ("vgg128_noup",),
             weights="train2_iter_12000.caffemodel", note=_LIKELY),
    _deeplab("deeplab-msc", "DeepLab-MSc", 66_346_686, "DeepLab-MSc", ("vgg128_ms_pool3",),
             weights="train2_iter_8000.caffemodel", note=_LIKELY),
    _deeplab("deeplab-4x4", "DeepLab-4x4 (hole 8)", 65_140_565, "", ("vgg128_noup_pool3_largewin",), note=_NEVER),
    _deeplab("deeplab-7x7", "DeepLab-7x7", 134_346_581, "", ("vgg128_noup_pool3_125M",), note=_NEVER),
    _deeplab("deeplab-largefov", "DeepLab-LargeFOV", 20_505_429, "DeepLab-LargeFOV",
             ("vgg128_noup_pool3_20M_largewin3", "vgg128_large_fov"), weights="train2_iter_8000.caffemodel",
             note=_SEEN),
    _deeplab("deeplab-msc-largefov", "DeepLab-MSc-LargeFOV", 21_711_550, "DeepLab-MSc-LargeFOV",
             ("vgg128_ms_pool3_20M_largewin", "vgg128_ms_large_fov"), weights="train2_iter_8000.caffemodel",
             note=_LIKELY),
    KnownModel(EMBEDDED, "DeepLab-MobileNetV2-LargeFOV, VOC (the embedded model)", EMBEDDED, (127.5,) * 3, 1 / 127.5,
               crf=EMBEDDED, weights="voc12.caffemodel.h5", shipped="voc12.caffemodel.h5", parameters=1_016_037,
               trained_on="602 images of VOC 2012 train; see docs/model-card.md", aliases=("embedded",),
               sha256=("c0e4c0ccf4059cb8aca9efb8e0ca077f1fe683f7cbed18520e3b611842ab86d0",)),
    KnownModel("deeplabv3_mnv2_dm05_voc", "DeepLabv3, MobileNetV2 x0.5, VOC", mean=(127.5,) * 3, scale=1 / 127.5,
               crf="deeplabv3-mnv2", weights="deeplabv3_mnv2_dm05_voc.caffemodel", parameters=688_357,
               trained_on="VOC 2012 (set not stated)", aliases=("deeplabv3-mnv2",),
               sha256=("d0d04ae8a0975a10e3f12e76b66fcc45e08b7c5b2e6d1820b73db52a61e0360a",),
               note="converted from the TensorFlow checkpoint of depth multiplier 0.5"),
    KnownModel("ENet", "ENet, Cityscapes", mean=(0.0,) * 3, weights="cityscapes_weights.caffemodel", parameters=367_687,
               published="https://github.com/TimoSaemann/ENet", trained_on="Cityscapes", aliases=("enet",),
               sha256=("e051940cb1fa28b85f5ead3b1c881991b3ff5cf232c975b0d7cc3c8a3dfc0a7d",),
               note="photographs of 2048x1024 pixels go in halved"),
    KnownModel("ESPNet", "ESPNet, Cityscapes", mean=(0.284 / 0.022, 0.325 / 0.022, 0.287 / 0.022), scale=0.022,
               weights="espnet_cityscapes.caffemodel", parameters=365_194, trained_on="Cityscapes", aliases=("espnet",),
               published="https://github.com/Xilinx/Vitis-AI-Tutorials (branch 1.0, 05-ML-caffe-segmentation)",
               sha256=("a8e0a6beff869e18aeee35911a3c0daba2f8d99ac2d0a5f15b2d4cc73af48393",),
               note="photographs of 2048x1024 pixels go in halved"),
)
"""All entries; the paper's six nets first."""


def by_name(name: str) -> KnownModel | None:
    """Return the entry of that name or alias, None where there is none; case does not matter."""
    wanted = name.strip().lower()
    for model in KNOWN:
        if wanted in (model.name.lower(), *(alias.lower() for alias in model.aliases)):
            return model
    return None


def by_weights(path: str | os.PathLike) -> KnownModel | None:
    """Return the entry whose weights this file is, by its SHA-256; None for an unknown file."""
    if not os.path.isfile(path):
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return next((model for model in KNOWN if digest.hexdigest() in model.sha256), None)


def find_prototxt(model: str | os.PathLike) -> Path:
    """Return the deploy net of ``--model``: a file, or an entry whose net comes with this package.

    Raises
    ------
    FileMissingError, ArgumentError
        Neither a file nor a known name; a known model whose net does not come with the package.
    """
    path = Path(model)
    if path.is_file():
        return path
    known = by_name(os.fspath(model))
    if known is None:
        names = ", ".join(entry.name for entry in KNOWN if entry.prototxt)
        raise FileMissingError(f"model: no such file; expected a prototxt or one of {names}", os.fspath(model))
    if not known.prototxt:
        raise ArgumentError(f"model {known.name}: its net does not come with this package; give the deploy.prototxt "
                            "that comes with its weights")
    return resource("prototxt", f"{known.prototxt}/deploy.prototxt")


def shipped_weights(model: KnownModel | None) -> Path | None:
    """Return the weights of a model that come with this package, None where none do."""
    return resource("prototxt", f"{model.prototxt}/{model.shipped}") if model is not None and model.shipped else None


def missing_weights(model: KnownModel) -> str:
    """Say which file a model needs, who published it and where."""
    if not model.weights:
        return f"{model.title}: {model.note}; train it, or use another model"
    where = f", published at {model.published}" if model.published else ""
    return f"{model.title} needs {model.weights} (about {model.megabytes:.0f} MB{where}); give it with --weights FILE"


def net_and_model(prototxt: Any, weights: Any, variables: Mapping[str, str] | None,
                   dialect: str | None) -> tuple[NetSpec, KnownModel | None]:
    """Read a net and find the known model that it, or its weights, belong to.

    Parameters
    ----------
    prototxt, weights, variables, dialect
        As `atrouscaffe.pipeline.segment.Segmenter` takes them.

    Raises
    ------
    ArgumentError
        Neither the net nor weights that are known.
    """
    model = None
    if prototxt is None and weights is None:
        prototxt = EMBEDDED
    if prototxt is None:
        path = weights if isinstance(weights, (str, Path)) else None
        model = by_weights(path) if path is not None else None
        if model is None or not model.prototxt:
            raise ArgumentError("prototxt: expected a net, or the name of a model, since the weights are not known")
        prototxt = model.name
    if isinstance(prototxt, NetSpec):
        spec = prototxt
    elif isinstance(prototxt, str) and "{" in prototxt:
        spec = parse_net(prototxt, variables=variables, dialect=dialect)
    else:
        model = model or by_name(str(prototxt))
        spec = read_net(find_prototxt(prototxt), variables=variables, dialect=dialect)
    if model is None:
        model = by_name(spec.name)
    if model is None and isinstance(weights, (str, Path)):
        model = by_weights(weights)
    return spec, model
