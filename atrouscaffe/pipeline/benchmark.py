"""How fast nets run here, stage by stage: decoding, net, upsampling, CRF, writing; beside what the device can do.

Every stage is waited for before the next begins, so that the stages add up; what a device makes of a
net whose launches are recorded is measured apart.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrouscaffe.data.image import decode_image, read_bytes, resize_image
from atrouscaffe.data.palette import encode_labels
from atrouscaffe.errors import ArgumentError
from atrouscaffe.formats.atomic import atomic_write
from atrouscaffe.formats.prototxt import parse_net, read_net
from atrouscaffe.graph.graph import Graph
from atrouscaffe.graph.report import describe
from atrouscaffe.net import Net
from atrouscaffe.ops.interp import resize
from atrouscaffe.ops.pixels import enlarged_labels, image_to_blob
from atrouscaffe.pipeline.deploy import make_deploy
from atrouscaffe.pipeline.paper import METHODS, paper_numbers
from atrouscaffe.pipeline.registry import VOC_MEAN, KnownModel, find_prototxt, net_and_model, shipped_weights
from atrouscaffe.pipeline.speed import TRAIN_VARIABLES, fill_at_random
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.spec import TEST, NetSpec

__all__ = ["DEFAULT_MODELS", "Picture", "Settings", "Subject", "benchmark", "measured", "synthetic_picture"]

DEFAULT_MODELS = ("deeplab", "deeplab-largefov")
"""The net of the paper's sentence on 8 frames a second (4x4 kernels, 4096 channels), and the one that it recommends."""

AS_TRAINED = "deeplab"
"""The sentence speaks of the geometry in which this net is trained, 306x306 pixels to 39x39 scores; its test net pads
its poolings otherwise, and makes 41x41."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    device, precision : str
    batch : int
        Images in a pass of the net.
    size : int
        Side of the square images.
    repeats : int
        Timed passes, behind one that is not.
    crf : bool
    images : sequence of path
        Photographs in place of drawn ones.
    """

    device: str = "cpu"
    precision: str = "fp32"
    batch: int = 1
    size: int = 306
    repeats: int = 5
    crf: bool = True
    images: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("repeats", 1), ("size", 33)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Picture:
    """A coded photograph, and a label map that scores may follow, (H, W) of its size in the net."""

    data: bytes
    labels: np.ndarray


def synthetic_picture(side: int, number: int, classes: int = 21) -> Picture:
    """Draw a picture with a few objects on a ground, with grain, and code it as JPEG; the same for the same number."""
    import cv2

    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    image = np.stack([110 + 60 * np.sin(3 * x + phase) * np.cos(2 * y - phase) for phase in (0.3, 1.1, 2.3)], -1)
    labels = np.zeros((side, side), np.uint8)
    for label in rng.choice(np.arange(1, classes), min(3, classes - 1), replace=False):
        cx, cy, rx, ry = rng.uniform((0.25, 0.25, 0.12, 0.12), (0.75, 0.75, 0.3, 0.3))
        inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        labels[inside] = label
        image[inside] = rng.uniform(30, 225, 3) + 25 * np.sin(40 * (x + y))[inside, None]
    image += rng.normal(0, 6, image.shape)
    return Picture(cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes(), labels)


class Subject:
    """A net with its stages.

    Parameters
    ----------
    model : str or path
        One of the paper's nets by name, or a deploy net's file.
    settings : Settings
    weights : path, optional
        Random ones where there are none.

    Attributes
    ----------
    name : str
    weights : str
        What is told of them.
    net : Net
        Up to the scores on their own grid; a last Interp layer belongs to upsampling.
    whole : (int, int)
        What the scores are enlarged to before they are cut to the image.
    flops : int
        Of one image.
    """

    def __init__(self, model: str | Path, settings: Settings, weights: str | Path | None = None) -> None:
        spec, self.known = net_and_model(str(model), weights, None, None)
        weights = weights or shipped_weights(self.known)
        self.settings = settings
        self.name = METHODS.get(self.known.name, self.known.name) if self.known else spec.name or str(model)
        if self.known and self.known.name == AS_TRAINED:
            spec, self.whole, self.input, self.scores = _as_trained(self.known.name, settings)
        else:
            spec, self.whole, self.input, self.scores = _without_interp(spec, settings)
        self._spec, self._file = spec, weights
        self.net = self.make(settings.device, settings.precision, settings.batch)
        self.weights = str(weights) if weights else "random"
        self.flops = int(describe(self.net.graph)["flops"]) // settings.batch
        self.classes = self.net.blobs[self.scores].shape[1]
        self.mean = np.asarray(self.known.mean if self.known else VOC_MEAN, np.float32)
        self.scale = self.known.scale if self.known else 1.0

    def make(self, device: str, precision: str, batch: int = 1) -> Net:
        """Return the net on a device, with the same weights each time."""
        size = self.settings.size
        net = Net(self._spec, TEST, weights=self._file, keep=[self.scores], device=device, precision=precision,
                  input_shapes={self.input: (batch, 3, size, size)}, seed=0)
        if self._file is None:
            fill_at_random(net)
        return net

    def fill(self, net: Net, images: Sequence[np.ndarray]) -> None:
        """Write images into the net's input."""
        backend = net.backend
        with backend.active():
            mean, blob = backend.asarray(self.mean), net.blobs[self.input].array
            for i, image in enumerate(images):
                image_to_blob(backend.asarray(image), mean, blob[i:i + 1], self.scale)

    def labels(self, net: Net) -> list[np.ndarray]:
        """Return the label maps of what the net holds, in main memory."""
        backend, size = net.backend, self.settings.size
        with backend.active():
            made = []
            for scores in net.blobs[self.scores].array:
                labels = backend.xp.empty((min(size, self.whole[0]), min(size, self.whole[1])), np.uint8)
                enlarged_labels(scores, self.whole, labels)
                made.append(backend.to_numpy(labels))
        return made

    def refined(self, net: Net, image: np.ndarray, scores: Any) -> np.ndarray:
        """Return the labels after the CRF, for scores of the image's size on the net's device."""
        from atrouscaffe.crf.densecrf import refine, refine_on_device

        rgb = np.ascontiguousarray(image[..., ::-1])
        params: dict[str, Any] = {"preset": self.known.crf if self.known else "paper"}
        if net.backend.name == "cpu":
            return refine(rgb, scores=scores, **params).labels
        params["clip"] = None  # `refine` takes scores as they are, too
        return net.backend.to_numpy(refine_on_device(rgb, scores, params, net.backend, labels=True))

    def full_scores(self, net: Net, item: int) -> Any:
        """Return an image's scores at its own size, on the net's device."""
        scores, size = net.blobs[self.scores].array[item:item + 1], self.settings.size
        if scores.shape[2:] != self.whole:
            enlarged = module_of(scores).empty((1, self.classes, *self.whole), np.float32)
            resize(scores, enlarged)
            scores = enlarged
        return module_of(scores).ascontiguousarray(scores[0, :, :size, :size])


def _without_interp(spec: NetSpec, settings: Settings) -> tuple[NetSpec, tuple[int, int], str, str]:
    """Return the net without a last Interp layer, what that makes, and the names of input and scores."""
    deploy = make_deploy(spec)
    if deploy.channels != 3 or deploy.dims:
        raise ArgumentError("benchmark: expected a net whose one input is an image of 3 channels, got "
                            f"{deploy.channels} channels" + (f" and {', '.join(deploy.dims)}" if deploy.dims else ""),
                            spec.path)
    spec = deploy.spec_at((settings.size, settings.size))
    graph = Graph(spec, TEST, input_shapes={deploy.input: (settings.batch, 3, settings.size, settings.size)})
    last = graph.nodes[-1]
    whole = graph.values[last.tops[0]].shape[2:]
    if len(whole) != 2:
        raise ArgumentError(f"expected a net that ends in score maps, got {graph.values[last.tops[0]].shape}",
                            spec.path)
    if last.spec.type == "Interp":
        return (dataclasses.replace(spec, layers=spec.layers[:-1]), whole, deploy.input, last.spec.bottoms[0])
    return spec, whole, deploy.input, last.spec.tops[0]


def _as_trained(name: str, settings: Settings) -> tuple[NetSpec, tuple[int, int], str, str]:
    """Return a net of the paper in the geometry of its training, as `_without_interp` does."""
    spec = read_net(find_prototxt(name).with_name("train.prototxt"), variables={"NET_ID": name, **TRAIN_VARIABLES})
    shape = " ".join(f"dim: {n}" for n in (settings.batch, 3, settings.size, settings.size))
    pixels = parse_net(f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}')
    trunk = tuple(layer for layer in spec.layers if layer.tops and "label" not in (*layer.bottoms, *layer.tops)
                  and "label_shrink" not in layer.bottoms)
    return (dataclasses.replace(spec, layers=(*pixels.layers, *trunk)), (settings.size, settings.size), "data",
            trunk[-1].tops[0])


# -- measuring --------------------------------------------------------------------------------------


def measured(seconds: Sequence[float]) -> dict[str, Any]:
    """Return what is told of several times: milliseconds at the 50th and 95th percentile, and how many they are."""
    p50, p95 = (float(np.percentile(seconds, q)) * 1e3 for q in (50, 95))
    return {"p50_ms": p50, "p95_ms": p95, "fastest_ms": min(seconds) * 1e3, "count": len(seconds)}


def pictures(settings: Settings) -> list[Picture]:
    """Return as many pictures as a batch takes: the named ones in turns, or drawn ones."""
    if not settings.images:
        return [synthetic_picture(settings.size, number) for number in range(settings.batch)]
    found = [Picture(read_bytes(path), synthetic_picture(settings.size, i).labels)
             for i, path in enumerate(settings.images)]
    return [found[i % len(found)] for i in range(settings.batch)]


def likely_scores(picture: Picture, classes: int, item: int) -> np.ndarray:
    """Return scores that follow a picture's labels, as a trained net's do: random ones would keep the CRF busier."""
    scores = np.random.default_rng(item).normal(0, 1, (classes, *picture.labels.shape)).astype(np.float32)
    np.put_along_axis(scores, picture.labels[None].astype(np.int64) % classes, 6, 0)
    return scores


def _pass(subject: Subject, given: Sequence[Picture], likely: Sequence[Any] | None,
          folder: Path) -> tuple[dict[str, float], list[np.ndarray]]:
    """Run one batch from coded pictures to written label maps; return each stage's seconds, and the net's labels."""
    net, settings, taken = subject.net, subject.settings, {}
    begin = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal begin
        net.backend.synchronize()
        now = time.perf_counter()
        taken[stage], begin = now - begin, now

    images = [_fitted(decode_image(picture.data), settings.size) for picture in given]
    subject.fill(net, images)
    done("decode")
    net.run()
    done("net")
    labels = coarse = subject.labels(net)
    done("upsample")
    if settings.crf:
        with net.backend.active():
            labels = [subject.refined(net, image, subject.full_scores(net, i) if likely is None else likely[i])
                      for i, image in enumerate(images)]
        done("CRF")
    for i, labelled in enumerate(labels):
        with atomic_write(folder / f"{i}.png") as file:
            file.write(encode_labels(labelled))
    done("write")
    return taken, coarse


def _fitted(image: np.ndarray, size: int) -> np.ndarray:
    return image if image.shape[:2] == (size, size) else resize_image(image, size, size)


def benchmark(model: str | Path, settings: Settings, weights: str | Path | None = None,
              say: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Measure one net.

    Parameters
    ----------
    model : str or path
    settings : Settings
    weights : path, optional
    say : callable of str
        Told what is being done.

    Returns
    -------
    dict
        ``stages`` (each `measured`), ``whole``, ``images_per_second`` of the net and of everything,
        ``flops``, ``check`` (against float32 on the CPU) and, on a CUDA device, ``recorded`` and
        ``stream``.
    """
    say(f"{model}: making the net")
    subject = Subject(model, settings, weights)
    given = pictures(settings)
    likely = None
    if subject.weights == "random" and settings.crf:
        likely = [subject.net.backend.asarray(likely_scores(picture, subject.classes, i))
                  for i, picture in enumerate(given)]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + settings.repeats):
            say(f"{model}: {'warming up' if not i else f'pass {i} of {settings.repeats}'}")
            taken, labels = _pass(subject, given, likely, Path(folder))
            for stage, seconds in taken.items() if i else ():
                times.setdefault(stage, []).append(seconds)
    whole = [sum(parts) for parts in zip(*times.values())]
    stages = {stage: measured(seconds) for stage, seconds in times.items()}
    scores = subject.net.blobs[subject.scores]
    result: dict[str, Any] = {
        "model": str(model), "name": subject.name, "weights": subject.weights,
        "crf_scores": None if not settings.crf else "drawn" if likely is not None else "the net's",
        "flops": subject.flops, "parameters": sum(blob.count for blobs in subject.net.params.values()
                                                  for blob in blobs),
        "score_map": list(scores.shape[2:]), "stages": stages, "whole": measured(whole),
        "images_per_second": {"net": settings.batch / stages["net"]["p50_ms"] * 1e3,
                              "whole": settings.batch / measured(whole)["p50_ms"] * 1e3},
        "flops_per_second": subject.flops * settings.batch / stages["net"]["p50_ms"] * 1e3,
        "paper": _paper(subject.known)}
    if subject.net.backend.name != "cpu":
        say(f"{model}: recorded")
        result["recorded"] = _recorded(subject)
        say(f"{model}: streaming")
        result["stream"] = _stream(model, settings, weights, given)
    say(f"{model}: checking")
    result["check"] = _check(subject, [_fitted(decode_image(picture.data), settings.size) for picture in given], labels)
    return result


def _recorded(subject: Subject) -> dict[str, Any]:
    """Return how fast the net's forward pass is as a CUDA graph, replayed behind itself and waited for once."""
    net, settings = subject.net, subject.settings
    recording = net.record()
    recording.replay()
    net.backend.synchronize()
    latencies = []
    for _ in range(settings.repeats):
        begin = time.perf_counter()
        recording.replay()
        net.backend.synchronize()
        latencies.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for _ in range(settings.repeats):
        recording.replay()
    net.backend.synchronize()
    seconds = (time.perf_counter() - begin) / settings.repeats
    return measured(latencies) | {"images_per_second": settings.batch / seconds,
                                  "flops_per_second": subject.flops * settings.batch / seconds}


def _stream(model: str | Path, settings: Settings, weights: str | Path | None,
            given: Sequence[Picture]) -> dict[str, Any]:
    """Return how fast a Segmenter turns decoded images into label maps, copies and all overlapping."""
    from atrouscaffe.pipeline.segment import Segmenter

    spec, known = net_and_model(str(model), weights, None, None)
    segmenter = Segmenter(spec, weights or shipped_weights(known), settings.device, precision=settings.precision,
                          mean=list(known.mean if known else VOC_MEAN), scale=known.scale if known else 1.0,
                          allow_missing=True)
    if not segmenter.net.reports:
        fill_at_random(segmenter.net)
    images = [_fitted(decode_image(picture.data), settings.size) for picture in given]
    many = [images[i % len(images)] for i in range(settings.repeats * settings.batch)]
    for _ in segmenter.stream(images[:1] * 4):  # the first passes measure and record
        pass
    begin = time.perf_counter()
    count = sum(1 for _ in segmenter.stream(many))
    return {"images": count, "images_per_second": count / (time.perf_counter() - begin)}


def _check(subject: Subject, images: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, Any]:
    """Compare the first image's scores and labels with those of float32 on the CPU.

    On the CPU in float32, which is the reference, a second pass must give the same bits.
    """
    net = subject.net
    ours = net.blobs[subject.scores].data[0].astype(np.float64)
    reference = net if net.backend.name == "cpu" else subject.make("cpu", "fp32")
    subject.fill(reference, images[:len(reference.blobs[subject.input].array)])
    reference.forward()
    theirs = reference.blobs[subject.scores].data[0].astype(np.float64)
    expected = subject.labels(reference)[0]
    scale = float(abs(theirs).max())
    return {"against": "a second pass" if reference is net else "fp32 on the CPU",
            "equal_labels": float((labels[0] == expected).mean()),
            "largest_relative_difference": float(abs(ours - theirs).max()) / scale if scale else 0.0,
            "same_bits": bool(np.array_equal(ours, theirs))}


def _paper(known: KnownModel | None) -> dict[str, Any]:
    """Return the paper's figures for a net: 8 frames a second are the 4x4 net's, the CRF's time is of all."""
    speed, rows = paper_numbers()["speed"], {row["method"]: row for row in paper_numbers()["table2"]}
    found: dict[str, Any] = {"gpu": speed["gpu"], "crf_seconds": speed["crf_seconds_per_image"]}
    name = known.name if known else ""
    if name == AS_TRAINED:
        found["net_images_per_second"] = speed["test_dcnn_fps"]
    elif name == "deeplab-largefov":  # not published: as much faster as it trains
        ratio = (rows["DeepLab-CRF-LargeFOV"]["training_images_per_s"]
                 / rows["DeepLab-CRF-4x4"]["training_images_per_s"])
        found["net_images_per_second_by_table2"] = round(speed["test_dcnn_fps"] * ratio, 1)
    return found
