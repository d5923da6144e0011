// Activations and their gradients, one pass each. Contract: atrouscaffe/ops/activation.py.
//
//     x ----- f -----> y          dx = dy f'(x), written through y wherever y decides it
//
// y may be x, and dx may be dy: each thread reads its place before it writes it. NaN passes through.
#include "real.cuh"

extern "C" __global__ void leaky(const real* x, real* y, int count, real slope) {
  for (EACH(i, count)) {
    const real v = x[i];
    y[i] = v < 0 ? (slope == 0 ? real(0) : slope * v) : v;
  }
}

extern "C" __global__ void leaky_grad(const real* y, const real* dy, real* dx, int count, real slope) {
  for (EACH(i, count)) dx[i] = dy[i] * (y[i] > 0 ? real(1) : slope);
}

// Slopes by channel: x is (outer, channels, inner); channels = 1 is one slope for all.
extern "C" __global__ void prelu(const real* x, const real* slope, real* y, int count, int channels, int inner) {
  for (EACH(i, count)) {
    const real v = x[i];
    y[i] = v < 0 ? slope[i / inner % channels] * v : v;
  }
}

extern "C" __global__ void prelu_grad(const real* x, const real* slope, const real* dy, real* dx, int count,
                                      int channels, int inner) {
  for (EACH(i, count)) dx[i] = dy[i] * (x[i] > 0 ? real(1) : slope[i / inner % channels]);
}

extern "C" __global__ void clip(const real* x, real* y, int count, real low, real high) {
  for (EACH(i, count)) {
    const real v = x[i];
    y[i] = v < low ? low : v > high ? high : v;
  }
}

extern "C" __global__ void clip_grad(const real* x, const real* dy, real* dx, int count, real low, real high) {
  for (EACH(i, count)) dx[i] = dy[i] * real(x[i] >= low && x[i] <= high);
}

extern "C" __global__ void relu6_grad(const real* y, const real* dy, real* dx, int count) {
  for (EACH(i, count)) dx[i] = dy[i] * real(y[i] > 0 && y[i] < 6);
}

extern "C" __global__ void elu(const real* x, real* y, int count, real alpha) {
  for (EACH(i, count)) {
    const real v = x[i];
    y[i] = v > 0 ? v : alpha * expm1(v);
  }
}

extern "C" __global__ void elu_grad(const real* y, const real* dy, real* dx, int count, real alpha) {
  for (EACH(i, count)) dx[i] = dy[i] * (y[i] > 0 ? real(1) : y[i] + alpha);
}

extern "C" __global__ void sigmoid(const real* x, real* y, int count) {
  for (EACH(i, count)) y[i] = real(1) / (real(1) + exp(-x[i]));
}

extern "C" __global__ void sigmoid_grad(const real* y, const real* dy, real* dx, int count) {
  for (EACH(i, count)) dx[i] = dy[i] * (y[i] * (real(1) - y[i]));
}

extern "C" __global__ void tanh_forward(const real* x, real* y, int count) {
  for (EACH(i, count)) y[i] = tanh(x[i]);
}

extern "C" __global__ void tanh_grad(const real* y, const real* dy, real* dx, int count) {
  for (EACH(i, count)) dx[i] = dy[i] * (real(1) - y[i] * y[i]);
}

// log(1 + exp(x)) without overflow.
extern "C" __global__ void bnll(const real* x, real* y, int count) {
  for (EACH(i, count)) {
    const real v = x[i];
    y[i] = (v > 0 ? v : real(0)) + log1p(exp(v > 0 ? -v : v));
  }
}

// sigmoid(x) = 1 - exp(-y).
extern "C" __global__ void bnll_grad(const real* y, const real* dy, real* dx, int count) {
  for (EACH(i, count)) dx[i] = dy[i] * -expm1(-y[i]);
}

extern "C" __global__ void swish(const real* x, real* y, int count, real beta) {
  for (EACH(i, count)) y[i] = x[i] / (real(1) + exp(-beta * x[i]));
}

extern "C" __global__ void swish_grad(const real* y, const real* x, const real* dy, real* dx, int count, real beta) {
  for (EACH(i, count)) {
    const real gate = real(1) / (real(1) + exp(-beta * x[i])), inner = beta * y[i];
    dx[i] = dy[i] * (inner + gate * (real(1) - inner));
  }
}

extern "C" __global__ void threshold(const real* x, real* y, int count, real limit) {
  for (EACH(i, count)) y[i] = real(x[i] > limit);
}

__device__ __forceinline__ real raised(real base, real power) {
  return power == 1 ? base : power == 2 ? base * base : pow(base, power);
}

extern "C" __global__ void power(const real* x, real* y, int count, real exponent, real scale, real shift) {
  for (EACH(i, count)) y[i] = raised(scale * x[i] + shift, exponent);
}

// `exponent` is the gradient's: one less than the layer's; slope = the layer's exponent times its scale.
extern "C" __global__ void power_grad(const real* x, const real* dy, real* dx, int count, real exponent, real scale,
                                      real shift, real slope) {
  for (EACH(i, count)) dx[i] = dy[i] * (slope * raised(scale * x[i] + shift, exponent));
}

extern "C" __global__ void exp_affine(const real* x, real* y, int count, real scale, real shift) {
  for (EACH(i, count)) y[i] = exp(scale * x[i] + shift);
}

extern "C" __global__ void exp_affine_grad(const real* y, const real* dy, real* dx, int count, real scale) {
  for (EACH(i, count)) dx[i] = dy[i] * (scale * y[i]);
}

extern "C" __global__ void log_affine(const real* x, real* y, int count, real scale, real shift, real base) {
  for (EACH(i, count)) y[i] = log(scale * x[i] + shift) / base;
}

// `values` is x, or in place y, from which shift + scale x is exp(base y).
extern "C" __global__ void log_affine_grad(const real* values, const real* dy, real* dx, int count, real scale,
                                           real shift, real base, bool in_place) {
  for (EACH(i, count)) {
    const real inner = in_place ? exp(base * values[i]) : scale * values[i] + shift;
    dx[i] = dy[i] / inner * (scale / base);
  }
}
