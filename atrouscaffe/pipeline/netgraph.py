"""A drawing of a net: nodes and edges, as Graphviz text, as SVG or as PNG.

Where Graphviz's program ``dot`` is there it lays the drawing out; else a plain layout of our own does: one
row for each step from the input, in the net's order.
"""

from __future__ import annotations

import html
import io
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrouscaffe.errors import ArgumentError, DependencyError
from atrouscaffe.formats.atomic import atomic_write

__all__ = ["DIRECTIONS", "Dot", "Edge", "Node"]

DIRECTIONS = ("LR", "TB", "BT", "RL")
TEXT_FORMATS = ("raw", "dot", "gv", "canon")
_PLAIN = re.compile(r'[A-Za-z_][A-Za-z_0-9]*|-?\d+(\.\d+)?|"(?:[^"\\]|\\.)*"')
MAX_SIDE_PX = 60_000  # what PNG readers take
CHARACTER_PX, LINE_PX, GAP_PX, MARGIN_PX = 7, 16, 28, 12


def _quoted(text: str) -> str:
    """Return a name as Graphviz wants it; one that is quoted already stays."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _attributes(values: dict[str, str]) -> str:
    body = ", ".join(f"{name}={_quoted(value)}" for name, value in values.items())
    return f" [{body}]" if body else ""


@dataclass
class Node:
    """A node whose name is its label."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)

    def get_name(self) -> str:
        """Return the name as Graphviz text has it."""
        return _quoted(self.name)

    def get(self, name: str) -> str | None:
        """Return an attribute."""
        return self.attributes.get(name)

    def get_attributes(self) -> dict[str, str]:
        """Return all attributes."""
        return self.attributes

    def to_string(self) -> str:
        """Return the line of Graphviz text."""
        return f"{_quoted(self.name)}{_attributes(self.attributes)};"

    @property
    def lines(self) -> list[str]:
        """The label in lines, without quotes."""
        text = self.name[1:-1] if len(self.name) > 1 and self.name[0] == self.name[-1] == '"' else self.name
        return text.replace("\\n", "\n").split("\n")


@dataclass
class Edge:
    """An arrow between two nodes."""

    source: Node
    destination: Node
    attributes: dict[str, str] = field(default_factory=dict)

    def get_source(self) -> str:
        """Return the name of the node at its tail."""
        return self.source.get_name()

    def get_destination(self) -> str:
        """Return the name of the node at its head."""
        return self.destination.get_name()

    def get(self, name: str) -> str | None:
        """Return an attribute."""
        return self.attributes.get(name)

    def to_string(self) -> str:
        """Return the line of Graphviz text."""
        return f"{self.get_source()} -> {self.get_destination()}{_attributes(self.attributes)};"

    @property
    def label(self) -> str:
        """What stands at the arrow."""
        return self.attributes.get("label", "").strip('"')


class Dot:
    """A directed graph, with those of pydot's methods that scripts use on one.

    Parameters
    ----------
    name : str
    rankdir : {"LR", "TB", "BT", "RL"}
    """

    def __init__(self, name: str, rankdir: str = "LR") -> None:
        if rankdir not in DIRECTIONS:
            raise ArgumentError(f"rankdir: expected one of {', '.join(DIRECTIONS)}, got {rankdir!r}")
        self.name, self.rankdir = name, rankdir
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []

    def get_name(self) -> str:
        """Return the graph's name."""
        return _quoted(self.name)

    def get_rankdir(self) -> str:
        """Return the direction."""
        return self.rankdir

    def add_node(self, node: Node) -> None:
        """Append a node."""
        self.nodes.append(node)

    def add_edge(self, edge: Edge) -> None:
        """Append an edge."""
        self.edges.append(edge)

    def get_nodes(self) -> list[Node]:
        """Return the nodes."""
        return list(self.nodes)

    def get_edges(self) -> list[Edge]:
        """Return the edges."""
        return list(self.edges)

    get_node_list, get_edge_list = get_nodes, get_edges

    def get_node(self, name: str) -> list[Node]:
        """Return the nodes of that name."""
        return [node for node in self.nodes if name in (node.name, node.get_name())]

    def to_string(self) -> str:
        """Return Graphviz text."""
        lines = [f"digraph {_quoted(self.name)} {{", f"rankdir={self.rankdir};"]
        lines += [node.to_string() for node in self.nodes] + [edge.to_string() for edge in self.edges]
        return "\n".join([*lines, "}", ""])

    def create(self, prog: Any = None, format: str = "ps") -> bytes:
        """Return the drawing.

        Parameters
        ----------
        prog : str, optional
            Program of Graphviz; ``dot`` by default.
        format : str
            ``raw`` and ``dot`` are text; ``svg`` and ``png`` are drawn here where Graphviz is missing; others
            need it.

        Raises
        ------
        DependencyError
            Graphviz is missing, or fails.
        """
        if format in TEXT_FORMATS:
            return self.to_string().encode()
        program = shutil.which(prog or "dot")
        if program is not None:
            done = subprocess.run([program, f"-T{format}"], input=self.to_string().encode(), capture_output=True)
            if done.returncode:
                raise DependencyError(f"Graphviz ({program}) fails: {done.stderr.decode(errors='replace').strip()}")
            return done.stdout
        if format not in ("svg", "png") or prog is not None:
            raise DependencyError(f"a drawing as {format} needs Graphviz's program {prog or 'dot'}, which is not "
                                  "there; install Graphviz, or write .svg, .png or .dot")
        drawing = _Layout(self)
        return drawing.svg() if format == "svg" else drawing.png()

    def write(self, path: str | Path, prog: Any = None, format: str | None = None) -> bool:
        """Write the drawing, whole or not at all; the suffix says the format."""
        kind = format or Path(path).suffix.lstrip(".").lower() or "raw"
        data = self.create(prog, kind)
        with atomic_write(path) as file:
            file.write(data)
        return True

    def __getattr__(self, name: str) -> Any:
        """Pydot's ``create_png()``, ``write_svg(path)`` and the like."""
        verb, _, kind = name.partition("_")
        if verb == "create" and kind:
            return lambda prog=None: self.create(prog, kind)
        if verb == "write" and kind:
            return lambda path, prog=None: self.write(path, prog, kind)
        raise AttributeError(f"a graph has no {name!r}")


@dataclass
class _Box:
    node: Node
    rank: int
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0


class _Layout:
    """Places of boxes: a row for each step from the input, boxes of a row side by side."""

    def __init__(self, graph: Dot) -> None:
        self.graph = graph
        self.boxes: dict[int, _Box] = {}
        for node in graph.nodes:
            width = max(len(line) for line in node.lines) * CHARACTER_PX + 16
            self.boxes[id(node)] = _Box(node, 0, width=width, height=len(node.lines) * LINE_PX + 8)
        seen: set[int] = set()
        for edge in graph.edges:  # in the net's order, so that what comes back (in-place layers) can be told
            tail, head = id(edge.source), id(edge.destination)
            if head not in seen:
                self.boxes[head].rank = max(self.boxes[head].rank, self.boxes[tail].rank + 1)
            seen.add(tail)
        self._place()

    def _place(self) -> None:
        across = self.graph.rankdir in ("LR", "RL")
        rows: dict[int, list[_Box]] = {}
        for box in self.boxes.values():
            rows.setdefault(box.rank, []).append(box)
        along, self.span = float(MARGIN_PX), 0.0
        for rank in sorted(rows):
            depth = max(box.width if across else box.height for box in rows[rank])
            at = float(MARGIN_PX)
            for box in rows[rank]:
                box.x, box.y = (along, at) if across else (at, along)
                at += (box.height if across else box.width) + GAP_PX / 2
            self.span = max(self.span, at)
            along += depth + GAP_PX
        self.width, self.height = (along, self.span) if across else (self.span, along)
        if self.graph.rankdir in ("BT", "RL"):
            for box in self.boxes.values():
                if across:
                    box.x = self.width - box.x - box.width
                else:
                    box.y = self.height - box.y - box.height

    def _ends(self, edge: Edge) -> tuple[float, float, float, float]:
        """Return where an edge begins and ends: the middle of the sides that face each other."""
        tail, head = self.boxes[id(edge.source)], self.boxes[id(edge.destination)]
        if self.graph.rankdir in ("LR", "RL"):
            forward = tail.x <= head.x
            return (tail.x + tail.width * forward, tail.y + tail.height / 2,
                    head.x + head.width * (not forward), head.y + head.height / 2)
        forward = tail.y <= head.y
        return (tail.x + tail.width / 2, tail.y + tail.height * forward,
                head.x + head.width / 2, head.y + head.height * (not forward))

    def svg(self) -> bytes:
        """Return the drawing as SVG."""
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.0f}" height="{self.height:.0f}" '
                 'font-family="monospace" font-size="12">',
                 f"<title>{html.escape(self.graph.name)}</title>",
                 '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
                 '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>']
        for edge in self.graph.edges:
            x1, y1, x2, y2 = self._ends(edge)
            parts.append(f'<path d="M{x1:.0f},{y1:.0f} L{x2:.0f},{y2:.0f}" stroke="black" fill="none" '
                         'marker-end="url(#head)"/>')
            if edge.label:
                parts.append(f'<text x="{(x1 + x2) / 2 + 4:.0f}" y="{(y1 + y2) / 2:.0f}" fill="#555555">'
                             f"{html.escape(edge.label)}</text>")
        for box in self.boxes.values():
            fill = html.escape(box.node.get("fillcolor") or "white")
            corner = 10 if box.node.get("shape") != "record" else 2
            parts.append(f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" '
                         f'rx="{corner}" fill="{fill}" stroke="black"/>')
            for i, line in enumerate(box.node.lines):
                parts.append(f'<text x="{box.x + box.width / 2:.0f}" y="{box.y + 4 + LINE_PX * (i + 0.75):.0f}" '
                             f'text-anchor="middle">{html.escape(line)}</text>')
        return "\n".join([*parts, "</svg>", ""]).encode()

    def png(self) -> bytes:
        """Return the drawing as PNG; a very long one is scaled down."""
        from PIL import Image, ImageDraw

        scale = min(1.0, MAX_SIDE_PX / max(self.width, self.height))
        image = Image.new("RGB", (max(1, int(self.width * scale)), max(1, int(self.height * scale))), "white")
        draw = ImageDraw.Draw(image)

        def at(x: float, y: float) -> tuple[float, float]:
            return x * scale, y * scale

        for edge in self.graph.edges:
            x1, y1, x2, y2 = self._ends(edge)
            draw.line([at(x1, y1), at(x2, y2)], fill="black")
            draw.ellipse([at(x2 - 3, y2 - 3), at(x2 + 3, y2 + 3)], fill="black")
            if edge.label:
                draw.text(at((x1 + x2) / 2 + 4, (y1 + y2) / 2 - 6), edge.label, fill="#555555")
        for box in self.boxes.values():
            draw.rectangle([at(box.x, box.y), at(box.x + box.width, box.y + box.height)],
                           fill=box.node.get("fillcolor") or "white", outline="black")
            for i, line in enumerate(box.node.lines):
                draw.text(at(box.x + 8, box.y + 4 + LINE_PX * i), line.encode("latin-1", "replace").decode("latin-1"),
                          fill="black")
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()
