// Kernels that use half include <cuda_fp16.h>; the stand-in's half is in ../../kernel_stand_in.h, read before.
