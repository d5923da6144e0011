// The sum of one number of each thread of a block, in a fixed order: a tree over places, so the same bits on
// every run. All threads of the block call it; blockDim.x is a power of two, at most 1024.

__device__ __forceinline__ double block_sum(double value) {
  __shared__ double places[1024];
  const unsigned me = threadIdx.x;
  __syncthreads();  // an earlier sum may still be read
  places[me] = value;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (me < half) places[me] += places[me + half];
    __syncthreads();
  }
  return places[0];
}
