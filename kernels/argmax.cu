// Largest channels of (outer, channels, inner), and a label's place among them. Contract: atrouscaffe/ops/argmax.py.
//
// One thread a pixel (outer, inner) walks over its channels, which lie `inner` apart: neighbours read neighbours.
#include "real.cuh"

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

// ranks (outer, inner): how many channels come before the label's: larger ones, and of equal ones those behind it,
// or with `all_equal` all others. Negative labels give 0.
extern "C" __global__ void label_ranks(const real* __restrict__ x, const int* __restrict__ labels,
                                       int* __restrict__ ranks, int pixels, int channels, int inner, bool all_equal) {
  for (EACH(i, pixels)) {
    const real* scores = x + pixel_of(i, channels, inner);
    const int label = labels[i];
    int rank = 0;
    if (label >= 0) {
      const real own = scores[(size_t)label * inner];
      for (int c = 0; c < channels; ++c) {
        const real value = scores[(size_t)c * inner];
        rank += value > own || (value == own && (all_equal ? c != label : c > label));
      }
    }
    ranks[i] = rank;
  }
}
