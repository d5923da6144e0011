// Pooling of packed values: half precision, channels innermost. Contract: atrouscaffe/ops/packed.py.
//
// A pixel has `chunks` chunks of 8 channels, 16 bytes each; a thread makes one output chunk, so that
// neighbouring threads read and write neighbouring 16 bytes.
#include "real.cuh"
#include <cuda_fp16.h>
#include "holes.cuh"

union Halves {
  Chunk whole;
  half part[8];
};

// Windows as in pool.cu: they start at oy * stride - pad, are cut at the image, and for an average count
// what lies in the padded image, size + pad at most, as the original does.
extern "C" __global__ void pool_packed(const half* __restrict__ x, half* __restrict__ y, int count, int chunks,
                                       int height, int width, int out_h, int out_w, int kernel_h, int kernel_w,
                                       int stride_h, int stride_w, int pad_h, int pad_w, bool average) {
  for (EACH(i, count)) {
    const int chunk = i % chunks, ox = i / chunks % out_w, oy = i / chunks / out_w % out_h;
    const int n = i / chunks / out_w / out_h;
    const int y0 = oy * stride_h - pad_h, x0 = ox * stride_w - pad_w;
    const int y1 = min(y0 + kernel_h, height + pad_h), x1 = min(x0 + kernel_w, width + pad_w);
    float value[8];
    for (int k = 0; k < 8; ++k) value[k] = average ? 0.0f : -3.402823466e38f;
    for (int iy = max(y0, 0); iy < min(y1, height); ++iy) {
      for (int ix = max(x0, 0); ix < min(x1, width); ++ix) {
        Halves from;
        from.whole = ((const Chunk*)x)[((size_t)(n * height + iy) * width + ix) * chunks + chunk];
        for (int k = 0; k < 8; ++k) {
          const float f = __half2float(from.part[k]);
          value[k] = average ? value[k] + f : f > value[k] ? f : value[k];
        }
      }
    }
    const bool behind = y1 <= y0 || x1 <= x0;  // a window that starts behind the padded image averages to 0
    const float scale = !average ? 1.0f : behind ? 0.0f : 1.0f / ((y1 - y0) * (x1 - x0));
    Halves to;
    for (int k = 0; k < 8; ++k) to.part[k] = __float2half_rn(fmaxf(value[k] * scale, -65504.0f));
    ((Chunk*)y)[i] = to.whole;
  }
}
