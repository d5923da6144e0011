"""Write the first filters and the activations of a net as pictures and arrays: MODEL WEIGHTS OUTDIR"""

import os
import sys

import caffe
import numpy as np
from PIL import Image


def vis_square(data, path):
    """Lay the squares of (n, height, width) out in a grid and write it."""
    data = (data - data.min()) / (data.max() - data.min())
    n = int(np.ceil(np.sqrt(data.shape[0])))
    padding = ((0, n ** 2 - data.shape[0]), (0, 1), (0, 1)) + ((0, 0),) * (data.ndim - 3)
    data = np.pad(data, padding, mode="constant", constant_values=1)
    data = data.reshape((n, n) + data.shape[1:]).transpose((0, 2, 1, 3) + tuple(range(4, data.ndim + 1)))
    data = data.reshape((n * data.shape[1], n * data.shape[3]) + data.shape[4:])
    Image.fromarray(np.uint8(data * 255)).save(path)


def main(argv):
    model, weights, outdir = argv
    net = caffe.Net(model, caffe.TEST, weights=weights)
    for (k, v) in net.blobs.items():
        print(k, v.data.shape)
    first = list(net.params)[0]
    filters = net.params[first][0].data
    vis_square(filters.reshape(-1, *filters.shape[2:]), os.path.join(outdir, "filters.png"))
    shape = net.blobs["data"].data.shape
    net.blobs["data"].data[...] = np.random.RandomState(0).rand(*shape)
    net.forward(end="pool1")
    vis_square(net.blobs["conv1"].data[0], os.path.join(outdir, "conv1.png"))
    out = net.forward(start="conv2", blobs=["pool2"])
    dump = {name.replace("/", "_"): blob.data for name, blob in net.blobs.items()}
    np.savez(os.path.join(outdir, "activations.npz"), **dump)
    print(sorted(out))
    for i, layer in enumerate(net.layers):
        print(i, net._layer_names[i], layer.type, [b.data.shape for b in layer.blobs])


if __name__ == "__main__":
    main(sys.argv[1:])
