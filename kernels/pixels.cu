// Between images and blobs. Contract: atrouscaffe/ops/pixels.py.
#include "real.cuh"
#include "positions.cuh"

// blob[c, y, x] = (image[y, x, c'] - mean[c]) * scale inside the image, 0 right of and below it, where
// c' = c, or channels - 1 - c with `reversed` (B, G, R to R, G, B). One thread a blob element.
extern "C" __global__ void image_to_blob(const unsigned char* __restrict__ image, const real* __restrict__ mean,
                                         real* __restrict__ blob, int count, int channels, int height, int width,
                                         int blob_h, int blob_w, real scale, bool reversed) {
  for (EACH(i, count)) {
    const int x = i % blob_w, y = i / blob_w % blob_h, c = i / blob_w / blob_h;
    const int from = reversed ? channels - 1 - c : c;
    blob[i] = y < height && x < width ? ((real)image[((size_t)y * width + x) * channels + from] - mean[c]) * scale : 0;
  }
}

// labels[y, x] = first channel of the largest score, the scores (channels, score_h, score_w) enlarged to
// (whole_h, whole_w), of which the labels are the upper left (height, width). The order of additions is interp's.
extern "C" __global__ void enlarged_labels(const real* __restrict__ scores, unsigned char* __restrict__ labels,
                                           int count, int channels, int score_h, int score_w, int whole_h, int whole_w,
                                           int width) {
  const float ratio_y = position_ratio(score_h, whole_h), ratio_x = position_ratio(score_w, whole_w);
  for (EACH(i, count)) {
    const Position y = position_of(i / width, score_h, ratio_y), x = position_of(i % width, score_w, ratio_x);
    const real wy = y.weight, wx = x.weight;
    const real* upper = scores + (size_t)y.index * score_w + x.index;
    const real* lower = upper + y.step * score_w;
    int best = 0;
    real most = 0;
    for (int c = 0; c < channels; ++c) {
      const real value = (1 - wx) * ((1 - wy) * upper[0] + wy * lower[0]) +
                         wx * ((1 - wy) * upper[x.step] + wy * lower[x.step]);
      if (!c || value > most) most = value, best = c;
      upper += (size_t)score_h * score_w;
      lower += (size_t)score_h * score_w;
    }
    labels[i] = best;
  }
}
