// The ray caster with other ways to find a voxel, for benches, and what makes the memory that they read.
#include "cast_rivals.cuh"

#define VG_CAST_RIVAL(name, near)                                                     \
    VG_CAST_KERNEL(dvr_##name##_u16, near<unsigned short>, VG_DVR, false, false, 10)   \
    VG_CAST_KERNEL(dvr_lit_##name##_u16, near<unsigned short>, VG_DVR, true, false, 8)
VG_CAST_RIVAL(dense, vg_dense_near)
VG_CAST_RIVAL(table, vg_table_near)
VG_CAST_RIVAL(voxel_table, vg_voxel_table_near)
VG_CAST_RIVAL(atlas, vg_atlas_near)

// The array's voxels, all of which are there, row by row.
extern "C" __global__ void __launch_bounds__(256) vg_fill_dense_u16(vg_grid g, unsigned short* out) {
    const vg_u64 count = (vg_u64)g.extent[0] * g.extent[1] * g.extent[2];
    for (vg_u64 i = (vg_u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (vg_u64)gridDim.x * blockDim.x) {
        const vg_u64 line = i / g.extent[0];
        vg_load<unsigned short>(g, (vg_u32)(i % g.extent[0]), (vg_u32)(line % g.extent[1]), (vg_u32)(line / g.extent[1]), out + i);
    }
}

// The atlas of them, tile after tile in rows: a block for each.
extern "C" __global__ void __launch_bounds__(256) vg_fill_atlas_u16(vg_grid g, const vg_u32* slots, unsigned short* out) {
    const vg_u32 tiles_x = ((g.extent[0] - 1) >> g.axis[0].tile_shift) + 1, tiles_y = ((g.extent[1] - 1) >> g.axis[1].tile_shift) + 1;
    const vg_u32 t[3] = {blockIdx.x % tiles_x, blockIdx.x / tiles_x % tiles_y, blockIdx.x / tiles_x / tiles_y};
    vg_u32 side[3];
    int first[3];
    for (int a = 0; a < 3; a++) {
        side[a] = (1u << g.axis[a].tile_shift) + 3;
        first[a] = (int)(t[a] << g.axis[a].tile_shift) - 1;
    }
    const vg_u32 count = side[0] * side[1] * side[2];
    unsigned short* to = out + (vg_u64)slots[blockIdx.x] * count;
    for (vg_u32 i = threadIdx.x; i < count; i += blockDim.x) {
        const vg_u32 x = vg_clamp(first[0] + (int)(i % side[0]), g.extent[0]), y = vg_clamp(first[1] + (int)(i / side[0] % side[1]), g.extent[1]),
                     z = vg_clamp(first[2] + (int)(i / side[0] / side[1]), g.extent[2]);
        vg_load<unsigned short>(g, x, y, z, to + i);
    }
}
