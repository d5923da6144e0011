// Where output pixel i of `out` comes from in `size` pixels, ends aligned, in the original's float32 steps:
// ratio = (size - 1) / (out - 1); position = ratio * i, cut off; the right neighbour stops at the edge.
// __fmul_rn and __fsub_rn keep the compiler from fusing the two, which would round otherwise.

struct Position {
  int index, step;  // first source pixel, and 1 or, at the last pixel, 0 to the second
  float weight;     // of the second
};

__device__ __forceinline__ float position_ratio(int size, int out) {
  return out > 1 ? __fdiv_rn((float)(size - 1), (float)(out - 1)) : 0.0f;
}

__device__ __forceinline__ Position position_of(int i, int size, float ratio) {
  const float position = __fmul_rn(ratio, (float)i);
  const int index = min((int)position, size - 1);
  return {index, index < size - 1, __fsub_rn(position, (float)index)};
}
