"""Small nets with random weights for the tests of the pipeline."""

from __future__ import annotations

import numpy as np

from atrouscaffe import TEST, Net


def conv(name, bottom, outputs, kernel=3, pad=1, stride=1, hole=1):
    return f'''layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
        num_output: {outputs} kernel_size: {kernel} pad: {pad} stride: {stride} dilation: {hole} }} }}
        layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}'''


def head(size, name="small"):
    return f'name: "{name}" input: "data" input_dim: 1 input_dim: 3 input_dim: {size[0]} input_dim: {size[1]}\n'


def finite(size=(33, 41), up="zoom_factor: 4"):
    """A net like DeepLab in small: two strided layers, a hole, scores enlarged by 4; sizes are 4k+1."""
    return head(size) + conv("c1", "data", 4, stride=2) + '''
        layer { name: "p" type: "Pooling" bottom: "c1" top: "p"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }''' + conv("c2", "p", 5, pad=2, hole=2) + '''
        layer { name: "score" type: "Convolution" bottom: "c2" top: "score"
        convolution_param { num_output: 7 kernel_size: 1 } }''' + (f'''
        layer {{ name: "up" type: "Interp" bottom: "score" top: "up" interp_param {{ {up} }} }}''' if up else "")


def image_pooling(size=(33, 41)):
    """A net like DeepLabv3 in small: a global average, brought back to the map's size by fixed numbers."""
    small = [(n - 1) // 4 + 1 for n in size]
    return head(size) + conv("c1", "data", 4, stride=2) + conv("c2", "c1", 4, stride=2) + f'''
        layer {{ name: "g" type: "Pooling" bottom: "c2" top: "g" pooling_param {{ pool: AVE global_pooling: true }} }}
        layer {{ name: "gu" type: "Interp" bottom: "g" top: "gu"
        interp_param {{ height: {small[0]} width: {small[1]} }} }}
        layer {{ name: "cat" type: "Concat" bottom: "c2" bottom: "gu" top: "cat" }}
        layer {{ name: "score" type: "Convolution" bottom: "cat" top: "score"
        convolution_param {{ num_output: 6 kernel_size: 1 }} }}
        layer {{ name: "up" type: "Interp" bottom: "score" top: "up"
        interp_param {{ height: {size[0]} width: {size[1]} }} }}'''


def weights(text, path, seed=0):
    """Write random weights for a net, and return their path."""
    net = Net(text, TEST)
    rng = np.random.default_rng(seed)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.normal(0, 1 / np.sqrt(max(1, blob.count / blob.shape[0])), blob.shape)
    net.save(path)
    return path


def photo(height, width, seed=0):
    """A smooth random picture."""
    import cv2

    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
