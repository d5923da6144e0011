// Rounding to half precision: to nearest even; beyond 65504 the largest finite half, so that no product is NaN.
#include <cuda_fp16.h>

__device__ __forceinline__ half rounded(float x) {
  return __float2half_rn(x != x ? x : fminf(fmaxf(x, -65504.0f), 65504.0f));
}
