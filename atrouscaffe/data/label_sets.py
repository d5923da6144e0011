"""What the numbers of a label map mean: the classes of known data sets in the order of nets' outputs, and colours.

Colours are those of the data sets' own tools, or of the nets' authors; where a set has none of its
own, VOC's colour map. The orders are facts of the published nets: SegNet's and DilatedNet's CamVid
differ.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from atrouscaffe.data.palette import color_map
from atrouscaffe.data.voc import VOC_CLASSES
from atrouscaffe.errors import ArgumentError

__all__ = ["LabelSet", "class_names", "label_set", "label_set_names", "labels_of"]


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The classes of a data set.

    Attributes
    ----------
    name : str
    title : str
    classes : tuple of str
        In index order.
    colors : (256, 3) uint8
        R, G, B of each index; VOC's colour for an index that is no class.
    background : int or None
        The class that means nothing of the others, which overlays leave clear; None where there is none.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    colors: np.ndarray
    background: int | None = None


_VOC = ", ".join(VOC_CLASSES)
_CITYSCAPES = (
    "road 804080, sidewalk f423e8, building 464646, wall 66669c, fence be9999, pole 999999, traffic light faaa1e, "
    "traffic sign dcdc00, vegetation 6b8e23, terrain 98fb98, sky 4682b4, person dc143c, rider ff0000, car 00008e, "
    "truck 000046, bus 003c64, train 005064, motorcycle 0000e6, bicycle 770b20"
)
_CAMVID = (
    "sky 808080, building 800000, pole c0c080, road 804080, pavement 3c28de, tree 808000, sign symbol c08080, fence "
    "404080, car 400080, pedestrian 404000, bicyclist 0080c0"
)
_CAMVID_12 = _CAMVID.replace(", road ", ", road marking ff4500, road ")
_CAMVID_DILATION = (
    "building 800000, tree 808000, sky 808080, car 400080, sign symbol c08080, road 804080, pedestrian 404000, "
    "fence 404080, pole c0c080, sidewalk 0000c0, bicyclist 0080c0"
)
_ADE20K = (
    "wall 787878, building b47878, sky 06e6e6, floor 503232, tree 04c803, ceiling 787850, road 8c8c8c, bed cc05ff, "
    "windowpane e6e6e6, grass 04fa07, cabinet e005ff, sidewalk ebff07, person 96053d, earth 787846, door 08ff33, "
    "table ff0652, mountain 8fff8c, plant ccff04, curtain ff3307, chair cc4603, car 0066c8, water 3de6fa, painting "
    "ff0633, sofa 0b66ff, shelf ff0747, house ff09e0, sea 0907e6, mirror dcdcdc, rug ff095c, field 7009ff, armchair "
    "08ffd6, seat 07ffe0, fence ffb806, desk 0aff47, rock ff290a, wardrobe 07ffff, lamp e0ff08, bathtub 6608ff, "
    "railing ff3d06, cushion ffc207, base ff7a08, box 00ff14, column ff0829, signboard ff0599, chest of drawers "
    "0633ff, counter eb0cff, sand a09614, sink 00a3ff, skyscraper 8c8c8c, fireplace fa0a0f, refrigerator 14ff00, "
    "grandstand 1fff00, path ff1f00, stairs ffe000, runway 99ff00, case 0000ff, pool table ff4700, pillow 00ebff, "
    "screen door 00adff, stairway 1f00ff, river 0bc8c8, bridge ff5200, bookcase 00fff5, blind 003dff, coffee table "
    "00ff70, toilet 00ff85, flower ff0000, book ffa300, hill ff6600, bench c2ff00, countertop 008fff, stove 33ff00, "
    "palm 0052ff, kitchen island 00ff29, computer 00ffad, swivel chair 0a00ff, boat adff00, bar 00ff99, arcade "
    "machine ff5c00, hovel ff00ff, bus ff00f5, towel ff0066, light ffad00, truck ff0014, tower ffb8b8, chandelier "
    "001fff, awning 00ff3d, streetlight 0047ff, booth ff00cc, television receiver 00ffc2, airplane 00ff52, dirt "
    "track 000aff, apparel 0070ff, pole 3300ff, land 00c2ff, bannister 007aff, escalator 00ffa3, ottoman ff9900, "
    "bottle 00ff0a, buffet ff7000, poster 8fff00, stage 5200ff, van a3ff00, ship ffeb00, fountain 08b8aa, conveyer "
    "belt 8500ff, canopy 00ff5c, washer b800ff, plaything ff001f, swimming pool 00b8ff, stool 00d6ff, barrel "
    "ff0070, basket 5cff00, waterfall 00e0ff, tent 70e0ff, bag 46b8a0, minibike a300ff, cradle 9900ff, oven 47ff00, "
    "ball ff00a3, food ffcc00, step ff008f, tank 00ffeb, trade name 85ff00, microwave ff00eb, pot f500ff, animal "
    "ff007a, bicycle fff500, lake 0abed4, dishwasher d6ff00, screen 00ccff, blanket 1400ff, sculpture ffff00, hood "
    "0099ff, sconce 0029ff, vase 00ffcc, traffic light 2900ff, tray 29ff00, ashcan ad00ff, fan 00f5ff, pier 4700ff, "
    "crt screen 7a00ff, plate 00ffb8, monitor 005cff, bulletin board b8ff00, shower 0085ff, radiator ffd600, glass "
    "19c2c2, clock 66ff00, flag 5c00ff"
)
_PASCAL_CONTEXT = (
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, "
    "motorbike, person, pottedplant, sheep, sofa, train, tvmonitor, bag, bed, bench, book, building, cabinet, "
    "ceiling, clothes, computer, cup, door, fence, floor, flower, food, grass, ground, keyboard, light, mountain, "
    "mouse, curtain, platform, sign, plate, road, rock, shelves, sidewalk, sky, snow, bedcloth, track, tree, truck, "
    "wall, water, window, wood"
)
_SIFT_FLOW = (
    "awning, balcony, bird, boat, bridge, building, bus, car, cow, crosswalk, desert, door, fence, field, grass, "
    "moon, mountain, person, plant, pole, river, road, rock, sand, sea, sidewalk, sign, sky, staircase, "
    "streetlight, sun, tree, window"
)
_NYUD = (
    "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, blinds, desk, "
    "shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, refrigerator, television, "
    "paper, towel, shower curtain, box, whiteboard, person, night stand, toilet, sink, lamp, bathtub, bag, "
    "otherstructure, otherfurniture, otherprop"
)

_SETS: dict[str, tuple[str, str, int | None]] = {
    "voc": ("PASCAL VOC", _VOC, 0),
    "pascal-context": ("PASCAL-Context, 59 classes and background", _PASCAL_CONTEXT, 0),
    "cityscapes": ("Cityscapes, the 19 classes that are scored", _CITYSCAPES, None),
    "camvid": ("CamVid, 11 classes in SegNet's order", _CAMVID, None),
    "camvid-12": ("CamVid with road markings, 12 classes in SegNet's order", _CAMVID_12, None),
    "camvid-dilation": ("CamVid and KITTI, 11 classes in DilatedNet's order", _CAMVID_DILATION, None),
    "ade20k": ("ADE20K scene parsing, 150 classes", _ADE20K, None),
    "sift-flow": ("SIFT Flow, 33 semantic classes", _SIFT_FLOW, None),
    "nyud": ("NYUDv2, 40 classes", _NYUD, None),
}
"""Name: title, classes with their colours (hexadecimal R, G, B), background."""

_PLAIN = {"voc", "pascal-context", "sift-flow", "nyud"}
"""Sets in VOC's colours."""


@functools.cache
def label_set(name: str) -> LabelSet:
    """Return a set by its name.

    Raises
    ------
    ArgumentError
        There is none of that name.

    Examples
    --------
    >>> label_set("cityscapes").classes[:2]
    ('road', 'sidewalk')
    """
    if name not in _SETS:
        raise ArgumentError(f"classes: expected one of {', '.join(_SETS)}, got {name!r}")
    title, text, background = _SETS[name]
    colors = color_map().copy()
    classes = []
    for i, entry in enumerate(text.split(", ")):
        words = entry.rsplit(" ", 1)
        if name not in _PLAIN:
            colors[i] = np.frombuffer(bytes.fromhex(words[1]), np.uint8)
        classes.append(entry if name in _PLAIN else words[0])
    colors.setflags(write=False)
    return LabelSet(name, title, tuple(classes), colors, background)


def label_set_names() -> list[str]:
    """Return the names of all sets."""
    return list(_SETS)


def labels_of(name: str, count: int) -> LabelSet:
    """Return the set of a net with `count` outputs: the one of that name, else one as large as VOC's or Cityscapes'.

    Where neither fits, the classes are numbered, in VOC's colours, and class 0 is the background.
    """
    for known in (name, "voc", "cityscapes"):
        if known and len(label_set(known).classes) == count:
            return label_set(known)
    return LabelSet("", "", tuple(f"class {i}" for i in range(count)), color_map(), 0)


def class_names(count: int) -> tuple[str, ...]:
    """Return names for `count` classes: VOC's for 21, Cityscapes' for 19, else ``class 0`` …"""
    return labels_of("", count).classes
