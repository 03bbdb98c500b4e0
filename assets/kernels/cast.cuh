// What a ray caster's kernel is given, by value, and what it gives back. `CastParameters` in src/render/cuda/parameters.rs is the same struct; positions are in voxels, distances in the world.
//
//   cast.cuh         this
//   cast_path.cuh    where the samples of a ray lie
//   cast_near.cuh    the part of the array that a ray is in, and reading in and around it
//   cast_boxes.cuh   which boxes of tiles are all there
//   cast_look.cuh    what values look like, and what is missing
//   cast_course.cuh  how a ray goes from tile to tile and from level to level
//   cast_march.cuh   what a ray makes of its samples
//   cast_warp.cuh    how the rays of a warp go together
//   cast_met.cuh     which tiles rays met and lacked
//   cast_kernels.cuh    the kernels of both
//   cast_TYPE.cu     the kernels for voxels of that type
#ifndef VASTGRID_CAST_CUH
#define VASTGRID_CAST_CUH

#include "vastgrid.cuh"

// What is rarely needed is called, so that what is not stays short.
#if defined(__CUDACC__)
#define VG_RARE __host__ __device__ __noinline__
#else
#define VG_RARE inline
#endif

#define VG_CAST_LEVELS 16

// One level of a pyramid. A single array is one level with factors of 1.
struct vg_cast_level {
    vg_grid grid;
    vg_u32 factor[3];  // voxel i covers the finest level's voxels from i * factor on
    float begin;       // how far along a ray it is wanted, at the least
    vg_u32 stride;     // how many samples of the finest level one of its samples stands for
    vg_u32 shade;      // the first of its colours
    // Boxes of tiles: a word each, x fastest, zero at first (see vg_is_whole), or no address where there are none. Whole pages, of edges in voxels given as log2.
    vg_u64 small, large;
    // How to get from voxel to voxel (see vg_near::across): what `grid` says in other words, without loads of single bytes.
    vg_u32 tile_jump[3];    // in voxels, from one tile of a page to the next, beyond where the row would go on
    vg_u32 page_jump[3];    // from one page to the next, beyond where its tiles would go on
    vg_u32 tile_log2[3], page_log2[3], row_log2[3];  // edges of tiles and pages in voxels; from one voxel to the next in a tile
    vg_u8 small_log2[3], large_log2[3];
    vg_u8 closed;           // axes along which it is too far from page to page: 1, 2, 4
    vg_u8 pad[5];
};

struct vg_cast {
    double eye[3], right[3], up[3], forward[3], half_height;
    double low[3], high[3], per_world[3];  // the box that is shown, in voxels of the finest level, whose first has its centre at 0
    double step;
    vg_u64 colours;    // vg_colour[entries] for each level, whose samples are so far apart: premultiplied
    vg_u64 seen;       // u32[entries + 1]: how many entries before each are not clear
    vg_u64 highlight;  // float[VG_HIGHLIGHTS + 1], over the cosine
    vg_u64 image;      // vg_colour[width * height]
    vg_u64 counts;     // vg_counts, zero at first
    vg_u64 wants;      // vg_want[1 << wants_log2], zero at first
    vg_u64 ends;       // u32[width * height]: up to which sample each ray was followed; or no address
    vg_u64 met;        // vg_met[1 << met_log2], zero at first
    vg_u64 rays;       // vg_turn[width * height]: rays wait where they lack something, and this is where they are; or no address
    vg_u64 before;     // the same as it was after the turn before; or no address
    float table_low, per_value, table_last, table_top;
    float background[4], hint[4];  // straight
    float colour[3], iso;
    float weights[3], stop_at_alpha;
    float ambient, diffuse;
    vg_u32 width, height, levels, flags, wants_log2, met_log2;
    vg_cast_level level[VG_CAST_LEVELS];
};

#define VG_CAST_BYTES 3576
static_assert(sizeof(vg_cast_level) == 200, "vg_cast_level");
static_assert(VG_OFFSET_OF(vg_cast_level, small) == 112, "small");
static_assert(VG_OFFSET_OF(vg_cast_level, small_log2) == 188, "small_log2");
static_assert(sizeof(vg_cast) == VG_CAST_BYTES, "vg_cast");
static_assert(VG_OFFSET_OF(vg_cast, colours) == 184, "colours");
static_assert(VG_OFFSET_OF(vg_cast, table_low) == 264, "table_low");
static_assert(VG_OFFSET_OF(vg_cast, width) == 352, "width");
static_assert(VG_OFFSET_OF(vg_cast, level) == 376, "level");

#define VG_CAST_PARALLEL 1    // all rays go forward
#define VG_CAST_SKIP_EMPTY 2  // what cannot matter is leapt over
#define VG_CAST_HINT 4        // `hint` lies behind rays that lacked something
#define VG_CAST_LIT 8         // shaded by the gradient
#define VG_CAST_MODE 4        // where the mode begins (vg_mode)

#define VG_HIGHLIGHTS 1024

struct alignas(16) vg_colour {
    float r, g, b, a;
};

// A ray between two turns: what it has seen, and at which sample it waits, if it does.
struct alignas(16) vg_turn {
    vg_colour colour;
    float most;
    vg_u32 k, waits, pad;
};

// What happened. `shown`: samples by the level that was wanted and the one that was shown, the last column where none was there.
struct vg_counts {
    vg_u64 rays, rays_incomplete, samples, skipped, wants_beyond, rays_uncovered, met_beyond;
    vg_u64 shown[VG_CAST_LEVELS][VG_CAST_LEVELS + 1];
};

// A tile that rays lacked: its level + 1 in the uppermost byte of the key, its id in the others. `nearer`: the complement of the number of samples before it.
struct alignas(16) vg_want {
    vg_u64 key;
    vg_u32 rays, nearer;
};

// A tile that rays met or lacked: the key as above.
struct alignas(16) vg_met {
    vg_u64 key;
    vg_u32 lacked;  // how often, counted for each warp
    vg_u32 how;
};

#define VG_MET_WANTED 1  // met, at the level that was wanted
#define VG_MET_BEYOND 2  // met, at a coarser one that stood in
#define VG_LACKED_WANTED 4
#define VG_LACKED_BEYOND 8

#define VG_WANT_LEVEL 56
#define VG_WANT_PROBES 32

// The place of the lowest bit that is set.
VG_HD int vg_lowest(vg_u32 bits) {
#if defined(__CUDA_ARCH__)
    return __ffs((int)bits) - 1;
#else
    return __builtin_ctz(bits);
#endif
}

VG_HD vg_u64 vg_first_or(vg_u64* at, vg_u64 value) {
#if defined(__CUDA_ARCH__)
    return atomicCAS(at, 0ull, value);
#else
    const vg_u64 before = *at;
    if (before == 0) *at = value;
    return before;
#endif
}

VG_HD void vg_add(vg_u64* at, vg_u64 n) {
#if defined(__CUDA_ARCH__)
    atomicAdd(at, n);
#else
    *at += n;
#endif
}

// Notes that a ray lacks a tile at sample k. The list is a hash table of a fixed size; what finds no place is counted.
VG_RARE void vg_note_want(const vg_cast& c, vg_u32 level, vg_u64 tile, vg_u32 k, vg_counts* counts) {
    const vg_u64 key = (vg_u64)(level + 1) << VG_WANT_LEVEL | tile;
    vg_want* wants = vg_global<vg_want>(c.wants);
    const vg_u32 mask = (1u << c.wants_log2) - 1;
    vg_u32 slot = (vg_u32)(key * 0x9e3779b97f4a7c15ull >> 32) & mask;
    for (int probe = 0; probe < VG_WANT_PROBES; probe++, slot = (slot + 1) & mask) {
        const vg_u64 before = vg_first_or(&wants[slot].key, key);
        if (before != 0 && before != key) continue;
#if defined(__CUDA_ARCH__)
        atomicAdd(&wants[slot].rays, 1u);
        atomicMax(&wants[slot].nearer, ~k);
#else
        wants[slot].rays += 1;
        wants[slot].nearer = wants[slot].nearer > ~k ? wants[slot].nearer : ~k;
#endif
        return;
    }
    vg_add(&counts->wants_beyond, 1);
}

// Notes how a tile was met or lacked. Lanes that tell the same tell it once.
VG_RARE void vg_note_met(const vg_cast& c, vg_u32 level, vg_u64 tile, vg_u32 how, vg_counts* counts) {
    const vg_u64 key = (vg_u64)(level + 1) << VG_WANT_LEVEL | tile;
#if defined(__CUDA_ARCH__)
    const vg_u32 same = __match_any_sync(__activemask(), key ^ (vg_u64)how << 48);
    if (vg_lowest(same) != (int)(threadIdx.x & 31)) return;
#endif
    vg_met* all = vg_global<vg_met>(c.met);
    const vg_u32 mask = (1u << c.met_log2) - 1;
    vg_u32 slot = (vg_u32)(key * 0x9e3779b97f4a7c15ull >> 32) & mask;
    for (int probe = 0; probe < VG_WANT_PROBES; probe++, slot = (slot + 1) & mask) {
        vg_u64 before = all[slot].key;
        if (before == 0) before = vg_first_or(&all[slot].key, key);
        if (before != 0 && before != key) continue;
#if defined(__CUDA_ARCH__)
        if (how & (VG_LACKED_WANTED | VG_LACKED_BEYOND)) atomicAdd(&all[slot].lacked, 1u);
        if (!(all[slot].how & how)) atomicOr(&all[slot].how, how);
#else
        if (how & (VG_LACKED_WANTED | VG_LACKED_BEYOND)) all[slot].lacked += 1;
        all[slot].how |= how;
#endif
        return;
    }
    vg_add(&counts->met_beyond, 1);
}

// What is known of a box of tiles: how many are resident in the lower half; how many of those are leapt over, by all that is known before a ray begins, in the upper half.
#define VG_LEAPT_OVER 32

// Whether all are resident, and few are leapt over: then rays do best to go through it in one run.
VG_HD bool vg_is_whole(vg_u64 mark, vg_u32 tiles) { return (vg_u32)mark == tiles && (mark >> VG_LEAPT_OVER) * 8 <= tiles; }

// Whether all lanes that ask say so.
VG_HD bool vg_all(bool yes) {
#if defined(__CUDA_ARCH__)
    return __all_sync(__activemask(), yes);
#else
    return yes;
#endif
}

// How many lanes of the warp say so; all of them ask.
VG_HD vg_u32 vg_lanes(bool yes) {
#if defined(__CUDA_ARCH__)
    return __popc(__ballot_sync(0xffffffffu, yes));
#else
    return yes;
#endif
}

#endif
