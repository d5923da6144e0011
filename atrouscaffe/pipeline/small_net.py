"""A small net whose result is known: what the doctor runs on each device."""

from __future__ import annotations

from typing import Any

__all__ = ["SMALL_NET", "compare_small_net"]

SMALL_NET = """name: "examined"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 7 dim: 9 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
        convolution_param { num_output: 3 kernel_size: 3 pad: 2 dilation: 2
                            weight_filler { type: "gaussian" std: 1 } } }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "s" type: "Softmax" bottom: "p" top: "s" }
"""


def compare_small_net(net: Any) -> str:
    """Run the small net and compare it with plain float64 loops; return what is wrong, "" for nothing."""
    import numpy as np

    image = np.random.default_rng(7).normal(size=(2, 7, 9))
    weight = net.params["c"][0].data.astype(np.float64)
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    sums = np.zeros((3, 7, 9))
    for y in range(3):
        for x in range(3):
            sums += np.einsum("oc,chw->ohw", weight[:, :, y, x], padded[:, 2 * y:2 * y + 7, 2 * x:2 * x + 9])
    pooled = np.array([[[sums[c, 2 * i:2 * i + 3, 2 * j:2 * j + 3].max() for j in range(4)] for i in range(3)]
                       for c in range(3)])
    powers = np.exp(pooled - pooled.max(0))
    difference = float(abs(net.forward(x=image[None])["s"][0] - powers / powers.sum(0)).max())
    return "" if difference < 1e-5 else f"its probabilities are off by {difference:.2g}"
