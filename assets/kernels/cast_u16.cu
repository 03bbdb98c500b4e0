// Rays through arrays of u16.
#include "cast_kernels.cuh"

VG_CAST_KERNELS(u16, unsigned short)
