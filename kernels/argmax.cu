// Largest channels of (outer, channels, inner), and a label's place among them. Contract: atrouscaffe/ops/argmax.py.
//
// Maps: one thread a pixel (outer, inner) walks over its channels, which lie `inner` apart, so that neighbours read
// neighbours. Rows (inner = 1): one block a row.
#include "real.cuh"
#include "sums.cuh"

__device__ __forceinline__ size_t pixel_of(unsigned i, int channels, int inner) {
  return (size_t)(i / inner) * channels * inner + i % inner;
}

// indices (outer, inner): the last of the largest values; channels behind a NaN do not count.
extern "C" __global__ void argmax(const real* __restrict__ x, int* __restrict__ indices, int pixels, int channels,
                                  int inner) {
  for (EACH(i, pixels)) {
    const real* scores = x + pixel_of(i, channels, inner);
    real best = scores[0];
    int index = 0;
    for (int c = 1; c < channels; ++c) {
      const real value = scores[(size_t)c * inner];
      if (value >= best) index = c;
      if (value >= best || value != value) best = value;
    }
    indices[i] = index;
  }
}

extern "C" __global__ void argmax_rows(const real* __restrict__ x, int* __restrict__ indices, int channels) {
  __shared__ real values[1024];
  __shared__ int places[1024];
  const real* row = x + (size_t)blockIdx.x * channels;
  const unsigned me = threadIdx.x;
  int stop = channels;  // the first NaN
  for (int c = me; c < channels && stop == channels; c += (int)blockDim.x)
    if (row[c] != row[c]) stop = c;
  places[me] = stop;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (me < half) places[me] = min(places[me], places[me + half]);
    __syncthreads();
  }
  stop = places[0];
  __syncthreads();
  real best = 0;
  int index = -1;
  for (int c = me; c < stop; c += (int)blockDim.x) {
    if (index < 0 || row[c] >= best) {
      best = row[c];
      index = c;
    }
  }
  values[me] = best;
  places[me] = index;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (me < half) {
      const real other = values[me + half];
      const int place = places[me + half];
      if (place >= 0 && (places[me] < 0 || other > values[me] || (other == values[me] && place > places[me]))) {
        values[me] = other;
        places[me] = place;
      }
    }
    __syncthreads();
  }
  if (me == 0) indices[blockIdx.x] = max(places[0], 0);
}

// Whether (v, a) comes before (w, b): NaN before all, then larger values, then larger channels.
__device__ __forceinline__ bool before(real v, int a, real w, int b) {
  const bool nan_v = v != v, nan_w = w != w;
  if (nan_v || nan_w) return nan_v && (!nan_w || a > b);
  return v > w || (v == w && a > b);
}

// indices (outer, k, inner): in k walks, each finds the first behind the one before.
extern "C" __global__ void top_channels(const real* __restrict__ x, int* __restrict__ indices, int pixels,
                                        int channels, int inner, int k) {
  for (EACH(i, pixels)) {
    const real* scores = x + pixel_of(i, channels, inner);
    int* chosen = indices + pixel_of(i, k, inner);
    int previous = -1;
    for (int rank = 0; rank < k; ++rank) {
      int best = -1;
      for (int c = 0; c < channels; ++c) {
        const real value = scores[(size_t)c * inner];
        if (rank > 0 && !before(scores[(size_t)previous * inner], previous, value, c)) continue;
        if (best < 0 || before(value, c, scores[(size_t)best * inner], best)) best = c;
      }
      chosen[(size_t)rank * inner] = previous = best;
    }
  }
}

// Whether channel c comes before the label's: larger ones, and of equal ones those behind it, or with `all_equal` all.
__device__ __forceinline__ bool beats(real value, int c, real own, int label, bool all_equal) {
  return value > own || (value == own && (all_equal ? c != label : c > label));
}

// ranks (outer, inner): how many channels come before the label's. Negative labels give 0.
extern "C" __global__ void label_ranks(const real* __restrict__ x, const int* __restrict__ labels,
                                       int* __restrict__ ranks, int pixels, int channels, int inner, bool all_equal) {
  for (EACH(i, pixels)) {
    const real* scores = x + pixel_of(i, channels, inner);
    const int label = labels[i];
    int rank = 0;
    if (label >= 0) {
      const real own = scores[(size_t)label * inner];
      for (int c = 0; c < channels; ++c) rank += beats(scores[(size_t)c * inner], c, own, label, all_equal);
    }
    ranks[i] = rank;
  }
}

extern "C" __global__ void label_ranks_rows(const real* __restrict__ x, const int* __restrict__ labels,
                                            int* __restrict__ ranks, int channels, bool all_equal) {
  const real* row = x + (size_t)blockIdx.x * channels;
  const int label = labels[blockIdx.x];
  int rank = 0;
  if (label >= 0) {
    const real own = row[label];
    for (int c = threadIdx.x; c < channels; c += (int)blockDim.x) rank += beats(row[c], c, own, label, all_equal);
  }
  const double total = block_sum((double)rank);  // whole numbers: exact
  if (threadIdx.x == 0) ranks[blockIdx.x] = (int)total;
}
