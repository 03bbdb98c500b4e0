// Rays through arrays of f32.
#include "cast_march.cuh"

VG_CAST_KERNELS(f32, float)
