"""``python -m atrouscaffe`` is the command ``atrouscaffe``."""

import sys

from atrouscaffe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
