"""Bilinear upsampling by surgery and scoring loops, as FCN's scripts have them: TRUNK WEIGHTS DATADIR IDS OUT.npz

Run with IDS a file of image names; DATADIR has VOC's layout.
"""

import os
import sys
import tempfile

import caffe
import numpy as np
from caffe import layers as L
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from PIL import Image


def upsample_filt(size):
    """A bilinear kernel of size x size."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    og = np.ogrid[:size, :size]
    return (1 - abs(og[0] - center) / factor) * (1 - abs(og[1] - center) / factor)


def interp(net, layers):
    """Set the weights of each layer in layers to bilinear kernels for interpolation."""
    for name in layers:
        m, k, h, w = net.params[name][0].data.shape
        if m != k and k != 1:
            raise ValueError("input + output channels need to be the same or |output| == 1")
        if h != w:
            raise ValueError("filters need to be square")
        net.params[name][0].data[range(m), range(k), :, :] = upsample_filt(h)


def transplant(new_net, net):
    """Copy the parameters of net into layers of the same name, of equal shape or flattened."""
    for p in net.params:
        if p not in new_net.params:
            print("dropping", p)
            continue
        for i in range(len(net.params[p])):
            new_net.params[p][i].data.flat = net.params[p][i].data.flat


def fast_hist(a, b, n):
    k = (a >= 0) & (a < n)
    return np.bincount(n * a[k].astype(int) + b[k], minlength=n ** 2).reshape(n, n)


class VOCLayer(caffe.Layer):
    """Loads (image, label) pairs one at a time, reshaping the net to preserve dimensions."""

    def setup(self, bottom, top):
        params = eval(self.param_str)
        self.dir, self.idx = params["dir"], 0
        with open(params["ids"]) as f:
            self.ids = f.read().split()
        if len(top) != 2:
            raise Exception("Need to define two tops: data and label.")
        if len(bottom) != 0:
            raise Exception("Do not define a bottom.")

    def reshape(self, bottom, top):
        name = self.ids[self.idx]
        with Image.open("%s/JPEGImages/%s.jpg" % (self.dir, name)) as f:
            image = np.array(f, dtype=np.float32)[:, :, ::-1]
        with Image.open("%s/SegmentationClass/%s.png" % (self.dir, name)) as f:
            label = np.array(f, dtype=np.uint8)
        height, width = (image.shape[0] - 1) // 8 * 8 + 1, (image.shape[1] - 1) // 8 * 8 + 1
        self.data = (image[:height, :width].transpose((2, 0, 1)) - 127.5) / 127.5
        self.label = label[np.newaxis, :height, :width]
        top[0].reshape(1, *self.data.shape)
        top[1].reshape(1, *self.label.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.data
        top[1].data[...] = self.label
        self.idx = (self.idx + 1) % len(self.ids)

    def backward(self, top, propagate_down, bottom):
        pass


def build(trunk, datadir, ids):
    """The trunk's net with images from Python, a bilinear deconvolution and a crop behind it."""
    net = caffe_pb2.NetParameter()
    with open(trunk) as f:
        text_format.Merge(f.read(), net)
    net.ClearField("input")
    net.ClearField("input_dim")
    kept = [layer for layer in net.layer if layer.name not in ("upscore", "image_pooling_up")]
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module=VOCLayer.__module__, layer="VOCLayer", ntop=2,
                               param_str=str(dict(dir=datadir, ids=ids)))
    head = n.to_proto()
    for layer in kept:
        for i, bottom in enumerate(layer.bottom):
            if bottom == "image_pooling_up":
                layer.bottom[i] = "image_pooling_same"
        if layer.name == "concat":
            same = head.layer.add(name="image_pooling_same", type="Deconvolution", bottom=["image_pooling"],
                                  top=["image_pooling_big"])
            same.convolution_param.num_output = 256
            same.convolution_param.group = 256
            same.convolution_param.bias_term = False
            same.convolution_param.kernel_size.append(65)
            same.convolution_param.weight_filler.type = "constant"
            same.convolution_param.weight_filler.value = 1
            crop = head.layer.add(name="image_pooling_crop", type="Crop", bottom=["image_pooling_big", "aspp0"],
                                  top=["image_pooling_same"])
            crop.crop_param.axis = 2
        head.layer.add().CopyFrom(layer)
    up = head.layer.add(name="upscore", type="Deconvolution", bottom=["logits_semantic"], top=["bigscore"])
    up.convolution_param.num_output = 21
    up.convolution_param.kernel_size.append(16)
    up.convolution_param.stride.append(8)
    up.convolution_param.bias_term = False
    crop = head.layer.add(name="score", type="Crop", bottom=["bigscore", "data"], top=["score"])
    crop.crop_param.axis = 2
    crop.crop_param.offset.append(8)
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    with os.fdopen(handle, "w") as f:
        f.write(str(head))
    return path


def main(argv):
    trunk, weights, datadir, ids, out = argv
    path = build(trunk, datadir, ids)
    net = caffe.Net(path, caffe.TEST)
    base = caffe.Net(trunk, weights, caffe.TEST)
    transplant(net, base)
    del base
    interp(net, [k for k in net.params.keys() if "up" in k])
    n_cl = 21
    hist = np.zeros((n_cl, n_cl))
    with open(ids) as f:
        names = f.read().split()
    for _ in names:
        net.forward()
        hist += fast_hist(net.blobs["label"].data[0, 0].flatten(), net.blobs["score"].data[0].argmax(0).flatten(), n_cl)
    acc = np.diag(hist).sum() / hist.sum()
    iu = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist)).clip(1)
    print(">>>", len(names), "images, overall accuracy", acc)
    print(">>> mean IU of classes present", iu[hist.sum(1) > 0].mean())
    np.savez(out, hist=hist)
    os.remove(path)


if __name__ == "__main__":
    main(sys.argv[1:])
