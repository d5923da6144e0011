"""LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atrouscaffe.layers.base import Context, register
from atrouscaffe.layers.recurrent import Recurrent
from atrouscaffe.runtime.blob import Blob

__all__ = ["LSTM"]


def sigmoid(xp: Any, x: Any) -> Any:
    """Return 1 / (1 + exp(-x))."""
    return 1 / (1 + xp.exp(-x))


@register
class LSTM(Recurrent):
    """Run a long short-term memory over a sequence; see `Recurrent` for bottoms and tops.

    ``recurrent_param``: num_output, weight_filler, bias_filler, expose_hidden (hidden states h and c).

    Notes
    -----
    Rows of the weights: input, forget, output gate, candidate. ``c = cont f c + i g``, ``h = o tanh(c)``; a mark of 0
    begins a new sequence. Source: ``lstm_layer.cpp``, ``recurrent_layer.cpp`` of BVLC (Hochreiter and Schmidhuber,
    1997). Exposed hidden states have gradients here; there none passes through them.
    """

    type = "LSTM"
    hidden = 2
    gates = 4

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Step through the sequence."""
        xp, y, weight = ctx.xp, top[0].array, params[-1].array
        gates, (h, c) = self.begin(ctx, bottom, params)
        marks = bottom[1].array[:, :, None]
        before, cells = xp.empty_like(y), [c]
        for t in range(len(y)):
            before[t] = h * marks[t]
            i, f, o, g = self._split(xp, gates[t] + xp.matmul(before[t], weight.T))
            c = marks[t] * f * cells[-1] + i * g
            h = o * xp.tanh(c)
            y[t] = h
            cells.append(c)
            gates[t] = xp.concatenate([i, f, o, g], axis=1)
        self.end(ctx, top, (h, c))
        if ctx.keeps:
            ctx.saved.update(gates=gates, cells=cells, before=before)

    @staticmethod
    def _split(xp: Any, gates: Any) -> tuple[Any, Any, Any, Any]:
        """Return the gates and the candidate, activated."""
        i, f, o, g = xp.split(gates, 4, axis=1)
        return sigmoid(xp, i), sigmoid(xp, f), sigmoid(xp, o), xp.tanh(g)

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Step back through the sequence, then the sums into the parameters."""
        xp, dy, weight = ctx.xp, top[0].grad, params[-1].array
        gates, cells, before = (ctx.saved[word] for word in ("gates", "cells", "before"))
        marks = bottom[1].array[:, :, None]
        slopes = xp.empty_like(gates)
        dh, dc = self.later(ctx, top)
        for t in reversed(range(len(dy))):
            i, f, o, g = xp.split(gates[t], 4, axis=1)
            bent = xp.tanh(cells[t + 1])
            dh = dh + dy[t]
            dc = dc + dh * o * (1 - bent * bent)
            slopes[t] = xp.concatenate([dc * g * i * (1 - i), dc * cells[t] * marks[t] * f * (1 - f),
                                        dh * bent * o * (1 - o), dc * i * (1 - g * g)], axis=1)
            dh = xp.matmul(slopes[t], weight) * marks[t]
            dc = dc * marks[t] * f
        if ctx.param_propagate[-1]:
            rows = slopes.reshape(-1, slopes.shape[2])
            params[-1].grad[...] += xp.matmul(rows.T, before.reshape(len(rows), weight.shape[1]))
        self.share(ctx, bottom, params, slopes, (dh, dc))
