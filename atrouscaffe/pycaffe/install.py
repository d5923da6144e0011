"""`atrouscaffe.alias` under the name by which scripts and notebooks import it."""

from __future__ import annotations

from atrouscaffe.alias import install, uninstall

__all__ = ["install", "uninstall"]
