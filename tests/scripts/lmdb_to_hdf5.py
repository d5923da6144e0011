"""Copy an LMDB of Datum records into an HDF5 file for HDF5Data layers: LMDB OUT.h5"""

import sys

import caffe
import h5py
import lmdb
import numpy as np
from caffe.proto import caffe_pb2


def main(argv):
    source, target = argv
    env = lmdb.open(source, readonly=True, lock=False)
    images, labels = [], []
    with env.begin() as txn:
        for _, value in txn.cursor():
            datum = caffe_pb2.Datum()
            datum.ParseFromString(value)
            images.append(caffe.io.datum_to_array(datum))
            labels.append(datum.label)
    env.close()
    with h5py.File(target, "w") as f:
        f["data"] = np.asarray(images, dtype=np.float32) * 0.00390625
        f["label"] = np.asarray(labels, dtype=np.float32)
    with open(target + ".txt", "w") as f:
        f.write(target + "\n")
    print(len(labels), "records")


if __name__ == "__main__":
    main(sys.argv[1:])
