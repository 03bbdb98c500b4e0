// The same samples under every way of holding a volume that does not fit: one loop along rays, one over points, one over whole tiles, each with another way to find a voxel.
//
//   way              where voxels are                                         what finding one takes
//   vg_way_flat      the array's own addresses                                a bit, once per tile entered (or nothing, where all is known to be resident)
//   vg_way_table     blocks in one piece of memory                            a slot from a table, once per tile entered
//   vg_way_tiles     the whole volume, tile after tile                        arithmetic, once per tile entered
//   vg_way_rows      the whole volume, row after row                          arithmetic
//   vg_way_atlas     blocks with a border in one texture, filtered there      a place from a table, once per tile entered; no second block ever
//   vg_way_texture   one texture, dense or with memory under some of it       nothing
//
// Positions are fixed-point numbers. The first four filter with the same 7 fused operations in the same order, so that their sums agree bit for bit with each other and with a host's;
// the last two have the texture unit filter, whose fractions have 8 bits.
// Tiles have 128 x 128 x 64 voxels of 16 bits (2 MiB), sides of the volume at most 2048.
#ifndef VASTGRID_SCHEMES_CUH
#define VASTGRID_SCHEMES_CUH

#include "vastgrid.cuh"

typedef unsigned short vg_u16;

#define VG_FRACTION 20
#define VG_TILE_X 7
#define VG_TILE_Y 7
#define VG_TILE_Z 6
#define VG_NOWHERE 0xffffffffu
typedef vg_shape<VG_TILE_X, VG_TILE_Y, VG_TILE_Z> vg_scheme_shape;

#if defined(__CUDACC__)
#define VG_UNROLL_4 _Pragma("unroll 4")
#else
#define VG_UNROLL_4
#endif

// What a kernel gets: of each way what it needs.
struct vg_scheme {
    vg_grid grid;       // vg_way_flat
    vg_u64 memory;      // the first voxel, or the texture
    vg_u64 table;       // a word for each tile, x fastest: its slot, or its block's place in the atlas (10 bits an axis); VG_NOWHERE where it is not there
    vg_u32 log2[3];     // tiles along each axis
    vg_u32 pad;
};
static_assert(sizeof(vg_scheme) == VG_GRID_BYTES + 32, "vg_scheme");

// Samples at equal steps along a line, every one of them between voxels of the volume.
struct vg_scheme_ray {
    vg_u32 first[3], step[3], samples;
};
static_assert(sizeof(vg_scheme_ray) == 28, "vg_scheme_ray");

// ---------------------------------------------------------------- parts

VG_HD float vg_fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

VG_HD float vg_mix(float low, float high, float at) { return vg_fused(high - low, at, low); }

// Between eight values, x fastest.
VG_HD float vg_blend(const float c[8], float x, float y, float z) {
    const float low = vg_mix(vg_mix(c[0], c[1], x), vg_mix(c[2], c[3], x), y);
    const float high = vg_mix(vg_mix(c[4], c[5], x), vg_mix(c[6], c[7], x), y);
    return vg_mix(low, high, z);
}

// A voxel by the read-only path, as a float: put into the bits of one, since few units of a multiprocessor convert.
VG_HD float vg_voxel_float(const vg_u16* p) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(0x4b000000u | __ldg(p)) - 8388608.0f;
#else
    return (float)*p;
#endif
}

VG_HD vg_u32 vg_read_word(const vg_u32* p) {
#if defined(__CUDA_ARCH__)
    return __ldg(p);
#else
    return *p;
#endif
}

// What is after the point, exactly.
VG_HD float vg_after_point(vg_u32 at) {
    const vg_u32 fraction = at & ((1u << VG_FRACTION) - 1);
#if defined(__CUDA_ARCH__)
    return __uint_as_float(0x3f800000u | fraction << (23 - VG_FRACTION)) - 1.0f;
#else
    return (float)fraction * (1.0f / (1u << VG_FRACTION));
#endif
}

// A position as a float: what a texture is asked for.
VG_HD float vg_in_voxels(vg_u32 at) { return (float)at * (1.0f / (1u << VG_FRACTION)); }

#if !defined(__CUDACC__)
// Stands in for a texture where there is none: filtered with all the bits there are.
struct vg_host_texture {
    const vg_u16* voxels;
    vg_u32 size[3];
    float fetch(float px, float py, float pz) const {
        const float p[3] = {px - 0.5f, py - 0.5f, pz - 0.5f};
        vg_u32 low[3], high[3];
        float f[3], c[8];
        for (int a = 0; a < 3; a++) {
            const int i = vg_floor(p[a]);
            low[a] = vg_clamp(i, size[a]);
            high[a] = vg_clamp(i + 1, size[a]);
            f[a] = p[a] - (float)i;
        }
        for (int k = 0; k < 8; k++) {
            const vg_u64 x = k & 1 ? high[0] : low[0], y = k & 2 ? high[1] : low[1], z = k & 4 ? high[2] : low[2];
            c[k] = (float)voxels[x + size[0] * (y + size[1] * z)] / 65535.0f;
        }
        return vg_blend(c, f[0], f[1], f[2]);
    }
};
#endif

// A filtered value from 0 to 65535; texel i has its centre at i + 0.5.
VG_HD float vg_fetch(vg_u64 texture, float x, float y, float z) {
#if defined(__CUDA_ARCH__)
    float v[4];
    asm("tex.3d.v4.f32.f32 {%0, %1, %2, %3}, [%4, {%5, %6, %7, %7}];" : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "l"(texture), "f"(x), "f"(y), "f"(z));
    return v[0] * 65535.0f;
#elif !defined(__CUDACC__)
    return ((const vg_host_texture*)texture)->fetch(x, y, z) * 65535.0f;
#else
    return 0;
#endif
}

// ---------------------------------------------------------------- ways: blocks of voxels

// A thread's own tile: its voxels and where it begins, in registers. BORDER 1: samples between its last voxels and the next tile's are not in it.
// VG_FAR is further from every position than a tile is long: no volume's side is that long.
#define VG_FAR 0x80000000u
template <vg_u32 BORDER> struct vg_in_tile {
    vg_u32 from[3];

    VG_HD vg_in_tile() { leave(); }
    VG_HD void leave() { from[0] = from[1] = from[2] = VG_FAR; }
    VG_HD static vg_u32 end(int a) {
        const vg_u32 log2 = a == 0 ? VG_TILE_X : a == 1 ? VG_TILE_Y : VG_TILE_Z;
        return ((1u << log2) - BORDER) << VG_FRACTION;
    }
    VG_HD bool holds(const vg_u32 at[3]) const { return at[0] - from[0] < end(0) && at[1] - from[1] < end(1) && at[2] - from[2] < end(2); }
    // How many samples of a ray are held, from one on that is, at most `left`. By reciprocals, and a little too few rather than too many.
    VG_HD vg_u32 span(const vg_u32 at[3], const float per_step[3], vg_u32 left) const {
        float most = (float)left;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const float steps = (float)(end(a) - 1 - (at[a] - from[a])) * per_step[a];
            most = steps < most ? steps : most;
        }
        const vg_u32 n = (vg_u32)(most * (1.0f - 1.0f / (1 << 21))) + 1;
        return n < left ? n : left;
    }
    // Makes the tile that holds the voxel below a position the current one; its number in tiles along each axis.
    VG_HD void enter(const vg_u32 at[3], vg_u32 tile[3]) {
        tile[0] = at[0] >> (VG_TILE_X + VG_FRACTION);
        tile[1] = at[1] >> (VG_TILE_Y + VG_FRACTION);
        tile[2] = at[2] >> (VG_TILE_Z + VG_FRACTION);
        from[0] = tile[0] << (VG_TILE_X + VG_FRACTION);
        from[1] = tile[1] << (VG_TILE_Y + VG_FRACTION);
        from[2] = tile[2] << (VG_TILE_Z + VG_FRACTION);
    }
};

// Where a voxel of a tile lies in its block.
VG_HD vg_u32 vg_in_block(vg_u32 x, vg_u32 y, vg_u32 z) { return x + (y << VG_TILE_X) + (z << (VG_TILE_X + VG_TILE_Y)); }

// A sample whose eight voxels lie in one block.
VG_HD float vg_eight(const vg_u16* block, vg_u32 x, vg_u32 y, vg_u32 z) {
    const vg_u32 row = 1u << VG_TILE_X, plane = 1u << (VG_TILE_X + VG_TILE_Y);
    const vg_u16* v = block + vg_in_block(x >> VG_FRACTION, y >> VG_FRACTION, z >> VG_FRACTION);
    const float c[8] = {vg_voxel_float(v), vg_voxel_float(v + 1), vg_voxel_float(v + row), vg_voxel_float(v + row + 1),
                        vg_voxel_float(v + plane), vg_voxel_float(v + plane + 1), vg_voxel_float(v + plane + row), vg_voxel_float(v + plane + row + 1)};
    return vg_blend(c, vg_after_point(x), vg_after_point(y), vg_after_point(z));
}

// What the crate offers: addresses of the array, and its accessor, which also does the samples between tiles.
template <bool TEST> struct vg_way_flat : vg_in_tile<1> {
    enum { LOOKS = true };
    vg_accessor<vg_u16, vg_scheme_shape, TEST> near;
    const vg_u16* block;

    VG_HD explicit vg_way_flat(const vg_scheme& s) : near(s.grid), block(nullptr) {}
    VG_HD float inside(const vg_u32 at[3]) const { return vg_eight(block, at[0] - from[0], at[1] - from[1], at[2] - from[2]); }
    VG_HD void keep() {
        leave();
        if (near.state != VG_RESIDENT) return;
        block = near.tile;
        from[0] = near.x0 << VG_FRACTION; from[1] = near.y0 << VG_FRACTION; from[2] = near.z0 << VG_FRACTION;
    }
    VG_HD bool sample(const vg_u32 at[3], float* out) {
        vg_position p(0, 0, 0);
        p.x = (int)(at[0] >> VG_FRACTION); p.y = (int)(at[1] >> VG_FRACTION); p.z = (int)(at[2] >> VG_FRACTION);
        p.fx = vg_after_point(at[0]); p.fy = vg_after_point(at[1]); p.fz = vg_after_point(at[2]);
        const bool there = near.sample_at(p, out);
        keep();
        return there;
    }
    VG_HD bool voxel(vg_u32 x, vg_u32 y, vg_u32 z, vg_u32* out) {
        vg_u16 v;
        const bool there = near.get(x, y, z, &v);
        *out = v;
        return there;
    }
};

// Blocks that B finds: `const vg_u16* block(tile)`, null where there is none.
template <class B> struct vg_way_blocks : vg_in_tile<1> {
    enum { LOOKS = true };
    B blocks;
    const vg_u16* block;

    VG_HD explicit vg_way_blocks(const vg_scheme& s) : blocks(s), block(nullptr) {}
    VG_HD float inside(const vg_u32 at[3]) const { return vg_eight(block, at[0] - from[0], at[1] - from[1], at[2] - from[2]); }
    VG_HD bool sample(const vg_u32 at[3], float* out) {
        // The position is in the tile that it was in, or else that is looked up.
        const bool same = at[0] - from[0] < 1u << (VG_TILE_X + VG_FRACTION) && at[1] - from[1] < 1u << (VG_TILE_Y + VG_FRACTION) &&
                          at[2] - from[2] < 1u << (VG_TILE_Z + VG_FRACTION);
        if (!same) {
            vg_u32 tile[3];
            enter(at, tile);
            block = blocks.block(tile[0], tile[1], tile[2]);
        }
        *out = 0;
        if (!block) {
            leave();
            return false;
        }
        if (holds(at)) {
            *out = inside(at);
            return true;
        }
        // Between tiles: every voxel by itself, all look-ups under way at once.
        float c[8];
        bool all = true;
        VG_UNROLL
        for (int k = 0; k < 8; k++) {
            vg_u32 v;
            all &= voxel((at[0] >> VG_FRACTION) + (k & 1), (at[1] >> VG_FRACTION) + (k >> 1 & 1), (at[2] >> VG_FRACTION) + (k >> 2), &v);
            c[k] = (float)v;
        }
        *out = vg_blend(c, vg_after_point(at[0]), vg_after_point(at[1]), vg_after_point(at[2]));
        return all;
    }
    VG_HD bool voxel(vg_u32 x, vg_u32 y, vg_u32 z, vg_u32* out) const {
        const vg_u16* b = blocks.block(x >> VG_TILE_X, y >> VG_TILE_Y, z >> VG_TILE_Z);
        *out = 0;
        if (!b) return false;
#if defined(__CUDA_ARCH__)
        *out = __ldg(b + vg_in_block(x & ((1u << VG_TILE_X) - 1), y & ((1u << VG_TILE_Y) - 1), z & ((1u << VG_TILE_Z) - 1)));
#else
        *out = b[vg_in_block(x & ((1u << VG_TILE_X) - 1), y & ((1u << VG_TILE_Y) - 1), z & ((1u << VG_TILE_Z) - 1))];
#endif
        return true;
    }
};

// Where a tile is in a list with x fastest.
VG_HD vg_u32 vg_tile_number(const vg_scheme& s, vg_u32 x, vg_u32 y, vg_u32 z) { return x | (y | z << s.log2[1]) << s.log2[0]; }

VG_HD const vg_u16* vg_slot(const vg_scheme& s, vg_u32 slot) { return vg_global<const vg_u16>(s.memory) + ((vg_u64)slot << (VG_TILE_X + VG_TILE_Y + VG_TILE_Z)); }

struct vg_slots_by_table {
    const vg_scheme& s;
    VG_HD explicit vg_slots_by_table(const vg_scheme& all) : s(all) {}
    VG_HD const vg_u16* block(vg_u32 x, vg_u32 y, vg_u32 z) const {
        const vg_u32 slot = vg_read_word(vg_global<const vg_u32>(s.table) + vg_tile_number(s, x, y, z));
        return slot == VG_NOWHERE ? nullptr : vg_slot(s, slot);
    }
};

struct vg_slots_in_order {
    const vg_scheme& s;
    VG_HD explicit vg_slots_in_order(const vg_scheme& all) : s(all) {}
    VG_HD const vg_u16* block(vg_u32 x, vg_u32 y, vg_u32 z) const { return vg_slot(s, vg_tile_number(s, x, y, z)); }
};

typedef vg_way_blocks<vg_slots_by_table> vg_way_table;
typedef vg_way_blocks<vg_slots_in_order> vg_way_tiles;

// ---------------------------------------------------------------- ways: all of the volume

struct vg_way_rows {
    enum { LOOKS = false };
    const vg_u16* voxels;
    vg_u32 row, plane;  // log2

    VG_HD explicit vg_way_rows(const vg_scheme& s) : voxels(vg_global<const vg_u16>(s.memory)), row(s.log2[0] + VG_TILE_X), plane(row + s.log2[1] + VG_TILE_Y) {}
    VG_HD float inside(const vg_u32 at[3]) const {
        const vg_u16* v = voxels + ((vg_u64)(at[2] >> VG_FRACTION) << plane) + ((at[1] >> VG_FRACTION) << row) + (at[0] >> VG_FRACTION);
        const vg_u16 *vy = v + (1u << row), *w = v + (1u << plane), *wy = vy + (1u << plane);
        const float c[8] = {vg_voxel_float(v), vg_voxel_float(v + 1), vg_voxel_float(vy), vg_voxel_float(vy + 1),
                            vg_voxel_float(w), vg_voxel_float(w + 1), vg_voxel_float(wy), vg_voxel_float(wy + 1)};
        return vg_blend(c, vg_after_point(at[0]), vg_after_point(at[1]), vg_after_point(at[2]));
    }
    VG_HD bool holds(const vg_u32*) const { return true; }
    VG_HD vg_u32 span(const vg_u32*, const float*, vg_u32 left) const { return left; }
    VG_HD bool sample(const vg_u32 at[3], float* out) const {
        *out = inside(at);
        return true;
    }
    VG_HD bool voxel(vg_u32 x, vg_u32 y, vg_u32 z, vg_u32* out) const {
        *out = voxels[((vg_u64)z << plane) + (y << row) + x];
        return true;
    }
};

// Dense, or with memory under some of it: what has none reads as zero.
struct vg_way_texture {
    enum { LOOKS = false };
    vg_u64 texture;

    VG_HD explicit vg_way_texture(const vg_scheme& s) : texture(s.memory) {}
    VG_HD float inside(const vg_u32 at[3]) const { return vg_fetch(texture, vg_in_voxels(at[0]) + 0.5f, vg_in_voxels(at[1]) + 0.5f, vg_in_voxels(at[2]) + 0.5f); }
    VG_HD bool holds(const vg_u32*) const { return true; }
    VG_HD vg_u32 span(const vg_u32*, const float*, vg_u32 left) const { return left; }
    VG_HD bool sample(const vg_u32 at[3], float* out) const {
        *out = inside(at);
        return true;
    }
    VG_HD bool voxel(vg_u32 x, vg_u32 y, vg_u32 z, vg_u32* out) const {
        *out = (vg_u32)(vg_fetch(texture, (float)x + 0.5f, (float)y + 0.5f, (float)z + 0.5f) + 0.5f);
        return true;
    }
};

// ---------------------------------------------------------------- ways: an atlas

// Blocks of a tile and the first voxels of the next ones.
struct vg_way_atlas : vg_in_tile<0> {
    enum { LOOKS = true };
    const vg_scheme& s;
    float begin[3];  // where the current block begins, and half a texel

    VG_HD explicit vg_way_atlas(const vg_scheme& all) : s(all) { begin[0] = begin[1] = begin[2] = 0; }
    VG_HD bool look(const vg_u32 at[3]) {
        vg_u32 tile[3];
        enter(at, tile);
        const vg_u32 place = vg_read_word(vg_global<const vg_u32>(s.table) + vg_tile_number(s, tile[0], tile[1], tile[2]));
        begin[0] = (float)((place & 1023) * ((1u << VG_TILE_X) + 1)) + 0.5f;
        begin[1] = (float)((place >> 10 & 1023) * ((1u << VG_TILE_Y) + 1)) + 0.5f;
        begin[2] = (float)((place >> 20 & 1023) * ((1u << VG_TILE_Z) + 1)) + 0.5f;
        if (place == VG_NOWHERE) leave();
        return place != VG_NOWHERE;
    }
    VG_HD float inside(const vg_u32 at[3]) const {
        return vg_fetch(s.memory, vg_in_voxels(at[0] - from[0]) + begin[0], vg_in_voxels(at[1] - from[1]) + begin[1], vg_in_voxels(at[2] - from[2]) + begin[2]);
    }
    VG_HD bool sample(const vg_u32 at[3], float* out) {
        *out = 0;
        if (!holds(at) && !look(at)) return false;
        *out = inside(at);
        return true;
    }
    VG_HD bool voxel(vg_u32 x, vg_u32 y, vg_u32 z, vg_u32* out) {
        const vg_u32 at[3] = {x << VG_FRACTION, y << VG_FRACTION, z << VG_FRACTION};
        float v;
        const bool there = sample(at, &v);
        *out = (vg_u32)(v + 0.5f);
        return there;
    }
};

// ---------------------------------------------------------------- what is done with each

// A sum as an integer, so that the order in which threads add theirs does not matter.
VG_HD vg_u64 vg_whole(float sum) { return (vg_u64)(sum * 64.0f); }

// All 32 lanes of a warp are there whenever these are asked; a host's thread is a warp of its own.
#if defined(__CUDACC__)
__device__ __forceinline__ bool vg_lanes_all(bool yes) { return vg_warp_all(0xffffffffu, yes); }
__device__ __forceinline__ vg_u32 vg_lanes_least(vg_u32 n) { return vg_warp_least(0xffffffffu, n); }
#define VG_LANES __device__ __forceinline__
#else
inline bool vg_lanes_all(bool yes) { return yes; }
inline vg_u32 vg_lanes_least(vg_u32 n) { return n; }
#define VG_LANES inline
#endif

VG_HD void vg_advance(vg_u32 at[3], const vg_u32 step[3]) { at[0] += step[0]; at[1] += step[1]; at[2] += step[2]; }

// The sum of a ray's samples, in their order. Where tiles are looked up a warp goes through as many samples at a time as all its lanes hold, and tests nothing meanwhile; lanes that are done stay with it.
template <class W> VG_LANES float vg_sum_along(W& way, const vg_scheme_ray& ray, vg_u64* missing) {
    vg_u32 at[3] = {ray.first[0], ray.first[1], ray.first[2]}, left = ray.samples;
    float sum = 0;
    if (!W::LOOKS) {
        VG_UNROLL_4
        for (; left; left--) {
            sum += way.inside(at);
            vg_advance(at, ray.step);
        }
        return sum;
    }
    const float per_step[3] = {1.0f / (float)ray.step[0], 1.0f / (float)ray.step[1], 1.0f / (float)ray.step[2]};
    while (!vg_lanes_all(left == 0)) {
        const bool held = way.holds(at);
        if (vg_lanes_all(held || left == 0)) {
            const vg_u32 n = vg_lanes_least(left ? way.span(at, per_step, left) : ~0u);
            if (left) {
                VG_UNROLL_4
                for (vg_u32 i = 0; i < n; i++) {
                    sum += way.inside(at);
                    vg_advance(at, ray.step);
                }
                left -= n;
            }
        } else if (left) {
            float v;
            if (held) {
                v = way.inside(at);
            } else if (!way.sample(at, &v)) {
                *missing += 1;
            }
            sum += v;
            vg_advance(at, ray.step);
            left--;
        }
    }
    return sum;
}

// What a voxel counts in a tile's sum: by where it is, so that voxels in each other's places show.
VG_HD vg_u32 vg_weight(vg_u32 x, vg_u32 y, vg_u32 z) { return 1 + ((x + 131 * y + 1031 * z) & 255); }

#endif
