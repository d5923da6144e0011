"""Plug-ins: an installed package's layers read, run, checked and listed, and what must never be loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tests/plugin_example"
NET = """force_backward: true
input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }
layer { name: "s" type: "Shrink" bottom: "x" top: "y"
  shrink_param { threshold: 0.25 kind: SQUARE channels: 1 factor_filler { type: "constant" value: 1.5 } } }
"""


def install(folder: Path) -> Path:
    """Install the example package into a folder as an installer would: its module, and what it says of itself."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "atrous_shrink", folder / "atrous_shrink", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"atrous_shrink-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text("".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return install(tmp_path_factory.mktemp("site"))


def python(*words, site=None, cwd=None, **variables):
    path = os.pathsep.join(map(str, [ROOT, *([site] if site else [])]))
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120,
                          env={**os.environ, "PYTHONPATH": path, **variables})
    return done.returncode, done.stdout, done.stderr


def test_a_plug_in_is_read_run_checked_and_saved(site, tmp_path):
    code = f"""
import numpy as np
from atrouscaffe import TEST, Net
from atrouscaffe.formats.caffemodel import read_caffemodel
from atrouscaffe.formats.prototxt import parse_net, write_net
from atrouscaffe.gradient_check import check_gradients
import atrouscaffe.pycaffe as caffe

net = Net({NET!r}, TEST, dtype=np.float64)
x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
net.blobs["x"].data[...] = x
expected = 1.5 * np.where(np.arange(3)[:, None, None] == 1, x, np.maximum(abs(x) - 0.25, 0) ** 2)
np.testing.assert_allclose(net.forward()["y"], expected, rtol=1e-12)
check_gradients(net, ["x", "s:0"])
spec = parse_net(write_net(net.spec)).layers[1]
assert spec.fields.shrink_param.kind == "SQUARE" and spec.fields.shrink_param.channels == (1,)
assert spec.fields.shrink_param.note == "" and spec.fields.shrink_param.strict is False
net.save({str(tmp_path / 'w.caffemodel')!r})
stored = read_caffemodel({str(tmp_path / 'w.caffemodel')!r})
assert stored.net.layers[1].fields == spec.fields and not stored.unknown_fields
other = Net(stored.net, TEST, weights={str(tmp_path / 'w.caffemodel')!r})
assert np.array_equal(other.params["s"][0].data, [1.5] * 3)
n = caffe.NetSpec()
n.x = caffe.layers.Input(shape=dict(dim=[1, 2, 3, 4]))
n.y = caffe.layers.Shrink(n.x, shrink_param=dict(threshold=2))
assert "threshold: 2" in str(n.to_proto())
"""
    status, _, err = python("-c", code, site=site, cwd=tmp_path)
    assert status == 0, err


def test_inspect_lists_the_layers_of_a_plug_in(site, tmp_path):
    status, out, err = python("-m", "atrouscaffe", "inspect", "--layers", "--json", site=site, cwd=tmp_path)
    assert status == 0, err
    layers = {entry["type"]: entry for entry in json.loads(out)["layers"]}
    assert layers["Shrink"]["package"] == "atrous-shrink 1.2" and layers["Shrink"]["options"] == "shrink_param"
    assert "factor_c * sign(x)" in layers["Shrink"]["summary"] and layers["ReLU"]["package"] == ""


@pytest.mark.parametrize("where", ["not installed", "in the working folder", "switched off"])
def test_a_prototxt_loads_no_plug_in(where, site, tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text('input: "x" input_shape { dim: 1 } layer { name: "atrous_shrink.layers" type: "Shrink" bottom: "x" '
                   'top: "y" }')
    if where == "in the working folder":
        install(tmp_path)
    options = {"site": site, "ATROUSCAFFE_PLUGINS": "off"} if where == "switched off" else {}
    status, _, err = python("-m", "atrouscaffe", "inspect", "net.prototxt", cwd=tmp_path, **options)
    assert status == 2 and "unknown layer type 'Shrink'" in err
    assert not list(tmp_path.rglob("__pycache__"))


HEAD = "from atrouscaffe.layers.base import Layer, register\n@register\nclass A(Layer):\n    type = "
BROKEN = {
    "raise ValueError('boom')": "ValueError: boom",
    "import no_such_module": "No module named 'no_such_module'",
    HEAD + "'ReLU'": "not taken yet",
    HEAD + "'Q'\n    options = 'q_param'\n    message = {'a': object()}": "field 'a': expected a float, int",
    HEAD + "'Q'\n    options = 'q_param'\n    message = {'a': 1}\n    number = 106": "from 30000 on, got 106",
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_plug_in_that_does_not_load_is_named_with_the_way_out(text, tmp_path):
    site = install(tmp_path / "site")
    (site / "atrous_shrink/layers.py").write_text(text)
    net = tmp_path / "net.prototxt"
    net.write_text('input: "x" input_shape { dim: 1 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    status, _, err = python("-m", "atrouscaffe", "inspect", net, site=site, cwd=tmp_path)
    assert status == 2 and "plug-in 'shrink' of package atrous-shrink 1.2 does not load: " in err
    assert BROKEN[text] in err and "ATROUSCAFFE_PLUGINS=off" in err and "Traceback" not in err
