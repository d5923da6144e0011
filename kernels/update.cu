// Update rules, one pass over a parameter each. Contract: atrouscaffe/solver/update.py.
//
//     g = scale grad + decay value (L1: decay sign(value))     scale: clipping and 1 / iter_size
//     u = rule(g, histories)
//     grad <- u,  value <- value - u                           (subtract false: value stays)
#include "real.cuh"
#include "sums.cuh"

__device__ __forceinline__ real regularized(real grad, real value, real scale, real decay, bool l1) {
  grad *= scale;
  if (decay == 0) return grad;
  if (l1) value = value > 0 ? real(1) : value < 0 ? real(-1) : value;
  return grad + decay * value;
}

__device__ __forceinline__ void finish(real* grad, real* value, unsigned i, real update, bool subtract) {
  grad[i] = update;
  if (subtract) value[i] -= update;
}

extern "C" __global__ void sgd(real* __restrict__ grad, real* __restrict__ value, real* __restrict__ velocity,
                               int count, real scale, real decay, bool l1, bool subtract, real rate, real momentum) {
  for (EACH(i, count)) {
    const real g = regularized(grad[i], value[i], scale, decay, l1);
    velocity[i] = momentum * velocity[i] + rate * g;
    finish(grad, value, i, velocity[i], subtract);
  }
}

extern "C" __global__ void nesterov(real* __restrict__ grad, real* __restrict__ value, real* __restrict__ velocity,
                                    int count, real scale, real decay, bool l1, bool subtract, real rate, real momentum,
                                    real ahead) {  // ahead = 1 + momentum
  for (EACH(i, count)) {
    const real g = regularized(grad[i], value[i], scale, decay, l1), before = momentum * velocity[i];
    velocity[i] = before + rate * g;
    finish(grad, value, i, ahead * velocity[i] - before, subtract);
  }
}

extern "C" __global__ void adagrad(real* __restrict__ grad, real* __restrict__ value, real* __restrict__ squares,
                                   int count, real scale, real decay, bool l1, bool subtract, real rate, real delta) {
  for (EACH(i, count)) {
    const real g = regularized(grad[i], value[i], scale, decay, l1);
    squares[i] += g * g;
    finish(grad, value, i, g / (sqrt(squares[i]) + delta) * rate, subtract);
  }
}

// keep and fresh: the shares of what a history was and of what comes in.
extern "C" __global__ void rmsprop(real* __restrict__ grad, real* __restrict__ value, real* __restrict__ squares,
                                   int count, real scale, real decay, bool l1, bool subtract, real rate, real delta,
                                   real keep, real fresh) {
  for (EACH(i, count)) {
    const real g = regularized(grad[i], value[i], scale, decay, l1);
    squares[i] = keep * squares[i] + fresh * (g * g);
    finish(grad, value, i, g / (sqrt(squares[i]) + delta) * rate, subtract);
  }
}

extern "C" __global__ void adadelta(real* __restrict__ grad, real* __restrict__ value, real* __restrict__ squares,
                                    real* __restrict__ changes, int count, real scale, real decay, bool l1,
                                    bool subtract, real rate, real delta, real keep, real fresh) {
  for (EACH(i, count)) {
    const real g = regularized(grad[i], value[i], scale, decay, l1);
    squares[i] = keep * squares[i] + fresh * (g * g);
    const real change = g * sqrt((changes[i] + delta) / (squares[i] + delta));
    changes[i] = keep * changes[i] + fresh * (change * change);
    finish(grad, value, i, change * rate, subtract);
  }
}

extern "C" __global__ void adam(real* __restrict__ grad, real* __restrict__ value, real* __restrict__ mean,
                                real* __restrict__ squares, int count, real scale, real decay, bool l1, bool subtract,
                                real rate, real delta, real keep, real fresh, real keep_squares, real fresh_squares) {
  for (EACH(i, count)) {
    const real g = regularized(grad[i], value[i], scale, decay, l1);
    squares[i] = keep_squares * squares[i] + fresh_squares * (g * g);
    mean[i] = keep * mean[i] + fresh * g;
    finish(grad, value, i, mean[i] / (sqrt(squares[i]) + delta) * rate, subtract);
  }
}

// The sum of squares of each span of x, a block each; then of all spans, by one block. In double, so that no
// square of a float is too large.
extern "C" __global__ void squares(const real* __restrict__ x, double* __restrict__ partials, int count, int span) {
  const int begin = blockIdx.x * span, end = count - begin < span ? count : begin + span;
  double sum = 0;
  for (int i = begin + (int)threadIdx.x; i < end; i += (int)blockDim.x) sum += (double)x[i] * (double)x[i];
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = whole;
}

extern "C" __global__ void add_squares(const double* __restrict__ partials, double* __restrict__ total, int count) {
  double sum = 0;
  for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x) sum += partials[i];
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) total[0] = whole;
}
