// Rays through arrays of i16.
#include "cast_kernels.cuh"

VG_CAST_KERNELS(i16, short)
