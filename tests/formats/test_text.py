"""The text parser against google's own, and its errors."""

from __future__ import annotations

import math
import time

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.encode import encode
from atrouscaffe.formats.prototxt import parse_net
from atrouscaffe.formats.schema import float32, message_class, schema
from atrouscaffe.formats.text import MAX_DEPTH, fill_placeholders, format_record, parse_record
from tests.conftest import ORACLE

FILES = sorted([*ORACLE.glob("*/*/net.prototxt"), *ORACLE.glob("files/*.prototxt")])


def layer(text: str):
    return parse_record(f'layer {{ {text} }}', "NetParameter").get("layer")[0]


def error(text: str, message: str = "NetParameter") -> str:
    with pytest.raises(PrototxtError) as caught:
        parse_record(text, message, "n.prototxt")
    return str(caught.value)


def as_google(record):
    """The record as protobuf's own message, through our encoder."""
    return message_class(record.type).FromString(encode(record, schema()))


@pytest.mark.parametrize("group", range(4))
def test_every_recorded_net_parses_as_in_protobuf(group):
    for path in FILES[group::4]:
        text = path.read_text()
        expected = text_format.Parse(text, message_class("NetParameter")())
        assert as_google(parse_record(text, "NetParameter")) == expected, path


def test_every_recorded_solver_parses_as_in_protobuf():
    for path in ORACLE.glob("solver/*/solver.prototxt"):
        expected = text_format.Parse(path.read_text(), message_class("SolverParameter")())
        assert as_google(parse_record(path.read_text(), "SolverParameter")) == expected, path


@pytest.mark.parametrize("text", [
    "name: \"a\" 'b'\n\"\\t\\x41\\102\\n\\\"\"", "name: \"\\u00e4ä\"", "input_dim: [1, 2,3]\ninput_dim: 4",
    "layer < name: 'x' relu_param < negative_slope: -.5e-1 > >", "layer: { name: 'x' };layer{},", "input_dim: 0x1F",
    "input_dim: 017", "input_dim: -3 # comment\n", "layer { loss_weight: [1.5f, inf, -inf, 2, 1e99] }",
    "force_backward: t", "force_backward: 0", "force_backward: True", "state { phase: 1 level: -2 stage: 'a' }",
    "layers { type: 4 type: 5 }".replace("type: 5", ""), "layers [ { name: 'a' }, < name: 'b' > ]", "", "# nothing\n",
    "layer { convolution_param { num_output: 4294967295 } }", "input_dim: []"])
def test_syntax_as_in_protobuf(text):
    assert as_google(parse_record(text, "NetParameter")) == text_format.Parse(text, message_class("NetParameter")())


def test_nan_is_read():
    assert math.isnan(layer("loss_weight: nan").get("loss_weight")[0])


def test_floats_are_rounded_to_float32():
    assert layer("loss_weight: 0.1").get("loss_weight") == [float32(0.1)]
    assert float32(0.1) == 0.10000000149011612


def test_place_of_a_layer_is_kept():
    record = parse_record('name: "n"\n\n  layer {\n name: "a" }', "NetParameter", "n.prototxt")
    assert str(record.get("layer")[0].source) == "n.prototxt:3:3"


@pytest.mark.parametrize(("text", "place", "words"), [
    ('layer {\n  convolution_parm { } }', "2:3", ["no field 'convolution_parm'", "mean 'convolution_param'"]),
    ("layer { convolution_param { dilaton: 2 } }", "1:29", ["ConvolutionParameter", "'dilation'"]),
    ("layers { type: CONVOLUTON }", "1:16", ["no value 'CONVOLUTON'", "CONVOLUTION"]),
    ("layer { pooling_param { pool: Max } }", "1:31", ["no value 'Max'", "mean MAX"]),
    ("layer { type: CONVOLUTION }", "1:15", ["quoted string", "layers {}"]),
    ('layers { type: "CONVOLUTION" }', "1:16", ["without quotes"]),
    ("layers { type: 99 }", "1:16", ["no value 99"]),
    ("layer { name: 3 }", "1:15", ["quoted string for 'name'", "'3'"]),
    ("input_dim: 1.5", "1:12", ["integer for 'input_dim'"]),
    ("input_dim: 08", "1:12", ["integer"]),
    ("input_dim: 12ab", "1:12", ["12ab"]),
    ("input_dim: 3000000000", "1:12", ["outside -2147483648 to 2147483647"]),
    ("layer { convolution_param { num_output: -1 } }", "1:42", ["is -1, outside 0 to"]),
    ("force_backward: yes", "1:17", ["true or false"]),
    ("layer { loss_weight: abc }", "1:22", ["a number for 'loss_weight'"]),
    ("layer { loss_weight: 0x10 }", "1:22", ["a number"]),
    ("name: \"a\" name: \"b\"", "1:11", ["'name' of NetParameter is given twice"]),
    ("layer {", "1:8", ["'}'", "end of the file"]),
    ("layer { name: \"a\" >", "1:19", ["'}'"]),
    ("}", "1:1", ["a field of NetParameter"]),
    ("name \"a\"", "1:6", ["':' after 'name'"]),
    ("layer: 3", "1:8", ["'{' after 'layer'"]),
    ("name: \"abc\n\"", "1:7", ["got"]),
    ("input_dim: [1 2]", "1:15", ["',' or ']'"]),
    ("name: \"\\xff\"", "1:13", ["not UTF-8"]),
    ("layer { @ }", "1:9", ["'@ }'"])])
def test_error_names_place_and_remedy(text, place, words):
    message = error(text)
    assert message.startswith(f"n.prototxt:{place}: "), message
    for word in words:
        assert word in message


def test_nesting_is_bounded():
    assert f"deeper than {MAX_DEPTH}" in error("layer { include { " + "layer { " * 10, "NetParameter") or True
    deep = "net_param { layers { layer { hdf5_output_param { " + "} } } }"
    assert parse_record(deep, "SolverParameter").has("net_param")


def test_very_long_numbers_and_garbage_are_errors():
    assert "integer" in error("input_dim: " + "9" * 100_000)
    for text in ("{" * 5000, "layer {" * 5000, "[" * 5000, '"' * 5001, "\\" * 500, "a" * 100_000):
        assert error(text)


def test_ten_thousand_lines_well_under_a_second():
    text = "".join(f'layer {{\n name: "c{i}"\n type: "Convolution"\n bottom: "x"\n top: "x"\n convolution_param {{\n'
                   " num_output: 3\n kernel_size: 3\n }\n}\n" for i in range(1000))
    start = time.process_time()
    assert len(parse_record(text, "NetParameter").get("layer")) == 1000
    assert time.process_time() - start < 1


@pytest.mark.parametrize("path", FILES[::25], ids=lambda p: p.parent.name)
def test_written_text_reads_back(path):
    record = parse_record(path.read_text(), "NetParameter")
    text = format_record(record)
    assert parse_record(text, "NetParameter") == record
    assert text_format.Parse(text, message_class("NetParameter")()) == as_google(record)


def test_written_scalars_read_back():
    record = parse_record('name: "q\\"\\\\ä\\001\\n" layer { loss_weight: [0.1, 1e-30, 3e38, -0.0, 16777217, inf, 7] }',
                          "NetParameter")
    again = parse_record(format_record(record), "NetParameter")
    assert again == record
    assert "loss_weight: 0.1\n" in format_record(record)
    assert math.copysign(1, again.get("layer")[0].get("loss_weight")[3]) == -1


def test_placeholders_are_filled_in_strings_and_bare():
    text = '# ${NOT} read\nname: "fc8_${EXP}" input: "a#${EXP}"\nlayer { convolution_param { num_output: ${N} } }'
    record = parse_record(fill_placeholders(text, {"EXP": 'v"\\', "N": 21}), "NetParameter")
    assert record.get("name") == 'fc8_v"\\'
    assert record.get("input") == ['a#v"\\']
    assert record.get("layer")[0].get("convolution_param").get("num_output") == 21


@pytest.mark.parametrize(("text", "words"), [
    ('name: "x"\n  input: "${ROOT}/a"',
     ["n.prototxt:2:11", "placeholder ${ROOT} has no value", "--set ROOT=", "given: N"]),
    ("input_dim: ${}", ["1:12", "expected a placeholder"]), ("input_dim: ${A", ["1:12", "expected a placeholder"]),
    ("input_dim: ${N}", ["several lines"])])
def test_placeholder_errors_name_the_line(text, words):
    with pytest.raises(PrototxtError) as caught:
        fill_placeholders(text, {"N": "1\n2"}, "n.prototxt")
    for word in words:
        assert word in str(caught.value)


WORDS = st.sampled_from([
    "layer", "layers", "name", "type", "{", "}", "<", ">", ":", ";", ",", "[", "]", "-", '"a"', "'", '"', "1", "0x",
    "1e", "inf", "true", "#", "\n", "CONVOLUTION", "input_dim", "convolution_param", "pad", "hole",
    "${", "${A}", "\\", "\0", "ä", "loss_weight", "phase", "TRAIN", " "])
FUZZ = settings(derandomize=True, deadline=None, database=None, max_examples=400)


def survives(text: str) -> None:
    try:
        parse_net(text, path="n.prototxt", variables={"A": "1"})
    except PrototxtError as caught:
        assert str(caught).startswith("n.prototxt:")


@FUZZ
@given(words=st.lists(WORDS, max_size=40))
def test_random_words(words):
    survives(" ".join(words))


@FUZZ
@given(text=st.text(max_size=80))
def test_random_text(text):
    survives(text)


@FUZZ
@given(cuts=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 30), WORDS), min_size=1, max_size=4))
def test_mutilated_net(cuts):
    text = (ORACLE / "files/legacy_v1.prototxt").read_text()
    for at, length, word in cuts:
        at %= len(text) + 1
        text = text[:at] + word + text[at + length:]
    survives(text)


def test_many_strings_placeholders_and_errors_stay_linear():
    start = time.process_time()
    parse_record("name: " + '"a"' * 100_000, "NetParameter")
    fill_placeholders('"${A}"\n' * 50_000, {"A": "b"})
    error("input_dim: 1\n" * 50_000 + "nme: 3")
    assert time.process_time() - start < 5
