"""Layers of nets without any item, channel or pixel: nothing comes out, and nothing breaks."""

import numpy as np
import pytest

from tests.layers.one_layer import small_net

ONE = {"Normalize": "", "CReLU": "", "ShuffleChannel": "", "HardSigmoid": "", "HardSwish": "", "Mish": "", "BatchNorm":
       "batch_norm_param { scale_bias: true }", "BN": "bn_param { slope_filler { value: 1 } }"}


@pytest.mark.parametrize("shape", [(0, 4, 3, 5), (2, 4, 0, 5)])
@pytest.mark.parametrize("kind", ONE)
def test_layer_of_no_values_gives_none(kind, shape):
    net = small_net(f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" {ONE[kind]} }}', {"x": np.zeros(shape)})
    assert net.forward()["y"].size == 0
    net.backward()
    assert net.blobs["x"].diff.size == 0


@pytest.mark.parametrize(("kind", "shapes"), [
    ("Axpy", [(0, 4), (0, 4, 3), (0, 4, 3)]), ("SmoothL1Loss", [(0, 4), (0, 4)]), ("DiceLoss", [(0, 4), (0, 4)]),
    ("FocalLoss", [(0, 4), (0,)]), ("LSTM", [(3, 0, 4), (3, 0)]), ("RNN", [(0, 2, 4), (0, 2)])])
def test_layer_of_no_items_runs(kind, shapes):
    names = [f"x{i}" for i in range(len(shapes))]
    words = " ".join(f'bottom: "{name}"' for name in names)
    net = small_net(f'layer {{ name: "l" type: "{kind}" {words} top: "y" recurrent_param {{ num_output: 2 }} }}',
                    {name: np.zeros(shape) for name, shape in zip(names, shapes)})
    net.forward()
    net.backward()
    assert net.blobs["x0"].diff.shape == shapes[0]
