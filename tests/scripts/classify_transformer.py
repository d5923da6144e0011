"""Classify one picture with caffe.Net and caffe.io.Transformer: MODEL WEIGHTS OUT.npy IMAGE"""

import os
import sys

import caffe
import numpy as np


def main(argv):
    model, weights, out, image_file = argv
    if not os.path.isfile(weights):
        print("download the model first")
        return
    net = caffe.Net(model, weights, caffe.TEST)
    mu = np.load(os.path.join(os.path.dirname(out), "mean.npy")).mean(1).mean(1)
    print("mean-subtracted values:", list(zip("BGR", mu)))
    transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", mu)
    transformer.set_raw_scale("data", 255)
    transformer.set_channel_swap("data", (2, 1, 0))
    net.blobs["data"].reshape(3, 3, net.blobs["data"].shape[2], net.blobs["data"].shape[3])
    net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image(image_file))
    output = net.forward()
    output_prob = list(output.values())[0][0].ravel()
    print("predicted class is:", output_prob.argmax())
    np.save(out, output_prob)
    shown = transformer.deprocess("data", net.blobs["data"].data[0])
    assert shown.shape[2] == 3 and shown.min() > -1e-3 and shown.max() < 1.001
    for layer_name, blob in net.blobs.items():
        print(layer_name + "\t" + str(blob.data.shape))
    for layer_name, param in net.params.items():
        print(layer_name + "\t" + str(param[0].data.shape), str(param[1].data.shape))


if __name__ == "__main__":
    main(sys.argv[1:])
