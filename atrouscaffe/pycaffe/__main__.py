"""``python -m atrouscaffe.pycaffe script.py ...`` runs a script with ``caffe`` meaning this package."""

from __future__ import annotations

import os
import runpy
import sys

from atrouscaffe.pycaffe.install import install

USAGE = """usage: python -m atrouscaffe.pycaffe SCRIPT [ARGUMENT ...]
       python -m atrouscaffe.pycaffe -m MODULE [ARGUMENT ...]
       python -m atrouscaffe.pycaffe -c CODE [ARGUMENT ...]
Run a script, module or line of code in which `import caffe` means atrouscaffe.pycaffe."""


def main(argv: list[str]) -> int:
    """Run what `argv` names, as Python itself would."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    option, rest = (argv[0], argv[1:]) if argv[0] in ("-m", "-c") else ("", argv)
    if not rest:
        print(USAGE, file=sys.stderr)
        return 2
    install()
    sys.argv = list(rest)
    if option == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv[0] = "-c"
        main_module = sys.modules["__main__"]
        exec(compile(rest[0], "<string>", "exec"), main_module.__dict__)
    else:
        if not os.path.exists(rest[0]):
            print(f"{sys.executable}: can't open file {os.path.abspath(rest[0])!r}: no such file", file=sys.stderr)
            return 2
        sys.path[0] = os.path.dirname(os.path.abspath(rest[0]))  # as Python does for a script
        runpy.run_path(rest[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
