// Bias and ReLU behind a matrix product, in one pass over y (outer, channels, inner), in place.
#include "real.cuh"

// bias may be null; slope is what values below 0 are multiplied by where `relu` is set.
extern "C" __global__ void bias_relu(real* __restrict__ y, const real* __restrict__ bias, int count, int channels,
                                     int inner, bool relu, real slope) {
  for (EACH(i, count)) {
    real value = y[i];
    if (bias) value += bias[i / inner % channels];
    if (relu && !(value > 0)) value *= slope;
    y[i] = value;
  }
}
