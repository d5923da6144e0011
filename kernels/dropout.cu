// Dropout. Contract: atrouscaffe/ops/dropout.py.
//
// Random numbers are Philox 4x32-10 (Salmon et al., 2011): a counter goes in, four words come out, and no
// thread needs another's state. With g = ceil(count / 4) counters,
//
//     element i  <->  word i / g of counter i % g
//
// so the mask depends on the seed and the size alone, and neighbouring threads write neighbouring places.
#include "real.cuh"

__device__ __forceinline__ void philox(unsigned counter, unsigned long long seed, unsigned (&words)[4]) {
  unsigned key0 = (unsigned)seed, key1 = (unsigned)(seed >> 32);
  words[0] = counter;
  words[1] = words[2] = words[3] = 0;
  for (int round = 0; round < 10; ++round) {
    const unsigned long long a = 0xD2511F53ull * words[0], b = 0xCD9E8D57ull * words[2];
    words[0] = (unsigned)(b >> 32) ^ words[1] ^ key0;
    words[2] = (unsigned)(a >> 32) ^ words[3] ^ key1;
    words[1] = (unsigned)b;
    words[3] = (unsigned)a;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// One thread a counter: mask[i] = a number of [0, 1) >= ratio; y = scale x where it is set, else 0. y may be x.
extern "C" __global__ void dropout(const real* x, bool* mask, real* y, int count, int counters,
                                   unsigned long long seed, float ratio, real scale) {
  for (EACH(g, counters)) {
    unsigned words[4];
    philox(g, seed, words);
    for (unsigned j = 0; j < 4; ++j) {
      const unsigned i = j * counters + g;
      if (i >= (unsigned)count) break;
      const bool kept = (float)(words[j] >> 8) * 5.9604644775390625e-8f >= ratio;  // 24 bits, times 2^-24
      mask[i] = kept;
      y[i] = x[i] * (kept ? scale : real(0));
    }
  }
}

// y = scale x where the mask is set, else 0; y may be x.
extern "C" __global__ void dropout_apply(const bool* __restrict__ mask, const real* x, real* y, int count,
                                         real scale) {
  for (EACH(i, count)) y[i] = x[i] * (mask[i] ? scale : real(0));
}
