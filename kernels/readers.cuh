// The way back through a window along one axis: which taps t of which outputs o read pixel i,
//
//     i = o * stride + t * hole - pad
//
// One tap in `step` does, from `first` on (t = first, first + step, ...), where step = stride / gcd(stride, hole); the
// output falls by `back` from each to the next. `first` is -1 where no tap does.
struct Readers {
  int first, step, output, back;
};

__device__ __forceinline__ Readers readers_of(int i, int kernel, int stride, int pad, int hole, int step) {
  Readers found = {-1, step, 0, hole * step / stride};
  if (hole == 1) {
    const int t = (i + pad) % stride;
    if (t < kernel) {
      found.first = t;
      found.output = (i + pad) / stride;
    }
    return found;
  }
  const int most = min(kernel, step);
  for (int t = 0; t < most; ++t) {
    const int d = i + pad - t * hole;
    if (d % stride == 0) {
      found.first = t;
      found.output = d / stride;
      break;
    }
  }
  return found;
}
