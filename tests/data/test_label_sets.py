"""Classes and colours of known data sets, against what their tools and papers say."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.data.label_sets import class_names, label_set, label_set_names, labels_of
from atrouscaffe.data.palette import color_map
from atrouscaffe.data.voc import VOC_CLASSES
from atrouscaffe.errors import ArgumentError


@pytest.mark.parametrize(("name", "count", "background", "facts"), [
    ("voc", 21, 0, {0: ("background", (0, 0, 0)), 15: ("person", (192, 128, 128)), 20: ("tvmonitor", (0, 64, 128))}),
    ("pascal-context", 60, 0, {0: ("background", (0, 0, 0)), 46: ("road", None), 59: ("wood", None)}),
    ("cityscapes", 19, None, {0: ("road", (128, 64, 128)), 10: ("sky", (70, 130, 180)), 13: ("car", (0, 0, 142)),
                              18: ("bicycle", (119, 11, 32))}),
    ("camvid", 11, None, {0: ("sky", (128, 128, 128)), 3: ("road", (128, 64, 128)), 10: ("bicyclist", (0, 128, 192))}),
    ("camvid-12", 12, None, {3: ("road marking", (255, 69, 0)), 4: ("road", (128, 64, 128)),
                             11: ("bicyclist", (0, 128, 192))}),
    ("camvid-dilation", 11, None, {0: ("building", (128, 0, 0)), 9: ("sidewalk", (0, 0, 192)),
                                   10: ("bicyclist", (0, 128, 192))}),
    ("ade20k", 150, None, {0: ("wall", (120, 120, 120)), 12: ("person", (150, 5, 61)), 149: ("flag", (92, 0, 255))}),
    ("sift-flow", 33, None, {0: ("awning", None), 32: ("window", None)}),
    ("nyud", 40, None, {0: ("wall", None), 39: ("otherprop", None)})])
def test_sets_are_those_of_the_data(name, count, background, facts):
    found = label_set(name)
    assert (len(found.classes), found.background) == (count, background)
    assert len(set(found.classes)) == count
    assert found.colors.shape == (256, 3) and found.colors.dtype == np.uint8
    for index, (word, color) in facts.items():
        assert found.classes[index] == word
        assert tuple(found.colors[index]) == (tuple(color_map()[index]) if color is None else color)
    assert np.array_equal(found.colors[count:], color_map()[count:])


def test_every_set_is_tested_and_others_are_refused():
    assert label_set_names() == ["voc", "pascal-context", "cityscapes", "camvid", "camvid-12", "camvid-dilation",
                                 "ade20k", "sift-flow", "nyud"]
    with pytest.raises(ArgumentError, match="ade20k.*'coco'"):
        label_set("coco")


def test_sets_are_found_by_name_and_else_by_the_number_of_classes():
    assert labels_of("camvid", 11).name == "camvid"
    assert labels_of("", 19).name == labels_of("camvid", 19).name == "cityscapes"
    assert labels_of("ade20k", 21).name == "voc"
    numbered = labels_of("", 3)
    assert (numbered.name, numbered.classes, numbered.background) == ("", ("class 0", "class 1", "class 2"), 0)
    assert class_names(21) == VOC_CLASSES
    assert class_names(19)[0] == "road"
