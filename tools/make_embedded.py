#!/usr/bin/env python3
"""Write the nets of the embedded model into prototxt/deeplab-mnv2-largefov/.

    python tools/make_embedded.py            write the files
    python tools/make_embedded.py --check    exit 1 if a file differs from what would be written

DeepLab's recipe on a small trunk: MobileNetV2 of half width (Sandler et al., CVPR 2018, table 2), its
last two strides taken out and made up for by holes, so that scores come at stride 8; then LargeFOV's
head with fewer channels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "prototxt"
FOLDER = "deeplab-mnv2-largefov"
# One row a bottleneck: channels out, stride, hole. The first is not expanded; the others expand sixfold.
BOTTLENECKS = ((8, 1, 1), (12, 2, 1), (12, 1, 1), (16, 2, 1), (16, 1, 1), (16, 1, 1), (32, 1, 1), (32, 1, 2),
               (32, 1, 2), (32, 1, 2), (48, 1, 2), (48, 1, 2), (48, 1, 2), (80, 1, 2), (80, 1, 4), (80, 1, 4),
               (160, 1, 4))
STEM = 16
EXPANSION = 6
FEATURES = "expanded_conv_16/project"
CLASSES = 21
FC6, FC7, HOLE = 256, 256, 12
DROPOUT = "0.05"
TEACHER_CHANNELS = 256
CROP, BATCH = 321, 4  # of the stage that trains every layer
FEATURE_CROP, HEAD_BATCH = 385, 8  # of the stage that trains the head on features computed before
EVERY = 2  # features are kept at every second place in both directions: neighbours have little to add
SCALES = ("0.6", "0.8", "1", "1", "1.25", "1.5")
TEMPERATURE = 2
NOISE, POOL_NOISE = "0.15", "0.2"  # share of features, and of their means, dropped before both heads
HINTS = ("0.00005", "0.12", "0.00016", "0.0008")  # weights of fc6's, fc6_pool's, fc7's, fc8's distances from its layers
FROZEN = ("param { lr_mult: 0 decay_mult: 0 }",) * 2
LEARNED = ("param { lr_mult: 1 decay_mult: 1 }", "param { lr_mult: 2 decay_mult: 0 }")


def layer(name: str, type_name: str, bottoms: tuple[str, ...], tops: tuple[str, ...], *rest: str) -> str:
    """Return one ``layer { }`` block."""
    lines = [f'name: "{name}"', f'type: "{type_name}"', *(f'bottom: "{b}"' for b in bottoms),
             *(f'top: "{t}"' for t in tops), *rest]
    return "layer {\n" + "".join(f"  {line}\n" for line in lines) + "}"


class Writer:
    """Writes layers; names get `prefix`, so that a second trunk can stand in the same net.

    Parameters
    ----------
    prefix : str
    learn : sequence of str
        ``param`` blocks of weight and bias; none in a deploy net.
    """

    def __init__(self, prefix: str = "", learn: tuple[str, ...] = ()) -> None:
        self.prefix, self.learn = prefix, learn

    def conv(self, name: str, bottom: str, outputs: int, options: str, *, filled: bool = False,
             alone: bool = False) -> str:
        """Return a convolution whose top bears its name; `alone`: no gradient passes down through it."""
        filler = ' weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" }' if filled else ""
        name = self.prefix + name
        block = ["propagate_down: false"] if alone else []
        return layer(name, "Convolution", (bottom,), (name,), *self.learn, *block,
                     f"convolution_param {{ num_output: {outputs} {options}{filler} }}")

    def relu6(self, name: str) -> str:
        """Return an in-place rectifier behind a layer of the trunk."""
        name = self.prefix + name
        return layer(f"{name}/relu6", "ReLU6", (name,), (name,))

    def relu(self, name: str) -> str:
        """Return a rectifier behind a layer of a head; its bottom stays, since losses look at it."""
        name = self.prefix + name
        return layer(f"{name}/relu", "ReLU", (name,), (f"{name}/relu",))

    def trunk(self) -> Iterator[str]:
        """Yield MobileNetV2 from `data` to 160 channels at stride 8."""
        yield self.conv("Conv", "data", STEM, "kernel_size: 3 pad: 1 stride: 2")
        yield self.relu6("Conv")
        bottom, channels = self.prefix + "Conv", STEM
        for i, (outputs, stride, hole) in enumerate(BOTTLENECKS):
            name = f"expanded_conv_{i}" if i else "expanded_conv"
            wide, source = channels, bottom
            if i:
                wide = EXPANSION * channels
                yield self.conv(f"{name}/expand", source, wide, "kernel_size: 1")
                yield self.relu6(f"{name}/expand")
                source = f"{self.prefix}{name}/expand"
            step = f" stride: {stride}" if stride > 1 else ""
            holes = f" dilation: {hole}" if hole > 1 else ""
            yield self.conv(f"{name}/depthwise", source, wide, f"kernel_size: 3 pad: {hole}{step}{holes} group: {wide}")
            yield self.relu6(f"{name}/depthwise")
            yield self.conv(f"{name}/project", f"{self.prefix}{name}/depthwise", outputs, "kernel_size: 1")
            top = f"{self.prefix}{name}/project"
            if stride == 1 and outputs == channels:
                added = f"{self.prefix}{name}/add"
                yield layer(added, "Eltwise", (top, bottom), (added,), "eltwise_param { operation: SUM }")
                top = added
            bottom, channels = top, outputs

    def image_pool(self, features: str, noise: bool = False) -> Iterator[str]:
        """Yield the mean of the features over the image, with some dropped for `noise`."""
        name = self.prefix + "image_pool"
        yield layer(name, "Pooling", (features,), (name,), "pooling_param { pool: AVE global_pooling: true }")
        if noise:
            yield layer(f"{name}/noise", "Dropout", (name,), (name,),
                        f"dropout_param {{ dropout_ratio: {POOL_NOISE} }}")

    def head(self, train: bool, side: int, bottom: str = FEATURES, hole: int = HOLE,
             hints: int = 0) -> Iterator[str]:
        """Yield LargeFOV's head: fc6 with its hole, beside it the image's mean, fc7, the classifier.

        `side` is that of the score map; `hints`: layers follow the teacher's of the same shape, each by itself,
        so that none waits for another. 1: all; 2: fc7 and the scores, the others stand still.
        """
        def hint(name: str, of: str, weight: str) -> Iterator[str]:
            if hints == 1 or (hints == 2 and name in ("fc7", "fc8_voc12")):
                loss = f"loss_hint_{name}"
                yield layer(loss, "EuclideanLoss", (name, of), (loss,), f"loss_weight: {weight}")

        yield self.conv("fc6", bottom, FC6, f"kernel_size: 3 pad: {hole} dilation: {hole}", filled=train)
        yield from hint("fc6", "aspp0", HINTS[0])
        yield self.relu("fc6")
        yield self.conv("fc6_pool", "image_pool", FC6, "kernel_size: 1", filled=train)
        yield from hint("fc6_pool", "image_pooling", HINTS[1])
        yield self.relu("fc6_pool")
        yield layer("fc6_pool_up", "Interp", ("fc6_pool/relu",), ("fc6_pool_up",),
                    f"interp_param {{ height: {side} width: {side} }}")
        yield layer("fc6_concat", "Concat", ("fc6/relu", "fc6_pool_up"), ("fc6_concat",))
        if hints == 2:
            self.learn = LEARNED
        yield self.conv("fc7", "fc6_concat", FC7, "kernel_size: 1", filled=train, alone=hints > 0)
        yield from hint("fc7", "concat_projection", HINTS[2])
        yield self.relu("fc7")
        if train and not hints:
            yield layer("fc7/dropout", "Dropout", ("fc7/relu",), ("fc7/relu",),
                        f"dropout_param {{ dropout_ratio: {DROPOUT} }}")
        yield self.conv("fc8_voc12", "fc7/relu", CLASSES, "kernel_size: 1", filled=train, alone=hints > 0)
        yield from hint("fc8_voc12", "logits_semantic", HINTS[3])

    def teacher_head(self, side: int, features: str = "") -> Iterator[str]:
        """Yield the starting model's head: features of the whole image beside those of each place."""
        features, wide, prefix = features or self.prefix + FEATURES, TEACHER_CHANNELS, self.prefix
        up, concat = f"{prefix}image_pooling_up", f"{prefix}concat"
        yield self.conv("image_pooling", f"{prefix}image_pool", wide, "kernel_size: 1")
        yield self.relu("image_pooling")
        yield layer(up, "Interp", (f"{prefix}image_pooling/relu",), (up,),
                    f"interp_param {{ height: {side} width: {side} }}")
        yield self.conv("aspp0", features, wide, "kernel_size: 1")
        yield self.relu("aspp0")
        yield layer(concat, "Concat", (up, f"{prefix}aspp0/relu"), (concat,))
        yield self.conv("concat_projection", concat, wide, "kernel_size: 1")
        yield self.relu("concat_projection")
        yield self.conv("logits_semantic", f"{prefix}concat_projection/relu", CLASSES, "kernel_size: 1")


def data_layer(crop: int, shuffle: bool = True) -> str:
    """Return the layer that reads crops of VOC."""
    image = ['root_folder: "${DATA_ROOT}"', 'source: "${LIST}"', "label_type: PIXEL", f"batch_size: {BATCH}",
             f"shuffle: {str(shuffle).lower()}"]
    transform = ["mean_value: 127.5", "scale: 0.00784313725490196  # 1 / 127.5", f"crop_size: {crop}", "mirror: true",
                 *(f"scale_factors: {s}" for s in SCALES)]
    return layer("data", "ImageSegData", (), ("data", "label", "size"), "image_data_param {",
                 *(f"  {line}" for line in image), "}", "transform_param {", *(f"  {line}" for line in transform), "}")


def losses(scores: str, teacher: str, label: str, soft: str, hard: str) -> Iterator[str]:
    """Yield the loss against the teacher at stride 8 (or 16), and the one against the labels."""
    yield layer("loss_soft", "SoftTargetLoss", ("fc8_voc12", teacher), ("loss_soft",), f"loss_weight: {soft}",
                f"soft_target_loss_param {{ temperature: {TEMPERATURE} }}")
    yield layer("loss", "SoftmaxWithLoss", (scores, label), ("loss",), f"loss_weight: {hard}",
                "loss_param { ignore_label: 255 }")
    yield layer("accuracy", "SegAccuracy", (scores, label), ("accuracy",), "seg_accuracy_param { ignore_label: 255 }")


HEADER = "# {what}\n# Written by tools/make_embedded.py; edit that, not this file.\n"


def features_net() -> str:
    """Return the net that computes what the head is trained on: the starting model's trunk, on random crops."""
    def shrink(name: str, bottom: str, factor: int) -> str:
        return layer(name, "Interp", (bottom,), (name,), f"interp_param {{ shrink_factor: {factor} }}")

    blocks = ['name: "deeplab-mnv2-largefov-features"', data_layer(FEATURE_CROP, shuffle=False), *Writer().trunk(),
              shrink("features", FEATURES, EVERY), shrink("labels", "label", 8 * EVERY)]
    return HEADER.format(what="Before stage 1: the starting model's features and the labels of random crops.") \
        + "\n".join(blocks) + "\n"


def head_net(hints: int) -> str:
    """Return the net of stages 1 and 2: the head alone, on features of the trunk as it came, beside the old head."""
    data = layer("data", "HDF5Data", (), ("features", "labels"),
                 f'hdf5_data_param {{ source: "${{FEATURES}}" batch_size: {HEAD_BATCH} shuffle: true }}')
    noise = layer("noise", "Dropout", ("features",), ("noisy",), f"dropout_param {{ dropout_ratio: {NOISE} }}")
    side, teacher = (FEATURE_CROP - 1) // (8 * EVERY) + 1, Writer(learn=FROZEN)
    blocks = ['name: "deeplab-mnv2-largefov-head"', data, noise, *teacher.image_pool("noisy", noise=True),
              *teacher.teacher_head(side, "noisy"),
              *Writer(learn=LEARNED if hints == 1 else FROZEN).head(True, side, "noisy", HOLE // EVERY, hints),
              *losses("fc8_voc12", "logits_semantic", "labels", "1", "0.1")]
    which = "the head alone" if hints == 1 else "the head's last two layers"
    what = (f"Stage {hints}: {which}. Features are kept at every second place, so its hole is {HOLE // EVERY} here "
            f"for {HOLE}.\n# Both heads see the same features with some dropped: new ones at every pass.")
    return HEADER.format(what=what) + "\n".join(blocks) + "\n"


def whole_net() -> str:
    """Return the third stage's net: every layer learns; the starting model stands beside it as teacher."""
    side, teacher, writer = (CROP - 1) // 8 + 1, Writer("teacher/", FROZEN), Writer(learn=LEARNED)
    blocks = ['name: "deeplab-mnv2-largefov"', data_layer(CROP), layer("silence", "Silence", ("size",), ()),
              *teacher.trunk(), *teacher.image_pool("teacher/" + FEATURES), *teacher.teacher_head(side),
              *writer.trunk(), *writer.image_pool(FEATURES), *writer.head(True, side),
              layer("fc8_interp", "Interp", ("fc8_voc12",), ("fc8_interp",), "interp_param { zoom_factor: 8 }"),
              *losses("fc8_interp", "teacher/logits_semantic", "label", "1", "1")]
    return HEADER.format(what="Stage 3: every layer learns, from the labels and from the starting model.") \
        + "\n".join(blocks) + "\n"


def deploy_net() -> str:
    """Return the net that is used: an image in, scores at its size out."""
    head = 'name: "deeplab-mnv2-largefov"\ninput: "data"\n' + "".join(f"input_dim: {n}\n" for n in (1, 3, 513, 513))
    writer = Writer()
    blocks = [*writer.trunk(), *writer.image_pool(FEATURES), *writer.head(False, 65),
              layer("fc8_interp", "Interp", ("fc8_voc12",), ("fc8_interp",), "interp_param { zoom_factor: 8 }")]
    what = ("The embedded model: `data` is BGR, (x - 127.5) / 127.5, 0 beyond the image; sides of 8k + 1.")
    return HEADER.format(what=what) + head + "\n".join(blocks) + "\n"


def solver(stage: int) -> str:
    """Return a stage's solver."""
    net, rate, iterations, clip, snapshot, name = (
        ("train_head", "0.02", 1000, 80, 100, "head"), ("train_scores", "0.015", 300, 80, 100, "scores"),
        ("train", "0.0002", 30, 10, 10, "whole"))[stage - 1]
    lines = [f'net: "{net}.prototxt"', f"base_lr: {rate}", 'lr_policy: "poly"', "power: 0.9",
             f"max_iter: {iterations}", "momentum: 0.9", "weight_decay: 0.0001", f"clip_gradients: {clip}",
             "display: 10", "average_loss: 20", f"snapshot: {snapshot}", 'snapshot_prefix: "${SNAPSHOTS}/' + name + '"',
             "snapshot_format: HDF5", f"random_seed: {stage}"]
    return HEADER.format(what=f"Stage {stage}.") + "\n".join(lines) + "\n"


README = """# DeepLab-MobileNetV2-LargeFOV: the embedded model

The net behind `atrouscaffe segment photo.jpg` when no other is named; `docs/model-card.md` says how it was trained,
how well it does and what it is not good for.

| | |
| --- | --- |
| trunk | MobileNetV2 of half width to 160 channels, strides 8 in all, holes 2 and 4 where strides were |
| fc6 | 3x3, {fc6} outputs, pad {hole}, hole {hole} (spans {span}) |
| fc6_pool | the mean of all features, 1x1, {fc6} outputs, beside fc6 at every place |
| fc7, classifier | 1x1, {fc7} outputs; 1x1, 21 outputs, `fc8_voc12` |
| parameters | {parameters:,} |
| input | BGR, (x - 127.5) / 127.5, sides of 8k + 1, 0 beyond the image |
| training | `train_head.prototxt`, `train_scores.prototxt`, `train.prototxt`; see `tools/train_embedded.py` |

- Batch normalisation is folded into the convolutions: the trunk starts from a model that came so.
- `features.prototxt` is the starting model's trunk on random crops: what `train_head.prototxt` learns the head from.
- `train.prototxt` trains every layer; the starting model stands beside it whole, under `teacher/`.
- Placeholders: `${{DATA_ROOT}}` VOC's folder, `${{LIST}}` a list of images and label maps, `${{FEATURES}}` a list
  of HDF5 files, `${{SNAPSHOTS}}` a folder.

Written by `tools/make_embedded.py`; edit that, not these files.
"""


def parameters() -> int:
    """Return how many numbers the net has."""
    total, channels = 27 * STEM + STEM, STEM
    for i, (outputs, _, _) in enumerate(BOTTLENECKS):
        wide = EXPANSION * channels if i else channels
        total += (channels + 1) * wide if i else 0
        total += 10 * wide + (wide + 1) * outputs
        channels = outputs
    return total + (10 * channels + 2) * FC6 + (2 * FC6 + 1) * FC7 + (FC7 + 1) * CLASSES


def files() -> dict[str, str]:
    """Return every file as path under prototxt/ and text."""
    readme = README.format(fc6=FC6, fc7=FC7, hole=HOLE, span=2 * HOLE + 1, parameters=parameters())
    texts = {"features.prototxt": features_net(), "train_head.prototxt": head_net(1),
             "train_scores.prototxt": head_net(2), "train.prototxt": whole_net(),
             "deploy.prototxt": deploy_net(), "solver_head.prototxt": solver(1),
             "solver_scores.prototxt": solver(2), "solver.prototxt": solver(3),
             "README.md": readme}
    return {f"{FOLDER}/{name}": text for name, text in texts.items()}


def main(argv: list[str] | None = None) -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the embedded model's nets into prototxt/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder to write into")
    options = parser.parse_args(argv)
    different = []
    for name, text in files().items():
        path = options.root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        different.append(name)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in different:
        print(f"{'differs' if options.check else 'written'}: {options.root / name}")
    return 1 if options.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
