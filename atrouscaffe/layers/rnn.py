"""RNN."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atrouscaffe.layers.base import Blueprint, Context, Shape, register
from atrouscaffe.layers.recurrent import Recurrent
from atrouscaffe.runtime.blob import Blob

__all__ = ["RNN"]


@register
class RNN(Recurrent):
    """Run a recurrent net of tanh units over a sequence; see `Recurrent` for bottoms and tops.

    ``recurrent_param``: num_output, weight_filler, bias_filler, expose_hidden (the hidden state h).

    Notes
    -----
    ``h = tanh(W_hh cont h + W_xh x + b_h)``, ``o = tanh(W_ho h + b_o)``; a mark of 0 begins a new sequence. Parameters:
    W_xh, b_h, the static input's, W_hh, W_ho, b_o. Source: ``rnn_layer.cpp``, ``recurrent_layer.cpp`` of BVLC. Exposed
    hidden states have gradients here; there none passes through them.
    """

    type = "RNN"

    def param_shapes(self, bottoms: Sequence[Shape]) -> list[Blueprint]:
        """As in `Recurrent`, then weight and bias of the output."""
        size, p = self.p.num_output, self.p
        return [*super().param_shapes(bottoms), Blueprint((size, size), p.weight_filler, "weight of the output"),
                Blueprint((size,), p.bias_filler, "bias of the output")]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Step through the sequence."""
        xp, y, (weight, out, bias) = ctx.xp, top[0].array, (blob.array for blob in params[-3:])
        states, (h,) = self.begin(ctx, bottom, params)
        marks = bottom[1].array[:, :, None]
        before = xp.empty_like(states)
        for t in range(len(y)):
            before[t] = h * marks[t]
            h = xp.tanh(states[t] + xp.matmul(before[t], weight.T))
            states[t] = h
        xp.tanh(xp.matmul(states.reshape(-1, out.shape[1]), out.T).reshape(y.shape) + bias, out=y)
        self.end(ctx, top, (h,))
        if ctx.keeps:
            ctx.saved.update(states=states, before=before, outputs=y.copy())

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The output's gradient, then back through the sequence."""
        xp, weight, out = ctx.xp, params[-3].array, params[-2].array
        states, before, y = (ctx.saved[word] for word in ("states", "before", "outputs"))
        marks = bottom[1].array[:, :, None]
        bent = (top[0].grad * (1 - y * y)).reshape(-1, out.shape[0])
        if ctx.param_propagate[-2]:
            params[-2].grad[...] += xp.matmul(bent.T, states.reshape(len(bent), out.shape[1]))
        if ctx.param_propagate[-1]:
            params[-1].grad[...] += bent.sum(axis=0)
        above = xp.matmul(bent, out).reshape(states.shape)
        slopes = xp.empty_like(states)
        (dh,) = self.later(ctx, top)
        for t in reversed(range(len(states))):
            slopes[t] = (dh + above[t]) * (1 - states[t] * states[t])
            dh = xp.matmul(slopes[t], weight) * marks[t]
        if ctx.param_propagate[-3]:
            rows = slopes.reshape(-1, slopes.shape[2])
            params[-3].grad[...] += xp.matmul(rows.T, before.reshape(len(rows), weight.shape[1]))
        self.share(ctx, bottom, params, slopes, (dh,))

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Those of `Recurrent`, and the output's."""
        return super().macs(bottoms, tops) + math.prod(bottoms[0][:2]) * self.p.num_output**2
