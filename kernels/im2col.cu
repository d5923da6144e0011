// Columns of a convolution with holes, and the way back. Contract: atrouscaffe/ops/im2col.py.
//
// Row r = (c * kernel_h + ty) * kernel_w + tx of the column matrix and output pixel p = oy * out_w + ox
// meet at the input pixel
//
//     iy = oy * stride_h + ty * hole_h - pad_h          c, iy, ix --- im2col ---> columns[n][r][p - pixel0]
//     ix = ox * stride_w + tx * hole_w - pad_w          (zero outside)  <--- col2im, added up
//
// A block of columns holds pixels pixel0 to pixel0 + pixels of every image, image by image, so that one
// batched matrix product takes it as it is.
#include "real.cuh"
#include "half.cuh"

__device__ __forceinline__ void put(real* place, real value) { *place = value; }
__device__ __forceinline__ void put(half* place, real value) { *place = rounded((float)value); }
#include "readers.cuh"

// One thread for each (image, channel, pixel): it walks over the taps, so that its index arithmetic is
// paid once for kernel_h * kernel_w numbers, and neighbouring threads touch neighbouring pixels.
template <class To>
__device__ __forceinline__ void fill(const real* __restrict__ images, To* __restrict__ columns, int i, int height,
                                     int width, int out_w, int pixel0, int pixels, int kernel_h, int kernel_w,
                                     int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w) {
  const int p = i % pixels, plane = i / pixels;  // plane = n * channels + c
  const int oy = (pixel0 + p) / out_w, ox = (pixel0 + p) % out_w;
  const int y0 = oy * stride_h - pad_h, x0 = ox * stride_w - pad_w;
  const real* image = images + (size_t)plane * height * width;
  To* column = columns + (size_t)plane * kernel_h * kernel_w * pixels + p;
  for (int ty = 0; ty < kernel_h; ++ty) {
    const int iy = y0 + ty * hole_h;
    for (int tx = 0; tx < kernel_w; ++tx) {
      const int ix = x0 + tx * hole_w;
      const bool inside = iy >= 0 && iy < height && ix >= 0 && ix < width;
      put(column, inside ? image[(size_t)iy * width + ix] : real(0));
      column += pixels;
    }
  }
}

extern "C" __global__ void im2col(const real* __restrict__ images, real* __restrict__ columns, int count, int height,
                                  int width, int out_w, int pixel0, int pixels, int kernel_h, int kernel_w, int stride_h,
                                  int stride_w, int pad_h, int pad_w, int hole_h, int hole_w) {
  for (EACH(i, count))
    fill(images, columns, i, height, width, out_w, pixel0, pixels, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
         hole_h, hole_w);
}

// The same, rounded to half precision on the way.
extern "C" __global__ void im2col_half(const real* __restrict__ images, half* __restrict__ columns, int count,
                                       int height, int width, int out_w, int pixel0, int pixels, int kernel_h,
                                       int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h,
                                       int hole_w) {
  for (EACH(i, count))
    fill(images, columns, i, height, width, out_w, pixel0, pixels, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
         hole_h, hole_w);
}

// One thread for each input pixel gathers what was read from it, taps in order: no atomics, and the same
// bits on every run. A first block (pixel0 = 0) overwrites, later blocks add; bias (or null) starts each sum.
// step_h is stride_h over the greatest common divisor of stride_h and hole_h; step_w alike.
extern "C" __global__ void col2im(const real* __restrict__ columns, const real* __restrict__ bias,
                                  real* __restrict__ images, int count, int channels, int height, int width, int out_h,
                                  int out_w, int pixel0, int pixels, int kernel_h, int kernel_w, int stride_h,
                                  int stride_w, int pad_h, int pad_w, int hole_h, int hole_w, int step_h, int step_w) {
  const int taps = kernel_h * kernel_w;
  for (EACH(i, count)) {
    const int ix = i % width, iy = i / width % height, plane = i / width / height;
    const real* column = columns + (size_t)plane * taps * pixels;
    const Readers rows = readers_of(iy, kernel_h, stride_h, pad_h, hole_h, step_h);
    const Readers across = readers_of(ix, kernel_w, stride_w, pad_w, hole_w, step_w);
    real sum = pixel0 ? images[i] : bias ? bias[plane % channels] : real(0);
    if (rows.first >= 0 && across.first >= 0) {
      for (int ty = rows.first, oy = rows.output; ty < kernel_h; ty += rows.step, oy -= rows.back) {
        if ((unsigned)oy >= (unsigned)out_h) continue;
        for (int tx = across.first, ox = across.output; tx < kernel_w; tx += across.step, ox -= across.back) {
          const int p = oy * out_w + ox - pixel0;
          if ((unsigned)ox < (unsigned)out_w && p >= 0 && p < pixels)
            sum += column[(size_t)(ty * kernel_w + tx) * pixels + p];
        }
      }
    }
    images[i] = sum;
  }
}
