"""Compiled halves of `domain_transform`, over planes [start, stop)."""

from __future__ import annotations

from atrouscaffe.runtime.jit import jit

__all__ = ["filter_planes", "unfilter_planes"]


@jit
def filter_planes(planes, weight, height, width, steps, start, stop):
    """Filter the top-left height x width of each plane in place: right, left, down, up.

    planes : (P, H, W); weight : (H, W), the weight of the step into a pixel from its left or upper
    neighbour; steps : (4, P, H, W), filled with the differences for `unfilter_planes`, or (4, 0, 0, 0).
    """
    kept = steps.shape[1] > 0
    for p in range(start, stop):
        for y in range(height):
            row = planes[p, y]
            for x in range(1, width):
                d = row[x - 1] - row[x]
                row[x] += weight[y, x] * d
                if kept:
                    steps[0, p, y, x] = d
            for back in range(width - 1):
                x = width - 2 - back
                d = row[x + 1] - row[x]
                row[x] += weight[y, x + 1] * d
                if kept:
                    steps[1, p, y, x] = d
        for y in range(1, height):
            for x in range(width):
                d = planes[p, y - 1, x] - planes[p, y, x]
                planes[p, y, x] += weight[y, x] * d
                if kept:
                    steps[2, p, y, x] = d
        for back in range(height - 1):
            y = height - 2 - back
            for x in range(width):
                d = planes[p, y + 1, x] - planes[p, y, x]
                planes[p, y, x] += weight[y + 1, x] * d
                if kept:
                    steps[3, p, y, x] = d


@jit
def unfilter_planes(gradients, weight, weight_gradients, height, width, steps, start, stop):
    """Turn the gradients (P, H, W) of `filter_planes`' results into those of its inputs, in place.

    weight_gradients : (P, H, W), added to: each plane's share of the gradient of `weight`.
    """
    for p in range(start, stop):
        for y in range(height - 1):
            for x in range(width):
                g = gradients[p, y, x]
                w = weight[y + 1, x]
                weight_gradients[p, y + 1, x] += g * steps[3, p, y, x]
                gradients[p, y + 1, x] += w * g
                gradients[p, y, x] = (1 - w) * g
        for back in range(height - 1):
            y = height - 1 - back
            for x in range(width):
                g = gradients[p, y, x]
                w = weight[y, x]
                weight_gradients[p, y, x] += g * steps[2, p, y, x]
                gradients[p, y - 1, x] += w * g
                gradients[p, y, x] = (1 - w) * g
        for y in range(height):
            for x in range(width - 1):
                g = gradients[p, y, x]
                w = weight[y, x + 1]
                weight_gradients[p, y, x + 1] += g * steps[1, p, y, x]
                gradients[p, y, x + 1] += w * g
                gradients[p, y, x] = (1 - w) * g
            for back in range(width - 1):
                x = width - 1 - back
                g = gradients[p, y, x]
                w = weight[y, x]
                weight_gradients[p, y, x] += g * steps[0, p, y, x]
                gradients[p, y, x - 1] += w * g
                gradients[p, y, x] = (1 - w) * g
