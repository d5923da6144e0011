"""Nets in step: equal ones agree, and the first layer that differs is named."""

import numpy as np
import pytest

from atrouscaffe import TEST, Net
from atrouscaffe.cli.main import main
from atrouscaffe.data.overlay import encode_picture
from atrouscaffe.errors import ArgumentError
from atrouscaffe.pipeline.compare import compare, round_weights

from . import nets


def made(tmp_path, seed=0, **options):
    path = tmp_path / f"w{seed}.caffemodel"
    net = Net(nets.finite(), TEST, weights=nets.weights(nets.finite(), path, seed), **options)
    net.blobs["data"].data[...] = np.random.default_rng(3).normal(size=net.blobs["data"].shape)
    return net


def test_equal_nets_agree_in_every_layer(tmp_path):
    first, second = made(tmp_path), made(tmp_path)
    found = list(compare(first, second))
    assert [row.layer for row in found] == ["c1", "c1_relu", "p", "c2", "c2_relu", "score", "up"]
    assert all(row.same and row.largest == 0 for row in found)
    alone = made(tmp_path)
    alone.forward()
    assert np.array_equal(first.blobs["up"].data, alone.blobs["up"].data)


def test_float64_agrees_and_float16_weights_do_not(tmp_path):
    exact = made(tmp_path, dtype=np.float64)
    assert all(row.same for row in compare(exact, made(tmp_path)))
    for dtype in ("float16", "bfloat16"):
        rounded = made(tmp_path)
        round_weights(rounded, dtype)
        rows = list(compare(exact, rounded))
        assert not rows[0].same
        expected = np.abs(exact.params["c1"][0].data).max() * (2**-11 if dtype == "float16" else 2**-8)
        assert np.abs(exact.params["c1"][0].data - rounded.params["c1"][0].data).max() <= expected


def test_first_layer_that_differs_is_the_changed_one(tmp_path):
    first, second = made(tmp_path), made(tmp_path)
    second.params["c2"][0].data[1, 2, 0, 1] += 0.5
    rows = {row.layer: row.same for row in compare(first, second)}
    assert rows == {"c1": True, "c1_relu": True, "p": True, "c2": False, "c2_relu": False, "score": False, "up": False}


def test_nets_without_common_layers_are_refused(tmp_path):
    text = nets.finite()
    for old, new in (('"c', '"d'), ('"p"', '"q"'), ("score", "s"), ('"up"', '"u"')):
        text = text.replace(old, new)
    other = Net(text, TEST)
    with pytest.raises(ArgumentError, match="matched by name"):
        list(compare(made(tmp_path), other))


def test_command_names_the_first_layer(tmp_path, capsys):
    made(tmp_path), made(tmp_path, 1)
    (tmp_path / "net.prototxt").write_text(nets.finite())
    (tmp_path / "i.png").write_bytes(encode_picture(nets.photo(50, 60)))
    net = ["--model", str(tmp_path / "net.prototxt"), "--mean", "100"]
    words = ["compare", str(tmp_path / "w0.caffemodel"), str(tmp_path / "w0.caffemodel"), str(tmp_path / "i.png"), *net]
    assert main(words) == 0
    assert "every layer agrees" in capsys.readouterr().out
    assert main([*words, "--precision-b", "bfloat16"]) == 1
    words[2] = f"{tmp_path / 'net.prototxt'}={tmp_path / 'w1.caffemodel'}"
    assert main(words) == 1
    assert "the first layer that diverges is c1 (Convolution)" in capsys.readouterr().out
    assert main(["compare", words[1], words[1], words[3]]) == 2
    assert "--model" in capsys.readouterr().err
