"""Segmenter: an image in, labels, probabilities and scores out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atrouscaffe.data.image import check_image
from atrouscaffe.data.label_sets import labels_of
from atrouscaffe.errors import ArgumentError
from atrouscaffe.net import Net
from atrouscaffe.ops.interp import resize
from atrouscaffe.ops.pixels import enlarged_labels, image_to_blob
from atrouscaffe.ops.softmax import softmax
from atrouscaffe.pipeline.crops import scores_of_crops
from atrouscaffe.pipeline.deploy import make_deploy
from atrouscaffe.pipeline.passes import PassSizes
from atrouscaffe.pipeline.placement import Placement
from atrouscaffe.pipeline.preprocessing import crf_options, preprocessing
from atrouscaffe.pipeline.registry import missing_weights, net_and_model, shipped_weights
from atrouscaffe.pipeline.runner import Runner, RunnerPool
from atrouscaffe.pipeline.samples import Sampled, check_samples, sample_probabilities
from atrouscaffe.pipeline.stream import stream_labels
from atrouscaffe.pipeline.tiling import Axis
from atrouscaffe.runtime.backend import module_of
from atrouscaffe.runtime.budget import default_budget
from atrouscaffe.spec import TEST

__all__ = ["Segmentation", "Segmenter"]


class Segmentation(NamedTuple):
    """What a `Segmenter` finds in one image.

    Attributes
    ----------
    labels : (H, W) uint8
        The class of the largest probability; the first one where several are equal.
    probabilities : (C, H, W) float32
        Softmax of the scores, or what the CRF made of it.
    scores : (C, H, W) float32
        The net's; the logarithm of the probabilities where a DenseCRF layer ends the net.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray


class Segmenter:
    """A net with everything around it: preprocessing, padding, tiles, CRF.

    Parameters
    ----------
    prototxt : path, text or NetSpec, optional
        The net: a deploy net, or a test net, whose data layer is then replaced by an input; or the
        name of a model of the paper (``"deeplab-largefov"``). May be left out with weights that are
        known and whose net comes with this package. Without net and weights, the embedded model
        (`atrouscaffe.pipeline.registry.EMBEDDED`) is used.
    weights : path or sequence of path, optional
        May be left out for a model whose weights come with this package.
    device : str
    precision : {"fp32", "tf32", "fp16"}
        Of the operands of matrix products on a CUDA device; see `Net`.
    engine, winograd
        Ways of convolutions on the CPU; see `Net`.
    mean : float, sequence of float, or path, optional
        Subtracted from each channel, in the order in which channels go in; or a mean file.
    scale : float, optional
        Applied after the mean.
    channel_order : {"bgr", "rgb"}
        What the net wants; images always come as BGR.
    crf : bool, str or mapping
        True takes the known model's preset, else ``"paper"``; a string names a preset; a mapping
        gives parameters in place of the preset's.
    crf_params : mapping, optional
        Parameters in place of the preset's; see `atrouscaffe.crf.densecrf.refine`.
    output : str, optional
        Blob of the scores, where the net has several outputs.
    variables : mapping of str to str, optional
        Fill ``${NAME}`` placeholders.
    dialect : {"v1", "v2", "bvlc"}, optional
    weights_dialect : str, optional
        A wire dialect; see `atrouscaffe.formats.dialect`.
    proto : path, optional
        The caffe.proto of the fork that wrote the weights.
    allow_missing : bool
        Load what fits of the weights; without any weights, run on fillers.
    allow_paths : sequence of path
    memory_budget : int, optional
        Bytes for blobs, parameters and results; larger images are cut into tiles to stay below.
    tile : int, optional
        Largest side of a tile, in pixels; by default as large as the budget allows.
    samples : int
        Passes over each image, of whose probabilities the mean is taken: Bayesian SegNet, whose
        Dropout layers have ``sample_weights_test``.

    Raises
    ------
    AtrousCaffeError
        Files that cannot be read, weights that do not fit, preprocessing that is not known.

    Notes
    -----
    Mean and scale come from the arguments, else from the net's ``transform_param``, else from the
    known models (found by the weights' SHA-256 or the net's name). Images smaller than the net's input
    are padded at the bottom and right with the mean (0 after subtraction) and the scores are cut to
    the image, as in the original. For larger ones the net is reshaped; above the memory budget, or
    where it cannot be reshaped, the image is cut into tiles that overlap by the receptive field,
    with the scores of one large pass. Where a known model's authors resize each image to the net's
    input, or average crops, so does this; an image gets a mirrored margin where the net has no padding. Scores on a
    coarser grid than the image are enlarged bilinearly with aligned corners (by which DeepLab's grid of
    every 8th pixel is exact).

    Threads may share a Segmenter: each running call has activations of its own over the shared weights, as
    many as there are compute threads and the memory budget allows; further calls wait. It can be pickled: it
    is then made anew from its arguments, files read again.
    """

    def __init__(self, prototxt: Any = None, weights: Any = None, device: str = "cpu", *,
                 precision: str = "fp32", engine: str | None = None, winograd: bool = True,
                 mean: float | Sequence[float] | str | Path | None = None, scale: float | None = None,
                 channel_order: str = "bgr", crf: bool | str | Mapping[str, Any] = False,
                 crf_params: Mapping[str, Any] | None = None, output: str | None = None,
                 variables: Mapping[str, str] | None = None, dialect: str | None = None,
                 weights_dialect: str | None = None, proto: str | Path | None = None, allow_missing: bool = False,
                 allow_paths: Sequence[str | Path] = (), memory_budget: int | None = None,
                 tile: int | None = None, samples: int = 1) -> None:
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        if channel_order not in ("bgr", "rgb"):
            raise ArgumentError(f"channel_order: expected 'bgr' or 'rgb', got {channel_order!r}")
        if tile is not None and tile < 1:
            raise ArgumentError(f"tile: expected at least 1 pixel, got {tile}")
        spec, self.model = net_and_model(prototxt, weights, variables, dialect)
        if weights is None and not allow_missing:
            weights = shipped_weights(self.model)
        if weights is None and not allow_missing:
            raise ArgumentError(missing_weights(self.model) if self.model else
                                "weights: expected a caffemodel, got none", spec.path)
        known = self.model
        self.deploy = make_deploy(spec, output or (known.output if known else "") or None, allow_paths,
                                  known.size if known else None)
        self.deploy.check()
        self._placement = Placement.of(self.deploy, known is not None and known.resized)
        self._crops = known is not None and known.crops
        check_samples(self.deploy.spec, samples)
        self.samples = int(samples)
        self.channel_order = channel_order
        self.mean, self.scale, self.preprocessing = preprocessing(self.deploy, self.model, mean, scale)
        self.crf = crf_options(self.model, crf, crf_params)
        shift, fields = self.deploy.steps(), self.deploy.fields()
        self._axes = tuple(Axis(n, step, field) for n, step, field in zip(self.deploy.size, shift, fields))
        net = Net(self.deploy.spec, TEST, weights=weights, weights_dialect=weights_dialect, proto=proto,
                       allow_missing=allow_missing, keep=[self.deploy.score], device=device, precision=precision,
                       engine=engine, winograd=winograd, allow_paths=allow_paths,
                       input_shapes=self.deploy.input_shapes(self.deploy.size),
                       memory_budget=memory_budget, seed=0)
        if memory_budget is None:
            memory_budget = net.backend.memory_budget() or default_budget()
        self.memory_budget = memory_budget
        self._runners = RunnerPool(Runner(net, self.deploy, self.deploy.size, memory_budget))
        self.classes = self.net.blobs[self.deploy.score].shape[1]
        if self.classes > 256:
            raise ArgumentError(f"output {self.deploy.score!r}: expected at most 256 classes, got {self.classes}",
                                spec.path)
        self.label_set = labels_of(self.model.labels if self.model else "", self.classes)
        self.names = self.label_set.classes
        self._sizes = PassSizes(self.deploy, self._axes, self.classes, memory_budget, tile)
        self._mean_there = self.net.backend.asarray(self.mean.reshape(-1))

    @property
    def net(self) -> Net:
        """The net, or the first of the nets that share its weights where threads have called."""
        return self._runners.first.net

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = dict(self._arguments)
        for name in ("prototxt", "weights", "proto"):
            arguments[name] = absolute(arguments[name])
        return _made_again, (arguments,)

    # -- running --------------------------------------------------------------------------------

    def __call__(self, image: Any, order: str = "bgr") -> Segmentation:
        """Segment one image.

        Parameters
        ----------
        image : path, PIL image or array
            An array (H, W, 3) or (H, W) of uint8, uint16 or numbers from 0 to 1; files and PIL images are
            turned upright as their EXIF orientation says.
        order : {"bgr", "rgb"}
            Of an array's channels. (`channel_order` says what the net wants.)

        Returns
        -------
        Segmentation

        Raises
        ------
        DataError, ArgumentError
            Not an image.
        BudgetError
            More memory than allowed, whatever the tiles.
        """
        image = check_image(image, order=order)
        if self.samples > 1:
            return Segmentation(*self.sampled(image)[:3])
        backend = self.net.backend
        with backend.active():
            scores = self._scores(image)
            probabilities = backend.xp.empty_like(scores)
            flat = (1, self.classes, scores.shape[1] * scores.shape[2])
            softmax(scores.reshape(flat), probabilities.reshape(flat))
            if self.crf is not None:
                probabilities = self._refined(image, probabilities, scores)
            probabilities, scores = backend.to_numpy(probabilities), backend.to_numpy(scores)
        return Segmentation(probabilities.argmax(0).astype(np.uint8), probabilities, scores)

    def sampled(self, image: Any, order: str = "bgr") -> Sampled:
        """Segment one image by the mean of `samples` passes; also return how much they differ.

        Parameters
        ----------
        image : path, PIL image or array
            An array (H, W, 3) or (H, W) of uint8, uint16 or numbers from 0 to 1; files and PIL images are
            turned upright as their EXIF orientation says.
        order : {"bgr", "rgb"}
            Of an array's channels. (`channel_order` says what the net wants.)
        """
        image = check_image(image, order=order)
        backend = self.net.backend
        with backend.active():
            mean, uncertainty = sample_probabilities(lambda: self._scores(image), self.samples)
            scores = backend.xp.log(backend.xp.maximum(mean, np.finfo(np.float32).tiny))
            refined = mean if self.crf is None else self._refined(image, mean, scores)
            arrays = [backend.to_numpy(array) for array in (refined, scores, uncertainty)]
        return Sampled(arrays[0].argmax(0).astype(np.uint8), *arrays)

    def labels(self, image: Any, order: str = "bgr") -> np.ndarray:
        """Return the labels of one image alone, (H, W) uint8.

        Nothing of the size of the scores is made where the net's own are on a coarser grid and there is
        no CRF; on a CUDA device only the image and the labels travel.
        """
        return next(self.stream([check_image(image, order=order)]))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the labels of each image, (H, W) uint8, in order.

        On a CUDA device copies overlap with the work, and sizes that come twice in a row run as a
        recorded CUDA graph.

        Parameters
        ----------
        images : iterable of (H, W, 3) uint8, B, G, R
        """
        if self.net.backend.name == "cpu" or self.samples > 1:
            for image in images:
                if self.crf is not None or self.samples > 1:
                    yield self(image).labels
                    continue
                labels = np.empty(image.shape[:2], np.uint8)
                self._label(image, self._pixels(image), labels)
                yield labels
        else:
            yield from stream_labels(self.net.backend, images, self._pixels, self._label_on_device)

    def _label_on_device(self, pixels: Any, image: np.ndarray) -> Any:
        backend = self.net.backend
        if self.crf is not None:
            from atrouscaffe.crf.densecrf import refine_on_device

            colours = pixels if pixels.shape == image.shape else backend.asarray(image)
            return refine_on_device(colours[:, :, ::-1], self._scores(image, pixels), self.crf, backend, labels=True)
        labels = backend.xp.empty(image.shape[:2], np.uint8)
        self._label(image, pixels, labels)
        return labels

    def _label(self, image: np.ndarray, pixels: Any, labels: Any) -> None:
        """Write the labels of an image whose pixels, in the net's channels, are on the net's device."""
        size = pixels.shape[:2]
        whole, tile = self._pass(size)
        with self._runners.take() as runner:
            scores = self._coarse_scores(runner, pixels, size, whole, tile)
            span = self._placement.span(whole, scores.shape[1:], image.shape[:2])
            enlarged_labels(module_of(scores).ascontiguousarray(scores), span, labels)

    def _refined(self, image: np.ndarray, probabilities: Any, scores: Any) -> Any:
        """Return what the CRF makes of the probabilities, on the net's device."""
        from atrouscaffe.crf.densecrf import refine, refine_on_device

        backend = self.net.backend
        if backend.name != "cpu":
            return refine_on_device(backend.asarray(image)[:, :, ::-1], scores, self.crf or {}, backend)
        result = refine(np.ascontiguousarray(image[..., ::-1]), probabilities, **(self.crf or {}))
        return np.ascontiguousarray(result.probabilities, np.float32)

    def _channels(self, image: np.ndarray) -> np.ndarray:
        """Return an image with as many channels as the net takes, uint8."""
        if self.deploy.channels == 1:
            import cv2

            return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, None]
        return image

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        """Return an image as it goes into the net, uint8."""
        return self._placement.place(self._channels(image))

    def prepare(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return an image as the net takes it, padded at the bottom and right.

        Parameters
        ----------
        image : (H, W, 3) uint8, B, G, R
        size : (int, int)
            Height and width of the result, at least the image's.

        Returns
        -------
        (1, C, height, width) float32
        """
        padded = np.empty((1, self.deploy.channels, *size), np.float32)
        image_to_blob(self._channels(image), self.mean.reshape(-1), padded, self.scale, self.channel_order == "rgb")
        return padded

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Return the net's scores of an image, (C, H, W) float32."""
        backend = self.net.backend
        with backend.active():
            return backend.to_numpy(self._scores(image))

    def _scores(self, image: np.ndarray, pixels: Any = None) -> Any:
        """Return the net's scores of an image, (C, H, W) float32 on the net's device, where `pixels` may be already."""
        if pixels is None:
            pixels = self.net.backend.asarray(self._pixels(image))
        whole, tile = self._pass(pixels.shape[:2])
        with self._runners.take() as runner:
            result = self._coarse_scores(runner, pixels, pixels.shape[:2], whole, tile)
            xp, size = module_of(result), image.shape[:2]
            span = self._placement.span(whole, result.shape[1:], size)
            if result.shape[1:] != span:
                enlarged = xp.empty((1, self.classes, *span), np.float32)
                resize(result[None], enlarged)
                result = enlarged[0]
            else:
                result = result.copy()
        if span != size:
            result = xp.ascontiguousarray(result[:, :size[0], :size[1]])
        if self.deploy.beliefs:
            xp.log(xp.maximum(result, np.finfo(np.float32).tiny, out=result), out=result)
        return result

    def _coarse_scores(self, runner: Runner, pixels: Any, size: tuple[int, int], whole: tuple[int, int],
                       tile: tuple[int, int]) -> Any:
        """Return the net's own scores of an image of `size`, (C, h, w), in one pass or by tiles; good for one pass."""
        mean, reverse = self._mean_there, self.channel_order == "rgb"
        if tile == whole:
            runner.reshape(whole)
            image_to_blob(pixels, mean, runner.input, self.scale, reverse)
            return runner.run(size)
        padded = module_of(pixels).empty((1, self.deploy.channels, *whole), np.float32)
        image_to_blob(pixels, mean, padded, self.scale, reverse)
        if self._crops:
            return scores_of_crops(padded, tile, lambda part: self._crop(runner, part))
        return self._tiled(runner, padded, tile)

    def _pass(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the padded size of an image of `size`, and the size of one pass over it."""
        if self._crops:
            (height, width), (least_height, least_width) = size, self.deploy.size
            return (max(height, least_height), max(width, least_width)), self.deploy.size
        return self._sizes.of(size)

    def _crop(self, runner: Runner, part: Any) -> Any:
        """Return the scores of a crop of the net's size."""
        runner.reshape(self.deploy.size)
        runner.input[...] = part
        return runner.run(self.deploy.size)

    def _tiled(self, runner: Runner, padded: Any, tile: tuple[int, int]) -> Any:
        """Return the scores of a large image from overlapping tiles."""
        runner.reshape(tile)
        own = runner.net.blobs[self.deploy.score].shape[2:]
        sizes = [n + int((big - small) / axis.field.step)
                 for n, big, small, axis in zip(own, padded.shape[2:], tile, self._axes)]
        result = module_of(padded).empty((self.classes, *sizes), np.float32)
        cuts = [axis.tiles(big, small, n) for axis, big, small, n in zip(self._axes, padded.shape[2:], tile, sizes)]
        for row in cuts[0]:
            for column in cuts[1]:
                runner.input[...] = padded[:, :, row.start:row.start + tile[0], column.start:column.start + tile[1]]
                scores = runner.run(tile)
                result[:, row.first:row.last, column.first:column.last] = scores[
                    :, row.offset:row.offset + row.last - row.first,
                    column.offset:column.offset + column.last - column.first]
        return result


def absolute(value: Any) -> Any:
    """Return an argument that names files with absolute paths, so that it means the same in another process."""
    if isinstance(value, str) and "\n" not in value and Path(value).exists():
        return os.path.abspath(value)
    if isinstance(value, Path):
        return value.absolute()
    return type(value)(absolute(part) for part in value) if isinstance(value, (list, tuple)) else value


def _made_again(arguments: dict[str, Any]) -> Segmenter:
    return Segmenter(**arguments)
