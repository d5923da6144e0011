// Rows of labels: what the lattice's kernels add up, four numbers at a time.
//
// A row holds the labels of one point or vertex, padded to a multiple of 4, so that one thread moves
// 16 bytes at once; `quads` is a row's length in fours.

struct alignas(16) Four {
  real x, y, z, w;
};

__device__ __forceinline__ Four filled(real value) {
  Four four;
  four.x = four.y = four.z = four.w = value;
  return four;
}

// sum + weight * value
__device__ __forceinline__ Four plus(Four sum, real weight, Four value) {
  sum.x += weight * value.x;
  sum.y += weight * value.y;
  sum.z += weight * value.z;
  sum.w += weight * value.w;
  return sum;
}

__device__ __forceinline__ real largest(Four four) {
  const real one = four.x > four.y ? four.x : four.y, two = four.z > four.w ? four.z : four.w;
  return one > two ? one : two;
}

__device__ __forceinline__ real total(Four four) { return (four.x + four.y) + (four.z + four.w); }
