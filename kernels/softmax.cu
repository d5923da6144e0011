// Softmax along the channels of (outer, channels, inner), and cross entropies with it. Contract:
// atrouscaffe/ops/softmax.py.
//
// Maps: one thread a pixel (outer, inner) walks over its channels, which lie `inner` apart, so that neighbours read
// neighbours. Rows (inner = 1): one block a row. Either way the largest value and the sum of exponentials are found in
// one walk: when a larger value comes, what was summed so far is scaled down,
//
//     sum <- sum * exp(largest - value) + 1        else        sum <- sum + exp(value - largest)
//
// Losses are added up in double, each block's in a fixed order into partials[block], then these by one block.
#include "real.cuh"
#include "sums.cuh"

struct Walk {
  real largest, sum;
};

// exp(value - largest), 1 where both are -infinity.
__device__ __forceinline__ real share(real value, real largest) {
  return value == largest ? real(1) : exp(value - largest);
}

// `value` joins what was summed so far.
__device__ __forceinline__ void join(Walk& walk, real value) {
  if (value > walk.largest) {
    walk.sum = walk.sum * exp(walk.largest - value) + 1;
    walk.largest = value;
  } else {
    walk.sum += share(value, walk.largest);
  }
}

// The end of a walk: a largest value that is infinite leaves NaN, as on the CPU.
__device__ __forceinline__ Walk ended(Walk walk) {
  walk.sum += walk.largest - walk.largest;
  return walk;
}

__device__ __forceinline__ Walk walk_over(const real* x, int channels, int step) {
  Walk walk = {x[0], 1};
  for (int c = 1; c < channels; ++c) join(walk, x[(size_t)c * step]);
  return ended(walk);
}

__device__ __forceinline__ size_t pixel_of(unsigned i, int channels, int inner) {
  return (size_t)(i / inner) * channels * inner + i % inner;
}

// ---- maps: one thread a pixel

extern "C" __global__ void softmax(const real* x, real* y, int pixels, int channels, int inner) {
  for (EACH(i, pixels)) {
    const size_t begin = pixel_of(i, channels, inner);
    const Walk walk = walk_over(x + begin, channels, inner);
    const real factor = 1 / walk.sum;
    for (int c = 0; c < channels; ++c) {
      const size_t place = begin + (size_t)c * inner;
      y[place] = exp(x[place] - walk.largest) * factor;
    }
  }
}

// dx = y (dy - sum of y dy); dx may be dy.
extern "C" __global__ void softmax_grad(const real* __restrict__ y, const real* dy, real* dx, int pixels, int channels,
                                        int inner) {
  for (EACH(i, pixels)) {
    const size_t begin = pixel_of(i, channels, inner);
    real dot = 0;
    for (int c = 0; c < channels; ++c) dot += y[begin + (size_t)c * inner] * dy[begin + (size_t)c * inner];
    for (int c = 0; c < channels; ++c) {
      const size_t place = begin + (size_t)c * inner;
      dx[place] = y[place] * (dy[place] - dot);
    }
  }
}

// partials[block] = sum of weight * -log softmax(x)[label] over its pixels; negative labels do not count, weights may
// be null. No pixel adds more than `most`.
extern "C" __global__ void cross_entropy(const real* __restrict__ x, const int* __restrict__ labels,
                                         const real* __restrict__ weights, double* __restrict__ partials, int pixels,
                                         int channels, int inner, real most) {
  double total = 0;
  for (EACH(i, pixels)) {
    const int label = labels[i];
    if (label < 0) continue;
    const real* scores = x + pixel_of(i, channels, inner);
    const Walk walk = walk_over(scores, channels, inner);
    const real loss = log(walk.sum) - (scores[(size_t)label * inner] - walk.largest);
    const real counted = loss > most ? most : loss;
    total += weights ? (double)counted * weights[i] : (double)counted;
  }
  total = block_sum(total);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// dx = factor * weight * (softmax(x) - [channel is the label]), 0 where the label is negative.
extern "C" __global__ void cross_entropy_grad(const real* __restrict__ x, const int* __restrict__ labels,
                                              const real* __restrict__ weights, const real* __restrict__ factor,
                                              real* __restrict__ dx, int pixels, int channels, int inner) {
  for (EACH(i, pixels)) {
    const size_t begin = pixel_of(i, channels, inner);
    const int label = labels[i];
    if (label < 0) {
      for (int c = 0; c < channels; ++c) dx[begin + (size_t)c * inner] = 0;
      continue;
    }
    const real scale = weights ? *factor * weights[i] : *factor;
    const Walk walk = walk_over(x + begin, channels, inner);
    const real part = 1 / walk.sum;
    for (int c = 0; c < channels; ++c) {
      const size_t place = begin + (size_t)c * inner;
      dx[place] = scale * (exp(x[place] - walk.largest) * part - (c == label ? real(1) : real(0)));
    }
  }
}

// partials[block] = sum of -softmax(target / t) . log softmax(x / t) over its pixels; `counted` may be null.
extern "C" __global__ void soft_cross_entropy(const real* __restrict__ x, const real* __restrict__ target,
                                              const bool* __restrict__ counted, double* __restrict__ partials,
                                              int pixels, int channels, int inner, real temperature) {
  double total = 0;
  for (EACH(i, pixels)) {
    if (counted && !counted[i]) continue;
    const size_t begin = pixel_of(i, channels, inner);
    real largest = x[begin], wanted = target[begin];
    for (int c = 1; c < channels; ++c) {
      largest = max(largest, x[begin + (size_t)c * inner]);
      wanted = max(wanted, target[begin + (size_t)c * inner]);
    }
    real sum = 0, weights = 0, dot = 0;
    for (int c = 0; c < channels; ++c) {
      const real score = (x[begin + (size_t)c * inner] - largest) / temperature;
      const real weight = exp((target[begin + (size_t)c * inner] - wanted) / temperature);
      sum += exp(score);
      weights += weight;
      dot += weight * score;
    }
    total += log(sum) - dot / weights;
  }
  total = block_sum(total);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// dx = factor * (softmax(x / t) - softmax(target / t)), 0 where a pixel does not count.
extern "C" __global__ void soft_cross_entropy_grad(const real* __restrict__ x, const real* __restrict__ target,
                                                   const bool* __restrict__ counted, const real* __restrict__ factor,
                                                   real* __restrict__ dx, int pixels, int channels, int inner,
                                                   real temperature) {
  const real inverse = 1 / temperature;
  for (EACH(i, pixels)) {
    const size_t begin = pixel_of(i, channels, inner);
    const bool counts = !counted || counted[i];
    Walk student = {x[begin] * inverse, 1}, teacher = {target[begin] * inverse, 1};
    for (int c = 1; counts && c < channels; ++c) {
      join(student, x[begin + (size_t)c * inner] * inverse);
      join(teacher, target[begin + (size_t)c * inner] * inverse);
    }
    const real p = 1 / ended(student).sum, q = 1 / ended(teacher).sum;
    for (int c = 0; c < channels; ++c) {
      const size_t place = begin + (size_t)c * inner;
      dx[place] = counts ? *factor * (exp(x[place] * inverse - student.largest) * p -
                                      exp(target[place] * inverse - teacher.largest) * q)
                         : real(0);
    }
  }
}

// ---- rows: one block a row of `channels` numbers

// The walk over a whole row by all threads of a block: each takes every blockDim.x-th number, then the walks are
// joined in the order of a tree over threads.
__device__ __forceinline__ Walk walk_row(const real* row, int channels) {
  __shared__ real largest[1024], sums[1024];
  const unsigned me = threadIdx.x;
  Walk walk = {row[min((int)me, channels - 1)], 0};
  for (int c = me; c < channels; c += (int)blockDim.x) join(walk, row[c]);
  largest[me] = walk.largest;
  sums[me] = walk.sum;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (me < half) {
      const real other = largest[me + half], most = max(largest[me], other);
      sums[me] = sums[me] * share(largest[me], most) + sums[me + half] * share(other, most);
      largest[me] = most;
    }
    __syncthreads();
  }
  return ended({largest[0], sums[0]});
}

extern "C" __global__ void softmax_rows(const real* x, real* y, int channels) {
  const real* row = x + (size_t)blockIdx.x * channels;
  const Walk walk = walk_row(row, channels);
  const real factor = 1 / walk.sum;
  for (int c = threadIdx.x; c < channels; c += (int)blockDim.x)
    y[(size_t)blockIdx.x * channels + c] = exp(row[c] - walk.largest) * factor;
}

extern "C" __global__ void softmax_grad_rows(const real* __restrict__ y, const real* dy, real* dx, int channels) {
  const size_t begin = (size_t)blockIdx.x * channels;
  real part = 0;
  for (int c = threadIdx.x; c < channels; c += (int)blockDim.x) part += y[begin + c] * dy[begin + c];
  const real dot = (real)block_sum((double)part);
  for (int c = threadIdx.x; c < channels; c += (int)blockDim.x) dx[begin + c] = y[begin + c] * (dy[begin + c] - dot);
}

// partials[row] = its weighted loss.
extern "C" __global__ void cross_entropy_rows(const real* __restrict__ x, const int* __restrict__ labels,
                                              const real* __restrict__ weights, double* __restrict__ partials,
                                              int channels, real most) {
  const int label = labels[blockIdx.x];
  const real* row = x + (size_t)blockIdx.x * channels;
  const Walk walk = walk_row(row, channels);
  if (threadIdx.x) return;
  const real loss = label < 0 ? real(0) : log(walk.sum) - (row[label] - walk.largest);
  const real counted = loss > most ? most : loss;
  partials[blockIdx.x] = weights ? (double)counted * weights[blockIdx.x] : (double)counted;
}

extern "C" __global__ void cross_entropy_grad_rows(const real* __restrict__ x, const int* __restrict__ labels,
                                                   const real* __restrict__ weights, const real* __restrict__ factor,
                                                   real* __restrict__ dx, int channels) {
  const int label = labels[blockIdx.x];
  const size_t begin = (size_t)blockIdx.x * channels;
  const Walk walk = walk_row(x + begin, channels);
  const real scale = label < 0 ? real(0) : weights ? *factor * weights[blockIdx.x] : *factor;
  for (int c = threadIdx.x; c < channels; c += (int)blockDim.x) {
    const real share = exp(x[begin + c] - walk.largest) / walk.sum - (c == label ? real(1) : real(0));
    dx[begin + c] = label < 0 ? real(0) : scale * share;
  }
}

// ---- the second stage

// total = sum of `count` partials; one block.
extern "C" __global__ void add_partials(const double* __restrict__ partials, double* __restrict__ total, int count) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += (int)blockDim.x) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}
