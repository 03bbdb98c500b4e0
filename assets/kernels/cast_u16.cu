// Rays through arrays of u16.
#include "cast_march.cuh"

VG_CAST_KERNELS(u16, unsigned short)
