"""DeepLab inference: scores and CRF results of a list of pictures as MAT files: MODEL WEIGHTS LIST IMAGEDIR OUTDIR"""

import os
import sys

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from PIL import Image

TAIL = """
layer { name: "pixels" type: "Power" bottom: "data" top: "pixels" power_param { scale: 127.5 } }
layer { name: "crf" type: "DenseCRF" bottom: "upscore" bottom: "data_dim" bottom: "pixels" top: "crf_inf"
  dense_crf_param { max_iter: 3 pos_xy_std: 3 pos_w: 3 bi_xy_std: 49 bi_rgb_std: 5 bi_w: 4 } }
layer { name: "fc8_mat" type: "MatWrite" bottom: "upscore"
  mat_write_param { prefix: "%(out)s/fc8/" source: "%(list)s" strip: 0 period: 1 } }
layer { name: "crf_mat" type: "MatWrite" bottom: "crf_inf"
  mat_write_param { prefix: "%(out)s/crf/" source: "%(list)s" strip: 0 period: 1 } }
"""


def main(argv):
    model, weights, listfile, imagedir, out = argv
    net_param = caffe_pb2.NetParameter()
    with open(model) as f:
        text_format.Merge(f.read(), net_param)
    net_param.input.append("data_dim")
    net_param.input_dim.extend([1, 1, 1, 2])
    text_format.Merge(TAIL % {"out": out, "list": listfile}, net_param)
    test_net = os.path.join(out, "test.prototxt")
    with open(test_net, "w") as f:
        f.write(str(net_param))

    caffe.set_mode_cpu()
    net = caffe.Net(test_net, weights, caffe.TEST)
    size = net.blobs["data"].data.shape[2]
    with open(listfile) as f:
        names = f.read().split()
    for name in names:
        with Image.open(os.path.join(imagedir, name + ".png")) as f:
            image = np.array(f.convert("RGB"), np.float32)[:, :, ::-1]
        height, width = image.shape[:2]
        net.blobs["data"].data[...] = 0
        net.blobs["data"].data[0, :, :height, :width] = (image.transpose(2, 0, 1) - 127.5) / 127.5
        net.blobs["data_dim"].data[...] = np.array([height, width]).reshape(1, 1, 1, 2)
        net.forward()
        label = net.blobs["crf_inf"].data[0, :, :height, :width].argmax(0).astype(np.uint8)
        Image.fromarray(label).save(os.path.join(out, name + "_label.png"))
        print(name, size, "classes", np.unique(label).tolist())


if __name__ == "__main__":
    main(sys.argv[1:])
