// Rays through arrays of u8.
#include "cast_march.cuh"

VG_CAST_KERNELS(u8, unsigned char)
