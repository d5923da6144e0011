// Pooling over the planes of a blob. Contract: atrouscaffe/ops/pool.py.
//
// Output (oy, ox) of a plane has the window
//
//     rows    oy * stride_h - pad_h  to  + kernel_h     cut off at the image for maxima; an average counts
//     columns ox * stride_w - pad_w  to  + kernel_w     the padding, too, up to height + pad_h
//
// and pixel (y, x) lies in the windows of oy from ceil((y + pad_h - kernel_h + 1) / stride_h) to
// (y + pad_h) / stride_h: the way back gathers over those, in order.
#include "real.cuh"

#define LOWEST real(-3.402823466e+38f)  // -FLT_MAX, what Caffe's maximum starts from
#define TINY real(1.175494351e-38f)     // FLT_MIN, what the sums of stochastic pooling start from

struct Span {
  int begin, end;
};

// Pixels of [0, size) in a window.
__device__ __forceinline__ Span window_of(int o, int size, int kernel, int stride, int pad) {
  const int begin = o * stride - pad;
  return {max(begin, 0), min(begin + kernel, size)};
}

// Pixels of a window that an average divides by: those up to size + pad.
__device__ __forceinline__ int counted(int o, int size, int kernel, int stride, int pad) {
  const int begin = o * stride - pad;
  return min(begin + kernel, size + pad) - begin;
}

// Windows of [0, out) that hold pixel i.
__device__ __forceinline__ Span windows_with(int i, int out, int kernel, int stride, int pad) {
  const int low = i + pad - kernel + 1;
  return {low > 0 ? (low + stride - 1) / stride : 0, min((i + pad) / stride + 1, out)};
}

// The first maximum of each window: its value, its index y * width + x (-1 where nothing beats LOWEST), either null.
extern "C" __global__ void max_pool(const real* __restrict__ x, real* __restrict__ values, int* __restrict__ indices,
                                    int count, int height, int width, int out_h, int out_w, int kernel_h, int kernel_w,
                                    int stride_h, int stride_w, int pad_h, int pad_w) {
  for (EACH(i, count)) {
    const Span rows = window_of(i / out_w % out_h, height, kernel_h, stride_h, pad_h);
    const Span columns = window_of(i % out_w, width, kernel_w, stride_w, pad_w);
    const real* plane = x + (size_t)(i / out_w / out_h) * height * width;
    real best = LOWEST;
    int index = -1;
    for (int iy = rows.begin; iy < rows.end; ++iy) {
      for (int ix = columns.begin; ix < columns.end; ++ix) {
        const real value = plane[(size_t)iy * width + ix];
        if (value > best) {
          best = value;
          index = iy * width + ix;
        }
      }
    }
    if (values) values[i] = best;
    if (indices) indices[i] = index;
  }
}

// The same for few, large windows: one warp each, whose lanes take every 32nd pixel; of equal values the first wins.
extern "C" __global__ void max_pool_wide(const real* __restrict__ x, real* __restrict__ values,
                                         int* __restrict__ indices, int count, int height, int width, int out_h,
                                         int out_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h,
                                         int pad_w) {
  const int i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= count) return;
  const Span rows = window_of(i / out_w % out_h, height, kernel_h, stride_h, pad_h);
  const Span columns = window_of(i % out_w, width, kernel_w, stride_w, pad_w);
  const real* plane = x + (size_t)(i / out_w / out_h) * height * width;
  const int wide = columns.end - columns.begin, size = wide > 0 ? wide * (rows.end - rows.begin) : 0;
  real best = LOWEST;
  int index = -1;
  for (int p = lane; p < size; p += 32) {
    const int place = (rows.begin + p / wide) * width + columns.begin + p % wide;
    const real value = plane[place];
    if (value > best) {
      best = value;
      index = place;
    }
  }
  for (int apart = 16; apart > 0; apart /= 2) {
    const real value = __shfl_xor_sync(0xffffffffu, best, apart);
    const int place = __shfl_xor_sync(0xffffffffu, index, apart);
    if (value > best || (value == best && (unsigned)place < (unsigned)index)) {
      best = value;
      index = place;
    }
  }
  if (lane == 0) {
    if (values) values[i] = best;
    if (indices) indices[i] = index;
  }
}

// dx[y][x] = sum of dy of the windows whose index names this pixel. One thread a pixel.
extern "C" __global__ void max_pool_backward(const real* __restrict__ dy, const int* __restrict__ indices,
                                             real* __restrict__ dx, int count, int height, int width, int out_h,
                                             int out_w, int kernel_h, int kernel_w, int stride_h, int stride_w,
                                             int pad_h, int pad_w) {
  for (EACH(i, count)) {
    const int x = i % width, y = i / width % height;
    const size_t plane = (size_t)(i / width / height) * out_h * out_w;
    const Span rows = windows_with(y, out_h, kernel_h, stride_h, pad_h);
    const Span columns = windows_with(x, out_w, kernel_w, stride_w, pad_w);
    const int wanted = y * width + x;
    real sum = 0;
    for (int oy = rows.begin; oy < rows.end; ++oy) {
      for (int ox = columns.begin; ox < columns.end; ++ox) {
        const size_t o = plane + (size_t)oy * out_w + ox;
        if (indices[o] == wanted) sum += dy[o];
      }
    }
    dx[i] = sum;
  }
}

extern "C" __global__ void average_pool(const real* __restrict__ x, real* __restrict__ y, int count, int height,
                                        int width, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h,
                                        int stride_w, int pad_h, int pad_w) {
  for (EACH(i, count)) {
    const int ox = i % out_w, oy = i / out_w % out_h;
    const Span rows = window_of(oy, height, kernel_h, stride_h, pad_h);
    const Span columns = window_of(ox, width, kernel_w, stride_w, pad_w);
    const real* plane = x + (size_t)(i / out_w / out_h) * height * width;
    real sum = 0;
    for (int iy = rows.begin; iy < rows.end; ++iy)
      for (int ix = columns.begin; ix < columns.end; ++ix) sum += plane[(size_t)iy * width + ix];
    const int tall = counted(oy, height, kernel_h, stride_h, pad_h);
    const int wide = counted(ox, width, kernel_w, stride_w, pad_w);
    y[i] = tall > 0 && wide > 0 ? sum / (tall * wide) : real(0);
  }
}

// The same for few, large windows: one warp each.
extern "C" __global__ void average_pool_wide(const real* __restrict__ x, real* __restrict__ y, int count, int height,
                                             int width, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h,
                                             int stride_w, int pad_h, int pad_w) {
  const int i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (i >= count) return;
  const int ox = i % out_w, oy = i / out_w % out_h;
  const Span rows = window_of(oy, height, kernel_h, stride_h, pad_h);
  const Span columns = window_of(ox, width, kernel_w, stride_w, pad_w);
  const real* plane = x + (size_t)(i / out_w / out_h) * height * width;
  const int inside = columns.end - columns.begin, size = inside > 0 ? inside * (rows.end - rows.begin) : 0;
  real sum = 0;
  for (int p = lane; p < size; p += 32) sum += plane[(rows.begin + p / inside) * width + columns.begin + p % inside];
  for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
  const int tall = counted(oy, height, kernel_h, stride_h, pad_h);
  const int wide = counted(ox, width, kernel_w, stride_w, pad_w);
  if (lane == 0) y[i] = tall > 0 && wide > 0 ? sum / (tall * wide) : real(0);
}

extern "C" __global__ void average_pool_backward(const real* __restrict__ dy, real* __restrict__ dx, int count,
                                                 int height, int width, int out_h, int out_w, int kernel_h,
                                                 int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w) {
  for (EACH(i, count)) {
    const Span rows = windows_with(i / width % height, out_h, kernel_h, stride_h, pad_h);
    const Span columns = windows_with(i % width, out_w, kernel_w, stride_w, pad_w);
    const real* plane = dy + (size_t)(i / width / height) * out_h * out_w;
    real sum = 0;
    for (int oy = rows.begin; oy < rows.end; ++oy) {
      const int tall = counted(oy, height, kernel_h, stride_h, pad_h);
      real part = 0;
      for (int ox = columns.begin; ox < columns.end; ++ox)
        part += plane[(size_t)oy * out_w + ox] / (tall * counted(ox, width, kernel_w, stride_w, pad_w));
      sum += part;
    }
    dx[i] = sum;
  }
}

// ---- stochastic pooling, without pads

// The first value at which the running sum of a window reaches chance * sum; an empty window gives 0 and index -1.
extern "C" __global__ void stochastic_pick(const real* __restrict__ x, const real* __restrict__ chance,
                                           real* __restrict__ y, int* __restrict__ indices, int count, int height,
                                           int width, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h,
                                           int stride_w) {
  for (EACH(i, count)) {
    const Span rows = window_of(i / out_w % out_h, height, kernel_h, stride_h, 0);
    const Span columns = window_of(i % out_w, width, kernel_w, stride_w, 0);
    const real* plane = x + (size_t)(i / out_w / out_h) * height * width;
    real sum = 0;
    for (int iy = rows.begin; iy < rows.end; ++iy)
      for (int ix = columns.begin; ix < columns.end; ++ix) sum += plane[(size_t)iy * width + ix];
    const real wanted = chance[i] * sum;
    real running = 0, value = 0;
    int index = -1;
    for (int iy = rows.begin; iy < rows.end && index < 0; ++iy) {
      for (int ix = columns.begin; ix < columns.end && index < 0; ++ix) {
        running += plane[(size_t)iy * width + ix];
        if (running >= wanted) {
          value = plane[(size_t)iy * width + ix];
          index = iy * width + ix;
        }
      }
    }
    y[i] = value;
    indices[i] = index;
  }
}

// The expectation of the choice, y = sum of squares / sum; with dy its factor dy / sum instead.
extern "C" __global__ void stochastic_average(const real* __restrict__ x, const real* __restrict__ dy,
                                              real* __restrict__ y, int count, int height, int width, int out_h,
                                              int out_w, int kernel_h, int kernel_w, int stride_h, int stride_w) {
  for (EACH(i, count)) {
    const Span rows = window_of(i / out_w % out_h, height, kernel_h, stride_h, 0);
    const Span columns = window_of(i % out_w, width, kernel_w, stride_w, 0);
    const real* plane = x + (size_t)(i / out_w / out_h) * height * width;
    real sum = 0, squares = 0;
    for (int iy = rows.begin; iy < rows.end; ++iy) {
      for (int ix = columns.begin; ix < columns.end; ++ix) {
        const real value = plane[(size_t)iy * width + ix];
        sum += value;
        squares += value * value;
      }
    }
    y[i] = (dy ? dy[i] : squares) / (sum + TINY);
  }
}

// dx = sum over the windows of share * (2 x - y), where share = dy / sum of the window.
extern "C" __global__ void stochastic_average_backward(const real* __restrict__ x, const real* __restrict__ y,
                                                       const real* __restrict__ share, real* __restrict__ dx, int count,
                                                       int height, int width, int out_h, int out_w, int kernel_h,
                                                       int kernel_w, int stride_h, int stride_w) {
  for (EACH(i, count)) {
    const Span rows = windows_with(i / width % height, out_h, kernel_h, stride_h, 0);
    const Span columns = windows_with(i % width, out_w, kernel_w, stride_w, 0);
    const size_t plane = (size_t)(i / width / height) * out_h * out_w;
    const real twice = 2 * x[i];
    real sum = 0;
    for (int oy = rows.begin; oy < rows.end; ++oy) {
      for (int ox = columns.begin; ox < columns.end; ++ox) {
        const size_t o = plane + (size_t)oy * out_w + ox;
        sum += share[o] * (twice - y[o]);
      }
    }
    dx[i] = sum;
  }
}
