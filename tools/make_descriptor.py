"""Compile formats/caffe.proto into formats/caffe.desc.

Needs ``grpcio-tools``, or a ``protoc`` on the path; the program itself needs neither. With
``--check`` nothing is written: the exit status says whether the committed file is up to date.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FORMATS = Path(__file__).resolve().parent.parent / "atrouscaffe" / "formats"


def compile_descriptor() -> bytes:
    """Return the FileDescriptorSet of caffe.proto, without comments and positions."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "caffe.desc"
        options = [f"--proto_path={FORMATS}", f"--descriptor_set_out={out}", str(FORMATS / "caffe.proto")]
        if shutil.which("protoc"):
            command = ["protoc", *options]
        else:
            command = [sys.executable, "-m", "grpc_tools.protoc", *options]
        subprocess.run(command, check=True)
        return out.read_bytes()


def main() -> int:
    """Write or check the descriptor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if caffe.desc is stale")
    arguments = parser.parse_args()
    data = compile_descriptor()
    target = FORMATS / "caffe.desc"
    if arguments.check:
        same = target.is_file() and target.read_bytes() == data
        print(f"{target.name} is {'up to date' if same else 'stale: run tools/make_descriptor.py'}")
        return 0 if same else 1
    target.write_bytes(data)
    print(f"wrote {target} ({len(data)} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
