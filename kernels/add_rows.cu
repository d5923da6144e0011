// Rows that are added to other rows, several to one. Contract: atrouscaffe/ops/rows.py.
//
//     source rows   0 1 2 3 4        target row t gets, in order, the source rows
//     go to         2 0 2 2 1        order[starts[t]] ... order[starts[t + 1] - 1]
//
// One thread for each number of the target gathers: no atomics, and the same bits on every run.
#include "real.cuh"

extern "C" __global__ void add_rows(const real* __restrict__ source, const int* __restrict__ order,
                                    const int* __restrict__ starts, real* __restrict__ target, int count, int columns) {
  for (EACH(i, count)) {
    const int row = i / columns, column = i % columns;
    real sum = target[i];
    for (int k = starts[row]; k < starts[row + 1]; ++k) sum += source[(size_t)order[k] * columns + column];
    target[i] = sum;
  }
}
