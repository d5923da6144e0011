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
DROPOUT = "0.2"
TEACHER_CHANNELS = 256
CROP, BATCH = 321, 4  # of the stage that trains every layer
FEATURE_CROP, HEAD_BATCH = 385, 16  # of the stage that trains the head on features computed before
EVERY = 2  # features are kept at every second place in both directions: neighbours have little to add
SCALES = ("0.6", "0.8", "1", "1", "1.25", "1.5")
TEMPERATURE = 2
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

    def conv(self, name: str, bottom: str, outputs: int, options: str, *, filled: bool = False) -> str:
        """Return a convolution whose top bears its name."""
        filler = ' weight_filler { type: "msra" } bias_filler { type: "constant" }' if filled else ""
        name = self.prefix + name
        return layer(name, "Convolution", (bottom,), (name,), *self.learn,
                     f"convolution_param {{ num_output: {outputs} {options}{filler} }}")

    def relu(self, name: str, kind: str = "ReLU6") -> str:
        """Return an in-place rectifier behind a layer."""
        name = self.prefix + name
        return layer(f"{name}/{kind.lower()}", kind, (name,), (name,))

    def trunk(self) -> Iterator[str]:
        """Yield MobileNetV2 from `data` to 160 channels at stride 8."""
        yield self.conv("Conv", "data", STEM, "kernel_size: 3 pad: 1 stride: 2")
        yield self.relu("Conv")
        bottom, channels = self.prefix + "Conv", STEM
        for i, (outputs, stride, hole) in enumerate(BOTTLENECKS):
            name = f"expanded_conv_{i}" if i else "expanded_conv"
            wide, source = channels, bottom
            if i:
                wide = EXPANSION * channels
                yield self.conv(f"{name}/expand", source, wide, "kernel_size: 1")
                yield self.relu(f"{name}/expand")
                source = f"{self.prefix}{name}/expand"
            step = f" stride: {stride}" if stride > 1 else ""
            holes = f" dilation: {hole}" if hole > 1 else ""
            yield self.conv(f"{name}/depthwise", source, wide, f"kernel_size: 3 pad: {hole}{step}{holes} group: {wide}")
            yield self.relu(f"{name}/depthwise")
            yield self.conv(f"{name}/project", f"{self.prefix}{name}/depthwise", outputs, "kernel_size: 1")
            top = f"{self.prefix}{name}/project"
            if stride == 1 and outputs == channels:
                added = f"{self.prefix}{name}/add"
                yield layer(added, "Eltwise", (top, bottom), (added,), "eltwise_param { operation: SUM }")
                top = added
            bottom, channels = top, outputs

    def head(self, train: bool, bottom: str = FEATURES, hole: int = HOLE) -> Iterator[str]:
        """Yield LargeFOV's head: fc6 with its hole, fc7, the classifier."""
        yield self.conv("fc6", bottom, FC6, f"kernel_size: 3 pad: {hole} dilation: {hole}", filled=train)
        yield self.relu("fc6", "ReLU")
        yield self.conv("fc7", "fc6", FC7, "kernel_size: 1", filled=train)
        yield self.relu("fc7", "ReLU")
        if train:
            yield layer("fc7/dropout", "Dropout", ("fc7",), ("fc7",), f"dropout_param {{ dropout_ratio: {DROPOUT} }}")
        yield self.conv("fc8_voc12", "fc7", CLASSES, "kernel_size: 1", filled=train)

    def teacher_head(self, crop: int) -> Iterator[str]:
        """Yield the starting model's head: features of the whole image beside those of each place."""
        side, features, wide = (crop - 1) // 8 + 1, self.prefix + FEATURES, TEACHER_CHANNELS
        names = {n: self.prefix + n for n in ("image_pool", "image_pooling", "image_pooling_up", "aspp0", "concat")}
        yield layer(names["image_pool"], "Pooling", (features,), (names["image_pool"],),
                    "pooling_param { pool: AVE global_pooling: true }")
        yield self.conv("image_pooling", names["image_pool"], wide, "kernel_size: 1")
        yield self.relu("image_pooling", "ReLU")
        yield layer(names["image_pooling_up"], "Interp", (names["image_pooling"],), (names["image_pooling_up"],),
                    f"interp_param {{ height: {side} width: {side} }}")
        yield self.conv("aspp0", features, wide, "kernel_size: 1")
        yield self.relu("aspp0", "ReLU")
        yield layer(names["concat"], "Concat", (names["image_pooling_up"], names["aspp0"]), (names["concat"],))
        yield self.conv("concat_projection", names["concat"], wide, "kernel_size: 1")
        yield self.relu("concat_projection", "ReLU")
        yield self.conv("logits_semantic", self.prefix + "concat_projection", CLASSES, "kernel_size: 1")


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
    """Return the net that computes what the head is trained on: the whole starting model, on random crops."""
    writer = Writer()

    def shrink(name: str, bottom: str, factor: int) -> str:
        return layer(name, "Interp", (bottom,), (name,), f"interp_param {{ shrink_factor: {factor} }}")

    blocks = ['name: "deeplab-mnv2-largefov-features"', data_layer(FEATURE_CROP, shuffle=False), *writer.trunk(),
              *writer.teacher_head(FEATURE_CROP), shrink("features", FEATURES, EVERY),
              shrink("teacher", "logits_semantic", EVERY), shrink("labels", "label", 8 * EVERY)]
    return HEADER.format(what="Before stage 1: the starting model's features, scores and labels of random crops.") \
        + "\n".join(blocks) + "\n"


def head_net() -> str:
    """Return the first stage's net: the head alone, on features of the trunk as it came."""
    data = layer("data", "HDF5Data", (), ("features", "teacher", "labels"),
                 f'hdf5_data_param {{ source: "${{FEATURES}}" batch_size: {HEAD_BATCH} shuffle: true }}')
    blocks = ['name: "deeplab-mnv2-largefov-head"', data,
              *Writer(learn=LEARNED).head(True, "features", HOLE // EVERY),
              *losses("fc8_voc12", "teacher", "labels", "1", "0.5")]
    what = (f"Stage 1: the head alone. Features are kept at every second place, so its hole is {HOLE // EVERY} here "
            f"for {HOLE}.")
    return HEADER.format(what=what) + "\n".join(blocks) + "\n"


def whole_net() -> str:
    """Return the second stage's net: every layer learns; the starting model stands beside it as teacher."""
    blocks = ['name: "deeplab-mnv2-largefov"', data_layer(CROP), layer("silence", "Silence", ("size",), ()),
              *Writer("teacher/", FROZEN).trunk(), *Writer("teacher/", FROZEN).teacher_head(CROP),
              *Writer(learn=LEARNED).trunk(), *Writer(learn=LEARNED).head(True),
              layer("fc8_interp", "Interp", ("fc8_voc12",), ("fc8_interp",), "interp_param { zoom_factor: 8 }"),
              *losses("fc8_interp", "teacher/logits_semantic", "label", "1", "1")]
    return HEADER.format(what="Stage 2: every layer learns, from the labels and from the starting model.") \
        + "\n".join(blocks) + "\n"


def deploy_net() -> str:
    """Return the net that is used: an image in, scores at its size out."""
    head = 'name: "deeplab-mnv2-largefov"\ninput: "data"\n' + "".join(f"input_dim: {n}\n" for n in (1, 3, 513, 513))
    writer = Writer()
    blocks = [*writer.trunk(), *writer.head(False),
              layer("fc8_interp", "Interp", ("fc8_voc12",), ("fc8_interp",), "interp_param { zoom_factor: 8 }")]
    what = ("The embedded model: `data` is BGR, (x - 127.5) / 127.5, 0 beyond the image; sides of 8k + 1.")
    return HEADER.format(what=what) + head + "\n".join(blocks) + "\n"


def solver(stage: int) -> str:
    """Return a stage's solver."""
    net, rate, iterations, name = (("train_head", "0.02", 3000, "head"), ("train", "0.001", 600, "whole"))[stage - 1]
    lines = [f'net: "{net}.prototxt"', f"base_lr: {rate}", 'lr_policy: "poly"', "power: 0.9",
             f"max_iter: {iterations}", "momentum: 0.9", "weight_decay: 0.0001", "clip_gradients: 10", "display: 20",
             "average_loss: 20", f"snapshot: {(500, 50)[stage - 1]}", 'snapshot_prefix: "${SNAPSHOTS}/' + name + '"',
             "snapshot_format: HDF5", f"random_seed: {stage}"]
    return HEADER.format(what=f"Stage {stage}.") + "\n".join(lines) + "\n"


README = """# DeepLab-MobileNetV2-LargeFOV: the embedded model

The net behind `atrouscaffe segment photo.jpg` when no other is named; `docs/model-card.md` says how it was trained,
how well it does and what it is not good for.

| | |
| --- | --- |
| trunk | MobileNetV2 of half width to 160 channels, strides 8 in all, holes 2 and 4 where strides were |
| fc6 | 3x3, {fc6} outputs, pad {hole}, hole {hole} (spans {span}) |
| fc7, classifier | 1x1, {fc7} outputs; 1x1, 21 outputs, `fc8_voc12` |
| parameters | {parameters:,} |
| input | BGR, (x - 127.5) / 127.5, sides of 8k + 1, 0 beyond the image |
| training | `train_head.prototxt`, then `train.prototxt`; `tools/train_embedded.py` runs both |

- Batch normalisation is folded into the convolutions: the trunk starts from a model that came so.
- `features.prototxt` is the starting model on random crops: what `train_head.prototxt` learns the head from.
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
    return total + (9 * channels + 1) * FC6 + (FC6 + 1) * FC7 + (FC7 + 1) * CLASSES


def files() -> dict[str, str]:
    """Return every file as path under prototxt/ and text."""
    readme = README.format(fc6=FC6, fc7=FC7, hole=HOLE, span=2 * HOLE + 1, parameters=parameters())
    texts = {"features.prototxt": features_net(), "train_head.prototxt": head_net(), "train.prototxt": whole_net(),
             "deploy.prototxt": deploy_net(), "solver_head.prototxt": solver(1), "solver.prototxt": solver(2),
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
