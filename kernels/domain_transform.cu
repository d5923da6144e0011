// Recursive filtering along rows and columns. Contract: atrouscaffe/ops/domain_transform.py.
//
//     there:  v[i] += w[i] * (v[i-1] - v[i])          i = 1, 2, ...          w[i]: the step between i-1 and i
//     back:   v[i] += w[i+1] * (v[i+1] - v[i])        i = length-2, ..., 0
//
// One thread owns one line of one plane and goes there and back; lines beside each other are columns, `step` = width
// apart inside, or rows, `step` = 1. `there` and `back`, both (planes, H, W) or null, keep the differences for the way
// back. Lines lie in the top-left part of planes (H, W); `lines` of them have `length` pixels each.
#include "real.cuh"

extern "C" __global__ void filter_lines(real* __restrict__ planes, const real* __restrict__ weight,
                                        real* __restrict__ there, real* __restrict__ back, int count, int lines,
                                        int length, int line_step, int step, int area) {
  for (EACH(i, count)) {
    const size_t line = (size_t)(i % lines) * line_step, begin = (size_t)(i / lines) * area + line;
    real* values = planes + begin;
    const real* weights = weight + line;
    real previous = values[0];
    for (int at = 1; at < length; ++at) {
      const size_t place = (size_t)at * step;
      const real difference = previous - values[place];
      previous = values[place] + weights[place] * difference;
      values[place] = previous;
      if (there) there[begin + place] = difference;
    }
    for (int at = length - 2; at >= 0; --at) {
      const size_t place = (size_t)at * step;
      const real difference = previous - values[place];
      previous = values[place] + weights[place + step] * difference;
      values[place] = previous;
      if (back) back[begin + place] = difference;
    }
  }
}

// The adjoint of filter_lines, in place; weight_gradients (planes, H, W), added to, is each plane's share of the
// gradient of `weight`.
extern "C" __global__ void unfilter_lines(real* __restrict__ gradients, const real* __restrict__ weight,
                                          real* __restrict__ weight_gradients, const real* __restrict__ there,
                                          const real* __restrict__ back, int count, int lines, int length,
                                          int line_step, int step, int area) {
  for (EACH(i, count)) {
    const size_t line = (size_t)(i % lines) * line_step, begin = (size_t)(i / lines) * area + line;
    real* values = gradients + begin;
    real* shares = weight_gradients + begin;
    const real* weights = weight + line;
    real g = values[0];
    for (int at = 0; at < length - 1; ++at) {
      const size_t place = (size_t)at * step, next = place + step;
      const real w = weights[next];
      shares[next] += g * back[begin + place];
      values[place] = (1 - w) * g;
      g = values[next] + w * g;
    }
    for (int at = length - 1; at > 0; --at) {
      const size_t place = (size_t)at * step;
      const real w = weights[place];
      shares[place] += g * there[begin + place];
      values[place] = (1 - w) * g;
      g = values[place - step] + w * g;
    }
    values[0] = g;
  }
}
