// The kernels: how pixels are shared out, and what is counted is added up.
#ifndef VASTGRID_CAST_KERNELS_CUH
#define VASTGRID_CAST_KERNELS_CUH

#include "cast_met.cuh"
#include "cast_warp.cuh"

#if defined(__CUDACC__)
// Blocks of 8 x 8 pixels, 8 x 4 a warp. What is counted is added up in the block first.
template <class M, int MODE, bool LIT, bool MANY> __device__ void vg_cast_block(const vg_cast& c) {
    // Without the counts by level where there is one: memory of a block that is shared is none of the L1's.
    const vg_u32 words = (MANY ? sizeof(vg_counts) : VG_OFFSET_OF(vg_counts, shown)) / 8;
    __shared__ vg_u64 counts[words];
    for (vg_u32 n = threadIdx.x; n < words; n += 64) counts[n] = 0;
    __syncthreads();
    vg_cast_pixel<M, MODE, LIT, MANY>(c, (vg_counts*)counts, blockIdx.x * 8 + threadIdx.x % 8, blockIdx.y * 8 + threadIdx.x / 8);
    __syncthreads();
    vg_u64* sums = vg_global<vg_u64>(c.counts);
    for (vg_u32 n = threadIdx.x; n < words; n += 64) {
        const vg_u64 sum = counts[n];
        if (sum) atomicAdd(sums + n, sum);
    }
}

#define VG_CAST_KERNEL(name, near, mode, lit, many, blocks)                                                             \
    extern "C" __global__ void __launch_bounds__(64, blocks) vg_cast_##name(const __grid_constant__ vg_cast c) {         \
        vg_cast_block<near, mode, lit, many>(c);                                                                        \
    }

// The kernels for voxels of one type: `vg_cast_dvr_u16` and so on, the one that goes before, and the one that may come after.
#define VG_CAST_KERNELS(type, T)                                                     \
    extern "C" __global__ void __launch_bounds__(256) vg_cast_boxes_##type(const __grid_constant__ vg_cast c) { vg_mark_boxes(c); } \
    extern "C" __global__ void __launch_bounds__(64) vg_cast_met_##type(const __grid_constant__ vg_cast c) { vg_walk_block<T>(c); } \
    VG_CAST_KERNEL(dvr_##type, vg_near<T>, VG_DVR, false, false, 8)                  \
    VG_CAST_KERNEL(dvr_lit_##type, vg_near<T>, VG_DVR, true, false, 8)                \
    VG_CAST_KERNEL(mip_##type, vg_near<T>, VG_MIP, false, false, 10)                  \
    VG_CAST_KERNEL(iso_##type, vg_near<T>, VG_ISO, true, false, 8)                    \
    VG_CAST_KERNEL(dvr_levels_##type, vg_near<T>, VG_DVR, false, true, 8)             \
    VG_CAST_KERNEL(dvr_lit_levels_##type, vg_near<T>, VG_DVR, true, true, 8)          \
    VG_CAST_KERNEL(mip_levels_##type, vg_near<T>, VG_MIP, false, true, 8)             \
    VG_CAST_KERNEL(iso_levels_##type, vg_near<T>, VG_ISO, true, true, 8)
#endif

#endif
