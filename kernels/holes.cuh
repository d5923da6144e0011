// What the implicit convolutions share: which taps of a window lie inside the image, and 16 bytes at a time.

struct alignas(16) Chunk {
  unsigned word[4];
};

struct alignas(16) Quad {
  float of[4];
};

// Bit ty: row y0 + ty * hole_h is inside; bit 16 + tx: column x0 + tx * hole_w is. Windows have at most 15 x 15 taps,
// so that the bit of a tap behind the last one is never set.
__device__ __forceinline__ unsigned inside_bits(int y0, int x0, int height, int width, int kernel_h, int kernel_w,
                                                int hole_h, int hole_w) {
  unsigned bits = 0;
  for (int ty = 0; ty < kernel_h; ++ty)
    if ((unsigned)(y0 + ty * hole_h) < (unsigned)height) bits |= 1u << ty;
  for (int tx = 0; tx < kernel_w; ++tx)
    if ((unsigned)(x0 + tx * hole_w) < (unsigned)width) bits |= 0x10000u << tx;
  return bits;
}

__device__ __forceinline__ unsigned tap_bits(int ty, int tx) { return 1u << ty | 0x10000u << tx; }

// A convolution's numbers as every kernel gets them. `count` is images * out_h * out_w.
struct Shape {
  int count, height, width, chunks, outputs, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w,
      hole_h, hole_w, steps;
  bool relu;
};
