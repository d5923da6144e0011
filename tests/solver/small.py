"""A net small enough to train in milliseconds: shuffled rows, dropout, two parameters layers, a test net."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atrouscaffe import get_solver

NET = """name: "small"
layer { name: "rows" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
        hdf5_data_param { source: "rows.txt" batch_size: 3 shuffle: true } }
layer { name: "rows_test" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
        hdf5_data_param { source: "rows.txt" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 5 kernel_size: 3 pad: 2 dilation: 2 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001 max_iter: 8\n' \
         'snapshot_prefix: "snap" random_seed: 7\n'
ROWS = 11


def write(folder: Path, solver: str = "", net: str = NET, base: str = SOLVER) -> Path:
    """Write net, solver and rows; return the solver's path."""
    import h5py

    rng = np.random.default_rng(5)
    with h5py.File(folder / "rows.h5", "w") as file:
        file.create_dataset("data", data=rng.normal(size=(ROWS, 2, 7, 5)).astype(np.float32))
        file.create_dataset("label", data=rng.integers(0, 4, ROWS).astype(np.float32))
    (folder / "rows.txt").write_text("rows.h5\n")
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(base + solver + "\n")
    return folder / "solver.prototxt"


def make(folder: Path, solver: str = "", net: str = NET, lines: list[str] | None = None, base: str = SOLVER,
         device: str = "cpu", **options):
    """Return the solver of the small net in `folder`, which must be the working folder; its lines go to `lines`."""
    return get_solver(write(folder, solver, net, base), log=(lambda line: None) if lines is None else lines.append,
                      device=device, **options)


def weights(solver) -> list[np.ndarray]:
    """Return copies of all parameters."""
    return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]


def same(a, b) -> bool:
    """Tell whether two lists of arrays are the same bits."""
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))
