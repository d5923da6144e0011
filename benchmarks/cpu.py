"""Forward passes on the CPU beside other engines: the same net, weights and image, in turns in one process.

The paper's six nets carry random weights that keep values in range; the real models (``--models``, a
folder as the tests use it) their own. Peers are taken where they are installed: onnxruntime and OpenVINO
(through ONNX), PyTorch (the paper's nets), OpenCV's dnn (through ONNX for the paper's nets, by its own
Caffe importer for real models). Each engine's output is compared with a pass of ours in float64. Peak
memory is that of a fresh process for each engine.

Examples
--------
python benchmarks/cpu.py --net deeplab-largefov --size 306 513
python benchmarks/cpu.py --all --models ../shared/data/models --json benchmarks/results/cpu.json
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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SEED = 11
PEERS = ("onnxruntime", "openvino", "opencv", "torch")
PAPER = ("deeplab", "deeplab-4x4", "deeplab-7x7", "deeplab-largefov", "deeplab-msc", "deeplab-msc-largefov")
REAL = {  # name -> (folder, prototxt, weights)
    "deeplabv3-mnv2": ("deeplabv3_mnv2", "deploy_513_relu6.prototxt", "deeplabv3_mnv2_dm05_voc.caffemodel"),
    "espnet": ("espnet_cityscapes", "deploy.prototxt", "espnet_cityscapes.caffemodel"),
    "enet": ("enet_cityscapes", "enet_deploy_final.prototxt", "cityscapes_weights.caffemodel"),
    "squeezenet": ("squeezenet_v1.0_dc", "deploy.prototxt", "squeezenet_v1.0_dc.caffemodel"),
}
Run = Callable[[], Any]


class Case(NamedTuple):
    """What is measured in one go."""

    net: str
    size: int
    batch: int
    threads: int


def our_net(case: Case, models: Path | None, dtype: Any = "float32") -> Any:
    """Return the net of a case; a paper's net gets random weights that keep values in range."""
    import numpy as np

    from atrouscaffe import TEST, Net

    if case.net in REAL:
        if models is None:
            raise SystemExit(f"{case.net}: give --models, the folder with the real models")
        folder, prototxt, weights = REAL[case.net]
        return Net(models / folder / prototxt, TEST, weights=models / folder / weights, keep=[], dtype=np.dtype(dtype),
                   allow_missing="layers", seed=SEED)
    net = Net(ROOT / "prototxt" / case.net / "deploy.prototxt", TEST, keep=[], dtype=np.dtype(dtype), seed=SEED,
              input_shapes={"data": (case.batch, 3, case.size, case.size)})
    draw = np.random.default_rng(SEED)
    for blobs in net._execution.node_params:
        if blobs:
            fan_in = max(1, blobs[0].count // blobs[0].shape[0])
            blobs[0].array[...] = draw.standard_normal(blobs[0].shape, np.float32) * np.sqrt(2 / fan_in)
            if len(blobs) > 1:
                blobs[1].array[...] = draw.standard_normal(blobs[1].shape, np.float32) * 0.1
    net.backend.parameters_changed()
    return net


def image(net: Any) -> Any:
    """Return the input of a pass: noise of the size of a mean-subtracted photograph's values."""
    import numpy as np

    return np.random.default_rng(SEED).standard_normal(net.blobs[net.inputs[0]].shape).astype(np.float32) * 60


def with_onnxruntime(net: Any, data: Any, model: bytes, threads: int, case: Case, models: Path | None) -> Run:
    """Return a pass in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {net.inputs[0]: data})[0]


def with_openvino(net: Any, data: Any, model: bytes, threads: int, case: Case, models: Path | None) -> Run:
    """Return a pass in OpenVINO, in float32."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    return lambda: next(iter(request.infer([data]).values()))


def with_opencv(net: Any, data: Any, model: bytes, threads: int, case: Case, models: Path | None) -> Run:
    """Return a pass in OpenCV's dnn."""
    import cv2
    import numpy as np

    cv2.setNumThreads(threads)
    if case.net in REAL and models is not None:
        folder, prototxt, weights = REAL[case.net]
        other = cv2.dnn.readNetFromCaffe(str(models / folder / prototxt), str(models / folder / weights))
    else:
        other = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))

    def run() -> Any:
        other.setInput(data)
        return other.forward()

    return run


def with_torch(net: Any, data: Any, model: bytes, threads: int, case: Case, models: Path | None) -> Run:
    """Return a pass in PyTorch, channels last."""
    import torch
    from torch_net import build

    torch.set_num_threads(threads)
    module = build(net, net.outputs[0]).eval().to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(data).contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.inference_mode():
            return module(tensor).numpy()

    return run


MAKERS = {"onnxruntime": with_onnxruntime, "openvino": with_openvino, "opencv": with_opencv, "torch": with_torch}


def engines(case: Case, models: Path | None, wanted: tuple[str, ...]) -> tuple[dict[str, Run], dict[str, str], Any]:
    """Return a pass of each engine, why others are missing, and the input."""
    from onnx_net import onnx_bytes

    from atrouscaffe.runtime.threads import set_num_threads

    set_num_threads(case.threads)
    net = our_net(case, models)
    data, first, last = image(net), net.inputs[0], net.outputs[0]
    runs: dict[str, Run] = {"atrouscaffe": lambda: net.forward(**{first: data})[last]}
    missing: dict[str, str] = {}
    model = b""
    for engine in wanted:
        try:
            model = model or onnx_bytes(net)
            runs[engine] = MAKERS[engine](net, data, model, case.threads, case, models)
            runs[engine]()
        except (Exception, SystemExit) as error:  # whatever a peer raises is what the table says of it
            missing[engine] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
            runs.pop(engine, None)
    return runs, missing, data


def peak_mb() -> float:
    """Return this process's peak memory; Linux's ru_maxrss would count that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def measured_peak(case: Case, models: Path | None, engine: str, model: Path | None) -> float:
    """Return the peak memory of a fresh process that runs one engine three times."""
    command = [sys.executable, __file__, "--peak", engine, str(model or "-"), json.dumps(case)]
    if models is not None:
        command += ["--models", str(models)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def run_for_peak(engine: str, model: str, case: Case, models: Path | None) -> None:
    """Run one engine and print the process's peak memory; a peer's process holds no net of ours."""
    import numpy as np

    from atrouscaffe.runtime.threads import set_num_threads

    set_num_threads(case.threads)
    if engine == "atrouscaffe":
        net = our_net(case, models)
        data = image(net)
        for _ in range(3):
            net.forward(**{net.inputs[0]: data})
    else:
        from types import SimpleNamespace

        draw = np.random.default_rng(SEED).standard_normal((case.batch, 3, case.size, case.size)).astype(np.float32)
        named = SimpleNamespace(inputs=["data"])
        run = MAKERS[engine](named, draw, Path(model).read_bytes(), case.threads, case, models)
        for _ in range(3):
            run()
    print(json.dumps(peak_mb()))


def relative_error(got: Any, want: Any) -> float:
    """Return the L2 norm of the difference over that of the reference."""
    import numpy as np

    got, want = (array.reshape(-1).astype(float) for array in (got, want))
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def measure(case: Case, models: Path | None, wanted: tuple[str, ...], runs_wanted: int, peaks: bool) -> dict[str, Any]:
    """Measure one case and print its rows."""
    from onnx_net import onnx_bytes

    runs, missing, data = engines(case, models, wanted)
    double = our_net(case, models, "float64")
    reference = double.forward(**{double.inputs[0]: data})[double.outputs[0]].copy()
    gmac = sum(node.layer.macs([double.graph.values[v].shape for v in node.bottoms],
                               [double.graph.values[v].shape for v in node.tops]) for node in double.graph.nodes) / 1e9
    del double
    errors = {engine: relative_error(run(), reference) for engine, run in runs.items()}
    seconds: dict[str, list[float]] = {engine: [] for engine in runs}
    for _ in range(runs_wanted):
        for engine, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[engine].append(time.perf_counter() - start)
    result: dict[str, Any] = {**case._asdict(), "gmac": gmac, "missing": missing, "engines": {}}
    ours = statistics.median(seconds["atrouscaffe"])
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "net.onnx"
        if peaks:
            model.write_bytes(onnx_bytes(our_net(case, models)))
        for engine, times in seconds.items():
            median = statistics.median(times)
            row = {"median_s": median, "min_s": min(times), "max_s": max(times), "gflops": 2 * gmac / median,
                   "ours_over_it": ours / median,
                   "ratio_of_pairs": statistics.median(a / b for a, b in zip(seconds["atrouscaffe"], times)),
                   "relative_l2": errors[engine]}
            if peaks and engine in ("atrouscaffe", "onnxruntime"):
                row["peak_mb"] = measured_peak(case, models, engine, model)
            result["engines"][engine] = row
            print(f"{case.net:22s} {case.size:5d} x{case.batch} {case.threads} threads  {engine:12s} "
                  f"{median * 1e3:8.1f} ms (min {min(times) * 1e3:.1f})  ours/it {row['ratio_of_pairs']:.2f}  "
                  f"L2 {errors[engine]:.1e}"
                  + (f"  peak {row['peak_mb']:.0f} MB" if "peak_mb" in row else ""), flush=True)
    for engine, why in missing.items():
        print(f"{case.net:22s} {engine}: not measured: {why}", flush=True)
    return result


def host() -> dict[str, Any]:
    """Return what the figures depend on."""
    import numba
    import numpy as np

    from atrouscaffe.ops.product_cpu import ROWS

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    facts = {"cpu": model, "cpus": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0], "rows": list(ROWS),
             "system": platform.system(), "python": platform.python_version(), "numpy": np.__version__,
             "numba": numba.__version__}
    for peer, module in (*((peer, peer) for peer in PEERS if peer != "opencv"), ("opencv", "cv2")):
        try:
            facts[peer] = str(__import__(module).__version__)
        except ImportError:
            facts[peer] = "not installed"
    return facts


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return what is to be measured."""
    threads = arguments.threads or [len(os.sched_getaffinity(0))]
    if not arguments.all:
        return [Case(net, size, batch, n) for net in arguments.net for size in arguments.size
                for batch in arguments.batch for n in threads]
    both = sorted({1, *threads})
    found = [Case("deeplab-largefov", size, batch, n) for n in both for batch in (1, 4) for size in (306, 321, 513)]
    found += [Case(net, 306, 1, threads[-1]) for net in PAPER if net != "deeplab-largefov"]
    found += [Case("deeplab-largefov", size, 1, threads[-1]) for size in (129, 257, 769, 1025, 1537)]
    return found + [Case(net, 0, 1, n) for net in REAL for n in both if arguments.models]


def main() -> int:
    """Measure the cases and print a row for each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", default=["deeplab-largefov"], choices=[*PAPER, *REAL])
    parser.add_argument("--size", nargs="+", type=int, default=[306], help="sides of the image (default: 306)")
    parser.add_argument("--batch", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", nargs="+", type=int, help="(default: as many as there are processors)")
    parser.add_argument("--all", action="store_true", help="every net, size, batch and number of threads of the page")
    parser.add_argument("--runs", type=int, default=9, help="timed passes an engine (default: %(default)s)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--peaks", action="store_true", help="also measure peak memory, in fresh processes")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder with the real models")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--peak", nargs=3, metavar=("ENGINE", "MODEL", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.peak:
        engine, model, case = arguments.peak
        run_for_peak(engine, model, Case(*json.loads(case)), arguments.models)
        return 0
    result: dict[str, Any] = {"host": host(), "cases": []}
    for case in cases(arguments):
        peaks = arguments.peaks or (arguments.all and case.net == "deeplab-largefov" and case.size in (306, 513))
        result["cases"].append(measure(case, arguments.models, tuple(arguments.peers), arguments.runs, peaks))
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
