"""What LSTM and RNN share: bottoms, tops, and the hidden state from one forward pass to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import GLOBAL, Blueprint, Context, Layer, Reach, Shape
from atrouscaffe.runtime.blob import Blob

__all__ = ["Recurrent"]


class Recurrent(Layer):
    """Base of layers over sequences.

    Bottoms: x (T, N, ...), the continuation marks (T, N), optionally a static input (N, ...), and with expose_hidden
    the hidden states to begin with, (1, N, num_output) each. Tops: the outputs (T, N, num_output), and with
    expose_hidden the last hidden states. Without it, hidden states are kept from one forward pass to the next.

    Subclasses give `hidden` (the number of hidden states) and `gates` (rows of the weights a unit).
    """

    options = "recurrent_param"
    bottoms = (2, 5)
    tops = (1, 3)
    backward_reads = ("bottom",)
    hidden = 1
    gates = 1

    def setup(self) -> None:
        """Check the number of bottoms and tops."""
        if not self.p.num_output:
            raise LayerError(f"recurrent_param.num_output: expected at least 1, got {self.p.num_output}")
        exposed = self.hidden if self.p.expose_hidden else 0
        count = len(self.spec.bottoms)
        if count not in (2 + exposed, 3 + exposed) or len(self.spec.tops) != 1 + exposed:
            raise ShapeError(f"expected {2 + exposed} or {3 + exposed} bottoms and {1 + exposed} tops with "
                             f"expose_hidden: {str(bool(self.p.expose_hidden)).lower()}, got {count} and "
                             f"{len(self.spec.tops)}")
        self.static = count == 3 + exposed
        self.exposed = exposed

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """(T, N, num_output), and (1, N, num_output) for each exposed state."""
        if len(bottoms[0]) < 3:
            raise ShapeError(f"bottom[0]: expected (steps, streams, ...), got shape {tuple(bottoms[0])}")
        steps, streams = bottoms[0][:2]
        self.want_same((steps, streams), bottoms[1], "bottom[1] (continuation marks)")
        if self.static and (len(bottoms[2]) < 2 or bottoms[2][0] != streams):
            raise ShapeError(f"bottom[2] (static): expected ({streams}, ...), got shape {tuple(bottoms[2])}")
        state = (1, streams, self.p.num_output)
        for i in range(len(bottoms) - self.exposed, len(bottoms)):
            self.want_same(state, bottoms[i], f"bottom[{i}] (hidden state)")
        return [(steps, streams, self.p.num_output), *[state] * self.exposed]

    def allows_gradient(self, bottom: int) -> bool:
        """All but the continuation marks."""
        return bottom != 1

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """Weight of x and bias, weight of the static input, weight of the hidden state."""
        rows, p = self.gates * self.p.num_output, self.p
        found = [Blueprint((rows, math.prod(bottoms[0][2:])), p.weight_filler, "weight of x"),
                 Blueprint((rows,), p.bias_filler, "bias")]
        if self.static:
            found.append(Blueprint((rows, math.prod(bottoms[2][1:])), p.weight_filler, "weight of the static input"))
        return [*found, Blueprint((rows, p.num_output), p.weight_filler, "weight of the hidden state")]

    # -- for subclasses -------------------------------------------------------------------------

    def begin(self, ctx: Context, bottom: Sequence[Blob], params: Sequence[Blob]) -> tuple[Any, list[Any]]:
        """Return what x and the static input add to the gates, (T, N, rows), and the hidden states to begin with."""
        x = bottom[0].array
        steps, streams = x.shape[:2]
        rows, size = params[0].shape
        inputs = ctx.xp.matmul(x.reshape(steps * streams, size), params[0].array.T).reshape(steps, streams, rows)
        inputs += params[1].array
        if self.static:
            inputs += ctx.xp.matmul(bottom[2].array.reshape(streams, params[2].shape[1]), params[2].array.T)
        if self.exposed:
            return inputs, [blob.array[0] for blob in bottom[-self.exposed:]]
        before = ctx.state.get("hidden")
        shape = (streams, self.p.num_output)
        if before is None or np.shape(before[0]) != shape:
            return inputs, [ctx.xp.zeros(shape, x.dtype) for _ in range(self.hidden)]
        return inputs, [ctx.backend.asarray(np.asarray(state), x.dtype) for state in before]

    def end(self, ctx: Context, top: Sequence[Blob], states: Sequence[Any]) -> None:
        """Write the last hidden states, or keep them."""
        if self.exposed:
            for blob, state in zip(top[1:], states):
                blob.array[0] = state
        else:
            ctx.state["hidden"] = [ctx.backend.to_numpy(state).tolist() for state in states]

    def later(self, ctx: Context, top: Sequence[Blob]) -> list[Any]:
        """Return the gradients of the last hidden states: none come back from the next pass."""
        if self.exposed:
            return [blob.grad[0].copy() for blob in top[1:]]
        return [ctx.xp.zeros(top[0].shape[1:], top[0].dtype) for _ in range(self.hidden)]

    def share(self, ctx: Context, bottom: Sequence[Blob], params: Sequence[Blob], slopes: Any,
              states: Sequence[Any]) -> None:
        """Pass the gradients of the gates (T, N, rows), and of the first hidden states, to bottoms and parameters."""
        xp, x = ctx.xp, bottom[0].array
        steps, streams, rows = slopes.shape
        flat = slopes.reshape(-1, rows)
        if ctx.param_propagate[0]:
            params[0].grad[...] += xp.matmul(flat.T, x.reshape(steps * streams, params[0].shape[1]))
        if ctx.param_propagate[1]:
            params[1].grad[...] += flat.sum(axis=0)
        if ctx.propagate[0]:
            bottom[0].grad[...] = xp.matmul(flat, params[0].array).reshape(x.shape)
        if self.static:
            still = slopes.sum(axis=0)
            if ctx.param_propagate[2]:
                params[2].grad[...] += xp.matmul(still.T, bottom[2].array.reshape(streams, params[2].shape[1]))
            if ctx.propagate[2]:
                bottom[2].grad[...] = xp.matmul(still, params[2].array).reshape(bottom[2].shape)
        for i, state in enumerate(states if self.exposed else (), start=len(bottom) - self.exposed):
            if ctx.propagate[i]:
                bottom[i].grad[0] = state

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Products with x and with the hidden state, of each step and stream."""
        rows = self.gates * self.p.num_output
        return math.prod(bottoms[0][:2]) * rows * (math.prod(bottoms[0][2:]) + self.p.num_output)

    def reach(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> tuple[Reach, Reach]:
        """All of the input."""
        return GLOBAL, GLOBAL
