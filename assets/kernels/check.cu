// What tests run: every accessor over a region, the struct as a kernel sees it, and readers and writers to run against eviction.
#include "vastgrid.cuh"

// The contents that tests expect at a voxel: the low bytes of this. The same in Rust: `device_hash` in tests/common.
__device__ vg_u64 vg_hash(vg_u32 x, vg_u32 y, vg_u32 z, vg_u32 seed) {
    vg_u32 h = x * 0x9e3779b1u ^ y * 0x85ebca77u ^ z * 0xc2b2ae3du ^ seed * 0x27d4eb2fu;
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    h ^= h >> 12;
    return (vg_u64)(h * 0x297a2d39u) << 32 | h;
}

// A box of voxels, by value.
struct vg_box {
    vg_u32 first[3], size[3];
};

__device__ bool vg_voxel_of(const vg_box& box, vg_u64 i, vg_u32 at[3]) {
    at[0] = box.first[0] + (vg_u32)(i % box.size[0]);
    i /= box.size[0];
    at[1] = box.first[1] + (vg_u32)(i % box.size[1]);
    i /= box.size[1];
    at[2] = box.first[2] + (vg_u32)i;
    return i < box.size[2];
}

// The fields of the struct, in order, each as a word: 25 of them, then its size.
extern "C" __global__ void vg_echo(vg_grid g, vg_u64* out) {
    *out++ = g.base;
    *out++ = g.blocks;
    *out++ = g.fill;
    for (int i = 0; i < 3; i++) {
        *out++ = g.axis[i].tile_shift;
        *out++ = g.axis[i].page_shift;
        *out++ = g.axis[i].voxel_shift;
        *out++ = g.axis[i].slot_shift;
        *out++ = g.axis[i].page_stride_tiles;
    }
    for (int i = 0; i < 3; i++) *out++ = g.extent[i];
    *out++ = g.voxel_log2;
    *out++ = g.tile_voxels_log2;
    *out++ = g.block_log2;
    *out++ = g.flags;
    *out = sizeof g;
}

// Reads a box into a dense buffer, x fastest. mode 0: vg_load_unchecked; 1: vg_load; 2: the accessor. `there` (or null) gets 1 where the read said so, else 0.
template <class T> __device__ void vg_read(const vg_grid& g, const vg_box& box, unsigned mode, T* out, unsigned char* there) {
    vg_accessor<T> near(g);
    vg_u32 at[3];
    const vg_u64 step = (vg_u64)gridDim.x * blockDim.x;
    for (vg_u64 i = (vg_u64)blockIdx.x * blockDim.x + threadIdx.x; vg_voxel_of(box, i, at); i += step) {
        T v;
        bool ok = true;
        if (mode == 0) v = vg_load_unchecked<T>(g, at[0], at[1], at[2]);
        else if (mode == 1) ok = vg_load<T>(g, at[0], at[1], at[2], &v);
        else ok = near.get(at[0], at[1], at[2], &v);
        out[i] = v;
        if (there) there[i] = ok;
    }
}

// Writes the hash of its place into every voxel of a box; mode 2: the seed. mode 0: vg_store; else the accessor. Adds to *refused how many could not be written.
template <class T> __device__ void vg_write_hash(const vg_grid& g, const vg_box& box, unsigned mode, unsigned seed, vg_u64* refused) {
    vg_accessor<T> near(g);
    vg_u32 at[3];
    const vg_u64 step = (vg_u64)gridDim.x * blockDim.x;
    for (vg_u64 i = (vg_u64)blockIdx.x * blockDim.x + threadIdx.x; vg_voxel_of(box, i, at); i += step) {
        const T v = mode == 2 ? (T)seed : (T)vg_hash(at[0], at[1], at[2], seed);
        const bool ok = mode == 0 ? vg_store<T>(g, at[0], at[1], at[2], v) : near.set(at[0], at[1], at[2], v);
        if (!ok) atomicAdd(refused, 1ull);
    }
}

// Reads tiles of a list, again and again for `ns` nanoseconds, each block its own pseudo-random ones, and compares what is resident with the hash.
// counters: voxels compared, voxels that differ, tiles read, tiles that were not resident.
template <class T> __device__ void vg_verify(const vg_grid& g, const vg_u64* tiles, unsigned n, unsigned seed, vg_u64 ns, vg_u64* counters) {
    vg_u64 start, now, good = 0, bad = 0;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    vg_u32 pick = blockIdx.x * 0x9e3779b1u + 1;
    do {
        pick = pick * 1664525u + 1013904223u;
        const vg_u64 tile = tiles[(vg_u32)(((vg_u64)pick * n) >> 32)];
        vg_u32 first[3];
        vg_tile_origin(g, tile, first);
        const bool resident = vg_inside(g, first[0], first[1], first[2]) && vg_tile_state(g, tile) == VG_RESIDENT;
        if (resident) {
            const volatile T* all = vg_tile_at<const T>(g, tile);
            for (vg_u32 i = threadIdx.x; i < 1u << g.tile_voxels_log2; i += blockDim.x) {
                vg_u32 at[3];
                for (int a = 0; a < 3; a++) at[a] = first[a] + (i >> g.axis[a].voxel_shift & ((1u << g.axis[a].tile_shift) - 1));
                if (!vg_inside(g, at[0], at[1], at[2])) continue;
                const bool same = all[i] == (T)vg_hash(at[0], at[1], at[2], seed);
                good += same;
                bad += !same;
            }
        }
        if (threadIdx.x == 0) atomicAdd(&counters[resident ? 2 : 3], 1ull);
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < ns);
    if (good + bad) atomicAdd(&counters[0], good + bad);
    if (bad) atomicAdd(&counters[1], bad);
}

#define VG_CHECK(name, T)                                                                                                                        \
    extern "C" __global__ void vg_read_##name(vg_grid g, vg_box box, unsigned mode, T* out, unsigned char* there) {                               \
        vg_read<T>(g, box, mode, out, there);                                                                                                    \
    }                                                                                                                                            \
    extern "C" __global__ void vg_write_##name(vg_grid g, vg_box box, unsigned mode, unsigned seed, vg_u64* refused) {                            \
        vg_write_hash<T>(g, box, mode, seed, refused);                                                                                           \
    }                                                                                                                                            \
    extern "C" __global__ void vg_verify_##name(vg_grid g, const vg_u64* tiles, unsigned n, unsigned seed, vg_u64 ns, vg_u64* counters) {         \
        vg_verify<T>(g, tiles, n, seed, ns, counters);                                                                                           \
    }
VG_CHECK(u8, unsigned char)
VG_CHECK(u16, unsigned short)
VG_CHECK(u32, unsigned int)
VG_CHECK(u64, unsigned long long)

// Trilinear samples at n positions (x, y, z in voxels, one after the other). mode 0: unchecked; 1: the accessor.
template <class T> __device__ void vg_sample(const vg_grid& g, const float* at, unsigned n, unsigned mode, float* out, unsigned char* there) {
    vg_accessor<T> near(g);
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const float x = at[3 * i], y = at[3 * i + 1], z = at[3 * i + 2];
        bool ok = true;
        float v;
        if (mode == 0) v = vg_trilinear_unchecked<T>(g, x, y, z);
        else ok = near.sample(x, y, z, &v);
        out[i] = v;
        if (there) there[i] = ok;
    }
}

// The 27 voxels around each of n voxels (x, y, z). mode 0: the accessor; 1: vg_around.
template <class T> __device__ void vg_near(const vg_grid& g, const vg_u32* at, unsigned n, unsigned mode, T* out, unsigned char* there) {
    vg_accessor<T> near(g);
    vg_around<T> around(g);
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const vg_u32 x = at[3 * i], y = at[3 * i + 1], z = at[3 * i + 2];
        T v[27];
        bool ok;
        if (mode == 0) {
            ok = near.neighbourhood(x, y, z, v);
        } else {
            around.enter(x >> g.axis[0].tile_shift, y >> g.axis[1].tile_shift, z >> g.axis[2].tile_shift);
            ok = around.load(x - around.x0, y - around.y0, z - around.z0, v);
        }
        for (int k = 0; k < 27; k++) out[27ull * i + k] = v[k];
        if (there) there[i] = ok;
    }
}

#define VG_CHECK_NEAR(name, T)                                                                                                                   \
    extern "C" __global__ void vg_sample_##name(vg_grid g, const float* at, unsigned n, unsigned mode, float* out, unsigned char* there) {        \
        vg_sample<T>(g, at, n, mode, out, there);                                                                                                \
    }                                                                                                                                            \
    extern "C" __global__ void vg_near_##name(vg_grid g, const vg_u32* at, unsigned n, unsigned mode, T* out, unsigned char* there) {             \
        vg_near<T>(g, at, n, mode, out, there);                                                                                                  \
    }
VG_CHECK_NEAR(u16, unsigned short)
VG_CHECK_NEAR(f32, float)

// The states of tiles (vg_state), their ranges where they are known, else two NaN.
extern "C" __global__ void vg_tiles(vg_grid g, const vg_u64* tiles, unsigned n, unsigned char* state, float2* range) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    state[i] = (unsigned char)vg_tile_state(g, tiles[i]);
    float2 r;
    if (!vg_tile_range(g, tiles[i], &r.x, &r.y)) r.x = r.y = vg_bits_to_float(0x7fc00000u);
    range[i] = r;
}
