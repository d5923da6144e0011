"""How much memory a CRF takes, worked out before it is taken."""

from __future__ import annotations

from atrouscaffe.errors import BudgetError

__all__ = ["inference_bytes", "lattice_bytes", "refuse_above"]

MAX_NUMBERED = 2**31 - 1  # points, and rows of vertices, are numbered in 32 bits


def lattice_bytes(points: int, dims: int, rows: int | None = None, vertices: int | None = None) -> int:
    """Return what building a lattice takes; without rows and vertices, the part that is certain beforehand.

    Features, the taps of each point (16 bits of a number, and all weights but one), the filtered ones; then keys,
    numbers and copies of the rows, and the neighbours and the hash table of the vertices.
    """
    taps = dims + 1
    certain = points * (8 * dims + 2 * taps + 4)
    if rows is None:
        return certain
    return certain + rows * 28 + (rows if vertices is None else vertices) * (8 * taps + 40)


def inference_bytes(points: int, labels: int, width: int, kernels: int, rows: int, vertices: int, keep: bool) -> int:
    """Return what inference takes beside energies and lattices.

    The result, what the kernels are normalised by, the logits of pruned labels; then the values of
    vertices, and those of their copies where they do not fit into the memory of the result.
    """
    per_point = 4 * labels + 4 * kernels + 4
    copies = 4 * width * (rows + kernels)
    if not keep and copies <= 4 * labels * points:
        copies = 0
    return points * per_point + 4 * width * (vertices + kernels) + copies


def refuse_above(budget: int, need: int, what: str) -> None:
    """Raise where `need` bytes are above the budget.

    Raises
    ------
    BudgetError
        With both figures, and what to do.
    """
    if need > budget:
        raise BudgetError(f"{what}: needs about {need / 2**20:,.0f} MiB, above the budget of "
                          f"{budget / 2**20:,.0f} MiB; use a smaller image or larger sigmas, or raise "
                          "the budget (memory_budget=, ATROUSCAFFE_MEMORY_BUDGET)")
