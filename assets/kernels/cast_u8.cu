// Rays through arrays of u8.
#include "cast_kernels.cuh"

VG_CAST_KERNELS(u8, unsigned char)
