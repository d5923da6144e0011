"""Learn LeNet step by step, from its definition to plots of loss and accuracy: DATA.h5.txt OUTDIR ITERATIONS"""

import os
import sys

import caffe
import numpy as np
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from PIL import Image, ImageDraw


def lenet(source, batch_size):
    n = caffe.NetSpec()
    n.data, n.label = L.HDF5Data(batch_size=batch_size, source=source, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=16, weight_filler=dict(type="xavier"))
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool2, num_output=64, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, weight_filler=dict(type="xavier"))
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


def plot(series, path):
    """Draw curves; any plotting library would do."""
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    for values, colour in series:
        values = np.asarray(values, float)
        top = max(values.max(), 1e-9)
        points = [(20 + 360 * i / max(len(values) - 1, 1), 280 - 260 * v / top) for i, v in enumerate(values)]
        draw.line(points, fill=colour, width=2)
    image.save(path)


def main(argv):
    source, outdir, niter = argv[0], argv[1], int(argv[2])
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    for name, size in (("train", 32), ("test", 50)):
        with open(os.path.join(outdir, "lenet_auto_%s.prototxt" % name), "w") as f:
            f.write(str(lenet(source, size)))
    s = caffe_pb2.SolverParameter()
    s.train_net = os.path.join(outdir, "lenet_auto_train.prototxt")
    s.test_net.append(os.path.join(outdir, "lenet_auto_test.prototxt"))
    s.test_interval, s.max_iter = 500, 10000
    s.test_iter.append(2)
    s.type, s.base_lr, s.momentum, s.weight_decay = "SGD", 0.05, 0.9, 5e-4
    s.lr_policy, s.gamma, s.power, s.display = "inv", 0.0001, 0.75, 1000
    s.snapshot, s.snapshot_prefix = 5000, os.path.join(outdir, "lenet")
    s.solver_mode = caffe_pb2.SolverParameter.CPU
    with open(os.path.join(outdir, "solver.prototxt"), "w") as f:
        f.write(str(s))

    solver = caffe.get_solver(os.path.join(outdir, "solver.prototxt"))
    print([(k, v.data.shape) for k, v in solver.net.blobs.items()])
    solver.net.forward()
    solver.test_nets[0].forward()
    solver.step(1)
    print(solver.net.params["conv1"][0].diff[:, 0].std())
    test_interval = 10
    train_loss, test_acc = np.zeros(niter), np.zeros(int(np.ceil(niter / test_interval)))
    output = np.zeros((niter, 8, 10))
    for it in range(niter):
        solver.step(1)
        train_loss[it] = solver.net.blobs["loss"].data
        solver.test_nets[0].forward(start="conv1")
        output[it] = solver.test_nets[0].blobs["score"].data[:8]
        if it % test_interval == 0:
            correct = 0
            for _ in range(4):
                solver.test_nets[0].forward()
                correct += sum(solver.test_nets[0].blobs["score"].data.argmax(1)
                               == solver.test_nets[0].blobs["label"].data)
            test_acc[it // test_interval] = correct / 200.0
    plot([(train_loss, "blue"), (test_acc, "red")], os.path.join(outdir, "curves.png"))
    print("iteration", solver.iter, "loss", train_loss[0], "->", train_loss[-5:].mean(), "accuracy", test_acc.tolist())
    solver.net.save(os.path.join(outdir, "final.caffemodel"))
    np.savez(os.path.join(outdir, "curves.npz"), loss=train_loss, accuracy=test_acc, output=output)


if __name__ == "__main__":
    main(sys.argv[1:])
