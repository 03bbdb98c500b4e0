// The kernels of `examples/06_moving_band.rs`, and what `benches/cuda_band.rs` compares them with.
#include "band.cuh"

// The tile of a list that this block has, and its place in tiles.
struct band_tile {
    vg_u64 id;
    vg_u32 x, y, z;
    __device__ band_tile(const vg_grid& g, const vg_u64* tiles) : id(tiles[blockIdx.x]) {
        vg_u32 first[3];
        vg_tile_origin(g, id, first);
        x = first[0] >> BAND_LOG2, y = first[1] >> BAND_LOG2, z = first[2] >> BAND_LOG2;
    }
};

// Whether the grid lies in whole tiles of 16^3 floats: anything else is left alone.
__device__ __forceinline__ bool band_fits(const vg_grid& g) {
    return vg_fits<float>(g) && ((g.extent[0] | g.extent[1] | g.extent[2]) & (BAND_SIDE - 1)) == 0 && g.axis[0].tile_shift == BAND_LOG2 && g.axis[1].tile_shift == BAND_LOG2 && g.axis[2].tile_shift == BAND_LOG2;
}

// How it begins, a block a tile.
extern "C" __global__ void __launch_bounds__(BAND_THREADS) vg_band_begin(vg_grid next, const vg_u64* tiles, band_ball ball) {
    const band_tile tile(next, tiles);
    float* to = vg_tile_to_write<float>(next, tile.id);
    if (!to || !band_fits(next)) return;
    for (vg_u32 i = threadIdx.x; i < BAND_VOXELS; i += BAND_THREADS) {
        const vg_u32 x = i & (BAND_SIDE - 1), y = i >> BAND_LOG2 & (BAND_SIDE - 1), z = i >> 2 * BAND_LOG2;
        to[i] = band_begun(ball, (tile.x << BAND_LOG2) + x, (tile.y << BAND_LOG2) + y, (tile.z << BAND_LOG2) + z);
    }
    if (threadIdx.x == 0) vg_mark_dirty(next, tile.id);
}

// A step, a block a tile: 27 threads look for the tiles around it, and one for where it goes to.
extern "C" __global__ void __launch_bounds__(BAND_THREADS) vg_band_step(vg_grid now, vg_grid next, const vg_u64* tiles, float least) {
    __shared__ band_near near;
    __shared__ float* to;  // null where there is nothing to be done
    __shared__ float box[BAND_BOX * BAND_BOX * BAND_BOX];
    // The same for the whole block.
    if (!band_fits(next) || !band_fits(now)) return;
    if (threadIdx.x <= 27) {
        const band_tile tile(next, tiles);
        if (threadIdx.x < 27) {
            near.find(now, tile.x, tile.y, tile.z, threadIdx.x);
        } else {
            to = vg_tile_to_write<float>(next, tile.id);
            // Before it is written: marks are collected when the kernel is done, whichever comes first.
            if (to) vg_mark_dirty(next, tile.id);
        }
    }
    __syncthreads();
    if (!to) return;
    band_gather(near, threadIdx.x, box);
    __syncthreads();
    band_column(box, threadIdx.x, least, to, BAND_SIDE, BAND_SIDE * BAND_SIDE);
}

// ---- to compare with: the same on dense arrays. `first`: the voxel of the grid that the arrays begin at, a multiple of the tile's side.

struct band_extent {
    vg_u32 first[3], size[3];
};

__device__ __forceinline__ void band_step_in(const float* now, float* next, const band_extent& extent, vg_u32 x0, vg_u32 y0, vg_u32 z0, float least) {
    __shared__ float box[BAND_BOX * BAND_BOX * BAND_BOX];
    const band_dense from = {now, {extent.size[0], extent.size[1], extent.size[2]}, x0, y0, z0};
    band_gather(from, threadIdx.x, box);
    __syncthreads();
    const vg_u64 row = extent.size[0], plane = row * extent.size[1];
    band_column(box, threadIdx.x, least, next + x0 + y0 * row + z0 * plane, row, plane);
}

// The same tiles in the same order.
extern "C" __global__ void __launch_bounds__(BAND_THREADS)
vg_band_step_dense(vg_grid shape, const float* now, float* next, band_extent extent, const vg_u64* tiles, float least) {
    const band_tile tile(shape, tiles);
    band_step_in(now, next, extent, (tile.x << BAND_LOG2) - extent.first[0], (tile.y << BAND_LOG2) - extent.first[1], (tile.z << BAND_LOG2) - extent.first[2], least);
}

// All of the array, in its own order.
extern "C" __global__ void __launch_bounds__(BAND_THREADS) vg_band_step_whole(const float* now, float* next, band_extent extent, float least) {
    band_step_in(now, next, extent, blockIdx.x << BAND_LOG2, blockIdx.y << BAND_LOG2, blockIdx.z << BAND_LOG2, least);
}

// All of the array as one would write it without tiles: rows of 32 threads, 8 of them, each a column of 16 along z, read where the voxels are.
extern "C" __global__ void __launch_bounds__(256) vg_band_step_plain(const float* now, float* next, band_extent extent, float least) {
    const vg_u32 *e = extent.size, x = blockIdx.x * 32 + (threadIdx.x & 31), y = blockIdx.y * 8 + (threadIdx.x >> 5), z0 = blockIdx.z * 16;
    if (x >= e[0] || y >= e[1]) return;
    const vg_u64 row = e[0], plane = row * e[1];
    bool there[9];
    _Pragma("unroll") for (int i = 0; i < 9; i++) there[i] = x + i % 3 - 1 < e[0] && y + i / 3 - 1 < e[1];
    const float* at = now + x + y * row;
    const auto load = [&](vg_u32 z, float* out) {
        _Pragma("unroll") for (int i = 0; i < 9; i++) {
            out[i] = there[i] && z < e[2] ? __ldg(at + (vg_i64)(z * plane) + (i / 3 - 1) * (vg_i64)row + (i % 3 - 1)) : 0.0f;
        }
    };
    float near[27];
    load(z0 - 1, near + 9);
    load(z0, near + 18);
    _Pragma("unroll 4") for (vg_u32 k = 0; k < 16; k++) {
        _Pragma("unroll") for (int i = 0; i < 18; i++) near[i] = near[i + 9];
        load(z0 + k + 1, near + 18);
        if (z0 + k < e[2]) next[x + y * row + (z0 + k) * plane] = band_blown(near, least);
    }
}

// ---- what stores cost: every voxel of tiles gets a value, through the three ways to store.

template <int WAY> __device__ __forceinline__ void band_put(const vg_grid& g, const vg_u64* tiles, float value) {
    const band_tile tile(g, tiles);
    float* to = vg_tile_to_write<float>(g, tile.id);
    if (!to || !band_fits(g)) return;
    vg_accessor<float, vg_shape<BAND_LOG2, BAND_LOG2, BAND_LOG2>> near(g);
    for (vg_u32 i = threadIdx.x; i < BAND_VOXELS; i += BAND_THREADS) {
        const vg_u32 x = (tile.x << BAND_LOG2) + (i & (BAND_SIDE - 1)), y = (tile.y << BAND_LOG2) + (i >> BAND_LOG2 & (BAND_SIDE - 1)), z = (tile.z << BAND_LOG2) + (i >> 2 * BAND_LOG2);
        if (WAY == 0) to[i] = value + (float)i;
        else if (WAY == 1) near.set(x, y, z, value + (float)i);
        else vg_store<float>(g, x, y, z, value + (float)i);
    }
    if (WAY == 0 && threadIdx.x == 0) vg_mark_dirty(g, tile.id);
}

// A pointer and one mark a tile.
extern "C" __global__ void __launch_bounds__(BAND_THREADS) vg_band_put_tile(vg_grid g, const vg_u64* tiles, float value) { band_put<0>(g, tiles, value); }
// The accessor, which marks once a thread and tile.
extern "C" __global__ void __launch_bounds__(BAND_THREADS) vg_band_put_accessor(vg_grid g, const vg_u64* tiles, float value) { band_put<1>(g, tiles, value); }
// Voxel by voxel.
extern "C" __global__ void __launch_bounds__(BAND_THREADS) vg_band_put_voxel(vg_grid g, const vg_u64* tiles, float value) { band_put<2>(g, tiles, value); }
