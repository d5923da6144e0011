"""The schema: every dialect's numbers against the list of collisions, and against protobuf itself."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.dialect import NUMBERS, WIRE_DIALECTS
from atrouscaffe.formats.schema import float32, message_class, schema

FACTS = [  # message, field, number by dialect (None: the dialect lacks it), from the forks' own caffe.proto
    ("ConvolutionParameter", "hole", {"v1": 17, "v2": None, "bvlc": None}),
    ("ConvolutionParameter", "hole_h", {"v1": 18, "v2": None, "bvlc": None}),
    ("ConvolutionParameter", "hole_w", {"v1": 19, "v2": None, "bvlc": None}),
    ("ConvolutionParameter", "force_nd_im2col", {"v1": None, "v2": 17, "bvlc": 17, "enet": 17}),
    ("ConvolutionParameter", "dilation", {"v1": None, "v2": 18, "bvlc": 18, "enet": 18}),
    ("LayerParameter", "interp_param", {"v2": 143, "bvlc": None, "enet": None}),
    ("LayerParameter", "input_param", {"v2": None, "bvlc": 143, "enet": 143, "segnet": None}),
    ("LayerParameter", "seg_accuracy_param", {"v2": 144, "bvlc": None}),
    ("LayerParameter", "crop_param", {"v2": None, "bvlc": 144, "enet": 144}),
    ("LayerParameter", "mat_write_param", {"v2": 145}),
    ("LayerParameter", "parameter_param", {"v2": None, "bvlc": 145}),
    ("LayerParameter", "dense_crf_param", {"v2": 146}),
    ("LayerParameter", "recurrent_param", {"v2": None, "bvlc": 146}),
    ("LayerParameter", "domain_transform_param", {"v2": 147, "bvlc": None}),
    ("LayerParameter", "swish_param", {"v2": None, "bvlc": 147, "enet": None}),
    ("LayerParameter", "upsample_param", {"v2": None, "bvlc": None, "segnet": 137, "enet": 147}),
    ("LayerParameter", "adaptive_bias_channel_param", {"v2": 148}),
    ("LayerParameter", "clip_param", {"bvlc": 148}),
    ("LayerParameter", "bias_channel_param", {"v2": 149, "bvlc": None}),
    ("LayerParameter", "unique_label_param", {"v2": 150}),
    ("LayerParameter", "mat_read_param", {"v2": 151}),
    ("LayerParameter", "permute_param", {"bvlc": 202, "enet": 202}),
    ("LayerParameter", "bn_param", {"bvlc": 45, "segnet": 45, "enet": 45, "pspnet": 152}),
    ("LayerParameter", "multi_stage_meanfield_param", {"crfrnn": 146, "bvlc": 1000, "v2": None}),
    ("LayerParameter", "norm_param", {"ssd": 206, "bvlc": 206}),
    ("LayerParameter", "shuffle_channel_param", {"bvlc": 164}),
    ("LayerParameter", "roi_pooling_param", {"bvlc": 8266711, "rfcn": 147, "v2": None}),
    ("LayerParameter", "psroi_pooling_param", {"bvlc": None, "rfcn": 149}),
    ("LayerParameter", "mish_param", {"ssd": 150, "bvlc": None}),
    ("LayerParameter", "focal_loss_param", {"bvlc": None, "ssd": None}),
    ("BatchNormParameter", "scale_filler", {"bvlc": 5}),
    ("PoolingParameter", "ceil_mode", {"bvlc": None, "ssd": None}),
    ("BNParameter", "slope_filler", {"segnet": None, "pspnet": 1}),
    ("BNParameter", "scale_filler", {"segnet": 1, "pspnet": None}),
    ("TransformationParameter", "resize_param", {"ssd": 8, "bvlc": None}),
    ("SolverParameter", "eval_type", {"ssd": 41, "bvlc": None}),
    ("SolverParameter", "weights", {"ssd": None, "bvlc": 42}),
    ("V1LayerParameter", "seg_accuracy_param", {"v1": 42, "v2": None, "bvlc": None}),
    ("V1LayerParameter", "loss_param", {"v1": None, "v2": 42, "bvlc": 42}),
    ("V1LayerParameter", "softmaxloss_param", {"v1": 44}),
    ("V1LayerParameter", "strict_dim", {"v1": 1003}),
    ("TransformationParameter", "scale_factors", {"v1": None, "v2": 8, "bvlc": None}),
    ("TransformationParameter", "crop_width", {"v2": 9}),
    ("TransformationParameter", "crop_height", {"v2": 10}),
    ("LossParameter", "normalization", {"v2": 3, "bvlc": 3, "enet": 5, "segnet": None}),
    ("LossParameter", "weight_by_label_freqs", {"bvlc": None, "segnet": 3, "enet": 3}),
    ("PoolingParameter", "round_mode", {"bvlc": 13, "v1": None, "v2": None}),
]


@pytest.mark.parametrize(("message", "field", "numbers"), FACTS, ids=[f"{m}.{f}" for m, f, _ in FACTS])
def test_number_in_each_dialect(message, field, numbers):
    for dialect, number in numbers.items():
        found = schema(dialect)[message].by_name.get(field)
        assert (None if found is None else found.number) == number, dialect


def test_layer_type_39_is_another_in_v1():
    assert schema("v1").enums["V1LayerParameter.LayerType"].names[39] == "IMAGE_SEG_DATA"
    assert schema("bvlc").enums["V1LayerParameter.LayerType"].names[39] == "DECONVOLUTION"
    assert schema("v2").enums["V1LayerParameter.LayerType"].names[39] == "DECONVOLUTION"
    assert schema("crfrnn").enums["V1LayerParameter.LayerType"].names[40] == "CROP"
    v1 = schema("v1").enums["V1LayerParameter.LayerType"].numbers
    assert [v1[name] for name in ("SEG_ACCURACY", "INTERP", "PADDING", "DENSE_CRF", "ONEHOT")] == [40, 41, 42, 45, 56]


def test_unique_label_is_float_in_v1_and_int_in_v2():
    assert schema("v1")["UniqueLabelParameter"].by_name["ignore_label"].kind == "float"
    assert schema("v2")["UniqueLabelParameter"].by_name["ignore_label"].kind == "int32"


@pytest.mark.parametrize("dialect", ["union", *WIRE_DIALECTS])
def test_numbers_of_a_dialect_do_not_clash(dialect):
    for message in schema(dialect).messages.values():
        assert len(message.by_number) == len(message.by_name), message.name
        if dialect != "union":
            assert not any(20000 <= number < 30000 for number in message.by_number), message.name


@pytest.mark.parametrize("dialect", WIRE_DIALECTS)
def test_tables_name_fields_that_exist(dialect):
    union = schema()
    for message, fields in NUMBERS[dialect].items():
        known = union.enums[message].numbers if "." in message else union[message].by_name
        assert set(fields) <= set(known)


def test_descriptor_is_that_of_the_proto_file():
    text = resources.files("atrouscaffe.formats").joinpath("caffe.proto").read_text()
    text = re.sub(r"//[^\n]*", "", text)
    found = {m.group(1): m.group(2) for m in re.finditer(r"^message (\w+) \{\n(.*?)^\}", text, re.M | re.S)}
    assert set(found) == set(schema().messages)
    for name, body in found.items():
        fields = {f: int(n) for f, n in re.findall(r"^  (?:optional|repeated) \S+ (\w+) = (\d+)", body, re.M)}
        assert fields == {f.name: f.number for f in schema()[name].by_name.values()}, name


def test_defaults_are_float32():
    assert schema()["BatchNormParameter"].by_name["eps"].default == float32(1e-5) != 1e-5
    assert schema()["ImageDataParameter"].by_name["label_type"].default == "IMAGE"
    assert schema()["ConvolutionParameter"].by_name["bias_term"].default is True
    assert schema()["FillerParameter"].by_name["type"].default == "constant"


@pytest.mark.parametrize("dialect", ["union", *WIRE_DIALECTS])
def test_message_class_reads_what_it_writes(dialect):
    message = message_class("NetParameter", dialect)(name="n", input=["data"])
    assert message_class("NetParameter", dialect).FromString(message.SerializeToString()) == message


def test_message_class_in_v1_keeps_hole_where_v1_has_it():
    convolution = message_class("ConvolutionParameter", "v1")(hole=[12])
    assert convolution.SerializeToString() == b"\x88\x01\x0c"
    assert message_class("ConvolutionParameter", "bvlc").FromString(b"\x88\x01\x0c").force_nd_im2col is True


def test_unknown_dialect_is_named():
    with pytest.raises(ArgumentError, match=r"unknown dialect 'v3'; known are .*segnet"):
        schema("v3")
