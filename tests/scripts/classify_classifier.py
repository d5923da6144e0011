"""Classify pictures with caffe.Classifier: MODEL WEIGHTS OUT.npy IMAGE..."""

import sys

import caffe
import numpy as np


def main(argv):
    model, weights, out = argv[:3]
    caffe.set_mode_cpu()
    net = caffe.Classifier(model, weights, mean=np.array([104.0, 117.0, 123.0]), raw_scale=255,
                           channel_swap=(2, 1, 0))
    images = [caffe.io.load_image(name) for name in argv[3:]]
    predictions = net.predict(images, oversample=False)
    np.save(out, predictions)
    for name, row in zip(argv[3:], predictions):
        row = row.ravel()
        print(name, "predicted class is:", row.argmax(), "top five:", row.argsort()[::-1][:5].tolist())


if __name__ == "__main__":
    main(sys.argv[1:])
