// Bilinear resizing with aligned corners. Contract: atrouscaffe/ops/interp.py.
//
// Output pixel i reads source pixels index and index + step (see positions.cuh) of the crop that begins at `begin`:
//
//     source   . . . [index] [index + step] . . .          value = (1 - weight) * first + weight * second
//                       \        /
//     output   . . . . . . (i) . . . . . . .               rows are mixed first, then columns
//
// The way back goes one axis at a time: source pixel s gathers from the outputs whose index is s - 1 or s, which lie
// between (s - 1) / ratio and (s + 1) / ratio.
#include "real.cuh"
#include "positions.cuh"

#define PLANES 4

// One thread for the same pixel of PLANES planes, so that positions are worked out once for all of them:
// item = group * out_h * out_w + pixel.
extern "C" __global__ void resize(const real* __restrict__ x, real* __restrict__ y, int count, int planes, int height,
                                  int width, int crop_h, int crop_w, int begin, int out_h, int out_w) {
  const float ratio_h = position_ratio(crop_h, out_h), ratio_w = position_ratio(crop_w, out_w);
  for (EACH(i, count)) {
    const int j = i % out_w, row = i / out_w % out_h, first = i / out_w / out_h * PLANES;
    const Position down = position_of(row, crop_h, ratio_h), right = position_of(j, crop_w, ratio_w);
    const real b = down.weight, a = 1 - b, later = right.weight, sooner = 1 - later;
    const real* upper = x + ((size_t)first * height + down.index + begin) * width + right.index + begin;
    const real* under = upper + (size_t)down.step * width;
    real* target = y + ((size_t)first * out_h + row) * out_w + j;
    const int last = min(first + PLANES, planes);
    for (int p = first; p < last; ++p) {
      *target = sooner * (a * upper[0] + b * under[0]) + later * (a * upper[right.step] + b * under[right.step]);
      upper += (size_t)height * width;
      under += (size_t)height * width;
      target += (size_t)out_h * out_w;
    }
  }
}

// The adjoint along one axis: source (outer, out, inner) to target (outer, size, inner), of which `crop` places from
// `begin` on were read; the others get 0. One thread a target, outputs in order.
extern "C" __global__ void resize_adjoint(const real* __restrict__ source, real* __restrict__ target, int count,
                                          int size, int crop, int begin, int out, int inner) {
  const float ratio = position_ratio(crop, out);
  for (EACH(i, count)) {
    const int place = i / inner % size - begin;
    const real* line = source + ((size_t)(i / inner / size) * out) * inner + i % inner;
    real sum = 0;
    if (place >= 0 && place < crop) {
      int low = 0, high = out - 1;
      if (ratio > 0) {  // one more at either end, for the rounding of positions
        low = max((int)((place - 1) / ratio) - 1, 0);
        high = (int)min((place + 1) / ratio + 2, (float)high);
      }
      for (int o = low; o <= high; ++o) {
        const Position from = position_of(o, crop, ratio);
        real share = 0;
        if (from.index == place) share = 1 - (real)from.weight;
        if (from.index + from.step == place) share += (real)from.weight;
        if (share != 0) sum += share * line[(size_t)o * inner];
      }
    }
    target[i] = sum;
  }
}
