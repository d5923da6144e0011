// The permutohedral lattice. Contract: atrouscaffe/crf/lattice_cuda.py.
//
// A point of d features lies in a simplex of taps = d + 1 vertices. A vertex is named by `words` 64-bit
// numbers, digits of a mixed radix (lattice_cpu.py), so that a step on the lattice adds a constant.
//
//     embed    features[d][points] -> keys[words][points * taps], weights[points * taps]
//     (a stable sort of the keys: equal keys stand side by side, their points in rising order)
//
//     place p       0   1   2   3   4   5         order[p] = point * taps + tap
//     key           A   A   B   B   B   C         fresh[p] = 1 0 1 0 0 1, numbers = its running sum
//     vertex        0   0   1   1   1   2         first[v] = 0 2 5 6
//
//     index    ids[point * taps + tap] = v, and what the vertex gathers: sources[p] = point, shares[p] = weight
//     find_neighbours: neighbours[axis][ahead, behind][v], by bisection among the vertices' sorted keys; -1 for none
//
// No step depends on the order in which threads come: the same bits on every run, and no atomics.
#include "real.cuh"
#include "rows.cuh"

#define MOST_DIMS 32

// Products and differences are rounded each for itself, as on the CPU: a fused one would put points that
// lie between two simplices into the other one.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }

template <int FIXED>
struct Simplex {
  static constexpr int SIZE = (FIXED ? FIXED : MOST_DIMS) + 1;
  real residue[SIZE];  // how far along each axis, in units of d + 1
  int rank[SIZE];      // 0 for the axis that is furthest along
  int taps;

  __device__ __forceinline__ real residue_of(int wanted) const {
    real found = 0;
    for (int i = 0; i < (FIXED ? FIXED + 1 : taps); ++i) found = rank[i] == wanted ? residue[i] : found;
    return found;
  }

  __device__ __forceinline__ int axis_of(int wanted) const {
    int found = 0;
    for (int i = 0; i < (FIXED ? FIXED + 1 : taps); ++i) found = rank[i] == wanted ? i : found;
    return found;
  }
};

// One thread a point. FIXED dimensions are compiled in, so that everything stays in registers.
template <int FIXED>
__device__ __forceinline__ void embed(const real* features, const real* scale, real inverse, const long long* low,
                                      const unsigned long long* factor, unsigned long long* keys, float* weights,
                                      unsigned n, int points, int given, int words) {
  const int dims = FIXED ? FIXED : given, taps = dims + 1;
  constexpr int SIZE = Simplex<FIXED>::SIZE;
  real elevated[SIZE], nearest[SIZE];
  Simplex<FIXED> simplex;
  simplex.taps = taps;
  // from d features to d + 1 coordinates that sum to 0
  real partial = 0;
  for (int j = dims; j > 0; --j) {
    const real part = product(features[(size_t)(j - 1) * points + n], scale[j - 1]);
    elevated[j] = partial - product(real(j), part);
    partial += part;
  }
  elevated[0] = partial;
  // the nearest vertex whose coordinates are all multiples of d + 1
  int excess = 0;
  for (int i = 0; i < taps; ++i) {
    const real whole = rint(product(inverse, elevated[i]));
    nearest[i] = product(whole, real(taps));
    simplex.residue[i] = elevated[i] - nearest[i];
    simplex.rank[i] = 0;
    excess += (int)(long long)whole;
  }
  for (int i = 0; i < dims; ++i) {
    for (int j = i + 1; j < taps; ++j) {
      const int smaller = simplex.residue[i] < simplex.residue[j];
      simplex.rank[i] += smaller;
      simplex.rank[j] += 1 - smaller;
    }
  }
  // coordinates that do not sum to 0: bring the vertex back onto the plane
  for (int i = 0; i < taps; ++i) {
    int moved = simplex.rank[i] + excess;
    const int shift = moved < 0 ? taps : moved > dims ? -taps : 0;
    moved += shift;
    simplex.rank[i] = moved < 0 ? 0 : moved > dims ? dims : moved;
    nearest[i] += real(shift);
    simplex.residue[i] = product(elevated[i] - nearest[i], inverse);
  }
  const size_t at = (size_t)n * taps;
  real above = simplex.residue_of(dims);
  weights[at] = (float)(above + (real(1) - simplex.residue_of(0)));
  for (int r = 1; r < taps; ++r) {
    const real below = simplex.residue_of(dims - r);
    weights[at + r] = (float)(below - above);
    above = below;
  }
  for (int w = 0; w < words; ++w) {
    unsigned long long key = 0, ones = 0;
    for (int i = 0; i < dims; ++i) {
      key += (unsigned long long)((long long)nearest[i] - low[i]) * factor[i * words + w];
      ones += factor[i * words + w];
    }
    unsigned long long* out = keys + (size_t)w * points * taps + at;
    out[0] = key;
    for (int r = 1; r < taps; ++r) {
      const int axis = simplex.axis_of(dims - r + 1);
      key += ones;
      if (axis < dims) key -= (unsigned long long)taps * factor[axis * words + w];
      out[r] = key;
    }
  }
}

extern "C" __global__ void embed_2(const real* __restrict__ features, const real* __restrict__ scale, real inverse,
                                   const long long* __restrict__ low, const unsigned long long* __restrict__ factor,
                                   unsigned long long* __restrict__ keys, float* __restrict__ weights, int points,
                                   int dims, int words) {
  for (EACH(n, points)) embed<2>(features, scale, inverse, low, factor, keys, weights, n, points, dims, words);
}

extern "C" __global__ void embed_5(const real* __restrict__ features, const real* __restrict__ scale, real inverse,
                                   const long long* __restrict__ low, const unsigned long long* __restrict__ factor,
                                   unsigned long long* __restrict__ keys, float* __restrict__ weights, int points,
                                   int dims, int words) {
  for (EACH(n, points)) embed<5>(features, scale, inverse, low, factor, keys, weights, n, points, dims, words);
}

// At most MOST_DIMS dimensions.
extern "C" __global__ void embed_any(const real* __restrict__ features, const real* __restrict__ scale, real inverse,
                                     const long long* __restrict__ low, const unsigned long long* __restrict__ factor,
                                     unsigned long long* __restrict__ keys, float* __restrict__ weights, int points,
                                     int dims, int words) {
  for (EACH(n, points)) embed<0>(features, scale, inverse, low, factor, keys, weights, n, points, dims, words);
}

extern "C" __global__ void mark(const unsigned long long* __restrict__ keys, const long long* __restrict__ order,
                                int* __restrict__ fresh, int rows, int words) {
  for (EACH(p, rows)) {
    bool other = p == 0;
    for (int w = 0; !other && w < words; ++w) {
      const unsigned long long* part = keys + (size_t)w * rows;
      other = part[order[p]] != part[order[p - 1]];
    }
    fresh[p] = other;
  }
}

extern "C" __global__ void index_vertices(const unsigned long long* __restrict__ keys,
                                          const long long* __restrict__ order, const int* __restrict__ numbers,
                                          const float* __restrict__ weights, int* __restrict__ ids,
                                          int* __restrict__ first, int* __restrict__ sources,
                                          float* __restrict__ shares, unsigned long long* __restrict__ names, int rows,
                                          int taps, int words, int vertices) {
  for (EACH(p, rows)) {
    const size_t o = order[p];
    const int v = numbers[p] - 1;
    ids[o] = v;
    sources[p] = (int)(o / taps);
    shares[p] = weights[o];
    if (p == 0 || numbers[p - 1] != v + 1) {
      first[v] = p;
      for (int w = 0; w < words; ++w) names[(size_t)w * vertices + v] = keys[(size_t)w * rows + o];
    }
    if (p == (unsigned)rows - 1) first[vertices] = rows;
  }
}

// The vertex whose name is v's plus or minus a step, or -1. The last word is the first to sort by.
__device__ __forceinline__ int find(const unsigned long long* names, const unsigned long long* step, bool back,
                                    unsigned v, int vertices, int words) {
  int from = 0, to = vertices;
  while (from < to) {
    const int middle = from + (to - from) / 2;
    int side = 0;
    for (int w = words - 1; w >= 0 && !side; --w) {
      const unsigned long long* part = names + (size_t)w * vertices;
      const unsigned long long wanted = back ? part[v] - step[w] : part[v] + step[w];
      side = part[middle] < wanted ? 1 : part[middle] > wanted ? -1 : 0;
    }
    if (!side) return middle;
    if (side > 0) from = middle + 1;
    else to = middle;
  }
  return -1;
}

// neighbours[axis][side][v], side 0 ahead and 1 behind; steps[axis][word].
extern "C" __global__ void find_neighbours(const unsigned long long* __restrict__ names,
                                           const unsigned long long* __restrict__ steps, int* __restrict__ neighbours,
                                           int count, int vertices, int words) {
  for (EACH(i, count)) {
    const unsigned v = i % vertices;
    const int side = i / vertices % 2, axis = i / vertices / 2;
    neighbours[i] = find(names, steps + (size_t)axis * words, side, v, vertices, words);
  }
}

// Long lists of points are cut into pieces of at most `length`, which threads add up side by side:
// piece_first[v] is the number of v's first piece, and piece_vertex[piece] comes filled with -1.
extern "C" __global__ void cut_lists(const int* __restrict__ piece_first, int* __restrict__ piece_vertex,
                                     int vertices) {
  for (EACH(v, vertices)) {
    for (int piece = piece_first[v]; piece < piece_first[v + 1]; ++piece) piece_vertex[piece] = v;
  }
}

// One thread for each four labels of a piece, points in rising order. home[v] is where v's row goes.
extern "C" __global__ void splat(const real* __restrict__ rows, const int* __restrict__ sources,
                                 const float* __restrict__ shares, const int* __restrict__ first,
                                 const int* __restrict__ piece_first, const int* __restrict__ piece_vertex,
                                 const int* __restrict__ home, real* __restrict__ partial, real* __restrict__ values,
                                 int count, int quads, int length) {
  const Four* from = (const Four*)rows;
  for (EACH(i, count)) {
    const unsigned quad = i % quads, piece = i / quads;
    const int v = piece_vertex[piece];
    if (v < 0) continue;
    const int pieces = piece_first[v];
    const int begin = first[v] + ((int)piece - pieces) * length, limit = first[v + 1];
    const int end = begin + length < limit ? begin + length : limit;
    Four sum = filled(0);
    for (int p = begin; p < end; ++p) sum = plus(sum, shares[p], from[(size_t)sources[p] * quads + quad]);
    if (piece_first[v + 1] - pieces == 1) ((Four*)values)[(size_t)home[v] * quads + quad] = sum;
    else ((Four*)partial)[i] = sum;
  }
}

// Rows of vertices that have several pieces, in the order of the pieces.
extern "C" __global__ void merge(const real* __restrict__ partial, const int* __restrict__ piece_first,
                                 const int* __restrict__ home, real* __restrict__ values, int count, int quads) {
  for (EACH(i, count)) {
    const unsigned quad = i % quads, v = i / quads;
    const int begin = piece_first[v], end = piece_first[v + 1];
    if (end - begin == 1) continue;
    Four sum = filled(0);
    for (int piece = begin; piece < end; ++piece)
      sum = plus(sum, 1, ((const Four*)partial)[(size_t)piece * quads + quad]);
    ((Four*)values)[(size_t)home[v] * quads + quad] = sum;
  }
}

// target = source + (ahead + behind) / 2 along one axis.
extern "C" __global__ void blur(const int* __restrict__ ahead, const int* __restrict__ behind,
                                const real* __restrict__ source, real* __restrict__ target, int count, int quads) {
  const Four* from = (const Four*)source;
  for (EACH(i, count)) {
    const unsigned quad = i % quads, v = i / quads;
    const int one = ahead[v], two = behind[v];
    Four value = from[i];
    if (one >= 0) value = plus(value, real(0.5), from[(size_t)one * quads + quad]);
    if (two >= 0) value = plus(value, real(0.5), from[(size_t)two * quads + quad]);
    ((Four*)target)[i] = value;
  }
}

// out[point] = scale * sum over taps of weight * values[id].
extern "C" __global__ void slice(const real* __restrict__ values, const int* __restrict__ ids,
                                 const float* __restrict__ weights, real* __restrict__ out, int count, int quads,
                                 int taps, real scale) {
  const Four* from = (const Four*)values;
  for (EACH(i, count)) {
    const unsigned quad = i % quads, n = i / quads;
    Four sum = filled(0);
    for (size_t t = (size_t)n * taps; t < (size_t)(n + 1) * taps; ++t)
      sum = plus(sum, weights[t], from[(size_t)ids[t] * quads + quad]);
    ((Four*)out)[i] = plus(filled(0), scale, sum);
  }
}

// How much of each point's own value comes back to it, without the factor alpha.
//
// A step on the lattice in every axis leads back to the start, so only two ways lead from corner a of a
// simplex to its corner b: behind along the axes between them, or ahead along all others; the blur goes them
// in the order of the axes, and not through missing vertices.
extern "C" __global__ void own_weights(const int* __restrict__ ids, const float* __restrict__ weights,
                                       const int* __restrict__ neighbours, double* __restrict__ out, int points,
                                       int taps, int vertices) {
  for (EACH(n, points)) {
    const int* corner = ids + (size_t)n * taps;
    const float* weight = weights + (size_t)n * taps;
    int place[MOST_DIMS + 1];  // at which corner each axis is left
    for (int j = 0; j < taps; ++j) {
      place[j] = taps - 1;
      for (int r = 0; r < taps - 1; ++r)
        if (neighbours[((size_t)j * 2 + 1) * vertices + corner[r]] == corner[r + 1]) place[j] = r;
    }
    double sum = 0;
    for (int a = 0; a < taps; ++a) {
      for (int b = 0; b < taps; ++b) {
        const int begin = a < b ? a : b, end = a < b ? b : a;
        double reached = 0;
        // the axes from a to b, then all others in the other direction; at a == b no axis, all behind, all ahead
        for (int way = 0; way < (a == b ? 3 : 2); ++way) {
          const int side = a == b ? way == 1 : (b > a) == (way == 0);
          int v = corner[a];
          double share = 1;
          for (int j = 0; j < taps && v >= 0; ++j) {
            const bool between = begin <= place[j] && place[j] < end;
            if (between != (way == 0)) continue;
            v = neighbours[((size_t)j * 2 + side) * vertices + v];
            share *= 0.5;
          }
          if (v >= 0) reached += share;
        }
        sum += (double)weight[a] * weight[b] * reached;
      }
    }
    out[n] = sum;
  }
}

// planes[channels][points] <-> rows[points][4 * quads]; lanes that no channel uses are 0.
extern "C" __global__ void pack(const real* __restrict__ planes, real* __restrict__ rows, int count, int points,
                                int channels, int quads) {
  for (EACH(i, count)) {
    const unsigned n = i % points, quad = i / points;
    Four value = filled(0);
    real* lanes = &value.x;
    for (int c = 0; c < 4; ++c) {
      const int channel = (int)quad * 4 + c;
      if (channel < channels) lanes[c] = planes[(size_t)channel * points + n];
    }
    ((Four*)rows)[(size_t)n * quads + quad] = value;
  }
}

extern "C" __global__ void unpack(const real* __restrict__ rows, real* __restrict__ planes, int count, int points,
                                  int channels, int quads) {
  for (EACH(i, count)) {
    const unsigned n = i % points, quad = i / points;
    const Four value = ((const Four*)rows)[(size_t)n * quads + quad];
    const real lanes[4] = {value.x, value.y, value.z, value.w};
    for (int c = 0; c < 4; ++c) {
      const int channel = (int)quad * 4 + c;
      if (channel < channels) planes[(size_t)channel * points + n] = lanes[c];
    }
  }
}
