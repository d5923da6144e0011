// Local response normalisation across channels. Contract: atrouscaffe/ops/lrn.py.
//
//     s[c] = k + alpha / size * sum of x[c']**2 over |c' - c| <= size / 2          y = x s**-beta
//
// Arrays are (N, channels, pixels). One thread a value: its window lies `pixels` apart, so neighbours read neighbours,
// and what windows share comes from the cache.
#include "real.cuh"

// Sum of f over the window of channel c: the middle, then pairs outwards, as on the CPU.
template <class F>
__device__ __forceinline__ real window_sum(int c, int channels, int half, F f) {
  real total = f(c);
  for (int d = 1; d <= half; ++d) {
    if (c - d >= 0) total += f(c - d);
    if (c + d < channels) total += f(c + d);
  }
  return total;
}

__device__ __forceinline__ real scale_of(const real* line, int c, int channels, int pixels, int half, real share,
                                         real k) {
  return window_sum(c, channels, half, [=](int at) { return line[(size_t)at * pixels] * line[(size_t)at * pixels]; }) *
             share + k;
}

// share is alpha / size.
extern "C" __global__ void lrn_across(const real* __restrict__ x, real* __restrict__ y, int count, int channels,
                                      int pixels, int half, real share, real beta, real k) {
  for (EACH(i, count)) {
    const int c = i / pixels % channels;
    const real* line = x + (i - (size_t)c * pixels);
    y[i] = x[i] * pow(scale_of(line, c, channels, pixels, half, share, k), -beta);
  }
}

// First step back: dx = dy s**-beta, and inner = dy x s**(-beta - 1).
extern "C" __global__ void lrn_across_inner(const real* __restrict__ x, const real* __restrict__ dy,
                                            real* __restrict__ dx, real* __restrict__ inner, int count, int channels,
                                            int pixels, int half, real share, real beta, real k) {
  for (EACH(i, count)) {
    const int c = i / pixels % channels;
    const real* line = x + (i - (size_t)c * pixels);
    const real scale = scale_of(line, c, channels, pixels, half, share, k), power = pow(scale, -beta);
    dx[i] = dy[i] * power;
    inner[i] = dy[i] * x[i] * power / scale;
  }
}

// Second step: dx -= factor x (window sum of inner), factor = 2 alpha beta / size.
extern "C" __global__ void lrn_across_outer(const real* __restrict__ x, const real* __restrict__ inner,
                                            real* __restrict__ dx, int count, int channels, int pixels, int half,
                                            real factor) {
  for (EACH(i, count)) {
    const int c = i / pixels % channels;
    const real* line = inner + (i - (size_t)c * pixels);
    dx[i] -= factor * x[i] * window_sum(c, channels, half, [=](int at) { return line[(size_t)at * pixels]; });
  }
}
