// Which boxes of tiles are all there: counted for every picture, before its rays begin. A ray goes through such a box in one run, without looking at its tiles.
#ifndef VASTGRID_CAST_BOXES_CUH
#define VASTGRID_CAST_BOXES_CUH

#include "cast_look.cuh"

// Whether rays will leap over a resident tile, whatever they met before.
VG_HD bool vg_is_quiet(const vg_cast& c, const vg_grid& g, vg_u64 tile) {
    vg_range range;
    range.known = !(g.flags & VG_WRITABLE) && vg_tile_range(g, tile, &range.low, &range.high);
    if (!range.known) return false;
    return c.flags >> VG_CAST_MODE == VG_DVR ? vg_nothing_in<VG_DVR>(c, range, 0) : vg_nothing_in<VG_ISO>(c, range, 0);
}

// Lanes whose tiles are in one box count them together.
VG_HD void vg_mark_box(const vg_grid& g, vg_u64 marks, const vg_u8 log2[3], const vg_u32 v[3], bool leaps) {
    const vg_u64 nx = ((g.extent[0] - 1) >> log2[0]) + 1, ny = ((g.extent[1] - 1) >> log2[1]) + 1;
    vg_u64* at = vg_global<vg_u64>(marks) + ((v[0] >> log2[0]) + nx * ((v[1] >> log2[1]) + ny * (v[2] >> log2[2])));
#if defined(__CUDA_ARCH__)
    const vg_u32 active = __activemask(), same = __match_any_sync(active, (vg_u64)at), leaping = __ballot_sync(active, leaps) & same;
    if (vg_lowest(same) == (int)(threadIdx.x & 31)) vg_add(at, __popc(same) + ((vg_u64)__popc(leaping) << VG_LEAPT_OVER));
#else
    vg_add(at, 1 + ((vg_u64)leaps << VG_LEAPT_OVER));
#endif
}

// Counts a resident tile in its boxes.
VG_HD void vg_mark_tile(const vg_cast& c, const vg_cast_level& level, vg_u64 tile) {
    const vg_grid& g = level.grid;
    vg_u32 v[3];
    vg_tile_origin(g, tile, v);
    if (!vg_inside(g, v[0], v[1], v[2])) return;
    const bool leaps = c.flags & VG_CAST_SKIP_EMPTY && vg_is_quiet(c, g, tile);
    vg_mark_box(g, level.small, level.small_log2, v, leaps);
    vg_mark_box(g, level.large, level.large_log2, v, leaps);
}

// Groups of 64 tiles that a level has.
VG_HD vg_u64 vg_groups(const vg_grid& g) {
    return vg_tile_id(g, g.extent[0] - 1, g.extent[1] - 1, g.extent[2] - 1) / 64 + 1;
}

// Whether rays go through boxes at all. What is the greatest is often found before all of a box was looked at.
VG_HD bool vg_has_boxes(const vg_cast& c, const vg_cast_level& level) {
    return level.small != 0 && !(c.flags >> VG_CAST_MODE == VG_MIP && c.flags & VG_CAST_SKIP_EMPTY);
}

VG_HD vg_u64 vg_resident_word(const vg_grid& g, vg_u64 group) {
    const vg_u64 tile = group * 64;
    return vg_known_words(vg_group(vg_block_of(g, tile), tile)).resident;
}

#if defined(__CUDACC__)
// A level for each row of blocks. A warp looks at some groups of tiles, 32 at the most, and then, together, at the tiles of each that has some.
__device__ __forceinline__ void vg_mark_boxes(const vg_cast& c) {
    const vg_cast_level& level = c.level[blockIdx.y];
    if (!vg_has_boxes(c, level)) return;
    const vg_u64 groups = vg_groups(level.grid), warps = (vg_u64)gridDim.x * (blockDim.x / 32), share = (groups + warps - 1) / warps;
    const vg_u32 lane = threadIdx.x & 31, some = share < 32 ? (vg_u32)share : 32;
    for (vg_u64 first = ((vg_u64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * some; first < groups; first += warps * some) {
        const vg_u64 own = lane < some && first + lane < groups ? vg_resident_word(level.grid, first + lane) : 0;
        for (vg_u32 left = __ballot_sync(0xffffffffu, own != 0); left; left &= left - 1) {
            const int from = __ffs((int)left) - 1;
            const vg_u64 word = __shfl_sync(0xffffffffu, own, from), tile = (first + (vg_u32)from) * 64 + lane;
            if (word >> lane & 1) vg_mark_tile(c, level, tile);
            if (word >> (lane + 32) & 1) vg_mark_tile(c, level, tile + 32);
        }
    }
}
#endif

#endif
