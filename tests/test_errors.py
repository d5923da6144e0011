"""The error tree: one paragraph, a place, and the builtin that scripts catch."""

from __future__ import annotations

import pytest

from atrouscaffe import errors
from atrouscaffe.errors import AtrousCaffeError, BudgetError, ShapeError, Source, blame
from atrouscaffe.spec import LayerSpec

SPEC = LayerSpec("fc6", "Convolution", source=Source("net.prototxt", 348, 1))


@pytest.mark.parametrize("name, builtin", [
    ("PrototxtError", ValueError), ("WeightsError", ValueError), ("GraphError", ValueError),
    ("NameNotFoundError", KeyError), ("FileMissingError", FileNotFoundError), ("FileAccessError", OSError),
    ("BudgetError", MemoryError), ("DeviceError", RuntimeError), ("DependencyError", ImportError)])
def test_each_error_is_also_a_builtin_and_prints_its_message(name, builtin):
    error = getattr(errors, name)("expected a,\n   got b")
    assert isinstance(error, builtin) and isinstance(error, AtrousCaffeError)
    assert str(error) == "expected a, got b"


def test_blame_adds_the_place_once():
    with pytest.raises(ShapeError) as caught, blame(LayerSpec("outer", "Net")), blame(SPEC):
        raise ShapeError("weight shape; expected (1024, 512, 3, 3), got (4096, 512, 4, 4)")
    assert str(caught.value) == ("net.prototxt:348:1: layer 'fc6' (Convolution): weight shape; expected "
                                 "(1024, 512, 3, 3), got (4096, 512, 4, 4)")


def test_blame_names_the_layer_that_ran_out_of_memory():
    with pytest.raises(BudgetError, match="fc6"), blame(SPEC):
        raise MemoryError("Unable to allocate 3 TiB")


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), blame(SPEC):
        _ = 1 / 0
