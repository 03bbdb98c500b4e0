// Rays through arrays of f32.
#include "cast_kernels.cuh"

VG_CAST_KERNELS(f32, float)
