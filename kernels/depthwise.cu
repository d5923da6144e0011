// Convolution in groups of few channels, without columns. Contract: atrouscaffe/ops/conv.py.
//
// Output channel m reads the per_in input channels from m / per_out * per_in on:
//
//     x (N, C, height, width)          weight (M, per_in, kernel_h, kernel_w)        y (N, M, out_h, out_w)
//
//     iy = oy * stride_h + ty * hole_h - pad_h        y[oy][ox] = bias + sum over c, ty, tx of
//     ix = ox * stride_w + tx * hole_w - pad_w                    weight[c][ty][tx] * x[c][iy][ix]
//
// These read and write every number once or a few times, so that memory is the limit as long as index
// arithmetic stays below it: threads beside each other take pixels beside each other, one thread takes
// ROWS output rows, and a 3x3 kernel is unrolled.
#include "real.cuh"
#include "readers.cuh"
#include "sums.cuh"

#define ROWS 4

struct Windows {
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w;
};

// SIDE is the kernel's height and width where both are known, else 0.
template <int SIDE>
__device__ __forceinline__ real taps_forward(const real* plane, const real* weight, int height, int width, int y0,
                                             int x0, const Windows& w) {
  const int kernel_h = SIDE ? SIDE : w.kernel_h, kernel_w = SIDE ? SIDE : w.kernel_w;
  real sum = 0;
#pragma unroll
  for (int ty = 0; ty < kernel_h; ++ty) {
    const int iy = y0 + ty * w.hole_h;
    if ((unsigned)iy >= (unsigned)height) continue;
    const real* row = plane + (size_t)iy * width;
#pragma unroll
    for (int tx = 0; tx < kernel_w; ++tx) {
      const int ix = x0 + tx * w.hole_w;
      if ((unsigned)ix < (unsigned)width) sum += weight[ty * kernel_w + tx] * row[ix];
    }
  }
  return sum;
}

// One thread for ROWS output rows at one column: item = (plane * strips + strip) * out_w + ox.
template <int SIDE>
__device__ __forceinline__ void forward(const real* __restrict__ x, const real* __restrict__ weight,
                                        const real* __restrict__ bias, real* __restrict__ y, int count, int inputs,
                                        int height, int width, int outputs, int out_h, int out_w, int per_in,
                                        int per_out, const Windows& w, bool relu) {
  const int strips = (out_h + ROWS - 1) / ROWS;
  for (EACH(i, count)) {
    const int ox = i % out_w, strip = i / out_w % strips, plane = i / out_w / strips;  // plane = n * outputs + m
    const int m = plane % outputs, n = plane / outputs;
    const int last = min(strip * ROWS + ROWS, out_h), x0 = ox * w.stride_w - w.pad_w;
    const real* images = x + ((size_t)n * inputs + m / per_out * per_in) * height * width;
    const real* kernel = weight + (size_t)m * per_in * w.kernel_h * w.kernel_w;
    const real start = bias ? bias[m] : real(0);
    for (int oy = strip * ROWS; oy < last; ++oy) {
      real sum = start;
      for (int c = 0; c < per_in; ++c)
        sum += taps_forward<SIDE>(images + (size_t)c * height * width, kernel + c * w.kernel_h * w.kernel_w, height,
                                  width, oy * w.stride_h - w.pad_h, x0, w);
      y[((size_t)plane * out_h + oy) * out_w + ox] = relu && sum < 0 ? real(0) : sum;
    }
  }
}

extern "C" __global__ void depthwise(const real* __restrict__ x, const real* __restrict__ weight,
                                     const real* __restrict__ bias, real* __restrict__ y, int count, int inputs,
                                     int height, int width, int outputs, int out_h, int out_w, int per_in, int per_out,
                                     int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w,
                                     int hole_h, int hole_w, bool relu) {
  const Windows w = {kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, hole_h, hole_w};
  if (kernel_h == 3 && kernel_w == 3)
    forward<3>(x, weight, bias, y, count, inputs, height, width, outputs, out_h, out_w, per_in, per_out, w, relu);
  else
    forward<0>(x, weight, bias, y, count, inputs, height, width, outputs, out_h, out_w, per_in, per_out, w, relu);
}

// One thread for each input pixel gathers from the outputs that read it, output channels and taps in order.
// step_h is stride_h over the greatest common divisor of stride_h and hole_h; step_w alike.
extern "C" __global__ void depthwise_adjoint(const real* __restrict__ dy, const real* __restrict__ weight,
                                             const real* __restrict__ bias, real* __restrict__ x, int count, int inputs,
                                             int height, int width, int outputs, int out_h, int out_w, int per_in,
                                             int per_out, int kernel_h, int kernel_w, int stride_h, int stride_w,
                                             int pad_h, int pad_w, int hole_h, int hole_w, int step_h, int step_w) {
  for (EACH(i, count)) {
    const int ix = i % width, iy = i / width % height, plane = i / width / height;  // plane = n * inputs + channel
    const int channel = plane % inputs, n = plane / inputs, first = channel / per_in * per_out;
    const Readers rows = readers_of(iy, kernel_h, stride_h, pad_h, hole_h, step_h);
    const Readers columns = readers_of(ix, kernel_w, stride_w, pad_w, hole_w, step_w);
    real sum = bias ? bias[channel] : real(0);
    if (rows.first >= 0 && columns.first >= 0) {
      const real* top = dy + ((size_t)n * outputs + first) * out_h * out_w;
      const real* kernel = weight + ((size_t)first * per_in + channel % per_in) * kernel_h * kernel_w;
      for (int m = 0; m < per_out; ++m) {
        for (int ty = rows.first, oy = rows.output; ty < kernel_h; ty += rows.step, oy -= rows.back) {
          if ((unsigned)oy >= (unsigned)out_h) continue;
          for (int tx = columns.first, ox = columns.output; tx < kernel_w; tx += columns.step, ox -= columns.back)
            if ((unsigned)ox < (unsigned)out_w) sum += kernel[ty * kernel_w + tx] * top[(size_t)oy * out_w + ox];
        }
        top += (size_t)out_h * out_w;
        kernel += (size_t)per_in * kernel_h * kernel_w;
      }
    }
    x[i] = sum;
  }
}

// One block for each weight: its threads walk over the pixels of one image after another; a thread's part of an
// image is added up in `real`, all else in double.
extern "C" __global__ void depthwise_weight(const real* __restrict__ x, const real* __restrict__ dy,
                                            real* __restrict__ dweight, int images, int inputs, int height, int width,
                                            int outputs, int out_h, int out_w, int per_in, int per_out, int kernel_h,
                                            int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h,
                                            int hole_w) {
  const int place = blockIdx.x, tx = place % kernel_w, ty = place / kernel_w % kernel_h;
  const int c = place / kernel_w / kernel_h % per_in, m = place / kernel_w / kernel_h / per_in;
  const int channel = m / per_out * per_in + c, threads = blockDim.x;
  const int begin_y = ty * hole_h - pad_h, begin_x = tx * hole_w - pad_w;
  const int first_y = threadIdx.x / out_w, first_x = threadIdx.x % out_w;
  const int step_y = threads / out_w, step_x = threads % out_w;
  double total = 0;
  for (int n = 0; n < images; ++n) {
    const real* image = x + ((size_t)n * inputs + channel) * height * width;
    const real* top = dy + ((size_t)n * outputs + m) * out_h * out_w;
    real part = 0;
    int ox = first_x, oy = first_y;
    while (oy < out_h) {
      const int iy = oy * stride_h + begin_y, ix = ox * stride_w + begin_x;
      if ((unsigned)iy < (unsigned)height && (unsigned)ix < (unsigned)width)
        part += top[(size_t)oy * out_w + ox] * image[(size_t)iy * width + ix];
      ox += step_x;
      oy += step_y;
      if (ox >= out_w) {
        ox -= out_w;
        ++oy;
      }
    }
    total += part;
  }
  total = block_sum(total);
  if (threadIdx.x == 0) dweight[place] += (real)total;
}
