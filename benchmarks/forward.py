"""How long one forward pass of a net takes on the CPU, beside onnxruntime with the same weights.

Both engines run in one process, in turns, with the same random weights, image and number of
threads; their outputs are compared. Peak memory is that of a fresh process for each engine.
onnxruntime and onnx are optional (``pip install onnx onnxruntime``): without them only our own
figures are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEED = 11


def our_net(name: str, size: int) -> Any:
    """Return the net in ``prototxt/NAME/deploy.prototxt`` with random weights that keep values in range."""
    import numpy as np

    from atrouscaffe import Net

    net = Net(ROOT / "prototxt" / name / "deploy.prototxt", input_shapes={"data": (1, 3, size, size)}, keep=[],
              seed=SEED)
    draw = np.random.default_rng(SEED)
    for blobs in net.params.values():
        fan_in = max(1, blobs[0].count // blobs[0].shape[0])
        blobs[0].data[...] = draw.standard_normal(blobs[0].shape, np.float32) * np.sqrt(2 / fan_in)
        if len(blobs) > 1:
            blobs[1].data[...] = draw.standard_normal(blobs[1].shape, np.float32) * 0.1
    return net


def image(size: int) -> Any:
    """Return one mean-subtracted image."""
    import numpy as np

    return np.random.default_rng(SEED).standard_normal((1, 3, size, size)).astype(np.float32) * 60


def onnx_bytes(net: Any) -> bytes:
    """Return the same net, with the same weights, as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, names = [], [], {"data": "data"}

    def add(kind: str, inputs: list[str], layer: Any, **attributes: Any) -> None:
        out = layer.name + "_out"
        nodes.append(helper.make_node(kind, inputs, [out], name=layer.name, **attributes))
        names[layer.spec.tops[0]] = out

    for node, view in zip(net.graph.nodes, net.layers):
        layer, spec = node.layer, node.spec
        if spec.type == "Input":
            continue
        below = [names[bottom] for bottom in spec.bottoms]
        shapes = [[net.graph.values[v].shape for v in values] for values in (node.bottoms, node.tops)]
        if spec.type == "Convolution":
            for i, blob in enumerate(view.blobs):
                constants.append(numpy_helper.from_array(blob.data, f"{spec.name}_{i}"))
                below.append(f"{spec.name}_{i}")
            windows = layer._split(shapes[0][0])[2]
            add("Conv", below, layer, group=layer.p.group, kernel_shape=[w.kernel for w in windows],
                strides=[w.stride for w in windows], pads=[w.pad for w in windows] * 2,
                dilations=[w.hole for w in windows])
        elif spec.type == "Pooling":
            from atrouscaffe.layers.windows import pool_windows

            windows = pool_windows(layer.p, shapes[0][0])
            ends = [(out - 1) * w.stride + w.kernel - n - w.pad
                    for w, n, out in zip(windows, shapes[0][0][2:], shapes[1][0][2:])]
            more = {"count_include_pad": 1} if layer.p.pool == "AVE" else {}
            add("AveragePool" if more else "MaxPool", below, layer, kernel_shape=[w.kernel for w in windows],
                strides=[w.stride for w in windows], pads=[w.pad for w in windows] + [max(0, e) for e in ends], **more)
        elif spec.type == "ReLU":
            add("Relu", below, layer)
        elif spec.type == "Dropout":
            names[spec.tops[0]] = below[0]
        elif spec.type == "Eltwise":
            add("Sum", below, layer)
        elif spec.type == "Interp":
            import numpy as np

            constants.append(numpy_helper.from_array(np.array(shapes[1][0], np.int64), spec.name + "_size"))
            add("Resize", [*below, "", "", spec.name + "_size"], layer, mode="linear",
                coordinate_transformation_mode="align_corners")
        else:
            raise SystemExit(f"layer {spec.name}: type {spec.type} is not written to ONNX by this script")
    top = net.outputs[0]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("data", TensorProto.FLOAT, net.blobs["data"].shape)],
        [helper.make_tensor_value_info(names[top], TensorProto.FLOAT, net.blobs[top].shape)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def session(model: bytes, threads: int) -> Any:
    """Return an onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def engines(name: str, size: int, peer: bool, threads: int) -> dict[str, Any]:
    """Return {engine: function that runs it once and returns its output}."""
    net, data = our_net(name, size), image(size)
    runs = {"atrouscaffe": lambda: net.forward(data=data)[net.outputs[0]]}
    if peer:
        other = session(onnx_bytes(net), threads)
        runs["onnxruntime"] = lambda: other.run(None, {"data": data})[0]
    return runs


def own_peak_mb() -> float:
    """Return this process's peak memory; Linux's ru_maxrss would count that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def measure_peak(engine: str, name: str, size: int, threads: int, model: str) -> None:
    """Run one engine in this process and print its peak memory in megabytes."""
    if engine == "atrouscaffe":
        run = engines(name, size, False, threads)["atrouscaffe"]
    else:
        other, data = session(Path(model).read_bytes(), threads), image(size)
        def run() -> Any:
            return other.run(None, {"data": data})
    for _ in range(2):
        run()
    print(json.dumps({"peak_mb": own_peak_mb()}))


def peaks(runs: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Return the peak memory of each engine, from fresh processes."""
    import tempfile

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "net.onnx"
        if "onnxruntime" in runs:
            model.write_bytes(onnx_bytes(our_net(arguments.net, arguments.size)))
        for engine in runs:
            command = [sys.executable, __file__, "--net", arguments.net, "--size", str(arguments.size), "--threads",
                       str(arguments.threads), "--measure", engine, str(model)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[engine] = json.loads(output.splitlines()[-1])["peak_mb"]
    return found


def host() -> dict[str, Any]:
    """Return what the figures depend on."""
    import numba
    import numpy as np

    model = ""
    if Path("/proc/cpuinfo").exists():
        model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), "")
    facts = {"cpu": model, "cpus": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0],
             "system": platform.platform(), "python": platform.python_version(), "numpy": np.__version__,
             "numba": numba.__version__}
    try:
        import onnxruntime

        facts["onnxruntime"] = onnxruntime.__version__
    except ImportError:
        facts["onnxruntime"] = "not installed"
    return facts


def main() -> int:
    """Time both engines in turns and print median, range and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="deeplab-largefov", help="folder in prototxt/ (default: %(default)s)")
    parser.add_argument("--size", type=int, default=306, help="side of the image (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=9, help="timed passes an engine (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--measure", nargs=2, metavar=("ENGINE", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from atrouscaffe.runtime.threads import set_num_threads

    set_num_threads(arguments.threads)
    if arguments.measure:
        measure_peak(arguments.measure[0], arguments.net, arguments.size, arguments.threads, arguments.measure[1])
        return 0
    facts = host()
    runs = engines(arguments.net, arguments.size, facts["onnxruntime"] != "not installed", arguments.threads)
    outputs = {engine: run().copy() for engine, run in runs.items()}  # the first pass compiles and allocates
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {engine: [] for engine in runs}
    for _ in range(arguments.runs):
        for engine, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[engine].append(time.perf_counter() - start)
    memory = peaks(list(runs), arguments)
    result: dict[str, Any] = {"net": arguments.net, "size": arguments.size, "threads": arguments.threads,
                              "runs": arguments.runs, "host": facts, "engines": {}}
    for engine, times in seconds.items():
        result["engines"][engine] = {"median_s": statistics.median(times), "min_s": min(times), "max_s": max(times),
                                     "peak_mb": memory[engine]}
        print(f"{engine:12s} {statistics.median(times):.3f} s (median of {len(times)}; {min(times):.3f} to "
              f"{max(times):.3f}), peak {memory[engine]:.0f} MB")
    if len(outputs) > 1:
        ours, theirs = outputs.values()
        result["largest_difference"] = float(abs(ours - theirs).max() / abs(theirs).max())
        print(f"outputs differ by {result['largest_difference']:.1e} of the largest value")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
