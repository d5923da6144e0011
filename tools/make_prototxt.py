#!/usr/bin/env python3
"""Write the six nets of the DeepLab paper into prototxt/, from what they share and where they differ.

    python tools/make_prototxt.py            write the files
    python tools/make_prototxt.py --check    exit 1 if a file differs from what would be written

Sources: the paper (ICLR 2015, arXiv 1412.7062v4) and the templates its authors released. The two
nets that the paper measures and nobody released (4x4 with hole 8, 7x7) say so in their folders.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "prototxt"
MEAN_BGR = ("104.008", "116.669", "122.675")
TRUNK = ((1, 64, 2), (2, 128, 2), (3, 256, 3), (4, 512, 3), (5, 512, 3))  # block, channels, convolutions


@dataclass(frozen=True)
class Solver:
    """One training run: base learning rate, iterations between steps, iterations in all."""

    base_lr: str = "0.001"
    stepsize: int = 2000
    max_iter: int = 6000


@dataclass(frozen=True)
class Model:
    """What sets one net apart from the others.

    Attributes
    ----------
    folder, title : str
        Folder under prototxt/; the paper's name.
    released : str
        Folder of the authors' release, "" for a net that was not released.
    fc6 : tuple of int
        num_output, kernel, pad, hole.
    pool : int
        Kernel of pool1 to pool4; with 2 the train and test nets differ in pool4's pad.
    average : bool
        Whether pool5a (3x3 AVE) stands in front of fc6.
    branches : bool
        The multi-scale branches of DeepLab-MSc; the trunk is frozen then.
    fc8 : str
        Layer and blob name of the classifier; ``${EXP}`` is filled in, with "voc12" in deploy nets.
    train_crop, batch, test_crop : int
    init : str
        Weights that training starts from.
    crf : tuple of int
        Bilateral weight, sigma in pixels, sigma in intensity levels.
    parameters : int
        With 21 labels.
    """

    folder: str
    title: str
    released: str
    fc6: tuple[int, int, int, int]
    init: str
    crf: tuple[int, int, int]
    parameters: int
    true_field: int
    pool: int = 3
    average: bool = False
    branches: bool = False
    fc8: str = "fc8_${EXP}"
    train_crop: int = 321
    batch: int = 20
    test_crop: int = 513
    solver: Solver = Solver()
    solver2: Solver = Solver(max_iter=8000)
    average_loss: int = 0
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> tuple[int, int]:
        """pad_beg and pad_end of the label's Interp: even crops start at the second pixel."""
        return (-1, 0) if self.pool == 2 else (0, 0)


MODELS = (
    Model("deeplab", "DeepLab", "DeepLab (authors' vgg128_noup)", (4096, 4, 6, 4), "vgg16_128.caffemodel", (5, 50, 3),
          65_140_565, 308, pool=2, fc8="fc8_pascal", train_crop=306, test_crop=514,
          solver2=Solver("0.01", 3000, 12000),
          notes=("The crop must be 8k+2 pixels. Training and testing differ in pool4: without pad in training (306 -> "
                 "154, 78, 40, 39), with pad 1 in testing (514 -> 258, 130, 66, 67).",
                 "Score k has its centre at input pixel 8k+0.5, its label is taken at pixel 8k+1; in the test net "
                 "pixel p reads the scores at p-0.5.",
                 "`ignore_label: 255` is ours: the released template has none, since at its time the loss passed over "
                 "labels without a channel; today such a label is an error.")),
    Model("deeplab-msc", "DeepLab-MSc", "DeepLab-MSc", (4096, 4, 6, 4), "the trained single-scale net", (3, 95, 3),
          66_346_686, 323, branches=True, fc8="fc8_pascal",
          notes=("The trunk is frozen (learning rate and decay 0); fc8_pascal still learns, at 1/2 instead of 10/20.",
                 "`source: ${TRAIN_SET}` and `label_type: PIXEL` in train.prototxt are ours: the released template "
                 "names the test list and no label type, which trains on label 0 alone.")),
    Model("deeplab-4x4", "DeepLab-4x4", "", (4096, 4, 12, 8), "vgg16_128.caffemodel", (4, 56, 4), 65_140_565, 419),
    Model("deeplab-7x7", "DeepLab-7x7", "", (4096, 7, 12, 4),
          "VGG-16 with fc6 as a 7x7 convolution", (4, 72, 5), 134_346_581, 419),
    Model("deeplab-largefov", "DeepLab-LargeFOV", "DeepLab-LargeFOV (authors' vgg128_noup_pool3_20M_largewin3)",
          (1024, 3, 12, 12), "vgg16_20M.caffemodel", (4, 121, 5), 20_505_429, 435, average=True, batch=30,
          notes=("The batch of 30 is the released template's; the paper says 20.",)),
    Model("deeplab-msc-largefov", "DeepLab-MSc-LargeFOV", "DeepLab-MSc-LargeFOV", (1024, 3, 12, 12),
          "the trained deeplab-largefov", (4, 83, 5), 21_711_550, 435, average=True, branches=True, batch=30,
          average_loss=10,
          notes=("Trunk and fc8 are frozen (learning rate 0): only the branches learn.",
                 "The batch of 30 is the released template's; the paper says 20.")),
)
UNRELEASED = ("The paper measures this net (Table 2) and its authors did not release it: geometry from the paper, pad "
              "chosen so that fc6 keeps the size, solver, classifier name and crops from deeplab-largefov, batch from "
              "the paper. There are no published weights to compare with.")


# -- text -----------------------------------------------------------------------------------------

def layer(name: str, kind: str, bottoms: tuple[str, ...], top: str, *lines: str) -> str:
    """Return one ``layers { }`` block."""
    body = [f'  name: "{name}"', f"  type: {kind}", *(f'  bottom: "{b}"' for b in bottoms)]
    if top:
        body.append(f'  top: "{top}"')
    return "\n".join(["layers {", *body, *(f"  {line}" for line in lines), "}"])


def multipliers(rates: tuple[str, str], decays: tuple[str, str]) -> list[str]:
    """Return blobs_lr and weight_decay lines (weights, bias)."""
    return [*(f"blobs_lr: {r}" for r in rates), *(f"weight_decay: {d}" for d in decays)]


def filler(std: str) -> str:
    """Return Gaussian weights and a zero bias."""
    return f'weight_filler {{ type: "gaussian" std: {std} }} bias_filler {{ type: "constant" value: 0 }}'


def conv(name: str, bottom: str, options: str, learn: list[str], *, loose: bool = False) -> str:
    """Return a convolution; `loose` lets weights of equal count and other shape load."""
    return layer(name, "CONVOLUTION", (bottom,), name, *(["strict_dim: false"] if loose else []), *learn,
                 f"convolution_param {{ {options} }}")


def relu(name: str, blob: str) -> str:
    """Return an in-place ReLU."""
    return layer(name, "RELU", (blob,), blob)


def dropout(name: str, blob: str) -> str:
    """Return an in-place Dropout of one half."""
    return layer(name, "DROPOUT", (blob,), blob, "dropout_param { dropout_ratio: 0.5 }")


def interp(name: str, bottom: str, options: str) -> str:
    """Return an Interp layer."""
    return layer(name, "INTERP", (bottom,), name, f"interp_param {{ {options} }}")


def window(size: int, stride: int, pad: int, method: str = "MAX") -> str:
    """Return a pooling_param."""
    padding = f" pad: {pad}" if pad else ""
    return f"pooling_param {{ pool: {method} kernel_size: {size} stride: {stride}{padding} }}"


# -- nets -----------------------------------------------------------------------------------------

class Writer:
    """Writes one model's nets; `mode` is "train", "test" or "deploy"."""

    def __init__(self, model: Model, mode: str) -> None:
        self.model, self.mode = model, mode
        self.training = mode == "train"
        self.labels = "21" if mode == "deploy" else "${NUM_LABELS}"
        self.fc8 = model.fc8.replace("${EXP}", "voc12") if mode == "deploy" else model.fc8

    def learn(self, rates: tuple[str, str] = ("1", "2"), decays: tuple[str, str] = ("1", "0")) -> list[str]:
        """Return multipliers in the train net, nothing elsewhere."""
        return multipliers(rates, decays) if self.training else []

    def frozen(self) -> list[str]:
        """Return the trunk's multipliers: learning, or frozen under branches."""
        if not self.model.branches:
            return self.learn()
        return self.learn(("0", "0"), ("1", "0") if self.model.average else ("0", "0"))

    def data(self) -> str:
        """Return the data layer, or the input of a deploy net."""
        model = self.model
        if self.mode == "deploy":
            side = model.test_crop
            return f'input: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: {side}\ninput_dim: {side}'
        crop, batch = (model.train_crop, model.batch) if self.training else (model.test_crop, 1)
        tops = ['top: "label"'] if self.training else []
        image = ['  root_folder: "${DATA_ROOT}"',
                 f'  source: "${{EXP}}/list/${{{"TRAIN_SET" if self.training else "TEST_SET"}}}.txt"',
                 f"  label_type: {'PIXEL' if self.training else 'NONE'}", f"  batch_size: {batch}"]
        if self.training:
            image.append("  shuffle: true")
        transform = [*(f"  mean_value: {m}" for m in MEAN_BGR), f"  crop_size: {crop}",
                     f"  mirror: {'true' if self.training else 'false'}"]
        return layer("data", "IMAGE_SEG_DATA", (), "data", *tops, "image_data_param {", *image, "}",
                     "transform_param {", *transform, "}", f"include: {{ phase: {self.mode.upper()} }}")

    def trunk(self) -> Iterator[str]:
        """Yield conv1_1 to pool5 (pool5a), the branches where the blobs they read are made."""
        blob = "data"
        if self.model.branches:
            yield from self.branch("data")
        for block, channels, count in TRUNK:
            for i in range(1, count + 1):
                name = f"conv{block}_{i}"
                around = "pad: 2 hole: 2" if block == 5 else "pad: 1"
                yield conv(name, blob, f"num_output: {channels} kernel_size: 3 {around}", self.frozen())
                yield relu(f"relu{block}_{i}", name)
                blob = name
            yield layer(f"pool{block}", "POOLING", (blob,), f"pool{block}", self.pooling(block))
            blob = f"pool{block}"
            if self.model.branches and block < 5:
                yield from self.branch(blob)
        if self.model.average:
            yield layer("pool5a", "POOLING", (blob,), "pool5a", window(3, 1, 1, "AVE"))

    def pooling(self, block: int) -> str:
        """Return pool1 to pool5's window: 1 to 3 halve the size, 4 and 5 keep it."""
        if block == 5:
            return window(3, 1, 1)
        pad = 0 if self.model.pool == 2 and block == 4 and self.training else 1
        return window(self.model.pool, 2 if block < 4 else 1, pad)

    def branch(self, source: str) -> Iterator[str]:
        """Yield X_conv, X_fc, X_ms: the multi-scale branch that reads blob X."""
        stride = {"data": 8, "pool1": 4, "pool2": 2}.get(source, 1) if self.training else 1
        step = f" stride: {stride}" if stride > 1 else ""
        first, second, last = f"{source}_conv", f"{source}_fc", f"{source}_ms"
        start = {first: filler("0.001"), second: filler("0.005" if source == "pool4" else "0.001"),
                 last: "" if source == "pool3" else filler("0.01")}
        options = {first: f"num_output: 128 kernel_size: 3 pad: 1{step}", second: "num_output: 128 kernel_size: 1",
                   last: f"num_output: {self.labels} kernel_size: 1"}
        blob = source
        for name in (first, second, last):
            text = f"{options[name]} {start[name]}".strip() if self.training else options[name]
            yield conv(name, blob, text, self.learn())
            if name != last:
                yield relu(f"relu_{name}", name)
                yield dropout(f"drop_{name}", name)
            blob = name

    def classifier(self) -> Iterator[str]:
        """Yield fc6 to fc8."""
        outputs, kernel, pad, hole = self.model.fc6
        bottom = "pool5a" if self.model.average else "pool5"
        yield conv("fc6", bottom, f"num_output: {outputs} kernel_size: {kernel} pad: {pad} hole: {hole}",
                   self.frozen(), loose=True)
        yield relu("relu6", "fc6")
        yield dropout("drop6", "fc6")
        yield conv("fc7", "fc6", f"num_output: {outputs} kernel_size: 1", self.frozen(), loose=True)
        yield relu("relu7", "fc7")
        yield dropout("drop7", "fc7")
        rates = ("10", "20")
        if self.model.branches:
            rates = ("0", "0") if self.model.average else ("1", "2")
        start = f" {filler('0.01')}" if self.training else ""
        yield conv(self.fc8, "fc7", f"num_output: {self.labels} kernel_size: 1{start}", self.learn(rates), loose=True)

    def head(self) -> Iterator[str]:
        """Yield what follows fc8: the loss, or the scores at the input's size and their file."""
        model, scores = self.model, self.fc8
        zoomed = "fc8_interp"
        if not self.training:
            if model.branches:
                for source, zoom in (("pool1", 2), ("pool2", 4), ("pool3", 8), ("pool4", 8)):
                    yield interp(f"{source}_interp", f"{source}_ms", f"zoom_factor: {zoom}")
            yield interp(zoomed, scores, "zoom_factor: 8")
            scores = zoomed
        if model.pool == 2 and not self.training:
            yield layer("fc8_crop", "PADDING", (scores,), "fc8_crop", "padding_param { pad_beg: -7 pad_end: -8 }")
            scores = "fc8_crop"
        if model.branches:
            tail = "ms" if self.training else "interp"
            parts = ("data_ms", *(f"pool{i}_{tail}" for i in range(1, 5)), scores)
            yield layer("fc_fusion", "ELTWISE", parts, "fc_fusion", "eltwise_param { operation: SUM }")
            scores = "fc_fusion"
        if self.training:
            begin, end = model.label
            yield interp("label_shrink", "label", f"shrink_factor: 8 pad_beg: {begin} pad_end: {end}")
            yield layer("loss", "SOFTMAX_LOSS", (scores, "label_shrink"), "loss",
                        "softmaxloss_param { ignore_label: 255 }", "include: { phase: TRAIN }")
            yield layer("accuracy", "SEG_ACCURACY", (scores, "label_shrink"), "accuracy",
                        "seg_accuracy_param { ignore_label: 255 }")
        elif self.mode == "test":
            yield layer("fc8_mat", "MAT_WRITE", (scores,), "", "mat_write_param {",
                        '  prefix: "${FEATURE_DIR}/${TEST_SET}/fc8/"', '  source: "${EXP}/list/${TEST_SET}_id.txt"',
                        "  strip: 0", "  period: 1", "}", "include: { phase: TEST }")

    def text(self) -> str:
        """Return the whole net."""
        model = self.model
        purpose = {"train": "training net", "test": "test net: scores of a list of images as MAT files",
                   "deploy": "one image in `data` (BGR, mean subtracted), scores at its size out"}[self.mode]
        released = f"after the authors' {model.released}" if model.released else "never released, see README.md"
        header = [f"# {model.title}, {purpose}.", f"# Written by tools/make_prototxt.py; {released}."]
        if self.mode != "deploy":
            header.append("# Placeholders are filled in when the file is read (--set NAME=VALUE).")
        name = model.folder if self.mode == "deploy" else "${NET_ID}"
        blocks = [f'name: "{name}"', self.data(), *self.trunk(), *self.classifier(), *self.head()]
        return "\n".join([*header, *blocks]) + "\n"


def solver_text(model: Model, solver: Solver, second: bool) -> str:
    """Return solver.prototxt, or solver2.prototxt of the second run on train and val together."""
    origin = "deeplab-largefov's solver" if not model.released else f"after the authors' {model.released}"
    prefix = "train2" if second else "train"
    lists = "trainval_aug" if second else "train_aug"
    lines = [f"# {model.title}, SGD on {lists} (TRAIN_SET). Written by tools/make_prototxt.py; {origin}.",
             'train_net: "train.prototxt"', 'lr_policy: "step"', "gamma: 0.1", f"stepsize: {solver.stepsize}",
             f"base_lr: {solver.base_lr}", "display: 10", f"max_iter: {solver.max_iter}", "momentum: 0.9",
             "weight_decay: 0.0005", "snapshot: 2000", f'snapshot_prefix: "${{EXP}}/model/${{NET_ID}}/{prefix}"']
    if model.average_loss:
        lines.insert(7, f"average_loss: {model.average_loss}")
    return "\n".join(lines) + "\n"


def readme_text(model: Model) -> str:
    """Return the README of one folder."""
    outputs, kernel, pad, hole = model.fc6
    extent = kernel + (kernel - 1) * (hole - 1)
    rows = [("released as", model.released or "not released"),
            ("fc6", f"{kernel}x{kernel}, {outputs} outputs, pad {pad}, hole {hole} (spans {extent})"),
            ("pool1 to pool4", f"MAX {model.pool}x{model.pool}"),
            ("in front of fc6", "pool5a, AVE 3x3" if model.average else "pool5, MAX 3x3"),
            ("multi-scale branches", "data, pool1 to pool4" if model.branches else "none"),
            ("classifier", f"`{model.fc8}`"), ("parameters (21 labels)", f"{model.parameters:,}"),
            ("receptive field", f"{model.true_field} pixels, paper's rule {32 + 8 * (extent - 1)} padded, "
                                f"{212 + 8 * (extent - 1)} convolutional"),
            ("train crop, batch", f"{model.train_crop}, {model.batch}"), ("test crop", str(model.test_crop)),
            ("mean (BGR)", ", ".join(MEAN_BGR)), ("training starts from", model.init),
            ("CRF, bilateral", "weight {}, sigma {} px, sigma {} levels".format(*model.crf)),
            ("CRF, position", "weight 3, sigma 3 px")]
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])
    notes = (() if model.released else (UNRELEASED,)) + model.notes + (
        "The test net reads no labels (`label_type: NONE`); the templates' loss and accuracy on it are left out, since "
        "the labels that they read there were constants.",)
    return "\n\n".join([f"# {model.title}", table, "\n".join(f"- {note}" for note in notes),
                        "Written by `tools/make_prototxt.py`; edit that, not these files."]) + "\n"


OVERVIEW = """# The nets of the DeepLab paper

{table}

Each folder: `train.prototxt` and `test.prototxt` (the fork's `layers {{ }}` dialect with the authors' placeholders),
`deploy.prototxt` (input `data`, 21 labels, nothing to fill in), `solver.prototxt` (train_aug), `solver2.prototxt`
(trainval_aug), `README.md`.

| placeholder | meaning | usual value |
| --- | --- | --- |
| `${{DATA_ROOT}}` | folder of the VOC images; lists append to it | `VOCdevkit/VOC2012` |
| `${{EXP}}` | experiment: folder of lists and models, and a part of the classifier's name | `voc12` |
| `${{TRAIN_SET}}`, `${{TEST_SET}}` | lists: `${{EXP}}/list/${{TRAIN_SET}}.txt` | `train_aug`, `val` |
| `${{NET_ID}}` | name of the net and of the snapshots' folder | the folder's name |
| `${{FEATURE_DIR}}` | where the test net writes scores | `voc12/features/...` |
| `${{NUM_LABELS}}` | classes with background | `21` |

`EXP` with a slash (`exper/voc12`) renames the classifier to `fc8_exper/voc12`, and released weights no longer fit it.

This page and these six folders are written by `tools/make_prototxt.py`; a test fails when a file differs. Other
folders here have READMEs of their own.
"""


def overview_text() -> str:
    """Return prototxt/README.md."""
    rows = [f"| [{m.title}]({m.folder}/) | {m.fc6[1]}x{m.fc6[1]}, hole {m.fc6[3]} | {m.parameters:,} | "
            f"{'yes' if m.branches else 'no'} | {m.released or 'not released'} |" for m in MODELS]
    head = ["| net | fc6 | parameters | multi-scale | released as |", "| --- | --- | ---: | --- | --- |"]
    table = "\n".join([*head, *rows])
    return OVERVIEW.format(table=table)


def files() -> dict[str, str]:
    """Return every file as path under prototxt/ and text."""
    texts = {"README.md": overview_text()}
    for model in MODELS:
        for mode in ("train", "test", "deploy"):
            texts[f"{model.folder}/{mode}.prototxt"] = Writer(model, mode).text()
        texts[f"{model.folder}/solver.prototxt"] = solver_text(model, model.solver, False)
        texts[f"{model.folder}/solver2.prototxt"] = solver_text(model, model.solver2, True)
        texts[f"{model.folder}/README.md"] = readme_text(model)
    return texts


def main(argv: list[str] | None = None) -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the paper's six nets into prototxt/.")
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
