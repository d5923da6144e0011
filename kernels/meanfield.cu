// Mean-field updates over rows of labels. Contract: atrouscaffe/crf/meanfield_cuda.py.
//
//     logits = -unary + sum over taps of weight * values[vertex]       (messages of all kernels at once:
//     beliefs = softmax(logits)                                         weights hold strength and norm)
//
// A group of 1, 2, 4 ... 32 threads shares a point, each with four labels, so that a row is read side by side;
// they meet twice, for the largest logit and for the sum. Groups never straddle warps.
//
//     warp   | point 0           | point 1           | ...       8 threads a point for 21 labels:
//     thread | 0 1 2 3 4 5 (6 7) | 8 9 ...                       quads 0 ... 5, two threads idle
#include "real.cuh"
#include "rows.cuh"

#define NOTHING real(-1e30)

// energies = -log(softmax(scores)), at most `most`; both are [labels][points].
extern "C" __global__ void take_scores(const real* __restrict__ scores, real* __restrict__ energies, int points,
                                       int labels, real most) {
  for (EACH(n, points)) {
    real peak = scores[n];
    for (int l = 1; l < labels; ++l) {
      const real score = scores[(size_t)l * points + n];
      peak = score > peak ? score : peak;
    }
    real mass = 0;
    for (int l = 0; l < labels; ++l) mass += exp(scores[(size_t)l * points + n] - peak);
    const real offset = peak + log(mass);
    for (int l = 0; l < labels; ++l) {
      const real energy = offset - scores[(size_t)l * points + n];
      energies[(size_t)l * points + n] = energy > most ? most : energy;
    }
  }
}

// logits[point][4 * quads] = least energy of the point - energy, in lanes that no label uses NOTHING; energies are
// [labels][points]. bad[point] is set where the energies are NaN, -inf, or +inf for every label.
extern "C" __global__ void take_energies(const real* __restrict__ energies, real* __restrict__ logits,
                                         bool* __restrict__ bad, int points, int labels, int quads) {
  for (EACH(n, points)) {
    real least = energies[n];
    bool wrong = false;
    for (int l = 0; l < labels; ++l) {
      const real energy = energies[(size_t)l * points + n];
      wrong = wrong || isnan(energy);
      least = energy < least ? energy : least;
    }
    wrong = wrong || isnan(least) || isinf(least);
    bad[n] = wrong;
    for (int quad = 0; quad < quads; ++quad) {
      Four value = filled(NOTHING);
      real* lanes = &value.x;
      for (int c = 0; c < 4; ++c) {
        const int l = 4 * quad + c;
        if (l >= labels) continue;
        const real logit = least - energies[(size_t)l * points + n];
        lanes[c] = logit > NOTHING ? logit : NOTHING;
      }
      ((Four*)logits)[(size_t)n * quads + quad] = value;
    }
  }
}

// Launched with `group` threads a point. `scratch`, rows like the beliefs, is only needed with more than 4 * group
// labels, else null; `taps` is 0 for the softmax of the unary alone. Beliefs move by the share `relax` of the way.
extern "C" __global__ void update(const real* __restrict__ logits, const real* __restrict__ values,
                                  const int* __restrict__ ids, const real* __restrict__ weights,
                                  real* __restrict__ beliefs, real* __restrict__ scratch, int points, int quads,
                                  int group, int taps, real relax) {
  const unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned n = item / group;
  const int lane = item % group;
  const int from = n < (unsigned)points ? lane : quads;  // threads behind the last point only keep their warp whole
  const Four* vertices = (const Four*)values;
  const size_t row = (size_t)n * quads;
  Four held = filled(NOTHING);
  real peak = NOTHING;
  for (int quad = from; quad < quads; quad += group) {
    held = ((const Four*)logits)[row + quad];
    for (size_t t = (size_t)n * taps; t < (size_t)(n + 1) * taps; ++t)
      held = plus(held, weights[t], vertices[(size_t)ids[t] * quads + quad]);
    if (scratch) ((Four*)scratch)[row + quad] = held;
    const real most = largest(held);
    peak = most > peak ? most : peak;
  }
  for (int step = group / 2; step > 0; step /= 2) {
    const real other = __shfl_xor_sync(0xffffffffu, peak, step);
    peak = other > peak ? other : peak;
  }
  real mass = 0;
  for (int quad = from; quad < quads; quad += group) {
    if (scratch) held = ((Four*)scratch)[row + quad];
    held.x = exp(held.x - peak);
    held.y = exp(held.y - peak);
    held.z = exp(held.z - peak);
    held.w = exp(held.w - peak);
    if (scratch) ((Four*)scratch)[row + quad] = held;
    mass += total(held);
  }
  for (int step = group / 2; step > 0; step /= 2) mass += __shfl_xor_sync(0xffffffffu, mass, step);
  const real share = real(1) / mass;
  for (int quad = from; quad < quads; quad += group) {
    if (scratch) held = ((Four*)scratch)[row + quad];
    Four value = plus(filled(0), share, held);
    if (relax != real(1)) {
      const Four old = ((Four*)beliefs)[row + quad];
      value = plus(plus(old, -relax, old), relax, value);
    }
    ((Four*)beliefs)[row + quad] = value;
  }
}

// A kernel's compatibility on its vertices: target[v][m] = sum over l of matrix[m][l] * source[v][l].
extern "C" __global__ void mix(const real* __restrict__ source, const real* __restrict__ matrix,
                               real* __restrict__ target, int count, int width) {
  for (EACH(i, count)) {
    const unsigned m = i % width, v = i / width;
    real sum = 0;
    for (int l = 0; l < width; ++l) sum += matrix[m * width + l] * source[(size_t)v * width + l];
    target[i] = sum;
  }
}

// The most probable label of each point, the first of equals.
extern "C" __global__ void best_labels(const real* __restrict__ beliefs, unsigned char* __restrict__ labels,
                                       int points, int count, int quads) {
  for (EACH(n, points)) {
    const real* row = beliefs + (size_t)n * quads * 4;
    int best = 0;
    for (int l = 1; l < count; ++l) best = row[l] > row[best] ? l : best;
    labels[n] = (unsigned char)best;
  }
}
