// Bias and ReLU behind a matrix product, in one pass over y (outer, channels, inner), in place.
#include "real.cuh"

// bias may be null; with `relu`, what is below 0 becomes 0.
extern "C" __global__ void bias_relu(real* __restrict__ y, const real* __restrict__ bias, int count, int channels,
                                     int inner, bool relu) {
  for (EACH(i, count)) {
    real value = y[i];
    if (bias) value += bias[i / inner % channels];
    y[i] = relu && value < 0 ? real(0) : value;
  }
}
