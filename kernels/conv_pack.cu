// Operands of the implicit convolutions, packed. Contract: atrouscaffe/ops/conv_implicit_cuda.py.
//
//     activations (N, C, H, W) floats  -->  (N, H, W, group, chunks) chunks
//     weights (M, C/group, kh, kw)     -->  (group, rows, blocks, taps, wide) chunks
//
// A chunk is 16 bytes of neighbouring channels: 8 halves or 4 tf32; a pixel of a group has 1, 2, 4 or a multiple of
// 8 chunks, zeros behind its last channel. wide = min(8, chunks), blocks = chunks / wide; a weight row ends with
// zeros up to a multiple of 8 chunks, rows behind the last output are zeros.
#include "real.cuh"
#include "half.cuh"
#include "holes.cuh"

struct Half {
  typedef half type;
  static constexpr int PER = 8;
  __device__ static half from(float x) { return rounded(x); }
};

struct Tf32 {
  typedef float type;
  static constexpr int PER = 4;
  __device__ static float from(float x) {
    // Nearest, ties away from zero, as cvt.rna.tf32 does; infinities and NaN stay.
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & 0xffffe000u;
    return __uint_as_float(bits);
  }
};

// A block moves a tile of 512 chunks: 2^across chunks of 2^(9 - across) pixels.
constexpr int TILE = 512, TILE_BITS = 9;

// A tile goes through shared memory: lanes read neighbouring pixels and write neighbouring chunks.
template <class To>
__device__ __forceinline__ void pack_tile(const float* __restrict__ x, typename To::type* __restrict__ packed,
                                          int channels, int chunks, int area, int across) {
  constexpr int PER = To::PER;
  __shared__ float tile[TILE * PER + 8 * PER];
  const int bits = TILE_BITS - across, last = (1 << bits) - 1, line = last + 2, pixel0 = blockIdx.x << bits;
  const int tiles = (chunks + (1 << across) - 1) >> across;
  const int group = blockIdx.y / tiles, groups = gridDim.y / tiles, chunk0 = blockIdx.y % tiles << across;
  const float* image = x + ((size_t)blockIdx.z * groups + group) * channels * area;
#pragma unroll 8
  for (int i = threadIdx.x; i < TILE * PER; i += blockDim.x) {
    const int channel = chunk0 * PER + (i >> bits), pixel = pixel0 + (i & last);
    const bool inside = channel < channels && pixel < area;
    tile[(i >> bits) * line + (i & last)] = inside ? image[(size_t)channel * area + pixel] : 0.0f;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
    const int chunk = i & ((1 << across) - 1), pixel = i >> across;
    if (chunk0 + chunk >= chunks || pixel0 + pixel >= area) continue;
    union {
      Chunk whole;
      typename To::type part[PER];
    } out;
#pragma unroll
    for (int j = 0; j < PER; ++j) out.part[j] = To::from(tile[(chunk * PER + j) * line + pixel]);
    const size_t place = (((size_t)blockIdx.z * area + pixel0 + pixel) * groups + group) * chunks + chunk0 + chunk;
    ((Chunk*)packed)[place] = out.whole;
  }
}

// Grid: (pixel tiles, chunk tiles * groups, images); across is 0, 1, 2 or 3; channels and chunks of one group.
extern "C" __global__ void pack_f16(const float* __restrict__ x, half* __restrict__ packed, int channels, int chunks,
                                    int area, int across) {
  pack_tile<Half>(x, packed, channels, chunks, area, across);
}

extern "C" __global__ void pack_tf32(const float* __restrict__ x, float* __restrict__ packed, int channels, int chunks,
                                     int area, int across) {
  pack_tile<Tf32>(x, packed, channels, chunks, area, across);
}

// One thread a number of the packed weights: rows of `line` chunks.
template <class To>
__device__ __forceinline__ typename To::type packed_weight(const float* __restrict__ w, int i, int outputs, int rows,
                                                           int channels, int chunks, int taps, int line) {
  constexpr int PER = To::PER;
  const int wide = chunks < 8 ? chunks : 8;
  const int k = i / PER % line, row = i / PER / line % rows, group = i / PER / line / rows;
  const int tap = k / wide % taps, channel = (k / wide / taps * wide + k % wide) * PER + i % PER;
  const bool there = row < outputs && k < taps * chunks && channel < channels;
  return To::from(there ? w[((size_t)(group * outputs + row) * channels + channel) * taps + tap] : 0.0f);
}

extern "C" __global__ void pack_weight_f16(const float* __restrict__ w, half* __restrict__ packed, int count, int outputs,
                                           int rows, int channels, int chunks, int taps, int line) {
  for (EACH(i, count)) packed[i] = packed_weight<Half>(w, i, outputs, rows, channels, chunks, taps, line);
}

extern "C" __global__ void pack_weight_tf32(const float* __restrict__ w, float* __restrict__ packed, int count,
                                            int outputs, int rows, int channels, int chunks, int taps, int line) {
  for (EACH(i, count)) packed[i] = packed_weight<Tf32>(w, i, outputs, rows, channels, chunks, taps, line);
}

// For the FP32 kernel: (group, blocks of 8 channels, taps, 8, rows), zeros behind the last channel and output.
extern "C" __global__ void pack_weight_fp32(const float* __restrict__ w, float* __restrict__ packed, int count,
                                            int outputs, int rows, int channels, int blocks, int taps) {
  for (EACH(i, count)) {
    const int row = i % rows, c = i / rows % 8, tap = i / rows / 8 % taps, block = i / rows / 8 / taps % blocks;
    const int group = i / rows / 8 / taps / blocks, channel = block * 8 + c;
    packed[i] = row < outputs && channel < channels
                    ? w[((size_t)(group * outputs + row) * channels + channel) * taps + tap]
                    : 0.0f;
  }
}
