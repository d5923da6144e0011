// Arithmetic by channel. Contract: atrouscaffe/ops/channels.py.
//
// Arrays are (outer, channels, inner); element i has channel i / inner % channels.
//
//     sums over outer and inner:   channel c  =  | span 0 | span 1 | ... |  total elements e = n * inner + p
//                                                    |        |
//                                     one block each |        |   partials[c * spans + s], in double
//                                                    +---+----+
//                                                        one thread a channel adds them up in order
//
// Cuts depend on shapes only, so results are the same bits on every device.
#include "real.cuh"
#include "sums.cuh"

// y = x * scale + shift, either of them null; y may be x.
extern "C" __global__ void affine(const real* x, const real* __restrict__ scale, const real* __restrict__ shift,
                                  real* y, int count, int channels, int inner) {
  for (EACH(i, count)) {
    const int c = i / inner % channels;
    real value = x[i];
    if (scale) value *= scale[c];
    if (shift) value += shift[c];
    y[i] = value;
  }
}

// out = x * p + y * q + shift; out may be x or y.
extern "C" __global__ void blend(const real* x, const real* __restrict__ p, const real* y, const real* __restrict__ q,
                                 const real* __restrict__ shift, real* out, int count, int channels, int inner) {
  for (EACH(i, count)) {
    const int c = i / inner % channels;
    out[i] = x[i] * p[c] + shift[c] + y[i] * q[c];
  }
}

// What is added up of one element: x, x * y, (x - mean)^2, or min(x, 0) * y.
__device__ __forceinline__ real term(const real* x, const real* y, const real* mean, bool below, size_t i, int c) {
  const real v = x[i];
  if (mean) return (v - mean[c]) * (v - mean[c]);
  if (!y) return v;
  return (below && v > 0 ? real(0) : v) * y[i];
}

extern "C" __global__ void channel_partials(const real* __restrict__ x, const real* __restrict__ y,
                                            const real* __restrict__ mean, double* __restrict__ partials, int channels,
                                            int inner, int total, int spans, int span, bool below) {
  const int c = blockIdx.x / spans, s = blockIdx.x % spans;
  const int begin = s * span, end = total - begin < span ? total : begin + span;
  real sum = 0;
  for (int e = begin + (int)threadIdx.x; e < end; e += (int)blockDim.x) {
    const size_t i = ((size_t)(e / inner) * channels + c) * inner + e % inner;
    sum += term(x, y, mean, below, i, c);
  }
  const double whole = block_sum((double)sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = whole;
}

// Few values a channel: one thread each adds them up.
extern "C" __global__ void channel_few(const real* __restrict__ x, const real* __restrict__ y,
                                       const real* __restrict__ mean, double* __restrict__ totals, int channels,
                                       int inner, int total, bool below) {
  for (EACH(c, channels)) {
    double sum = 0;
    for (int e = 0; e < total; ++e) {
      const size_t i = ((size_t)(e / inner) * channels + c) * inner + e % inner;
      sum += term(x, y, mean, below, i, c);
    }
    totals[c] = sum;
  }
}

extern "C" __global__ void channel_totals(const double* __restrict__ partials, double* __restrict__ totals,
                                          int channels, int spans) {
  for (EACH(c, channels)) {
    double sum = 0;
    for (int s = 0; s < spans; ++s) sum += partials[(size_t)c * spans + s];
    totals[c] = sum;
  }
}

// What normalises a channel: inverse = 1 / sqrt(variance + eps), shift = -mean * inverse. Running statistics are
// divided by factor[0] (0: there are none, both count as 0); batch statistics have no factor.
extern "C" __global__ void normalizer(const real* __restrict__ mean, const real* __restrict__ variance,
                                      const real* __restrict__ factor, real* __restrict__ inverse,
                                      real* __restrict__ shift, int channels, real eps) {
  const real share = !factor ? real(1) : factor[0] == 0 ? real(0) : real(1) / factor[0];
  for (EACH(c, channels)) {
    inverse[c] = real(1) / sqrt(variance[c] * share + eps);
    shift[c] = -(mean[c] * share) * inverse[c];
  }
}

// old = old * fraction + new for both statistics and their factor, the new variance times `correction`.
extern "C" __global__ void move_statistics(real* __restrict__ mean, real* __restrict__ variance,
                                           real* __restrict__ factor, const real* __restrict__ batch_mean,
                                           const real* __restrict__ batch_variance, int channels, real fraction,
                                           real correction) {
  for (EACH(c, channels)) {
    mean[c] = mean[c] * fraction + batch_mean[c];
    variance[c] = variance[c] * fraction + batch_variance[c] * correction;
    if (c == 0) factor[0] = factor[0] * fraction + real(1);
  }
}
