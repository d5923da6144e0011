// Convolution with holes on tensor cores, without columns: the holes are sampled while they feed the product.
// Contract: atrouscaffe/ops/conv_implicit_cuda.py.
//
//     y[n][m][oy][ox] = bias[m] + sum over (tap, channel) of w[m][tap][c] * x[n][iy][ix][c]
//     iy = oy * stride_h + ty * hole_h - pad_h          ix = ox * stride_w + tx * hole_w - pad_w
//
// as the product D[m][p] of packed weights and packed activations (conv_pack.cu), p = (n * out_h + oy) * out_w + ox.
// Packed rows are cut into chunks of 16 bytes: 8 halves or 4 tf32 of one tap. A step is 8 chunks, 128 bytes, of k:
//
//     chunk j of a weight row = (block * taps + tap) * wide + c      wide = min(8, chunks of a pixel)
//     activation chunk        = pixel * pixel_chunks + (block * 8 + c)
//
// so that all taps of 64 halves (or 32 tf32) of a pixel come one after another and meet in the first-level cache;
// a pixel of fewer than 8 chunks (1, 2 or 4) lets a step span 8 / wide taps.
//
//     global --cp.async, zeros outside--> shared [STAGES][row][8 chunks] --ldmatrix--> registers --mma--> registers
//
// Chunk q of row r lies at place q ^ (r % 8) of its row: eight rows at one q, and eight q of one row, touch
// each bank once. Copies run STAGES - 1 steps ahead; one barrier a step. blockIdx.x counts tiles, channels
// first, so that neighbours read the same pixels; y is the group; z a share of the steps, whose sums land in
// plane z of y and are added in order by sum_parts.
#include "real.cuh"
#include "half.cuh"
#include "mma.cuh"
#include "holes.cuh"

#if TENSOR_CORES

constexpr int ROW = 128;              // bytes of a row in a stage
constexpr unsigned NO_TAP = 0x8000u;  // never inside

struct Half {
  __device__ static void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k16_f16(d, a, b); }
};

struct Tf32 {
  __device__ static void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k8_tf32(d, a, b); }
};

// Where a thread's chunk of a step is: tap and chunk of the pixel, walked step by step.
struct Walk {
  int ty, tx, chunk, wide, hop;

  __device__ Walk(const Shape& s, int first, int q) : wide(s.chunks < 8 ? s.chunks : 8), hop(8 / wide) {
    const int taps = s.kernel_h * s.kernel_w;
    const int tap = hop == 1 ? first % taps : first * hop + q / wide;
    chunk = (hop == 1 ? first / taps * 8 : 0) + q % wide;
    ty = tap / s.kernel_w;
    tx = tap % s.kernel_w;
  }

  __device__ void step(const Shape& s) {
    tx += hop;
    while (tx >= s.kernel_w) {
      tx -= s.kernel_w;
      ++ty;
    }
    if (hop == 1) {
      if (ty == s.kernel_h) {
        ty = 0;
        chunk += 8;
      }
    } else if (ty > s.kernel_h) {
      ty = s.kernel_h;  // behind the last tap: its bit is never set
    }
  }
};

// Where a tile of sums goes, by way of shared memory, so that neighbouring lanes write neighbouring bytes:
//
//     packed_chunks = 0        y, plane z         (N, M, out_h, out_w) floats
//     packed_y not null        packed_y           (N, pixels, packed_chunks) chunks of 8 halves
//     packed_y null            y, plane z         (N, pixels, packed_chunks * 8) floats
//
// Rows of a tile in shared memory are pixels' neighbours in the first case, channels' in the others, and a few numbers
// longer than that, so that the four times eight numbers of a fragment fall into different banks.
template <int CHANNELS, int PIXELS, int THREADS>
struct Output {
  static constexpr int LINE = PIXELS + 8, LINE_HALF = CHANNELS + 8, LINE_FLOAT = CHANNELS + 4;
  const Shape& s;
  unsigned char* arena;
  float* y;
  Chunk* packed_y;
  int packed_chunks, channel0, pixel0;

  __device__ void put(int row, int column, float value) const {
    if (!packed_chunks)
      ((float*)arena)[row * LINE + column] = value;
    else if (packed_y)
      ((half*)arena)[column * LINE_HALF + row] = rounded(value);
    else
      ((float*)arena)[column * LINE_FLOAT + row] = value;
  }

  __device__ void write() const {
    if (!packed_chunks)
      write_planes();
    else if (packed_y)
      write_pixels<16>(packed_y, LINE_HALF * 2);
    else
      write_pixels<32>((Chunk*)y + (size_t)blockIdx.z * s.count * packed_chunks * 2, LINE_FLOAT * 4);
  }

  // 8 channels are BYTES bytes.
  template <int BYTES>
  __device__ void write_pixels(Chunk* target, int line) const {
    constexpr int WIDE = CHANNELS / 8 * BYTES / 16;
    const int chunks = packed_chunks * BYTES / 16, first = channel0 / 8 * BYTES / 16;
    for (int i = threadIdx.x; i < PIXELS * WIDE; i += THREADS) {
      const int column = i / WIDE, chunk = i % WIDE, p = pixel0 + column;
      if (p < s.count && first + chunk < chunks)
        target[(size_t)p * chunks + first + chunk] = *(const Chunk*)(arena + column * line + chunk * 16);
    }
  }

  __device__ void write_planes() const {
    const int area = s.out_h * s.out_w, all = gridDim.y * s.outputs, rows = min(CHANNELS, s.outputs - channel0);
    float* planes = y + (size_t)blockIdx.z * s.count * all + (size_t)(blockIdx.y * s.outputs + channel0) * area;
    constexpr int SIDE = THREADS > PIXELS ? THREADS / PIXELS : 1;  // rows written at a time
    for (int i = threadIdx.x; i < PIXELS * SIDE; i += THREADS) {
      const int column = i % PIXELS, p = pixel0 + column;
      if (p >= s.count) continue;
      const int n = p / area;
      float* target = planes + (size_t)n * all * area + (p - n * area);
#pragma unroll 8
      for (int row = i / PIXELS; row < rows; row += SIDE)
        target[(size_t)row * area] = ((const float*)arena)[row * LINE + column];
    }
  }
};

template <class Operand, int CHANNELS, int PIXELS, int WARPS_C, int WARPS_P, int STAGES>
__device__ __forceinline__ void convolve(const Chunk* __restrict__ x, const Chunk* __restrict__ w,
                                         const float* __restrict__ bias, float* __restrict__ y, Chunk* packed_y,
                                         int packed_chunks, const Shape& s) {
  constexpr int THREADS = 32 * WARPS_C * WARPS_P, FILL = THREADS / 8;  // FILL rows are filled at a time
  constexpr int MT = CHANNELS / WARPS_C / 16, NT = PIXELS / WARPS_P / 8;
  constexpr int FILLS_W = CHANNELS / FILL, FILLS_X = PIXELS / FILL;
  constexpr int STAGE = (CHANNELS + PIXELS) * ROW;
  DYNAMIC_SHARED(Chunk, chunks);
  __shared__ int offsets[PIXELS];
  __shared__ unsigned masks[PIXELS];
  unsigned char* arena = (unsigned char*)chunks;

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int tiles = (s.outputs + CHANNELS - 1) / CHANNELS;
  const int channel0 = blockIdx.x % tiles * CHANNELS, pixel0 = blockIdx.x / tiles * PIXELS;
  const int pixel_chunks = gridDim.y * s.chunks;

  for (int i = threadIdx.x; i < PIXELS; i += THREADS) {
    const int p = pixel0 + i, area = s.out_h * s.out_w;
    int offset = 0;
    unsigned mask = 0;
    if (p < s.count) {
      const int n = p / area, oy = (p - n * area) / s.out_w, ox = p - n * area - oy * s.out_w;
      const int y0 = oy * s.stride_h - s.pad_h, x0 = ox * s.stride_w - s.pad_w;
      offset = ((n * s.height + y0) * s.width + x0) * pixel_chunks + (int)blockIdx.y * s.chunks;
      mask = inside_bits(y0, x0, s.height, s.width, s.kernel_h, s.kernel_w, s.hole_h, s.hole_w);
    }
    offsets[i] = offset;
    masks[i] = mask;
  }
  __syncthreads();

  // What this thread copies: chunk q of rows row, row + FILL, ... of both tiles.
  const int q = threadIdx.x % 8, row = threadIdx.x / 8;
  int offset[FILLS_X];
  unsigned mask[FILLS_X];
#pragma unroll
  for (int i = 0; i < FILLS_X; ++i) {
    offset[i] = offsets[row + i * FILL];
    mask[i] = masks[row + i * FILL];
  }
  const int wide = min(8, s.chunks), taps = s.kernel_h * s.kernel_w;
  const int total = wide == 8 ? taps * (s.chunks / 8) : (taps * wide + 7) / 8;
  const int first = blockIdx.z * s.steps, count = min(s.steps, total - first);
  const int weight_rows = s.outputs <= 64 ? 64 : (s.outputs + 127) / 128 * 128;
  const Chunk* weights = w + (size_t)(blockIdx.y * weight_rows + channel0 + row) * total * 8 + first * 8 + q;
  const int weight_hop = FILL * total * 8;
  unsigned char* place = arena + row * ROW + ((q ^ (row & 7)) * 16);
  Walk walk(s, first, q);

  // Copies the part-th quarter of the step `walk` stands at; zeros, which nobody reads, where it is behind the last.
  auto fill = [&](int slot, int part, bool there) {
    const unsigned want = there ? tap_bits(walk.ty, walk.tx) : NO_TAP;
    const int delta = (walk.ty * s.hole_h * s.width + walk.tx * s.hole_w) * pixel_chunks + walk.chunk;
    unsigned char* to = place + slot * STAGE;
#pragma unroll
    for (int i = FILLS_W * part / 4; i < FILLS_W * (part + 1) / 4; ++i)
      cp_async_16(to + i * FILL * ROW, weights + i * weight_hop, there);
#pragma unroll
    for (int i = FILLS_X * part / 4; i < FILLS_X * (part + 1) / 4; ++i) {
      const bool valid = (mask[i] & want) == want;
      cp_async_16_cached(to + (CHANNELS + i * FILL) * ROW, x + (valid ? offset[i] + delta : 0), valid);
    }
  };
  auto next = [&]() {
    weights += 8;
    walk.step(s);
  };

  float sums[MT][NT][4];
#pragma unroll
  for (int i = 0; i < MT; ++i)
#pragma unroll
    for (int j = 0; j < NT; ++j)
#pragma unroll
      for (int k = 0; k < 4; ++k) sums[i][j][k] = 0.0f;

#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) {
#pragma unroll
    for (int part = 0; part < 4; ++part) fill(i, part, i < count);
    next();
    cp_async_commit();
  }

  // A warp's operands for a quarter of a step: lane l names row l % 16 (l % 8 + l / 16 * 8) and half l / 16 (l / 8 % 2).
  const int warp_channel = warp / WARPS_P * (CHANNELS / WARPS_C), warp_pixel = warp % WARPS_P * (PIXELS / WARPS_P);
  const unsigned char* a_rows = arena + (warp_channel + lane % 16) * ROW;
  const unsigned char* b_rows = arena + (CHANNELS + warp_pixel + lane / 16 * 8 + lane % 8) * ROW;
  unsigned a[2][MT][4], b[2][NT][2];
  auto take = [&](unsigned(&to_a)[MT][4], unsigned(&to_b)[NT][2], int slot, int k) {
    const int from_a = slot * STAGE + ((2 * k + lane / 16) ^ (lane & 7)) * 16;
    const int from_b = slot * STAGE + ((2 * k + lane / 8 % 2) ^ (lane & 7)) * 16;
#pragma unroll
    for (int i = 0; i < MT; ++i) ldmatrix_x4(to_a[i], a_rows + from_a + i * 16 * ROW);
#pragma unroll
    for (int j = 0; j < NT; j += 2) {
      unsigned two[4];
      ldmatrix_x4(two, b_rows + from_b + j * 8 * ROW);
      to_b[j][0] = two[0];
      to_b[j][1] = two[1];
      to_b[j + 1][0] = two[2];
      to_b[j + 1][1] = two[3];
    }
  };

  int slot = 0, ahead = STAGES - 1;
  cp_async_wait<STAGES - 2>();
  __syncthreads();
  take(a[0], b[0], 0, 0);
  for (int step = 0; step < count; ++step) {
    const bool more = step + STAGES - 1 < count;
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // the next quarter's operands are under way while this one's are multiplied
      fill(ahead, k, more);
      if (k < 3) {
        take(a[(k + 1) & 1], b[(k + 1) & 1], slot, k + 1);
      } else {
        cp_async_commit();
        slot = slot + 1 == STAGES ? 0 : slot + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
        cp_async_wait<STAGES - 2>();
        __syncthreads();  // the next step has arrived, and nobody reads the slot that is filled next
        take(a[0], b[0], slot, 0);
        next();
      }
#pragma unroll
      for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int j = 0; j < NT; ++j) Operand::mma(sums[i][j], a[k & 1][i], b[k & 1][j]);
    }
  }
  cp_async_wait<0>();
  __syncthreads();

  const Output<CHANNELS, PIXELS, THREADS> out = {s, arena, y, packed_y, packed_chunks, channel0, pixel0};
#pragma unroll
  for (int i = 0; i < MT; ++i)
#pragma unroll
    for (int high = 0; high < 2; ++high) {
      const int to = warp_channel + i * 16 + high * 8 + lane / 4, channel = channel0 + to;
      const float shift = bias && channel < s.outputs ? bias[blockIdx.y * s.outputs + channel] : 0.0f;
#pragma unroll
      for (int j = 0; j < NT; ++j)
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float value = sums[i][j][2 * high + k] + shift;
          out.put(to, warp_pixel + j * 8 + lane % 4 * 2 + k, s.relu && value < 0.0f ? 0.0f : value);
        }
    }
  __syncthreads();
  out.write();
}

#else

struct Half;
struct Tf32;

template <class Operand, int CHANNELS, int PIXELS, int WARPS_C, int WARPS_P, int STAGES>
__device__ void convolve(const Chunk*, const Chunk*, const float*, float*, Chunk*, int, const Shape&) {}

#endif

// One entry point a precision and tile, channels x pixels.

extern "C" __global__ void __launch_bounds__(256, 1)
    implicit_f16_128x256(const half* x, const half* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Half, 128, 256, 2, 4, 3>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    implicit_f16_128x128(const half* x, const half* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Half, 128, 128, 2, 2, 3>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    implicit_f16_64x128(const half* x, const half* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Half, 64, 128, 2, 2, 3>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    implicit_f16_64x64(const half* x, const half* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Half, 64, 64, 2, 2, 4>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(256, 1)
    implicit_tf32_128x256(const float* x, const float* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Tf32, 128, 256, 2, 4, 3>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    implicit_tf32_128x128(const float* x, const float* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Tf32, 128, 128, 2, 2, 3>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    implicit_tf32_64x128(const float* x, const float* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Tf32, 64, 128, 2, 2, 3>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    implicit_tf32_64x64(const float* x, const float* w, const float* bias, float* y, half* packed_y, int packed_chunks,
        int count, int height, int width, int chunks, int outputs, int out_h, int out_w, int kernel_h,
        int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w, int hole_h, int hole_w,
        int steps, bool relu) {
  const Shape s = {count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h,
                   pad_w, hole_h, hole_w, steps, relu};
  convolve<Tf32, 64, 64, 2, 2, 4>((const Chunk*)x, (const Chunk*)w, bias, y, (Chunk*)packed_y, packed_chunks, s);
}

// y[i] = ReLU(bias + part 0 + part 1 + ...), in this order; y is (images, channels, inner).
extern "C" __global__ void sum_parts(const float* __restrict__ parts, const float* __restrict__ bias,
                                     float* __restrict__ y, int count, int splits, int channels, int inner, bool relu) {
  for (EACH(i, count)) {
    float sum = bias ? bias[i / inner % channels] : 0.0f;
#pragma unroll 4
    for (int z = 0; z < splits; ++z) sum += parts[(size_t)z * count + i];
    y[i] = relu && sum < 0.0f ? 0.0f : sum;
  }
}

// The same for parts of a packed result, (pixels, chunks * 8) floats each, into chunks of halves; one thread a chunk.
extern "C" __global__ void sum_parts_f16(const float* __restrict__ parts, const float* __restrict__ bias,
                                         half* __restrict__ y, int count, int splits, int channels, int chunks,
                                         bool relu) {
  for (EACH(i, count)) {
    const int channel = i % chunks * 8;
    float sum[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) sum[k] = bias && channel + k < channels ? bias[channel + k] : 0.0f;
#pragma unroll 2
    for (int z = 0; z < splits; ++z) {
      const Quad* part = (const Quad*)parts + ((size_t)z * count + i) * 2;
      const Quad low = part[0], high = part[1];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        sum[k] += low.of[k];
        sum[4 + k] += high.of[k];
      }
    }
    union {
      Chunk whole;
      half part[8];
    } out;
#pragma unroll
    for (int k = 0; k < 8; ++k) out.part[k] = rounded(relu && sum[k] < 0.0f ? 0.0f : sum[k]);
    ((Chunk*)y)[i] = out.whole;
  }
}
