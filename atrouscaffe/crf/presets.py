"""CRF parameters of the published models and programs.

Every preset gives the position kernel (sigma in pixels, weight), the bilateral kernel (sigma in
pixels, sigma in intensity levels of 255, weight), the normalisation and the iterations.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from atrouscaffe.errors import ArgumentError, nearest

__all__ = ["PRESETS", "Preset", "preset"]


@dataclass(frozen=True)
class Preset:
    """Parameters of one CRF.

    Attributes
    ----------
    bilateral_sigma_xy, bilateral_sigma_rgb, bilateral_weight : float
    position_sigma, position_weight : float
    normalization : str
    iterations : int
    source : str
        Where the values come from.
    """

    bilateral_sigma_xy: float
    bilateral_sigma_rgb: float
    bilateral_weight: float
    position_sigma: float = 3.0
    position_weight: float = 3.0
    normalization: str = "after"
    iterations: int = 10
    source: str = ""


PRESETS: dict[str, Preset] = {
    "paper": Preset(121, 5, 4, source="DeepLab-LargeFOV; the paper itself gives ranges only (section 5)"),
    "deeplab": Preset(50, 3, 5, source="run_densecrf.sh"),
    "deeplab-msc": Preset(95, 3, 3, source="matlab/my_script/SetupEnv.m"),
    "deeplab-4x4": Preset(56, 4, 4, source="SetupEnv.m, vgg128_noup_pool3_largewin"),
    "deeplab-7x7": Preset(72, 5, 4, source="SetupEnv.m, vgg128_noup_pool3_125M"),
    "deeplab-largefov": Preset(121, 5, 4, source="SetupEnv.m, vgg128_noup_pool3_20M_largewin3"),
    "deeplab-msc-largefov": Preset(83, 5, 4, source="users' copies of the authors' list"),
    "deeplab-coco": Preset(67, 3, 5, source="SetupEnv.m, vgg128_noup_pool3_cocomix"),
    "deeplab-coco-largefov": Preset(69, 5, 5, source="users' copies of the authors' list"),
    "deeplab-msc-coco-largefov": Preset(59, 5, 4, source="users' copies of the authors' list"),
    "deeplab-mnv2-largefov": Preset(50, 3, 4, source="crf-search on hold-out images of VOC train, docs/model-card.md"),
    "deeplabv3-mnv2": Preset(65, 3, 4, source="reference evaluation of DeepLabv3-MobileNetV2"),
    "refine_pascal": Preset(60, 20, 10, source="defaults of prog_refine_pascal"),
    "refine_pascal_v4": Preset(70, 5, 5, source="defaults of prog_refine_pascal_v4"),
    "pydensecrf": Preset(80, 13, 10, normalization="symmetric", iterations=5, source="pydensecrf's example script"),
}


def preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises
    ------
    ArgumentError
        There is none of that name.
    """
    if name not in PRESETS:
        if os.path.exists(name):
            raise ArgumentError(f"preset: got {name!r}, which is a file; write the files before --crf, or --crf=PRESET "
                                "with one of " + ", ".join(PRESETS))
        raise ArgumentError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]
