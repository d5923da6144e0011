import numpy as np

from atrouscaffe.geometry import Window
from tests.check import check_layer
from tests.ops.test_im2col import loops

X = np.random.default_rng(0).standard_normal((2, 3, 7, 5)).astype(np.float32)


def test_im2col_when_holes_strides_and_pads_then_exact(device):
    text = ('layer { name: "i" type: "Im2col" bottom: "x" top: "y" convolution_param { kernel_h: 3 kernel_w: 2 '
            "stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 2 dilation: 2 dilation: 3 } }")
    windows = (Window(3, 2, 1, 2), Window(2, 1, 2, 3))
    out = (windows[0].conv_size(7), windows[1].conv_size(5))
    check_layer(text, {"x": X}, reference=loops(X, windows, out), exact=True, device=device)
