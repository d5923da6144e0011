"""Binary weights of all dialects: recorded files, hand-made wires, damage."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrouscaffe.errors import ArgumentError, AtrousCaffeError, FileAccessError, FileMissingError, WeightsError
from atrouscaffe.formats.caffemodel import parse_caffemodel, read_caffemodel, write_caffemodel
from atrouscaffe.formats.encode import tag, varint
from atrouscaffe.formats.fields import to_record
from atrouscaffe.formats.hdf5 import read_hdf5
from atrouscaffe.formats.prototxt import parse_net, read_net, read_net_binary
from atrouscaffe.formats.schema import message_class
from atrouscaffe.formats.splits import as_written
from atrouscaffe.formats.weights import open_weights
from atrouscaffe.formats.wire import FileBytes
from tests.conftest import ORACLE

WEIGHTS = sorted(ORACLE.glob("*/*/*.caffemodel"))
FUZZ = settings(derandomize=True, deadline=None, database=None)


def said(layer) -> dict:
    """What a layer says, without what Caffe adds when it saves one."""
    values = to_record(layer.fields).values
    for name in ("phase", "include", "exclude"):
        values.pop(name, None)
    if values.get("loss_weight") == [1.0]:
        del values["loss_weight"]
    if values.get("type") == "BatchNorm":
        values.pop("param", None)
    return values


def field(number: int, body: bytes) -> bytes:
    return tag(number, 2) + varint(len(body)) + body


def layer(*parts: bytes, name: bytes = b"a") -> bytes:
    return field(100, field(1, name) + b"".join(parts))


def blob(*parts: bytes) -> bytes:
    return field(7, b"".join(parts))


def shape(*dims: int) -> bytes:
    return field(7, field(1, b"".join(map(varint, dims))))


def floats(*values: float) -> bytes:
    return field(5, struct.pack(f"<{len(values)}f", *values))


def read(tmp_path, data: bytes, **options):
    path = tmp_path / "w.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path, **options)


def error(tmp_path, data: bytes, **options) -> str:
    with pytest.raises(WeightsError) as caught:
        read(tmp_path, data, **options)
    return str(caught.value)


# -- recorded files -----------------------------------------------------------------------------

@pytest.mark.parametrize("group", range(3))
def test_every_recorded_file_reads_with_no_unknown_field(group):
    for path in WEIGHTS[group::3]:
        file = read_caffemodel(path)
        wrote = path.parent.name.split("_")[0]
        assert file.dialect == wrote or (wrote, file.dialect) == ("v2", "bvlc"), (path, file.evidence)
        assert not file.unknown_fields, path
        assert not file.net_problem, path
        assert file.arrays(), path
        # protobuf's own parser agrees about every number
        net = message_class("NetParameter", wrote).FromString(path.read_bytes())
        expected = [np.array(b.data, np.float32) for one in (net.layers or net.layer) for b in one.blobs]
        found = [b.load().reshape(-1) for one in file.layers for b in one.blobs]
        assert len(found) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected)), path


@pytest.mark.parametrize("path", sorted(ORACLE.glob("*/*/weights.caffemodel"))[::7], ids=lambda p: p.parent.name)
def test_net_inside_says_what_the_text_says(path):
    dialect = json.loads((path.parent / "case.json").read_text())["dialect"]
    text = {one.name: one for one in read_net(path.parent / "net.prototxt").layers if one.type != "Input"}
    saved = [one for one in as_written(read_net_binary(path, dialect)).layers if one.type != "Input"]
    assert saved
    for one in saved:
        assert said(one) == said(text[one.name]), one.name


@pytest.mark.parametrize("case", ["cases/v1_conv_k3_hole12_fov", "nets/v1_deeplab_largefov", "nets/v2_deeplab_aspp",
                                  "cases/v2_conv_k3_hole12_fov", "nets/v1_deeplab_msc_largefov"])
def test_hole_survives_in_every_dialect(case):
    text = read_net(ORACLE / case / "net.prototxt")
    holes = {one.name: one.fields.convolution_param.hole for one in text.layers if one.type == "Convolution"}
    net = read_net_binary(ORACLE / case / "weights.caffemodel")
    assert any(max(hole, default=1) >= 12 for hole in holes.values())
    found = {one.name: one.fields.convolution_param.hole for one in net.layers if one.type == "Convolution"}
    assert {name: hole for name, hole in holes.items() if name in found} == found


def test_wrong_dialect_when_forced_then_another_net():
    path = ORACLE / "cases/v1_conv_k3_hole12_fov/weights.caffemodel"
    file = read_caffemodel(path, dialect="bvlc")
    assert (file.dialect, file.evidence) == ("bvlc", "as told")
    param = next(one for one in file.net.layers if one.type == "Convolution").fields.convolution_param
    assert param.force_nd_im2col is True  # which is how every other reader loses the hole
    assert param.hole == ()


def test_legacy_file_has_padded_shapes(oracle):
    file = open_weights(oracle / "files/legacy_v1.caffemodel")
    assert file.dialect == "v1"
    assert file.net.dialect == "v1"
    assert all(len(b.shape) == 4 for one in file.layers for b in one.blobs)
    natural = file.arrays(natural=True)
    assert {blobs[1].ndim for blobs in natural.values() if len(blobs) > 1} == {1}


def test_binary_and_hdf5_of_one_snapshot_are_equal(oracle):
    binary = open_weights(oracle / "files/snapshot_v2.caffemodel")
    hdf5 = open_weights(oracle / "files/snapshot.caffemodel.h5")
    assert (binary.kind, hdf5.kind) == ("caffemodel", "hdf5")
    a, b = binary.arrays(), hdf5.arrays()
    assert a.keys() == b.keys()
    for name in a:
        assert [x.shape for x in a[name]] == [x.shape for x in b[name]]
        assert all(np.array_equal(x, y) for x, y in zip(a[name], b[name]))


def test_every_model_reads(shared_data):
    dialects = {}
    for path in sorted(shared_data.glob("models/*/*.caffemodel*")):
        file = open_weights(path)
        assert file.arrays(), path
        dialects[path.parent.name] = file.dialect
    assert dialects["enet_cityscapes"] == "enet"
    assert dialects["lenet_mnist_v1"] == "v1"
    assert dialects["rfb320"] == "bvlc"


def test_enet_is_told_by_upsample(shared_data):
    file = open_weights(next((shared_data / "models/enet_cityscapes").glob("*.caffemodel")))
    assert "147" in file.evidence
    assert not file.unknown_fields
    upsample = [one for one in file.net.layers if one.type == "Upsample"]
    assert upsample
    assert all(one.fields.upsample_param.has("scale") for one in upsample)
    assert file.net.dialect == "bvlc"


# -- writing ------------------------------------------------------------------------------------

NET = ('name: "n" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 5, 7] } } } '
       'layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 2 } '
       'convolution_param { num_output: 2 kernel_size: 3 dilation: 12 } } '
       'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }')


def params(rng, dtype=np.float32):
    return {"c": [rng.standard_normal((2, 3, 3, 3)).astype(dtype), rng.standard_normal(2).astype(dtype)]}


@pytest.mark.parametrize("dialect", ["v1", "v2", "bvlc", "segnet", "enet"])
def test_what_is_written_reads_back(tmp_path, rng, dialect):
    path, net, blobs = tmp_path / "w.caffemodel", parse_net(NET), params(rng)
    assert write_caffemodel(path, net, blobs, dialect=dialect) == ()
    file = read_caffemodel(path, dialect=dialect)
    assert not file.unknown_fields
    assert [said(one) for one in file.net.layers[1:]] == [said(one) for one in net.layers[1:]]
    assert file.net.layers[0].fields.input_param == net.layers[0].fields.input_param
    loaded = file.arrays(natural=True)["c"]
    assert all(np.array_equal(a, b) and a.shape == b.shape for a, b in zip(loaded, blobs["c"]))


def test_bvlc_file_is_what_protobuf_reads(tmp_path, rng):
    path, blobs = tmp_path / "w.caffemodel", params(rng)
    write_caffemodel(path, parse_net(NET), blobs)
    net = message_class("NetParameter", "bvlc").FromString(path.read_bytes())
    convolution = net.layer[1]
    assert list(convolution.convolution_param.dilation) == [12]
    assert list(convolution.blobs[0].shape.dim) == [2, 3, 3, 3]
    assert np.array_equal(np.array(convolution.blobs[1].data, np.float32), blobs["c"][1])


def test_v1_file_is_what_protobuf_reads(tmp_path, rng):
    path = tmp_path / "w.caffemodel"
    write_caffemodel(path, parse_net(NET), params(rng), dialect="v1")
    net = message_class("NetParameter", "v1").FromString(path.read_bytes())
    assert (list(net.input), list(net.input_dim)) == (["data"], [1, 3, 5, 7])
    convolution = net.layers[0]
    assert (list(convolution.convolution_param.hole), list(convolution.blobs_lr)) == ([12], [2])
    bias = convolution.blobs[1]
    assert (bias.num, bias.channels, bias.height, bias.width, bias.HasField("shape")) == (1, 1, 1, 2, False)


def test_float64_empty_and_odd_arrays(tmp_path, rng):
    path = tmp_path / "w.caffemodel"
    blobs = {"c": [rng.standard_normal((2, 3, 3, 3)), np.zeros((0, 2), np.float32), np.float32(7),
                   np.arange(12).reshape(3, 4)[:, ::2]]}
    write_caffemodel(path, parse_net(NET), blobs)
    records = next(one for one in read_caffemodel(path).layers if one.name == "c").blobs
    assert [r.shape for r in records] == [(2, 3, 3, 3), (0, 2), (), (3, 2)]
    assert [r.dtype for r in records] == ["float64", "float32", "float32", "float32"]
    for record, array in zip(records, blobs["c"]):
        assert record.load().dtype == np.float32
        assert np.array_equal(record.load(), np.asarray(array, np.float32))


def test_what_a_dialect_cannot_say_is_told(tmp_path):
    net = parse_net('layer { name: "p" type: "Permute" permute_param { order: [0, 2, 1] } } '
                    'layer { name: "i" type: "Interp" interp_param { zoom_factor: 2 } }')
    path = tmp_path / "w.caffemodel"
    assert write_caffemodel(path, net, {}, dialect="bvlc") == ("LayerParameter.interp_param",)
    assert write_caffemodel(path, net, {}, dialect="v2") == ()
    assert "type 'Permute' (layer 'p')" in write_caffemodel(path, net, {}, dialect="v1")


def test_weights_for_unknown_layers_are_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "w.caffemodel"
    with pytest.raises(WeightsError, match="weights for layers that the net does not have: 'zz'"):
        write_caffemodel(path, parse_net(NET), {"zz": [np.zeros(3)]})
    with pytest.raises(WeightsError, match="four dimensions"):
        write_caffemodel(path, parse_net(NET), {"c": [np.zeros((1, 2, 3, 4, 5))]}, dialect="v1")
    with pytest.raises(FileAccessError, match="no folder"):
        write_caffemodel(tmp_path / "none" / "w.caffemodel", parse_net(NET), {})
    assert list(tmp_path.iterdir()) == []


# -- the wire -----------------------------------------------------------------------------------

def test_unpacked_packed_and_mixed_floats_are_one_blob(tmp_path):
    single = b"".join(tag(5, 5) + struct.pack("<f", v) for v in (1, 2, 3))
    for data in (floats(1, 2, 3, 4, 5, 6), single + floats(4, 5, 6), floats(1) + single[5:] + floats(4, 5) + floats(6),
                 single + tag(1, 0) + varint(9) + floats(4) + tag(5, 5) + struct.pack("<f", 5) + floats(6)):
        file = read(tmp_path, layer(blob(shape(2, 3), data)))
        assert np.array_equal(file.layers[0].blobs[0].load(), np.arange(1, 7, dtype=np.float32).reshape(2, 3))


def test_long_unpacked_run(tmp_path):
    values = np.arange(1_500_000, dtype=np.float32)
    keyed = np.empty(values.size, [("key", "u1"), ("value", "<f4")])
    keyed["key"], keyed["value"] = tag(5, 5)[0], values
    file = read(tmp_path, layer(blob(keyed.tobytes(), shape(values.size))))
    assert np.array_equal(file.layers[0].blobs[0].load(), values)


def test_doubles_win_over_floats_and_shape_over_legacy(tmp_path):
    double = field(8, struct.pack("<3d", 1, 2, 1e300))
    legacy = b"".join(tag(i, 0) + varint(v) for i, v in enumerate((1, 1, 1, 3), 1))
    record = read(tmp_path, layer(blob(floats(9), double, legacy, shape(3)))).layers[0].blobs[0]
    assert (record.shape, record.dtype) == ((3,), "float64")
    assert np.array_equal(record.load(), np.array([1, 2, np.inf], np.float32))
    record = read(tmp_path, layer(blob(floats(1, 2, 3), legacy))).layers[0].blobs[0]
    assert record.shape == (1, 1, 1, 3)


def test_blob_without_shape_is_a_scalar_or_an_error(tmp_path):
    assert read(tmp_path, layer(blob(floats(5)))).layers[0].blobs[0].shape == ()
    assert "2 are there" in error(tmp_path, layer(blob(floats(5, 6))))


def test_unknown_fields_are_skipped_and_listed(tmp_path):
    data = layer(field(211, b"xyz"), tag(9999, 0) + varint(3), tag(212, 1) + bytes(8), field(106, field(99, b"")),
                 tag(106, 0) + varint(1)) + field(77, b"")
    assert read(tmp_path, data).unknown_fields == (
        "ConvolutionParameter.99 (1)", "LayerParameter.211 (1)", "LayerParameter.212 (1)", "LayerParameter.9999 (1)",
        "LayerParameter.convolution_param of wire type 0 (1)", "NetParameter.77 (1)")


def test_unknown_enum_and_out_of_range_values_are_listed(tmp_path):
    data = field(2, tag(5, 0) + varint(77) + field(4, b"a")) + field(2, field(10, tag(1, 0) + varint(2**40)))
    file = read(tmp_path, data)
    assert file.unknown_fields == (f"ConvolutionParameter.num_output={2**40} (1)", "V1LayerParameter.type=77 (1)")
    assert file.layers[0].type == ""


def test_split_messages_are_merged(tmp_path):
    data = layer(field(106, tag(1, 0) + varint(3)), field(106, tag(5, 0) + varint(2)))
    param = read(tmp_path, data).net.layers[0].fields.convolution_param
    assert (param.num_output, param.group) == (3, 2)


def test_name_that_is_not_utf8_is_kept_readable(tmp_path):
    assert read(tmp_path, layer(name=b"\xb2\xe3")).layers[0].name == "\\xb2\\xe3"


@pytest.mark.parametrize(("data", "words"), [
    (layer(blob(field(5, bytes(3)))), "'data' of BlobProto has 3 bytes, not a multiple of 4"),
    (layer(blob(shape(2, 3), floats(1))), "shape (2, 3) of 6 numbers, but 1 are there"),
    (layer(blob(shape(65536, 65536, 65536), floats(1))), "but 1 are there"),
    (layer(blob(shape(2**63 - 1, 2**63 - 1), floats(1))), "dimensions go from 0"),
    (layer(blob(shape(2**64 - 1), floats(1))), "(-1,); dimensions go from 0"),
    (layer(blob(shape(*[1] * 33), floats(1))), "33 dimensions, at most 32"),
    (layer(blob(tag(1, 0) + varint(4), floats(1))), "(4, 0, 0, 0) of 0 numbers"),
    (tag(100, 2) + varint(2**62) + b"a", "declares 4611686018427387904 bytes, 1 are there"),
    (tag(100, 3), "wire type 3"), (tag(100, 4), "wire type 4"), (tag(100, 7), "wire type 7"),
    (layer(tag(106, 3), tag(106, 4)), "wire type 3"),
    (b"\x00\x01", "field number 0"), (b"\x80" * 12, "more than ten bytes"), (b"\xff" * 9 + b"\x7f\x01", "field number"),
    (tag(3, 5) + b"ab", "needs 4 bytes, 2 are there"), (b"\x08", "the data end inside a number"),
    (field(1, b"only a name"), "no layers in it"), (tag(1, 0) + varint(4) + field(2, b"\x0a"), "truncated"),
    (tag(1, 0) + varint(4) + field(3, b""), "a mean file or a solver state"),
    (layer() + field(2, field(4, b"b")), "both old `layers` and new `layer`"),
    (bytes(100), "zero bytes"), (b"", "an empty file"), (b"hello, world", "wire type")])
def test_hostile_wire_is_an_error_that_names_the_byte(tmp_path, data, words):
    message = error(tmp_path, data)
    assert words in message
    assert message.startswith(str(tmp_path))


def test_forged_file_of_42_bytes_costs_nothing(tmp_path):
    data = layer(blob(field(5, bytes(4)), shape(4_000_000_000)))
    assert len(data) < 42
    assert "dimensions go from 0 to 2147483647" in error(tmp_path, data)


def test_too_many_fields_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("atrouscaffe.formats.wire.MAX_FIELDS", 20_000)
    assert "more than 20000 fields: not a net" in error(tmp_path, field(3, b"") * 20_001)
    assert "not a net" in error(tmp_path, layer(field(7, field(7, field(1, bytes(21_000))))))


@pytest.mark.parametrize(("data", "words"), [
    (b"<html><body>404</body></html>", "web page"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b'name: "net"\nlayer { }\n', "did you mean to give it as the net?"),
    (b"\x89HDF\r\n\x1a\n" + bytes(99), "rename it"),
    (b"\x1f\x8b\x08" + bytes(99), "unpack it"), (b"\x89PNG\r\n\x1a\n" + bytes(9), "picture")])
def test_content_of_another_kind_is_told(tmp_path, data, words):
    assert words in error(tmp_path, data)


def test_paths_that_are_not_files(tmp_path):
    with pytest.raises(FileMissingError, match="no such file"):
        open_weights(tmp_path / "none.caffemodel")
    with pytest.raises(FileAccessError, match="cannot read"):
        open_weights(tmp_path)
    with pytest.raises(ArgumentError, match="unknown dialect 'v9'"):
        open_weights(tmp_path / "none.caffemodel", dialect="v9")


def test_two_layers_of_one_name_are_refused_on_loading(tmp_path):
    data = layer(blob(floats(1))) * 2
    with pytest.raises(WeightsError, match="two layers named 'a' have weights"):
        read(tmp_path, data).arrays()


def test_net_that_contradicts_itself_still_gives_its_weights(tmp_path):
    data = layer(blob(floats(1))) + field(3, b"data") + tag(4, 0) + varint(1)
    file = read(tmp_path, data)
    assert file.net is None
    assert "input_dim" in file.net_problem
    assert file.arrays()["a"][0] == 1


# -- damage -------------------------------------------------------------------------------------

def small() -> bytes:
    return (ORACLE / "solver/v2_sgd_fixed/init.caffemodel").read_bytes()


def survives(data: bytes) -> bool:
    """Whether bytes load; if not, it must be one of our errors, with the place named."""
    try:
        parse_caffemodel(FileBytes(data, "damaged.caffemodel")).arrays()
    except AtrousCaffeError as caught:
        assert str(caught).startswith("damaged.caffemodel: ")
        return False
    return True


def test_truncation_at_every_byte(tmp_path):
    data = small()
    assert 300 < len(data) < 5000
    loaded = sum(survives(data[:n]) for n in range(len(data)))
    assert loaded < 10  # a cut between two layers leaves a sound, shorter file
    path = tmp_path / "w.caffemodel"
    path.write_bytes(data[:-1])
    with pytest.raises(WeightsError, match=r"w.caffemodel: truncated: .* \(byte \d+ of 818\)"):
        open_weights(path)


@settings(FUZZ, max_examples=600)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8))
def test_bit_flips(flips):
    data = bytearray(small())
    for where, mask in flips:
        data[where % len(data)] ^= mask
    survives(bytes(data))


@settings(FUZZ, max_examples=500)
@given(data=st.binary(max_size=300))
def test_random_bytes(data):
    survives(data)


def test_ten_thousand_random_byte_strings(rng):
    starts = (b"", b"\xa2\x06", b"\x12", b"\x0a\x01a\xa2\x06\x20\x3a")
    for i in range(10_000):
        survives(starts[i % 4] + rng.bytes(int(rng.integers(0, 80))))


def test_deep_unknown_nesting_costs_nothing(tmp_path):
    data = b""
    for _ in range(5000):
        data = field(77, data)
    assert read(tmp_path, layer() + data).unknown_fields == ("NetParameter.77 (1)",)


def test_hdf5_reader_is_not_given_binary(oracle):
    with pytest.raises(WeightsError, match="expected an HDF5 file, got binary data; rename it"):
        read_hdf5(oracle / "files/snapshot_v2.caffemodel")
