// Unpooling by the mask of a pooling. Contract: atrouscaffe/ops/unpool.py.
//
//     x, mask (planes, size)     mask[p][i] = place in plane p of y     y (planes, pixels)
//
// Several i may name one place; the last of them wins. So that no two threads write one number, each place first
// learns the largest i that names it (a maximum of integers, whatever their order), then fetches its value.
#include "real.cuh"

// winners[p][place] = the largest i whose mask names it; they begin at -1. `wrong` becomes 1 where a mask value is
// no place.
extern "C" __global__ void find_winners(const real* __restrict__ mask, int* __restrict__ winners,
                                        int* __restrict__ wrong, int count, int size, int pixels) {
  for (EACH(i, count)) {
    const real place = mask[i];
    if (place >= 0 && place < pixels)
      atomicMax(&winners[(size_t)(i / size) * pixels + (int)place], (int)(i % size));
    else
      atomicMax(wrong, 1);
  }
}

extern "C" __global__ void unpool(const real* __restrict__ x, const int* __restrict__ winners, real* __restrict__ y,
                                  int count, int size, int pixels) {
  for (EACH(i, count)) {
    const int winner = winners[i];
    y[i] = winner < 0 ? real(0) : x[(size_t)(i / pixels) * size + winner];
  }
}

// dx[p][i] = dy[p][mask[p][i]]; every i that names a place gets its gradient, as in the original.
extern "C" __global__ void unpool_backward(const real* __restrict__ dy, const real* __restrict__ mask,
                                           real* __restrict__ dx, int count, int size, int pixels) {
  for (EACH(i, count)) {
    const real place = mask[i];
    const bool inside = place >= 0 && place < pixels;
    dx[i] = inside ? dy[(size_t)(i / size) * pixels + (int)place] : real(0);
  }
}
