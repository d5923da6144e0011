// What every kernel file begins with: the number type, and the loop over work items.
//
// REAL is float or double, named by whoever compiles. A launch starts at least one thread an item
// in blocks of one dimension; EACH also covers launches with fewer threads than items. Counts are at
// most 2^31 - 1, so that unsigned arithmetic does not overflow.

#ifndef STAND_IN
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

typedef REAL real;

#define EACH(i, count)                                                                             \
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(count); i += gridDim.x * blockDim.x
