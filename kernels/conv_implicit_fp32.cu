// Convolution with holes in FP32 without columns, on the ordinary arithmetic units.
// Contract: atrouscaffe/ops/conv_implicit_cuda.py.
//
//     y[n][m][oy][ox] = bias[m] + sum over (block, tap, c) of w[m][channel][tap] * x[n][channel][iy][ix]
//     channel = block * 8 + c      iy = oy * stride_h + ty * hole_h - pad_h      ix = ox * stride_w + tx * hole_w - pad_w
//
// as the product D[m][p], p = (n * out_h + oy) * out_w + ox, of weights packed by pack_weight_fp32 (conv_pack.cu) and
// images as they are. A step is one tap of 8 channels; all taps of the same channels follow one another and meet in
// the first-level cache. A thread owns 8 x WIDTH sums, in quads so that shared memory is read 16 bytes at a time:
//
//     channels 4 tm .. 4 tm + 3 and CHANNELS / 2 + the same        pixels 4 (tp + j ACROSS) .. + 3, j < WIDTH / 4
//
// While a step is multiplied, the next one's pixels are under way to registers, then go to the other buffer; its weights
// go there at once (cp.async from sm_80 on). Tiles, groups and shares of the steps are numbered as in conv_implicit.cu;
// `chunks` counts channels of a group here.
#include "real.cuh"
#include "mma.cuh"
#include "holes.cuh"

constexpr int DEPTH = 8, PIXELS = 128;

template <int CHANNELS, int WIDTH>
__device__ __forceinline__ void convolve(const float* __restrict__ x, const float* __restrict__ w,
                                         const float* __restrict__ bias, float* __restrict__ y, const Shape& s) {
  constexpr int ACROSS = PIXELS / WIDTH, THREADS = CHANNELS / 8 * ACROSS, SIDE = THREADS / PIXELS, FILLS = DEPTH / SIDE;
  constexpr int QUADS = CHANNELS / 4, ROWS = THREADS / QUADS;  // of a row of weights; rows filled at a time
  __shared__ Quad weights[2][DEPTH][QUADS];
  __shared__ Quad pixels[2][DEPTH][PIXELS / 4];

  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int tp = lane % 8 + warp % (ACROSS / 8) * 8, tm = lane / 8 + warp / (ACROSS / 8) * 4;
  const int tiles = (s.outputs + CHANNELS - 1) / CHANNELS;
  const int channel0 = blockIdx.x % tiles * CHANNELS, pixel0 = blockIdx.x / tiles * PIXELS;
  const int group = blockIdx.y, out_area = s.out_h * s.out_w, area = s.height * s.width;
  const int rows = s.outputs <= 64 ? 64 : (s.outputs + 127) / 128 * 128;

  // This thread brings pixel `column`, channels side, side + SIDE, ... of a step, and a quad of every ROWS-th row of its weights.
  const int column = thread % PIXELS, side = thread / PIXELS, p = pixel0 + column;
  const float* image = x;
  unsigned mask = 0;
  if (p < s.count) {
    const int n = p / out_area, oy = (p - n * out_area) / s.out_w, ox = p - n * out_area - oy * s.out_w;
    const int y0 = oy * s.stride_h - s.pad_h, x0 = ox * s.stride_w - s.pad_w;
    image += ((long long)(n * (int)gridDim.y + group) * s.chunks + side) * area + y0 * s.width + x0;
    mask = inside_bits(y0, x0, s.height, s.width, s.kernel_h, s.kernel_w, s.hole_h, s.hole_w);
  }
  const int taps = s.kernel_h * s.kernel_w, total = (s.chunks + 7) / 8 * taps;
  const int first = blockIdx.z * s.steps, count = min(s.steps, total - first);
  int block = first / taps * 8, ty = first % taps / s.kernel_w, tx = first % taps % s.kernel_w;
  const float* weight = w + ((size_t)(group * total + first) * DEPTH + thread / QUADS) * rows + channel0 +
                        thread % QUADS * 4;
  float brought[FILLS];

  auto bring = [&](int buffer) {
    const unsigned want = tap_bits(ty, tx);
    const int left = (mask & want) == want ? s.chunks - side - block : 0;  // channels, this one and those behind it
    const int from = block * area + ty * s.hole_h * s.width + tx * s.hole_w;
#pragma unroll
    for (int i = 0; i < FILLS; ++i) brought[i] = i * SIDE < left ? image[from + i * SIDE * area] : 0.0f;
#pragma unroll
    for (int i = 0; i < DEPTH / ROWS; ++i)
      cp_async_16(&weights[buffer][thread / QUADS + i * ROWS][thread % QUADS], weight + i * ROWS * rows, true);
    cp_async_commit();
    weight += DEPTH * rows;
    if (++tx == s.kernel_w) {
      tx = 0;
      if (++ty == s.kernel_h) {
        ty = 0;
        block += DEPTH;
      }
    }
  };
  auto put = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < FILLS; ++i) ((float*)pixels[buffer][side + i * SIDE])[column] = brought[i];
    cp_async_wait<0>();
  };

  float sums[8][WIDTH];
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) sums[i][j] = 0.0f;

  if (count > 0) {
    bring(0);
    put(0);
  }
  __syncthreads();
  for (int step = 0; step < count; ++step) {
    const int buffer = step & 1;
    if (step + 1 < count) bring(buffer ^ 1);
#pragma unroll
    for (int k = 0; k < DEPTH; ++k) {
      const Quad a[2] = {weights[buffer][k][tm], weights[buffer][k][tm + CHANNELS / 8]};
      Quad b[WIDTH / 4];
#pragma unroll
      for (int j = 0; j < WIDTH / 4; ++j) b[j] = pixels[buffer][k][tp + j * ACROSS];
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) sums[i][j] += a[i / 4].of[i % 4] * b[j / 4].of[j % 4];
    }
    if (step + 1 < count) put(buffer ^ 1);
    __syncthreads();
  }

  // Rows go out one of a thread's eight at a time, through shared memory, so that lanes write pixels side by side.
  const int all = gridDim.y * s.outputs, n = p < s.count ? p / out_area : 0;
  float* target = y + (size_t)blockIdx.z * s.count * all + ((size_t)n * all + group * s.outputs + channel0) * out_area +
                  (p - n * out_area);
  Quad(*out)[PIXELS / 4] = pixels[0];  // CHANNELS / 8 rows, at most 2 DEPTH
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < WIDTH / 4; ++j)
      out[tm][tp + j * ACROSS] = Quad{{sums[i][4 * j], sums[i][4 * j + 1], sums[i][4 * j + 2], sums[i][4 * j + 3]}};
    __syncthreads();
    for (int row = side; row < CHANNELS / 8; row += SIDE) {
      const int channel = i / 4 * (CHANNELS / 2) + row * 4 + i % 4;
      if (p < s.count && channel0 + channel < s.outputs) {
        float value = ((const float*)out[row])[column];
        if (bias) value += bias[group * s.outputs + channel0 + channel];
        if (s.relu && value < 0.0f) value = 0.0f;
        target[(size_t)channel * out_area] = value;
      }
    }
    __syncthreads();
  }
}

// One entry point a tile, channels x pixels; w: a thread owns 8 x 16 sums, for fewer loads from shared memory.

extern "C" __global__ void __launch_bounds__(256, 2)
    implicit_fp32_128x128(const float* x, const float* w, const float* bias, float* y, int count, int height, int width,
                          int chunks, int outputs, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h,
                          int stride_w, int pad_h, int pad_w, int hole_h, int hole_w, int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<128, 8>(x, w, bias, y, s);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    implicit_fp32_128x128w(const float* x, const float* w, const float* bias, float* y, int count, int height, int width,
                           int chunks, int outputs, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h,
                           int stride_w, int pad_h, int pad_w, int hole_h, int hole_w, int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<128, 16>(x, w, bias, y, s);
}


extern "C" __global__ void __launch_bounds__(128, 3)
    implicit_fp32_64x128(const float* x, const float* w, const float* bias, float* y, int count, int height, int width,
                         int chunks, int outputs, int out_h, int out_w, int kernel_h, int kernel_w, int stride_h,
                         int stride_w, int pad_h, int pad_w, int hole_h, int hole_w, int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<64, 8>(x, w, bias, y, s);
}
