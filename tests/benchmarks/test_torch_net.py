"""The nets that the GPU's benchmark builds in PyTorch are ours: scores, and the loss of training."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.formats.prototxt import read_net
from atrouscaffe.net import Net
from atrouscaffe.pipeline.registry import find_prototxt
from atrouscaffe.pipeline.speed import TrainingStep, fill_at_random
from benchmarks import gpu, torch_net
from tests.benchmarks.models import write_model

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("model", ["deeplab-largefov", "deeplab-4x4", "deeplab-msc-largefov"])
def test_scores_are_ours(model) -> None:
    net = Net(read_net(find_prototxt(model)), input_shapes={"data": (2, 3, 65, 65)}, seed=0)
    fill_at_random(net)
    data = np.random.default_rng(0).normal(0, 50, (2, 3, 65, 65)).astype(np.float32)
    ours = net.forward(data=data)[net.outputs[0]]
    with torch.no_grad():
        theirs = torch_net.build(net, net.outputs[0]).eval()(torch.from_numpy(data)).numpy()
    assert gpu.difference(ours, theirs) < 1e-4


def test_training_begins_at_our_loss_and_learns(tmp_path) -> None:
    step = TrainingStep(str(write_model(tmp_path)), 2, 65)
    iterate = gpu.torch_training(torch, step, "fp32")
    step()
    losses = [iterate() for _ in range(20)]
    assert losses[0] == pytest.approx(step.net.loss, rel=1e-4) and losses[-1] < losses[0]


def test_a_layer_that_is_not_known_is_refused(tmp_path) -> None:
    net = Net('input: "data" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 5 '
              'layer { name: "l" type: "LRN" bottom: "data" top: "l" }')
    with pytest.raises(SystemExit, match="layer l: type LRN is not built"):
        torch_net.build(net, "l")
