// What values look like, and what of a support is missing: for samples wherever they are.
#ifndef VASTGRID_CAST_LOOK_CUH
#define VASTGRID_CAST_LOOK_CUH

#include "cast_near.cuh"

enum vg_mode { VG_DVR, VG_MIP, VG_ISO };

// A table's entry for a value. NaN has entry 0.
VG_HD vg_u32 vg_entry(const vg_cast& c, float value) {
    float x = (value - c.table_low) * c.per_value;
    x = x > 0 ? x : 0;
    return vg_below(x < c.table_last ? x : c.table_last).i;
}

// A value's colour among those from `shade` on.
VG_HD vg_colour vg_colour_of(const vg_cast& c, vg_u32 shade, float value) {
#if defined(__CUDA_ARCH__)
    const float4 found = __ldg((const float4*)c.colours + shade + vg_entry(c, value));
    const vg_colour colour = {found.x, found.y, found.z, found.w};
    return colour;
#else
    return ((const vg_colour*)c.colours)[shade + vg_entry(c, value)];
#endif
}

VG_HD vg_u32 vg_seen_before(const vg_cast& c, vg_u32 entry) {
#if defined(__CUDA_ARCH__)
    return __ldg((const vg_u32*)c.seen + entry);
#else
    return ((const vg_u32*)c.seen)[entry];
#endif
}

VG_HD vg_colour vg_over(const vg_colour& front, const float behind[4]) {
    const float rest = (1.0f - front.a) * behind[3];
    const vg_colour both = {front.r + rest * behind[0], front.g + rest * behind[1], front.b + rest * behind[2], front.a + rest};
    return both;
}

// Whether no value of a range matters; `most` is the greatest that the ray met.
template <int MODE> VG_HD bool vg_nothing_in(const vg_cast& c, const vg_range& r, float most) {
    if (MODE == VG_MIP) return !(r.high > most);
    if (MODE == VG_ISO) return !(r.high >= c.iso);
    return !(r.low <= r.high) || vg_seen_before(c, vg_entry(c, r.high) + 1) == vg_seen_before(c, vg_entry(c, r.low));
}

// What to multiply a colour by, and how much white to add. Where there is no gradient the colour is as it is.
VG_HD void vg_light(const vg_cast& c, const float direction[3], const float g[3], float* share, float* white) {
    const float length = sqrtf(g[0] * g[0] + g[1] * g[1] + g[2] * g[2]);
    float cosine = fabsf((g[0] * direction[0] + g[1] * direction[1] + g[2] * direction[2]) / length);
    *share = 1;
    *white = 0;
    // False also where the gradient is zero, no number, or too large for one.
    if (!(cosine <= 2.0f)) return;
    cosine = cosine < 1.0f ? cosine : 1.0f;
    *share = c.ambient + c.diffuse * cosine;
    *white = ((const float*)c.highlight)[(vg_u32)(cosine * VG_HIGHLIGHTS + 0.5f)];
}

struct vg_noted {
    vg_u64 key;
    bool lacking;
};

// Notes a missing tile, but not the one noted last again: rays that go through a tile's rim and the tile lack it once.
VG_HD vg_noted vg_note(const vg_cast& c, vg_u32 level, vg_u64 tile, vg_u32 k, vg_counts* counts, vg_noted last) {
    const vg_noted now = {(vg_u64)level << VG_WANT_LEVEL | tile, true};
    if (!last.lacking || last.key != now.key) vg_note_want(c, level, tile, k, counts);
    return now;
}

// Goes through the tiles of the box of voxels that the supports of two samples span, and of so many voxels around.
template <class F> VG_HD void vg_each_tile(const vg_grid& g, const vg_i64 p[3], const vg_i64 q[3], int reach, const F& visit) {
    vg_u32 from[3], to[3];
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        const int v = vg_between(p[a], g.extent[a]).voxel, w = vg_between(q[a], g.extent[a]).voxel;
        from[a] = vg_clamp((v < w ? v : w) - reach, g.extent[a]) >> g.axis[a].tile_shift;
        to[a] = vg_clamp((v < w ? w : v) + 1 + reach, g.extent[a]) >> g.axis[a].tile_shift;
    }
    VG_NO_UNROLL
    for (vg_u32 z = from[2]; z <= to[2]; z++) {
        VG_NO_UNROLL
        for (vg_u32 y = from[1]; y <= to[1]; y++) {
            VG_NO_UNROLL
            for (vg_u32 x = from[0]; x <= to[0]; x++) visit(vg_tile_id_at(g, x, y, z));
        }
    }
}

// Notes which tiles of the support of a sample, or of a gradient (reach 1), are missing.
VG_RARE vg_noted vg_note_support(const vg_cast& c, const vg_grid& g, vg_u32 level, vg_i64 px, vg_i64 py, vg_i64 pz, int reach, vg_u32 k, vg_counts* counts, vg_u64 noted, bool lacking) {
    const vg_i64 p[3] = {px, py, pz};
    vg_noted last = {noted, lacking};
    vg_each_tile(g, p, p, reach, [&](vg_u64 tile) {
        if (vg_tile_state(g, tile) == VG_MISSING) last = vg_note(c, level, tile, k, counts, last);
    });
    return last;
}

#endif
