// Tensor cores and asynchronous copies, one thin function an instruction (sm_80 and later).
//
// The stand-in of the tests gives functions of the same names. TENSOR_CORES says whether they are there: a kernel
// that multiplies with them is empty on older devices, and its launcher refuses those; copies are there for all.
//
// Who holds what, g = lane / 4, t = lane % 4; a register holds two halves or one tf32:
//
//     a[0] row g    k 2t..    a[2] row g    k 8 + 2t..       (tf32: k t and 4 + t)
//     a[1] row g+8  k 2t..    a[3] row g+8  k 8 + 2t..
//     b[0] column g k 2t..    b[1] column g k 8 + 2t..
//     d[0], d[1] row g, columns 2t, 2t + 1                   d[2], d[3] row g + 8
//
// In bytes both precisions are alike: 32 bytes of k a row.

#if defined(STAND_IN) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define TENSOR_CORES 1
#else
#define TENSOR_CORES 0
#endif

#if defined(STAND_IN)
#define cp_async_16_cached cp_async_16
#elif TENSOR_CORES

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return (unsigned)__cvta_generic_to_shared(pointer);
}

// d += a b, m16 n8 k16, halves with float sums.
__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += a b, m16 n8 k8, tf32 (floats whose last 13 bits are not read) with float sums.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 16-byte matrices: lane 8 i + j gives the address of row j of matrix i; lane 4 j + t gets bytes 4t.. of row j.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

// Copies 16 bytes to shared memory, or zeros where not valid; past the first-level cache.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

// The same through the first-level cache, for what this block will read again.
__device__ __forceinline__ void cp_async_16_cached(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most N of this thread's groups are still under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

// Older devices copy at once.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
  *(uint4*)shared = valid ? *(const uint4*)global : make_uint4(0, 0, 0, 0);
}

__device__ __forceinline__ void cp_async_commit() {}

template <int N>
__device__ __forceinline__ void cp_async_wait() {}

#endif
