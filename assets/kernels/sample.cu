// What benches run: reading through the array against a dense buffer, rays by each way of addressing, the 27-point stencil, and a kernel that wants all bandwidth.
#include "vastgrid.cuh"

// ---- streamed: one block of 256 threads a tile, 16 bytes a load. out[tile] is a sum of the words, so that nothing is left out.
__device__ void vg_stream(const uint4* from, vg_u64 vectors, vg_u64* out) {
    vg_u64 sum = 0;
    _Pragma("unroll 8") for (vg_u64 k = threadIdx.x; k < vectors; k += 256) {
        const uint4 v = from[k];
        sum += (vg_u64)v.x + v.y + v.z + v.w;
    }
    for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (threadIdx.x % 32 == 0) atomicAdd(out, sum);
}

extern "C" __global__ void __launch_bounds__(256) vg_stream_tiles(vg_grid g, const vg_u64* tiles, vg_u64* out) {
    const vg_u64 tile = tiles[blockIdx.x];
    if (vg_tile_state(g, tile) != VG_RESIDENT) return;
    vg_stream(vg_global<const uint4>(g.base) + (tile << (g.tile_voxels_log2 + g.voxel_log2) >> 4), 1ull << (g.tile_voxels_log2 + g.voxel_log2) >> 4, out + blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(256) vg_stream_dense(const uint4* data, unsigned tile_log2_bytes, vg_u64* out) {
    vg_stream(data + ((vg_u64)blockIdx.x << tile_log2_bytes >> 4), 1ull << tile_log2_bytes >> 4, out + blockIdx.x);
}

// ---- random: `each` voxels a thread, in tiles of a list of tile positions (x, y, z in tiles, and the number in the dense buffer). MODE 0: unchecked; 1: vg_load; 2: the accessor;
// 3: the same in a dense buffer of as many tiles.
template <class T, int MODE> __device__ void vg_random(const vg_grid& g, const uint4* tiles, unsigned n, unsigned each, const T* dense, vg_u64* out) {
    const vg_u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    vg_u64 state = thread * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull, sum = 0;
    vg_accessor<T> near(g);
    _Pragma("unroll 8") for (unsigned i = 0; i < each; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        const vg_u32 pick = __umulhi((vg_u32)(state >> 32), n);
        const vg_u32 at = ((vg_u32)(state >> 20) * 0x2c1b3c6du >> 4) & ((1u << g.tile_voxels_log2) - 1);
        T v;
        if (MODE == 3) {
            // The same look at the list, so that all ways differ in nothing but how the voxel is found.
            v = dense[((vg_u64)tiles[pick].w << g.tile_voxels_log2) + at];
        } else {
            const uint4 t = tiles[pick];
            const vg_u32 tile[3] = {t.x, t.y, t.z};
            vg_u32 c[3];
            for (int a = 0; a < 3; a++)
                c[a] = (tile[a] << g.axis[a].tile_shift) + (at >> g.axis[a].voxel_shift & ((1u << g.axis[a].tile_shift) - 1));
            if (MODE == 0) v = vg_load_unchecked<T>(g, c[0], c[1], c[2]);
            if (MODE == 1) vg_load<T>(g, c[0], c[1], c[2], &v);
            if (MODE == 2) near.get(c[0], c[1], c[2], &v);
        }
        sum += (vg_u64)(vg_i64)v;
    }
    out[thread] = sum;
}

#define VG_RANDOM(name, T, MODE)                                                                                                                 \
    extern "C" __global__ void vg_random_##name(vg_grid g, const uint4* tiles, unsigned n, unsigned each, const T* dense, vg_u64* out) {          \
        vg_random<T, MODE>(g, tiles, n, each, dense, out);                                                                                       \
    }
VG_RANDOM(flat_u16, unsigned short, 0)
VG_RANDOM(load_u16, unsigned short, 1)
VG_RANDOM(near_u16, unsigned short, 2)
VG_RANDOM(dense_u16, unsigned short, 3)
VG_RANDOM(flat_f32, float, 0)
VG_RANDOM(load_f32, float, 1)
VG_RANDOM(near_f32, float, 2)
VG_RANDOM(dense_f32, float, 3)

// ---- parallel rays, a thread each: sample k of pixel (u, v) lies at origin + u * right + v * down + (k + 0.5) * step, in voxels.
struct vg_rays {
    float origin[3], right[3], down[3], step[3];
    vg_u32 width, height, steps;
};

// A software page table in its place: one slot per tile position, row by row. Slots are tile ids, so that both read the same memory.
struct vg_page_table {
    const vg_u32* slots;  // ~0 where the tile is not there
    vg_u32 tiles[3];      // per axis
};

struct vg_paged {
    const vg_grid& g;
    const vg_page_table& table;
    __device__ vg_u32 slot(vg_u32 x, vg_u32 y, vg_u32 z) const {
        const vg_u32 tx = x >> g.axis[0].tile_shift, ty = y >> g.axis[1].tile_shift, tz = z >> g.axis[2].tile_shift;
        return table.slots[tx + table.tiles[0] * (ty + table.tiles[1] * tz)];
    }
    template <class T> __device__ float in(vg_u32 slot, vg_u32 x, vg_u32 y, vg_u32 z) const {
        return vg_float(vg_tile_at<const T>(g, slot)[vg_within_tile(g, x, y, z)]);
    }
};

// What lies at the corners of a sample's support, fetched by `fetch(x, y, z, &value) -> bool`.
template <class F> __device__ bool vg_corners(const vg_grid& g, const vg_position& p, const F& fetch, float* out) {
    float c[8];
    bool all = true;
    VG_UNROLL
    for (int k = 0; k < 8; k++)
        all &= fetch(vg_clamp(p.x + (k & 1), g.extent[0]), vg_clamp(p.y + (k >> 1 & 1), g.extent[1]), vg_clamp(p.z + (k >> 2), g.extent[2]), &c[k]);
    *out = vg_trilerp(c, p.fx, p.fy, p.fz);
    return all;
}

// The ways of addressing: untested flat address; the accessor without and with its test per tile; a test per voxel fetched; a page table asked per voxel, and per sample where one
// tile holds the support.
enum vg_way { VG_FLAT, VG_UNTESTED, VG_PER_TILE, VG_PER_VOXEL, VG_TABLE_PER_VOXEL, VG_TABLE_PER_SAMPLE };

// The sum of a ray's samples and their number. By tile, a warp goes through as many samples at a time as all its lanes have tested memory for.
template <class T, class S, int WAY> __device__ void vg_trace(const vg_grid& g, const vg_rays& rays, const vg_page_table& table, float* sums, vg_u32* counts) {
    const vg_u32 u = blockIdx.x * blockDim.x + threadIdx.x, v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= rays.width || v >= rays.height) return;
    float from[3];
    for (int a = 0; a < 3; a++) from[a] = rays.origin[a] + u * rays.right[a] + v * rays.down[a];
    vg_accessor<T, S, WAY != VG_UNTESTED> near(g);
    const vg_paged paged = {g, table};
    const vg_ray ray = {from[0], from[1], from[2], rays.step[0], rays.step[1], rays.step[2]};
    const vg_u32 lanes = __activemask();
    float sum = 0;
    vg_u32 count = 0;
    for (vg_u32 k = 0; k < rays.steps; k++) {
        const bool by_tile = WAY == VG_UNTESTED || WAY == VG_PER_TILE;
        if (by_tile && vg_warp_all(lanes, near.holds(ray.at(k)))) {
            const vg_u32 n = vg_warp_least(lanes, near.span(ray, k, rays.steps));
            if (near.state == VG_RESIDENT) {
                _Pragma("unroll 4") for (vg_u32 i = 0; i < n; i++) sum += near.sample_inside(ray, k + i);
                count += n;
            } else if (near.state == VG_UNIFORM) {
                sum += vg_float(near.value) * (float)n;
                count += n;
            }
            k += n - 1;
            continue;
        }
        const float t = (float)k + 0.5f;
        const float x = from[0] + t * rays.step[0], y = from[1] + t * rays.step[1], z = from[2] + t * rays.step[2];
        float value = 0;
        bool ok = true;
        if (WAY == VG_FLAT) {
            value = vg_trilinear_unchecked<T>(g, x, y, z);
        } else if (WAY == VG_UNTESTED || WAY == VG_PER_TILE) {
            ok = near.sample_at(ray.at(k), &value);
        } else if (WAY == VG_PER_VOXEL) {
            ok = vg_corners(g, vg_position(x, y, z), [&](vg_u32 x, vg_u32 y, vg_u32 z, float* c) {
                T v;
                const bool there = vg_load<T>(g, x, y, z, &v);
                *c = vg_float(v);
                return there;
            }, &value);
        } else {
            const vg_position p(x, y, z);
            const vg_u32 lx = p.x & ((1u << g.axis[0].tile_shift) - 1), ly = p.y & ((1u << g.axis[1].tile_shift) - 1), lz = p.z & ((1u << g.axis[2].tile_shift) - 1);
            const bool one = WAY == VG_TABLE_PER_SAMPLE && lx + 1 < 1u << g.axis[0].tile_shift && ly + 1 < 1u << g.axis[1].tile_shift &&
                             lz + 1 < 1u << g.axis[2].tile_shift && vg_inside(g, p.x + 1, p.y + 1, p.z + 1) && vg_inside(g, p.x, p.y, p.z);
            const vg_u32 all = one ? paged.slot(p.x, p.y, p.z) : 0;
            ok = vg_corners(g, p, [&](vg_u32 x, vg_u32 y, vg_u32 z, float* c) {
                const vg_u32 slot = one ? all : paged.slot(x, y, z);
                *c = 0;
                if (slot != ~0u) *c = paged.in<T>(slot, x, y, z);
                return slot != ~0u;
            }, &value);
        }
        if (ok) {
            sum += value;
            count++;
        }
    }
    sums[v * rays.width + u] = sum;
    counts[v * rays.width + u] = count;
}

#define VG_RAYS(name, T, S, WAY)                                                                                                                 \
    extern "C" __global__ void vg_rays_##name(vg_grid g, vg_rays rays, vg_page_table table, float* sums, vg_u32* counts) {                        \
        vg_trace<T, S, WAY>(g, rays, table, sums, counts);                                                                                       \
    }
#define VG_RAYS_OF(type, T)                                                                                                                      \
    VG_RAYS(flat_##type, T, vg_any_shape, VG_FLAT)                                                                                               \
    VG_RAYS(untested_##type, T, vg_any_shape, VG_UNTESTED)                                                                                       \
    VG_RAYS(per_tile_##type, T, vg_any_shape, VG_PER_TILE)                                                                                       \
    VG_RAYS(per_voxel_##type, T, vg_any_shape, VG_PER_VOXEL)                                                                                     \
    VG_RAYS(table_per_voxel_##type, T, vg_any_shape, VG_TABLE_PER_VOXEL)                                                                         \
    VG_RAYS(table_per_sample_##type, T, vg_any_shape, VG_TABLE_PER_SAMPLE)
VG_RAYS_OF(u16, unsigned short)
VG_RAYS_OF(f32, float)
// Shapes known to the compiler: 128 x 128 x 64 of u16 and 64 x 64 x 64 of f32.
typedef vg_shape<7, 7, 6> vg_shape_776;
typedef vg_shape<6, 6, 6> vg_shape_666;
VG_RAYS(per_tile_u16_776, unsigned short, vg_shape_776, VG_PER_TILE)
VG_RAYS(per_tile_f32_666, float, vg_shape_666, VG_PER_TILE)

// ---- 27-point stencil over the tiles of a list (x, y, z in tiles, and one to spare): blockIdx.x is the tile, gridDim.y blocks of 256 threads share it. A warp takes 32 voxels
// along x (tiles are at least that long) and walks along z. The result lies tile after tile in `out`. WALK: 9 loads a voxel and 18 kept from the steps before; else 27 loads.
__device__ float vg_weigh(const float v[27]) {
    float sum = 0;
    VG_UNROLL
    for (int i = 0; i < 27; i++) sum += v[i] * (0.01f * (float)(i + 1));
    return sum;
}

template <class T, class S, bool WALK> __device__ void vg_stencil(const vg_grid& g, const uint4* tiles, float* out) {
    const uint4 t = tiles[blockIdx.x];
    vg_around<T, S> around(g);
    around.enter_warp(t.x, t.y, t.z);
    const vg_u32 rows = 1u << (S::shift(g, 0) + S::shift(g, 1)) >> 5, warps = gridDim.y * (blockDim.x / 32);
    for (vg_u32 r = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32; r < rows; r += warps) {
        const vg_u32 column = r * 32 + threadIdx.x % 32;
        const vg_u32 lx = column & ((1u << S::shift(g, 0)) - 1), ly = column >> S::shift(g, 0);
        if (lx > around.xn || ly > around.yn) continue;
        float* to = out + ((vg_u64)blockIdx.x << g.tile_voxels_log2) + column;
        T v[27];
        if (WALK) {
            around.load_plane(lx, ly, 0, -1, v + 9);
            around.load_plane(lx, ly, 0, 0, v + 18);
        }
        _Pragma("unroll 2") for (vg_u32 lz = 0; lz <= around.zn; lz++) {
            if (WALK) {
                VG_UNROLL
                for (int i = 0; i < 18; i++) v[i] = v[i + 9];
                around.load_plane(lx, ly, lz, 1, v + 18);
            } else {
                around.load(lx, ly, lz, v);
            }
            float w[27];
            VG_UNROLL
            for (int i = 0; i < 27; i++) w[i] = (float)v[i];
            to[(vg_u64)lz << S::place(g, 2)] = vg_weigh(w);
        }
    }
}

#define VG_STENCIL(name, S, WALK)                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) vg_stencil_##name(vg_grid g, const uint4* tiles, float* out) {                              \
        vg_stencil<float, S, WALK>(g, tiles, out);                                                                                               \
    }
VG_STENCIL(load_f32, vg_any_shape, false)
VG_STENCIL(walk_f32, vg_any_shape, true)
VG_STENCIL(walk_f32_666, vg_shape_666, true)

// ---- all the bandwidth there is: a = b + s * c, n vectors, again and again.
extern "C" __global__ void vg_triad(float4* a, const float4* b, const float4* c, float s, vg_u64 n, unsigned repeats) {
    const vg_u64 step = (vg_u64)gridDim.x * blockDim.x;
    for (unsigned r = 0; r < repeats; r++) {
        for (vg_u64 i = (vg_u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
            const float4 x = b[i], y = c[i];
            a[i] = make_float4(x.x + s * y.x, x.y + s * y.y, x.z + s * y.z, x.w + s * y.w);
        }
    }
}
