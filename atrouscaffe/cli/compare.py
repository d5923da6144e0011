"""``atrouscaffe compare``: two nets, devices or precisions, layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from atrouscaffe.cli.options import pairs

__all__ = ["HELP", "add_arguments", "run"]

HELP = ("Run two nets on one image and compare the blobs behind each layer of the same name; the first layer that "
        "diverges is named, and the exit status is then 1. A and B are WEIGHTS, or NET=WEIGHTS: two files or formats "
        "of one net, or one file on two devices or in two precisions.")
PRECISIONS = ("float32", "float64", "float16", "bfloat16", "tf32", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("first", metavar="A", help="weights (caffemodel, .h5), or NET=WEIGHTS")
    parser.add_argument("second", metavar="B", help="the same for the other")
    parser.add_argument("image", metavar="IMAGE", help="photograph that both are given")
    parser.add_argument("--model", metavar="NET", help="net of what is given as WEIGHTS: prototxt or a model's name")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="fill ${NAME} in a prototxt")
    parser.add_argument("--mean", metavar="M", help="mean to subtract, as for segment")
    parser.add_argument("--scale", type=float, metavar="S", help="factor applied after the mean")
    for which, letter in (("first", "A"), ("second", "B")):
        short = letter.lower()
        parser.add_argument(f"--device-{short}", default="cpu", metavar="D", help=f"device of {letter} (cpu)")
        parser.add_argument(f"--precision-{short}", choices=PRECISIONS, default="float32",
                            help=f"arithmetic of {letter} (float32, float64), float32 with weights rounded to float16 "
                                 "or bfloat16, or, on a CUDA device, with operands of matrix products rounded to tf32 "
                                 f"or fp16; the {which} net's")
        parser.add_argument(f"--dialect-{short}", choices=("v1", "v2", "bvlc"), help=f"how the weights of {letter} are "
                                                                                      "read")
    parser.add_argument("--rtol", type=float, default=1e-4, help="difference allowed, as a share of the largest value "
                                                                "of a blob (1e-4)")
    parser.add_argument("--atol", type=float, default=1e-5, help="difference allowed beside that (1e-5)")
    parser.add_argument("--stop", action="store_true", help="stop at the first layer that diverges")


def _made(args: argparse.Namespace, which: str, short: str) -> tuple[Any, Any]:
    """Return (Segmenter, Net that keeps all blobs) of A or B."""
    import numpy as np

    from atrouscaffe.cli.options import parse_mean
    from atrouscaffe.errors import ArgumentError
    from atrouscaffe.net import Net
    from atrouscaffe.pipeline.compare import round_weights
    from atrouscaffe.pipeline.segment import Segmenter
    from atrouscaffe.spec import TEST

    net, equals, weights = getattr(args, which).rpartition("=")
    model = net if equals else args.model
    if model is None:
        raise ArgumentError(f"{weights}: which net are these weights of? Give --model NET, or NET={weights}")
    precision, dialect = getattr(args, f"precision_{short}"), getattr(args, f"dialect_{short}")
    device = getattr(args, f"device_{short}")
    operands = precision if precision in ("tf32", "fp16") else "fp32"
    segmenter = Segmenter(model, weights, device, precision=operands, mean=parse_mean(args.mean), scale=args.scale,
                          variables=pairs(args.set, "--set"), weights_dialect=dialect, allow_paths=args.allow_path)
    made = Net(segmenter.deploy.spec, TEST, weights=weights, weights_dialect=dialect, device=device,
               precision=operands, seed=0,
               dtype=np.float64 if precision == "float64" else np.float32, allow_paths=args.allow_path,
               input_shapes=segmenter.deploy.input_shapes(segmenter.deploy.size))
    if precision in ("float16", "bfloat16"):
        round_weights(made, precision)
    return segmenter, made


def run(args: argparse.Namespace) -> int:
    """Compare; 1 where the nets diverge."""
    from atrouscaffe.data.image import read_image, resize_image
    from atrouscaffe.pipeline.compare import compare

    image = read_image(args.image)
    nets = []
    for which, short in (("first", "a"), ("second", "b")):
        segmenter, net = _made(args, which, short)
        size = segmenter.deploy.size
        if any(side > most for side, most in zip(image.shape, size)):
            image = resize_image(image, *size)
        net.blobs[segmenter.deploy.input].data[...] = segmenter.prepare(image, size)
        for name in segmenter.deploy.dims:
            net.blobs[name].data[...] = image.shape[:2]
        nets.append(net)
    print(f"{'layer':<28}{'blob':<28}{'shape':<22}{'largest':>12}{'mean':>12}{'relative':>12}")
    diverged = None
    for found in compare(*nets, rtol=args.rtol, atol=args.atol):
        shape = "x".join(map(str, found.shapes[0]))
        if found.shapes[0] != found.shapes[1]:
            shape += " / " + "x".join(map(str, found.shapes[1]))
        print(f"{found.layer:<28}{found.blob:<28}{shape:<22}{found.largest:>12.3g}{found.mean:>12.3g}"
              f"{found.relative:>12.3g}{'' if found.same else '  <-'}")
        if not found.same and diverged is None:
            diverged = found
            if args.stop:
                break
    if diverged is None:
        print("every layer agrees")
        return 0
    print(f"the first layer that diverges is {diverged.layer} ({diverged.type}): {diverged.largest:.3g} at values of "
          f"up to {diverged.scale:.3g}")
    return 1
