// Operands of matrix products in half precision. Contract: atrouscaffe/ops/conv_cuda.py.
#include "real.cuh"
#include <cuda_fp16.h>

// target[i] = source[i], rounded to nearest even; beyond 65504 the largest finite number, so that no product is NaN.
__device__ __forceinline__ half rounded(real value) {
  const float x = (float)value;
  return __float2half_rn(x != x ? x : fminf(fmaxf(x, -65504.0f), 65504.0f));
}

extern "C" __global__ void to_half(const real* __restrict__ source, half* __restrict__ target, int count) {
  for (EACH(i, count)) target[i] = rounded(source[i]);
}

// im2col of im2col.cu, rounded on the way.
extern "C" __global__ void im2col_half(const real* __restrict__ images, half* __restrict__ columns, int count,
                                       int height, int width, int out_w, int pixel0, int pixels, int kernel_h,
                                       int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h,
                                       int hole_w) {
  const int taps = kernel_h * kernel_w;
  for (EACH(i, count)) {
    const int p = i % pixels, plane = i / pixels;
    const int oy = (pixel0 + p) / out_w, ox = (pixel0 + p) % out_w;
    const int y0 = oy * stride_h - pad_h, x0 = ox * stride_w - pad_w;
    const real* image = images + (size_t)plane * height * width;
    half* column = columns + (size_t)plane * taps * pixels + p;
    for (int ty = 0; ty < kernel_h; ++ty) {
      const int iy = y0 + ty * hole_h;
      for (int tx = 0; tx < kernel_w; ++tx) {
        const int ix = x0 + tx * hole_w;
        const bool inside = iy >= 0 && iy < height && ix >= 0 && ix < width;
        *column = rounded(inside ? image[(size_t)iy * width + ix] : real(0));
        column += pixels;
      }
    }
  }
}
