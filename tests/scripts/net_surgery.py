"""Turn a classifier's inner products into convolutions and run it on a larger picture: MODEL WEIGHTS OUT.npz"""

import os
import sys
import tempfile

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format


def convolutional(model, size):
    """Write the net with convolutions in place of inner products; return its file."""
    net = caffe_pb2.NetParameter()
    with open(model) as f:
        text_format.Merge(f.read(), net)
    kernel = {"ip1": 4, "ip2": 1}
    renamed = {}
    for layer in net.layer:
        for i, bottom in enumerate(layer.bottom):
            layer.bottom[i] = renamed.get(bottom, bottom)
        if layer.type == "Input":
            del layer.input_param.shape[0].dim[:]
            layer.input_param.shape[0].dim.extend([1, 1, size, size])
        if layer.type == "InnerProduct":
            outputs = layer.inner_product_param.num_output
            k = kernel[layer.name]
            layer.ClearField("inner_product_param")
            layer.type = "Convolution"
            layer.convolution_param.num_output = outputs
            layer.convolution_param.kernel_size.append(k)
            renamed[layer.top[0]] = layer.top[0] + "-conv"
            layer.name += "-conv"
            layer.top[0] += "-conv"
        elif layer.bottom and layer.top and layer.top[0] in renamed:
            layer.top[0] = renamed[layer.top[0]]
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    with os.fdopen(handle, "w") as f:
        f.write(str(net))
    return path


def main(argv):
    model, weights, out = argv
    caffe.set_mode_cpu()
    net = caffe.Net(model, weights, caffe.TEST)
    params = ["ip1", "ip2"]
    fc_params = {pr: (net.params[pr][0].data, net.params[pr][1].data) for pr in params}
    for fc in params:
        print(fc, "weights are", fc_params[fc][0].shape, "dimensional, biases are", fc_params[fc][1].shape)
    path = convolutional(model, 40)
    net_full_conv = caffe.Net(path, weights, caffe.TEST)
    params_full_conv = ["ip1-conv", "ip2-conv"]
    conv_params = {pr: (net_full_conv.params[pr][0].data, net_full_conv.params[pr][1].data)
                   for pr in params_full_conv}
    for pr, pr_conv in zip(params, params_full_conv):
        conv_params[pr_conv][0].flat = fc_params[pr][0].flat  # flat unrolls the arrays
        conv_params[pr_conv][1][...] = fc_params[pr][1]
    surgered = os.path.splitext(out)[0] + ".caffemodel"
    net_full_conv.save(surgered)

    rng = np.random.RandomState(0)
    image = rng.rand(40, 40).astype(np.float32)
    maps = net_full_conv.forward(data=image[None, None])["prob"]
    patches = [image[y:y + 28, x:x + 28] for y in (0, 4, 8, 12) for x in (0, 4, 8, 12)]
    rows = net.forward_all(data=np.asarray(patches)[:, None])["prob"]
    print("maps", maps.shape, "classes", maps[0].argmax(axis=0).tolist())
    np.savez(out, maps=maps, rows=rows)
    again = caffe.Net(path, surgered, caffe.TEST)
    assert (again.params["ip2-conv"][0].data == net_full_conv.params["ip2-conv"][0].data).all()
    os.remove(path)


if __name__ == "__main__":
    main(sys.argv[1:])
