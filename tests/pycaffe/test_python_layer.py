"""Layers in Python: shapes, passes, parameters, data layers, phases, errors, and the opt-in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import atrouscaffe
import atrouscaffe.pycaffe as caffe
from atrouscaffe.errors import LayerError


class Times(caffe.Layer):
    """Multiplies by its param_str, or by ten."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str or 10)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        assert propagate_down == [True]
        bottom[0].diff[...] = self.factor * top[0].diff


class Counter(caffe.Layer):
    """A data layer: counts on, in batches whose size it may be told to change."""

    def setup(self, bottom, top):
        self.next, self.size = 0, 4
        top[0].reshape(self.size)

    def reshape(self, bottom, top):
        top[0].reshape(self.size)

    def forward(self, bottom, top):
        top[0].data[...] = np.arange(self.next, self.next + self.size)
        self.next += self.size


class Learner(caffe.Layer):
    """Has a parameter that starts at 5 and whose gradient is 1."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs.add_blob(2, 3)
        self.blobs[0].data[0] = 5

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] = 1


class PhaseTeller(caffe.Layer):
    """Writes its phase into a number without axes."""

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class Broken(caffe.Layer):
    """Fails where its param_str says."""

    def setup(self, bottom, top):
        self.fail("setup")

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.fail("forward")

    def fail(self, where):
        if where == self.param_str:
            raise RuntimeError(f"broken in {where}")


class Constant(caffe.Layer):
    """Writes its top in setup, once."""

    def setup(self, bottom, top):
        top[0].reshape(3)
        top[0].data[...] = 4


INPUT = 'force_backward: true input: "data" input_shape { dim: 2 dim: 3 dim: 5 }\n'


def layer(name, cls, bottom="", top="", param=""):
    bottoms = f'bottom: "{bottom}"' if bottom else ""
    return (f'layer {{ name: "{name}" type: "Python" {bottoms} top: "{top or name}" '
            f'python_param {{ module: "{__name__}" layer: "{cls}" param_str: "{param}" share_in_parallel: true }} }}\n')


@pytest.fixture
def make(tmp_path, device):
    def make(text, phase=caffe.TRAIN, **options):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), phase, device=device, **options)

    return make


@pytest.fixture
def chain(make):
    return make(INPUT + layer("one", "Times", "data") + layer("two", "Times", "one", param="2")
                + layer("three", "Times", "two", "two", "0.5"))


def test_forward_backward_and_reshape(chain):
    chain.blobs["data"].data[...] = 8
    assert (chain.forward()["two"] == 80).all()
    chain.blobs["two"].diff[...] = 7
    assert (chain.backward()["data"] == 70).all()
    chain.blobs["data"].reshape(4, 4, 4, 4)
    chain.forward()
    assert {blob.data.shape for blob in chain.blobs.values()} == {(4, 4, 4, 4)}


def test_a_data_layer_is_itself_in_layers_and_may_change_its_batch(make):
    net = make(layer("count", "Counter") + layer("more", "Times", "count"))
    counter = net.layers[0]
    assert isinstance(counter, Counter) and net.layer_dict["count"] is counter and counter.type == "Python"
    assert net.forward()["more"].tolist() == [0, 10, 20, 30]
    assert net.forward()["more"].tolist() == [40, 50, 60, 70]
    counter.next, counter.size = 0, 6
    assert net.forward()["more"].tolist() == [0, 10, 20, 30, 40, 50]
    assert net.blobs["count"].data.shape == (6,)


def test_a_batch_that_changes_reaches_a_net_that_drops_its_blobs(device):
    text = layer("count", "Counter") + "".join(
        f'layer {{ name: "{top}" type: "Power" bottom: "{bottom}" top: "{top}" power_param {{ scale: 2 }} }}'
        for bottom, top in (("count", "twice"), ("twice", "fourfold")))
    net = atrouscaffe.Net(text, caffe.TEST, keep=[], device=device, allow_python_layers=True)
    assert net.forward()["fourfold"].tolist() == [0, 4, 8, 12]
    for size in (6, 3):
        net.layers[0].next, net.layers[0].size = 1, size
        assert net.forward()["fourfold"].tolist() == [4 * (1 + i) for i in range(size)]


def test_parameters_are_the_nets(make, tmp_path):
    text = INPUT + layer("own", "Learner", "data")
    net = make(text)
    own = net.layers[1]
    assert own.blobs[0].data[0] == 5 and net.params["own"][1].data.shape == (2, 3)
    assert own.blobs[0] is net.params["own"][0]
    net.forward()
    net.backward()
    assert own.blobs[0].diff[0] == 1
    own.blobs[0].data[0] += own.blobs[0].diff[0]
    net.save(str(tmp_path / "w"))
    own.blobs[0].data[0] = -1
    net.copy_from(str(tmp_path / "w"))
    assert own.blobs[0].data[0] == 6
    other = make(text)
    other.share_with(net)
    own.blobs[0].data[0] = 9
    assert other.layers[1].blobs[0].data[0] == 9
    assert make(text, weights=str(tmp_path / "w")).forward()["own"] == 6


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_layer_knows_its_phase(make, phase):
    out = make(layer("phase", "PhaseTeller"), phase).forward()["phase"]
    assert out == phase and out.shape == ()


def test_what_setup_writes_into_a_top_stays(make):
    net = make(layer("four", "Constant"))
    assert net.forward()["four"].tolist() == [4, 4, 4]


@pytest.mark.parametrize("where", ["setup", "forward"])
def test_exceptions_keep_type_and_traceback_and_name_the_layer(make, where):
    with pytest.raises(RuntimeError, match=f"broken in {where}") as caught:
        make(INPUT + layer("bad", "Broken", "data", param=where)).forward()
    assert type(caught.value) is RuntimeError
    text = "".join(traceback.format_exception(caught.value))
    assert "self.fail" in text and "net.prototxt:2:1: layer 'bad' (Python" in text


def test_classes_and_modules_that_are_not_there(make, tmp_path, monkeypatch):
    with pytest.raises(AttributeError, match="Nothing"):
        make(INPUT + layer("x", "Nothing", "data"))
    with pytest.raises(ImportError, match="no_such_module"):
        make(INPUT + layer("x", "Times", "data").replace(__name__, "no_such_module"))
    (tmp_path / "of_python_2.py").write_text("print 'old'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LayerError, match=r"'of_python_2' is not Python 3: .*of_python_2.py, line 1\); rewrite"):
        make(INPUT + layer("x", "Times", "data").replace(__name__, "of_python_2"))
    with pytest.raises(LayerError, match="subclass of"):
        make(INPUT + layer("x", "INPUT", "data"))
    with pytest.raises(ValueError, match="could not convert"):
        make(INPUT + layer("x", "Times", "data", param="ten"))


def test_modules_beside_the_prototxt_are_not_looked_up(make, tmp_path):
    (tmp_path / "beside.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ImportError, match="beside"):
        make(INPUT + layer("x", "Times", "data").replace(__name__, "beside"))


def test_only_who_says_so_runs_them():
    text = INPUT + layer("one", "Times", "data")
    with pytest.raises(LayerError, match="allow_python_layers=True"):
        atrouscaffe.Net(text, caffe.TEST)
    net = atrouscaffe.Net(text, caffe.TEST, allow_python_layers=True)
    net.blobs["data"].data[...] = 1
    assert (net.forward()["one"] == 10).all()


def test_a_python_loss_trains(make, tmp_path, device):
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
                data_filler { type: "constant" value: 1 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1
                weight_filler { type: "constant" value: 1 } } }
        """ + layer("sum", "Sum", "ip").replace("}\n", " loss_weight: 1 }\n"))
    (tmp_path / "solver.prototxt").write_text(
        f"net: '{tmp_path}/net.prototxt' base_lr: 0.1 lr_policy: 'fixed' max_iter: 1")
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"), device=device)
    assert solver.net.forward()["sum"] == 6
    solver.step(1)
    np.testing.assert_allclose(solver.net.params["ip"][0].data, 0.8, rtol=1e-6)


class Sum(caffe.Layer):
    """A loss: the sum of everything."""

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[0] = bottom[0].data.sum()

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff[0]


@pytest.mark.parametrize("words", [
    ["time", "-model", "net.prototxt", "-iterations", "1", "--allow-python-layers"],
    ["inspect", "net.prototxt", "--allow-python-layers"]], ids=lambda words: words[0])
def test_modules_that_import_caffe_find_it_on_the_command_line(tmp_path, words):
    (tmp_path / "twice.py").write_text(
        "import caffe\nclass Twice(caffe.Layer):\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data\n")
    (tmp_path / "net.prototxt").write_text(
        'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "t" type: "Python" bottom: "x" top: "y" '
        'python_param { module: "twice" layer: "Twice" } }')
    environment = {**os.environ, "PYTHONPATH": f"{Path(atrouscaffe.__file__).parents[1]}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-m", "atrouscaffe", *words], cwd=tmp_path, env=environment, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\bt\tforward: |^t +Python +y 1x2", done.stdout + done.stderr, re.MULTILINE)


class Clears(caffe.Layer):
    """Writes its top before it reads its bottom."""

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 1
        top[0].data[...] += bottom[0].data


def test_a_layer_keeps_its_bottom_in_a_net_that_drops_its_blobs():
    power = 'layer { name: "%s" type: "Power" bottom: "%s" top: "%s" power_param { scale: 2 } }'
    net = atrouscaffe.Net(INPUT + power % ("a", "data", "a") + layer("x", "Clears", "a", "x") + power % ("y", "x", "y"),
                          caffe.TEST, keep=[], allow_python_layers=True)
    net.blobs["data"].data[...] = 3
    assert set(net.forward()["y"].ravel()) == {14}
