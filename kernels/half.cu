// Operands of matrix products in half precision. Contract: atrouscaffe/ops/half_cuda.py.
#include "real.cuh"
#include "half.cuh"

extern "C" __global__ void to_half(const real* __restrict__ source, half* __restrict__ target, int count) {
  for (EACH(i, count)) target[i] = rounded((float)source[i]);
}
