"""``import caffe``: what it means, what it costs, scripts and modules run by ``python -m atrouscaffe.pycaffe``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(*args, cwd=ROOT, check=True):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, env=environment,
                          check=check, timeout=120)


HEAVY = "{'numpy', 'numba', 'cv2', 'h5py', 'google.protobuf', 'PIL', 'scipy', 'skimage'}"


def test_import_costs_no_more_than_the_package():
    code = ("import sys; import atrouscaffe; before = set(sys.modules)\n"
            "import atrouscaffe.pycaffe; atrouscaffe.pycaffe.install(); import caffe\n"
            f"print(sorted({HEAVY} & set(sys.modules)), len(set(sys.modules) - before))\n"
            "assert caffe is atrouscaffe.pycaffe and caffe.TRAIN == 0")
    heavy, count = python("-c", code).stdout.rsplit(maxsplit=1)
    assert heavy == "[]" and int(count) <= 4


def test_every_way_to_import_gives_the_same_objects():
    code = """
import atrouscaffe.pycaffe
assert atrouscaffe.pycaffe.install() is atrouscaffe.pycaffe.install()
import sys
import caffe, caffe.io, caffe.draw
import caffe.proto.caffe_pb2 as by_path
from caffe.proto import caffe_pb2
from caffe.proto.caffe_pb2 import NetParameter
from caffe import layers as L, params as P, io
from caffe.io import Transformer
from caffe.coord_map import crop
from caffe.net_spec import NetSpec
from caffe.pycaffe import Net
from caffe._caffe import SGDSolver
from caffe.classifier import Classifier
import atrouscaffe.pycaffe.io
assert caffe_pb2 is by_path is caffe.proto.caffe_pb2 and caffe_pb2.NetParameter is NetParameter
assert caffe.io is io is atrouscaffe.pycaffe.io is sys.modules['caffe.io'] and io.Transformer is Transformer
assert caffe.NetSpec is NetSpec and caffe.Net is Net and caffe.SGDSolver is SGDSolver
assert caffe.Classifier is Classifier and issubclass(Classifier, Net) and caffe.layers is L and caffe.params is P
assert io.__name__ == 'atrouscaffe.pycaffe.io' and io.__spec__.name == 'atrouscaffe.pycaffe.io'
names = [name for name in dir(caffe) if not name.startswith('__')]
assert all(getattr(caffe, name) is not None for name in names) and len(names) > 40
try:
    import caffe.nothing
except ImportError as error:
    assert 'caffe.nothing' in str(error)
else:
    raise SystemExit('imported nothing')
caffe.uninstall()
assert 'caffe' not in sys.modules and 'caffe.io' not in sys.modules
try:
    import caffe
except ImportError:
    print('gone')
"""
    assert python("-c", code).stdout == "gone\n"


def test_another_caffe_is_not_thrown_out(tmp_path):
    (tmp_path / "caffe.py").write_text("")
    code = ("import sys; sys.path.insert(0, '.'); import caffe, atrouscaffe.pycaffe\n"
            "try:\n    atrouscaffe.pycaffe.install()\nexcept ValueError as error:\n    print(error)")
    assert "caffe.py" in python("-c", code, cwd=tmp_path).stdout


def test_unknown_names_are_attribute_errors():
    import atrouscaffe.pycaffe as caffe

    with pytest.raises(AttributeError, match="docs/from-pycaffe.md"):
        assert caffe.Nett


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "neighbour.py").write_text("VALUE = 7\n")
    (tmp_path / "scripts" / "script.py").write_text(
        "import sys\nimport caffe\nimport neighbour\n"
        "class Own(caffe.Layer):\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(1)\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = neighbour.VALUE\n"
        "if __name__ == '__main__':\n"
        "    net = caffe.Net('net.prototxt', caffe.TEST)\n"
        "    print(sys.argv, net.forward()['x'], caffe.__name__)\n"
        "    if len(sys.argv) > 2:\n        raise KeyError('on purpose')\n")
    (tmp_path / "net.prototxt").write_text('layer { name: "x" type: "Python" top: "x" python_param { '
                                           'module: "__main__" layer: "Own" } }')
    return tmp_path


def test_a_script_runs_as_python_would_run_it(folder):
    done = python("-m", "atrouscaffe.pycaffe", "scripts/script.py", "-a", cwd=folder)
    assert done.stdout == "['scripts/script.py', '-a'] [7.] atrouscaffe.pycaffe\n"


def test_a_scripts_own_error_has_its_traceback(folder):
    done = python("-m", "atrouscaffe.pycaffe", "scripts/script.py", "a", "b", cwd=folder, check=False)
    assert done.returncode == 1
    assert "script.py\", line 13" in done.stderr and done.stderr.endswith("KeyError: 'on purpose'\n")


def test_modules_code_and_what_is_missing(folder):
    (folder / "tool.py").write_text("import caffe, sys; print(caffe.TEST, sys.argv[1:])")
    assert python("-m", "atrouscaffe.pycaffe", "-m", "tool", "x", cwd=folder).stdout.endswith("['x']\n")
    assert python("-m", "atrouscaffe.pycaffe", "-c", "import caffe; print(caffe.__version__)").stdout == "1.0.0\n"
    assert python("-m", "atrouscaffe.pycaffe", "missing.py", check=False).returncode == 2
    assert "usage:" in python("-m", "atrouscaffe.pycaffe", check=False).stderr
    assert "usage:" in python("-m", "atrouscaffe.pycaffe", "--help").stdout


def test_every_name_stands_in_the_comparison():
    import re

    import atrouscaffe.pycaffe as caffe
    from atrouscaffe.pycaffe import coord_map, draw, io

    text = (ROOT / "docs" / "from-pycaffe.md").read_text()
    words = set(re.findall(r"\w+", text))
    names = {name for name in dir(caffe) if not name.startswith("__")} | set(io.__all__) | {
        name for name in (*coord_map.__all__, *draw.__all__) if not name.isupper()}
    names |= {name for cls in (caffe.Net, caffe.Solver) for name in vars(cls) if not name.startswith("_")}
    missing = names - words - {"Phase", "SolverParameter", "Solver", "net_class"}
    assert not missing, missing
