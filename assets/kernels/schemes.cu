// What the example `residency` asks of every scheme on a device: rays, points and whole tiles, see schemes.cuh. `out` has two words, a sum and how many samples lacked a tile, or two for each tile.
#include "schemes.cuh"

// Adds what the threads of a block of 256 have to two words.
static __device__ void vg_add_up(vg_u64 sum, vg_u64 missing, vg_u64* out) {
    __shared__ vg_u64 of_warp[2][8];
    for (int d = 16; d; d /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
        missing += __shfl_xor_sync(0xffffffffu, missing, d);
    }
    if (threadIdx.x % 32 == 0) {
        of_warp[0][threadIdx.x / 32] = sum;
        of_warp[1][threadIdx.x / 32] = missing;
    }
    __syncthreads();
    if (threadIdx.x > 1) return;
    vg_u64 all = 0;
    for (int i = 0; i < 8; i++) all += of_warp[threadIdx.x][i];
    if (all) atomicAdd(out + threadIdx.x, all);
}

// A thread for each ray.
template <class W> __device__ void vg_rays(const vg_scheme& s, const vg_scheme_ray* rays, vg_u32 count, vg_u64* out) {
    const vg_u32 i = blockIdx.x * 256 + threadIdx.x;
    vg_scheme_ray ray = {{0, 0, 0}, {1, 1, 1}, 0};
    if (i < count) ray = rays[i];
    W way(s);
    vg_u64 missing = 0;
    const float sum = vg_sum_along(way, ray, &missing);
    vg_add_up(vg_whole(sum), missing, out);
}

template <class W> __device__ void vg_points(const vg_scheme& s, const vg_u32* points, vg_u32 count, vg_u64* out) {
    vg_u64 sum = 0, missing = 0;
    W way(s);
    for (vg_u32 i = blockIdx.x * 256 + threadIdx.x; i < count; i += gridDim.x * 256) {
        const vg_u32 at[3] = {__ldg(points + 3 * (vg_u64)i), __ldg(points + 3 * (vg_u64)i + 1), __ldg(points + 3 * (vg_u64)i + 2)};
        float v;
        if (!way.sample(at, &v)) missing++;
        sum += vg_whole(v);
    }
    vg_add_up(sum, missing, out);
}

// Every voxel of tiles: blockIdx.x is one of a list, gridDim.y blocks share its planes.
template <class W> __device__ void vg_touch(const vg_scheme& s, const vg_u32* tiles, vg_u64* out) {
    const vg_u32 tile = tiles[blockIdx.x];
    const vg_u32 tx = tile & ((1u << s.log2[0]) - 1), ty = tile >> s.log2[0] & ((1u << s.log2[1]) - 1), tz = tile >> (s.log2[0] + s.log2[1]);
    vg_u64 sum = 0, missing = 0;
    W way(s);
    const vg_u32 x = threadIdx.x & ((1u << VG_TILE_X) - 1);
    for (vg_u32 z = blockIdx.y; z < 1u << VG_TILE_Z; z += gridDim.y) {
        for (vg_u32 y = threadIdx.x >> VG_TILE_X; y < 1u << VG_TILE_Y; y += 256 >> VG_TILE_X) {
            vg_u32 v;
            if (!way.voxel((tx << VG_TILE_X) + x, (ty << VG_TILE_Y) + y, (tz << VG_TILE_Z) + z, &v)) missing++;
            sum += (vg_u64)v * vg_weight(x, y, z);
        }
    }
    vg_add_up(sum, missing, out + 2 * blockIdx.x);
}

#define VG_SCHEME(name, W)                                                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 4) vg_schemes_rays_##name(vg_scheme s, const vg_scheme_ray* rays, vg_u32 count, vg_u64* out) { vg_rays<W>(s, rays, count, out); }   \
    extern "C" __global__ void __launch_bounds__(256) vg_schemes_points_##name(vg_scheme s, const vg_u32* points, vg_u32 count, vg_u64* out) { vg_points<W>(s, points, count, out); } \
    extern "C" __global__ void __launch_bounds__(256) vg_schemes_touch_##name(vg_scheme s, const vg_u32* tiles, vg_u32, vg_u64* out) { vg_touch<W>(s, tiles, out); }
VG_SCHEME(flat, vg_way_flat<true>)
VG_SCHEME(untested, vg_way_flat<false>)
VG_SCHEME(table, vg_way_table)
VG_SCHEME(tiles, vg_way_tiles)
VG_SCHEME(rows, vg_way_rows)
VG_SCHEME(atlas, vg_way_atlas)
VG_SCHEME(texture, vg_way_texture)
