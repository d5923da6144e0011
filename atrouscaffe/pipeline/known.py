"""The models that are known: which net, how images go in, which classes come out, which CRF, where from.

Nothing is downloaded and no net of others is copied: an entry says which files its authors published
and where they put them. `atrouscaffe.pipeline.registry` finds entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["EMBEDDED", "KNOWN", "VOC_MEAN", "KnownModel"]

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
    system : str
        Whose net it is, as ``docs/zoo.md`` lists them.
    net : str
        File name that the authors gave the net, where `prototxt` is "".
    size : (int, int) or None
        Height and width of the input of a net whose data layer does not say it.
    resized : bool
        Whether photographs are resized to the input's size, as the authors' scripts do.
    crops : bool
        Whether larger photographs go in by overlapping crops whose probabilities are averaged, as the
        authors' scripts do.
    output : str
        Blob of the scores of a net with several outputs.
    labels : str
        Classes and colours: a name of `atrouscaffe.data.label_sets`.
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
    system: str = ""
    net: str = ""
    size: tuple[int, int] | None = None
    resized: bool = False
    crops: bool = False
    output: str = ""
    labels: str = ""

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
                      note=note, system="DeepLab", labels="voc")


def _zoo(system: str, published: str, mean: tuple[float, ...], *entries: tuple,
         **same: Any) -> tuple[KnownModel, ...]:
    """Return one system's entries: name, title, net, weights, parameters, labels, and what each has of its own."""
    base = {"system": system, "published": published, "mean": mean, **same}
    return tuple(KnownModel(name, title, net=net, weights=weights, parameters=parameters, labels=labels,
                            **(base | (more[0] if more else {})))
                 for name, title, net, weights, parameters, labels, *more in entries)


_NEVER = "its authors never released weights"
_SEEN = "file name as in public download scripts"
_LIKELY = "file name as the authors' solver2.prototxt makes it"

_VGG_MEAN = (103.939, 116.779, 123.68)
_PSPNET = _zoo(
    "PSPNet", "https://github.com/hszhao/PSPNet", _VGG_MEAN,
    ("pspnet101-voc", "PSPNet-101, VOC", "pspnet101_VOC2012_473.prototxt", "pspnet101_VOC2012.caffemodel", 65_819_349,
     "voc", {"trained_on": "VOC 2012"}),
    ("pspnet101-cityscapes", "PSPNet-101, Cityscapes", "pspnet101_cityscapes_713.prototxt",
     "pspnet101_cityscapes.caffemodel", 65_818_323, "cityscapes", {"trained_on": "Cityscapes"}),
    ("pspnet50-ade20k", "PSPNet-50, ADE20K", "pspnet50_ADE20K_473.prototxt", "pspnet50_ADE20K.caffemodel", 46_841_174,
     "ade20k", {"trained_on": "ADE20K"}),
    crops=True)
_ICNET = _zoo(
    "ICNet", "https://github.com/hszhao/ICNet", _VGG_MEAN,
    ("icnet-cityscapes", "ICNet, Cityscapes", "icnet_cityscapes.prototxt", "icnet_cityscapes_train_30k.caffemodel",
     6_685_718, "cityscapes"),
    trained_on="Cityscapes", resized=True)
_SEGNET = _zoo(
    "SegNet", "https://github.com/alexgkendall/SegNet-Tutorial (Example_Models/segnet_model_zoo.md)", (0.0,) * 3,
    ("segnet-basic-camvid", "SegNet-Basic, CamVid", "segnet_basic_camvid.prototxt", "segnet_basic_camvid.caffemodel",
     1_416_587, "camvid", {"trained_on": "CamVid"}),
    ("segnet-driving", "SegNet, road scenes (the web demo)", "segnet_model_driving_webdemo.prototxt",
     "segnet_weights_driving_webdemo.caffemodel", 29_449_932, "camvid-12", {"trained_on": "road scenes"}),
    ("segnet-voc", "SegNet, VOC", "segnet_pascal.prototxt", "segnet_pascal.caffemodel", 29_455_125, "voc",
     {"trained_on": "VOC 2012"}),
    ("segnet-camvid", "SegNet, CamVid (as the tutorial trains it)", "segnet_inference.prototxt",
     "test_weights.caffemodel", 29_449_355, "camvid", {"published": "", "size": (360, 480)}),
    ("segnet-basic-camvid-tutorial", "SegNet-Basic, CamVid (as the tutorial trains it)",
     "segnet_basic_inference.prototxt", "test_weights.caffemodel", 1_416_587, "camvid",
     {"published": "", "size": (360, 480)}),
    resized=True)
_BAYESIAN_SEGNET = _zoo(
    "Bayesian SegNet", _SEGNET[0].published, (0.0,) * 3,
    ("bayesian-segnet-basic-camvid", "Bayesian SegNet-Basic, CamVid", "bayesian_segnet_basic_camvid.prototxt",
     "bayesian_segnet_basic_camvid.caffemodel", 1_416_587, "camvid", {"trained_on": "CamVid"}),
    ("bayesian-segnet-camvid", "Bayesian SegNet, CamVid", "bayesian_segnet_camvid.prototxt",
     "bayesian_segnet_camvid.caffemodel", 29_486_411, "camvid", {"trained_on": "CamVid"}),
    ("bayesian-segnet-voc", "Bayesian SegNet, VOC", "bayesian_segnet_pascal.prototxt", "segnet_pascal.caffemodel",
     29_455_125, "voc", {"trained_on": "VOC 2012"}),
    resized=True)
_SIFT_FLOW = {"output": "score_sem", "size": (256, 256), "mean": (114.578, 115.294, 108.353)}
_FCN = _zoo(
    "FCN", "https://github.com/shelhamer/fcn.berkeleyvision.org (caffemodel-url beside each net)",
    (104.00698793, 116.66876762, 122.67891434),
    ("fcn8s-voc", "FCN-8s, VOC", "deploy.prototxt", "fcn8s-heavy-pascal.caffemodel", 134_489_759, "voc"),
    ("fcn8s-atonce-voc", "FCN-8s at once, VOC", "val.prototxt", "fcn8s-atonce-pascal.caffemodel", 134_490_527, "voc"),
    ("fcn16s-voc", "FCN-16s, VOC", "val.prototxt", "fcn16s-heavy-pascal.caffemodel", 134_815_994, "voc"),
    ("fcn32s-voc", "FCN-32s, VOC", "val.prototxt", "fcn32s-heavy-pascal.caffemodel", 136_152_917, "voc"),
    ("fcn-alexnet-voc", "FCN-AlexNet, VOC", "val.prototxt", "fcn-alexnet-pascal.caffemodel", 58_704_590, "voc"),
    ("fcn8s-pascal-context", "FCN-8s, PASCAL-Context", "val.prototxt", "pascalcontext-fcn8s-heavy.caffemodel",
     135_589_364, "pascal-context"),
    ("fcn16s-pascal-context", "FCN-16s, PASCAL-Context", "val.prototxt", "pascalcontext-fcn16s-heavy.caffemodel",
     138_281_144, "pascal-context"),
    ("fcn32s-pascal-context", "FCN-32s, PASCAL-Context", "val.prototxt", "pascalcontext-fcn32s-heavy.caffemodel",
     149_251_964, "pascal-context"),
    ("fcn8s-sift-flow", "FCN-8s, SIFT Flow", "test.prototxt", "siftflow-fcn8s-heavy.caffemodel", 134_751_980,
     "sift-flow", _SIFT_FLOW),
    ("fcn16s-sift-flow", "FCN-16s, SIFT Flow", "test.prototxt", "siftflow-fcn16s-heavy.caffemodel", 135_568_424,
     "sift-flow", _SIFT_FLOW),
    ("fcn32s-sift-flow", "FCN-32s, SIFT Flow", "test.prototxt", "siftflow-fcn32s-heavy.caffemodel", 138_905_444,
     "sift-flow", _SIFT_FLOW),
    ("fcn32s-nyud", "FCN-32s, NYUDv2 (colour)", "test.prototxt", "nyud-fcn32s-color-heavy.caffemodel", 140_978_024,
     "nyud", {"mean": (116.190, 97.203, 92.318)}),
    size=(500, 500))
_CRF_AS_RNN = _zoo(
    "CRF-as-RNN", "https://github.com/torrvision/crfasrnn (download_trained_model.sh)", _VGG_MEAN,
    ("crfasrnn-voc", "CRF-as-RNN (FCN-8s), VOC", "TVG_CRFRNN_new_deploy.prototxt",
     "TVG_CRFRNN_COCO_VOC.caffemodel", 134_491_103, "voc", {"aliases": ("CRFRNN-VOC", "TVG_CRF_RNN_COCO_VOC")}),
    trained_on="COCO and VOC 2012", note="photographs of at most 500x500 pixels")
_DILATION = _zoo(
    "DilatedNet", "https://github.com/fyu/dilation (pretrained/download_*.sh)", (0.0,) * 3,
    ("dilation8-voc", "Dilation8, VOC", "dilation8_pascal_voc_deploy.prototxt", "dilation8_pascal_voc.caffemodel",
     141_149_720, "voc", {"mean": (102.93, 111.36, 116.52)}),
    ("dilation8-camvid", "Dilation8, CamVid", "dilation8_camvid_deploy.prototxt", "dilation8_camvid.caffemodel",
     134_313_443, "camvid-dilation", {"mean": (110.70313206, 108.77808759, 105.41212523)}),
    ("dilation7-kitti", "Dilation7, KITTI", "dilation7_kitti_deploy.prototxt", "dilation7_kitti.caffemodel",
     134_312_343, "camvid-dilation", {"mean": (96.19429688, 95.55136972, 91.34692262)}),
    ("dilation10-cityscapes", "Dilation10, Cityscapes", "dilation10_cityscapes_deploy.prototxt",
     "dilation10_cityscapes.caffemodel", 134_373_043, "cityscapes", {"mean": (72.39, 82.91, 73.16)}))
_PARSENET = _zoo(
    "ParseNet", "https://github.com/weiliu89/caffe/tree/fcn", (104.0, 117.0, 123.0),
    ("parsenet-voc", "ParseNet, VOC", "deploy.prototxt", "VGG_VOC2012ext.caffemodel", 0, "voc"),
    trained_on="VOC 2012 and SBD")
_HED = _zoo(
    "HED", "https://github.com/s9xie/hed", (104.00699, 116.66877, 122.67892),
    ("hed-bsds", "HED, BSDS 500 (edges, not classes)", "deploy.prototxt", "hed_pretrained_bsds.caffemodel",
     14_717_535, "", {"output": "sigmoid-fuse"}))

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
               system="DeepLab", labels="voc",
               sha256=("c0e4c0ccf4059cb8aca9efb8e0ca077f1fe683f7cbed18520e3b611842ab86d0",)),
    KnownModel("deeplabv3_mnv2_dm05_voc", "DeepLabv3, MobileNetV2 x0.5, VOC", mean=(127.5,) * 3, scale=1 / 127.5,
               crf="deeplabv3-mnv2", weights="deeplabv3_mnv2_dm05_voc.caffemodel", parameters=688_357,
               trained_on="VOC 2012 (set not stated)", aliases=("deeplabv3-mnv2",),
               sha256=("d0d04ae8a0975a10e3f12e76b66fcc45e08b7c5b2e6d1820b73db52a61e0360a",),
               note="converted from the TensorFlow checkpoint of depth multiplier 0.5", system="DeepLab",
               net="deploy_513.prototxt", labels="voc"),
    KnownModel("ENet", "ENet, Cityscapes", mean=(0.0,) * 3, weights="cityscapes_weights.caffemodel", parameters=367_687,
               published="https://github.com/TimoSaemann/ENet", trained_on="Cityscapes", aliases=("enet",),
               sha256=("e051940cb1fa28b85f5ead3b1c881991b3ff5cf232c975b0d7cc3c8a3dfc0a7d",),
               note="photographs of 2048x1024 pixels go in halved", system="ENet", net="enet_deploy_final.prototxt",
               labels="cityscapes"),
    KnownModel("ESPNet", "ESPNet, Cityscapes", mean=(0.284 / 0.022, 0.325 / 0.022, 0.287 / 0.022), scale=0.022,
               weights="espnet_cityscapes.caffemodel", parameters=365_194, trained_on="Cityscapes", aliases=("espnet",),
               published="https://github.com/Xilinx/Vitis-AI-Tutorials (branch 1.0, 05-ML-caffe-segmentation)",
               sha256=("a8e0a6beff869e18aeee35911a3c0daba2f8d99ac2d0a5f15b2d4cc73af48393",),
               note="photographs of 2048x1024 pixels go in halved", system="ESPNet", net="deploy.prototxt",
               labels="cityscapes"),
    *_PSPNET, *_ICNET, *_SEGNET, *_BAYESIAN_SEGNET, *_FCN, *_CRF_AS_RNN, *_DILATION, *_PARSENET, *_HED,
)
"""All entries; the paper's six nets first."""
