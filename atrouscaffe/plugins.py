"""Plug-ins: installed packages whose entry point in the group ``atrouscaffe.layers`` adds layer types.

What is loaded depends on what is installed and on nothing else: a prototxt names types, never a module. Packages that
lie in the working folder without being installed are passed over, so that an unpacked archive brings no code along.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass

from atrouscaffe.errors import DependencyError

__all__ = ["GROUP", "PlugIn", "load_plugins"]

GROUP = "atrouscaffe.layers"
SWITCH = "ATROUSCAFFE_PLUGINS"
"""With ``off`` in this variable of the environment no plug-in is loaded."""

_loaded: list[PlugIn] | None = None


@dataclass(frozen=True)
class PlugIn:
    """One entry point: its name, the module that it names, and the package that brought it."""

    name: str
    module: str
    package: str
    version: str


def load_plugins() -> tuple[PlugIn, ...]:
    """Import the modules of all plug-ins, once in a process; their layers register themselves.

    Raises
    ------
    DependencyError
        One does not load.
    """
    global _loaded
    if _loaded is None:
        _loaded = []  # before the first import: plug-ins import what asks for plug-ins
        if os.environ.get(SWITCH, "").lower() != "off":
            try:
                for point, plugin in _found():
                    _load(point, plugin)
                    _loaded.append(plugin)
            except DependencyError:
                _loaded = None  # the next one who asks is told, too
                raise
    return tuple(_loaded)


def _found() -> list[tuple[importlib.metadata.EntryPoint, PlugIn]]:
    """Return the entry points of installed packages, sorted by name."""
    here = os.path.realpath(os.getcwd())
    path = [folder for folder in sys.path if folder and os.path.realpath(folder) != here]
    found = {}
    for distribution in importlib.metadata.distributions(path=path):
        for point in distribution.entry_points:
            if point.group == GROUP:
                name, version = distribution.metadata["Name"], distribution.version
                found.setdefault((point.name, point.module), (point, PlugIn(point.name, point.module, name, version)))
    return [found[key] for key in sorted(found)]


def _load(point: importlib.metadata.EntryPoint, plugin: PlugIn) -> None:
    try:
        point.load()
    except Exception as error:
        raise DependencyError(
            f"plug-in {plugin.name!r} of package {plugin.package} {plugin.version} does not load: "
            f"{type(error).__name__}: {error}; mend or uninstall the package, or run with {SWITCH}=off") from error
