// The part of the array that a ray is in, and reading in it and around it. Knows nothing of what rays are for.
//
// What can be read one way is a *place*: a tile, with what is beside it, or a box of tiles that are all there (cast_boxes.cuh). Kernels that benches compare with have others; all offer
// what vg_near does:
//
//   go(level)                 another level's grid
//   enter(v)                  the place in which samples with voxel v below them may be read
//   from                      the voxel that positions in the place are counted from
//   extent(a), first, last    of the array; of the place, counted so
//   whole                     samples from `first` up to `last` need no test and nothing of other places
//   begins(a), ends(a)        whether the array does, with the place
//   id(), state, value()      of a tile
//   open(most, low, top)      whether samples up to `most` may be read without a test, and from where up to where then
//   sample_inside, slope_inside    so read; false where a gradient reaches further
//   is_flat(low, high, flat)  whether voxels from one to another are flat memory
//   sample, slope             anywhere, with all tests; false where part of the support is not there
//   range(), hull(range)      the range of a tile's values, where that is known; with what samples may reach from here
#ifndef VASTGRID_CAST_NEAR_CUH
#define VASTGRID_CAST_NEAR_CUH

#include "cast.cuh"

#define VG_INFINITY vg_bits_to_float(0x7f800000u)

// A fixed-point position along an axis: the voxel below, in the array, and how far beyond its centre. Past a face the outermost voxel stands in.
struct vg_between {
    int voxel;
    float f;
    VG_HD vg_between() {}
    VG_HD vg_between(vg_i64 p, vg_u32 extent) {
        const vg_i64 most = (vg_i64)(extent - 1) << 32;
        p = p < 0 ? 0 : p > most ? most : p;
        voxel = (int)(p >> 32);
        f = (float)((vg_u32)p >> 8) * (1.0f / 16777216.0f);
    }
};

// Central differences of a trilinear field, per voxel times two, in the order of `differences` in src/view/kernels/values.rs. `at(x, y, z)`: the voxels 0 to 3 along each axis, 1 being the one below.
template <class F> VG_HD void vg_differences(const F& at, float fx, float fy, float fz, float out[3]) {
    float value[4], dy[2], dz[2];
    VG_UNROLL
    for (int x = 0; x < 4; x++) {
        const float v11 = at(x, 1, 1), v12 = at(x, 1, 2), v21 = at(x, 2, 1), v22 = at(x, 2, 2);
        const float y1 = vg_lerp(v11, v12, fz), y2 = vg_lerp(v21, v22, fz);
        value[x] = vg_lerp(y1, y2, fy);
        if (x == 1 || x == 2) {
            const float y0 = vg_lerp(at(x, 0, 1), at(x, 0, 2), fz), y3 = vg_lerp(at(x, 3, 1), at(x, 3, 2), fz);
            dy[x - 1] = vg_lerp(y2 - y0, y3 - y1, fy);
            const float z1 = vg_lerp(v12 - at(x, 1, 0), at(x, 1, 3) - v11, fz), z2 = vg_lerp(v22 - at(x, 2, 0), at(x, 2, 3) - v21, fz);
            dz[x - 1] = vg_lerp(z1, z2, fy);
        }
    }
    out[0] = vg_lerp(value[2] - value[0], value[3] - value[1], fx);
    out[1] = vg_lerp(dy[0], dy[1], fx);
    out[2] = vg_lerp(dz[0], dz[1], fx);
}

// A box of voxels as flat memory, rows along x: `from` is where the voxel would be that positions are counted from.
template <class T> struct vg_flat {
    const T* from;
    vg_u32 row, plane;

    VG_HD float sample(float px, float py, float pz) const {
        const vg_below x(px), y(py), z(pz);
        const T *v = from + (x.i + y.i * row + z.i * plane), *vy = v + row, *w = v + plane, *wy = vy + plane;
        const float c[8] = {vg_float(v[0]), vg_float(v[1]), vg_float(vy[0]), vg_float(vy[1]), vg_float(w[0]), vg_float(w[1]), vg_float(wy[0]), vg_float(wy[1])};
        return vg_trilerp(c, x.f, y.f, z.f);
    }
};

// The range of a tile's values: false where it is not known. Ranges are of what was loaded: they say nothing of what kernels may have written since.
template <class T> VG_HD bool vg_range_of(const vg_grid& g, vg_u64 tile, vg_state state, float* least, float* most) {
    if (state == VG_UNIFORM) {
        *least = *most = vg_float(vg_from_word<T>(vg_tile_word(g, tile)));
        return true;
    }
    const bool known = vg_tile_range(g, tile, least, most);
    return known && !(g.flags & VG_WRITABLE);
}

struct vg_range {
    float low, high;
    bool known;
};

// A tile's range with those of the seven tiles that samples in it may reach.
template <class T> VG_RARE vg_range vg_hull_of(const vg_grid& g, vg_u32 tx, vg_u32 ty, vg_u32 tz, vg_range all) {
    VG_NO_UNROLL
    for (vg_u32 i = 1; all.known && i < 8; i++) {
        const vg_u32 x = tx + (i & 1), y = ty + (i >> 1 & 1), z = tz + (i >> 2);
        if (x > (g.extent[0] - 1) >> g.axis[0].tile_shift || y > (g.extent[1] - 1) >> g.axis[1].tile_shift || z > (g.extent[2] - 1) >> g.axis[2].tile_shift) continue;
        const vg_u64 tile = vg_tile_id_at(g, x, y, z);
        float low, high;
        all.known = vg_range_of<T>(g, tile, vg_tile_state(g, tile), &low, &high);
        all.low = low < all.low ? low : all.low;
        all.high = high > all.high ? high : all.high;
    }
    return all;
}

struct vg_found {
    float value;
    bool all;
};

// A sample near uniform or missing tiles: voxel by voxel, from one to the next along each axis.
template <class T> VG_RARE vg_found vg_sample_mixed(const vg_grid& g, int x, int y, int z, vg_u32 nx, vg_u32 ny, vg_u32 nz, float fx, float fy, float fz) {
    float slices[2] = {0, 0}, row = 0;
    bool all = true;
    VG_NO_UNROLL
    for (int k = 0; k < 4; k++) {
        const vg_u32 vy = k & 1 ? ny : (vg_u32)y, vz = k & 2 ? nz : (vg_u32)z;
        T v[2];
        all &= vg_load<T>(g, (vg_u32)x, vy, vz, &v[0]);
        all &= vg_load<T>(g, nx, vy, vz, &v[1]);
        const float line = vg_lerp(vg_float(v[0]), vg_float(v[1]), fx);
        if (k == 1) slices[0] = vg_lerp(row, line, fy);
        if (k == 3) slices[1] = vg_lerp(row, line, fy);
        row = line;
    }
    const vg_found found = {vg_lerp(slices[0], slices[1], fz), all};
    return found;
}

// A sample anywhere, with all tests.
template <class T> VG_RARE vg_found vg_sample_at(const vg_grid& g, vg_i64 px, vg_i64 py, vg_i64 pz) {
    const vg_i64 p[3] = {px, py, pz};
    vg_between b[3];
    vg_u32 next[3], tiles[3];
    vg_i64 from = 0, step[3];
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        const vg_axis& axis = g.axis[a];
        b[a] = vg_between(p[a], g.extent[a]);
        const vg_u32 v = (vg_u32)b[a].voxel;
        next[a] = vg_clamp(b[a].voxel + 1, g.extent[a]);
        tiles[a] = (next[a] >> axis.tile_shift) - (v >> axis.tile_shift);
        const vg_i64 here = ((vg_i64)vg_axis_slot(axis, v >> axis.tile_shift) << g.tile_voxels_log2) + vg_axis_within(axis, v);
        step[a] = ((vg_i64)vg_axis_slot(axis, next[a] >> axis.tile_shift) << g.tile_voxels_log2) + vg_axis_within(axis, next[a]) - here;
        from += here;
    }
    bool all = vg_fits<T>(g);
    VG_NO_UNROLL
    for (vg_u32 n = 0; all && n < 8; n++) {
        const vg_u32 x = n & 1, y = n >> 1 & 1, z = n >> 2;
        if (x > tiles[0] || y > tiles[1] || z > tiles[2]) continue;
        all = vg_tile_state(g, vg_tile_id(g, x ? next[0] : (vg_u32)b[0].voxel, y ? next[1] : (vg_u32)b[1].voxel, z ? next[2] : (vg_u32)b[2].voxel)) == VG_RESIDENT;
    }
    if (!all) return vg_sample_mixed<T>(g, b[0].voxel, b[1].voxel, b[2].voxel, next[0], next[1], next[2], b[0].f, b[1].f, b[2].f);
    const T* v = vg_global<const T>(g.base) + from;
    const T *w = v + step[2], *vy = v + step[1], *wy = w + step[1];
    const float c[8] = {vg_float(*v), vg_float(v[step[0]]), vg_float(*vy), vg_float(vy[step[0]]), vg_float(*w), vg_float(w[step[0]]), vg_float(*wy), vg_float(wy[step[0]])};
    const vg_found found = {vg_trilerp(c, b[0].f, b[1].f, b[2].f), true};
    return found;
}

struct vg_slope {
    float x, y, z;
    bool all;
};

// Whether the rows of voxels that a gradient takes, whose ends are given, lie in tiles that are all resident.
VG_HD bool vg_all_resident(const vg_grid& g, const vg_u32 v[3][4]) {
    const vg_u32 sx = g.axis[0].tile_shift, sy = g.axis[1].tile_shift, sz = g.axis[2].tile_shift;
    VG_NO_UNROLL
    for (vg_u32 z = v[2][0] >> sz; z <= v[2][3] >> sz; z++) {
        VG_NO_UNROLL
        for (vg_u32 y = v[1][0] >> sy; y <= v[1][3] >> sy; y++) {
            VG_NO_UNROLL
            for (vg_u32 x = v[0][0] >> sx; x <= v[0][3] >> sx; x++) {
                if (vg_tile_state(g, vg_tile_id_at(g, x, y, z)) != VG_RESIDENT) return false;
            }
        }
    }
    return true;
}

// A gradient anywhere, with all tests.
template <class T> VG_RARE vg_slope vg_slope_at(const vg_grid& g, vg_i64 px, vg_i64 py, vg_i64 pz) {
    const vg_i64 p[3] = {px, py, pz};
    vg_between b[3];
    vg_u32 v[3][4];
    vg_i64 offset[3][4];
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        const vg_axis& axis = g.axis[a];
        b[a] = vg_between(p[a], g.extent[a]);
        VG_UNROLL
        for (int i = 0; i < 4; i++) {
            v[a][i] = vg_clamp(b[a].voxel + i - 1, g.extent[a]);
            offset[a][i] = ((vg_i64)vg_axis_slot(axis, v[a][i] >> axis.tile_shift) << g.tile_voxels_log2) + vg_axis_within(axis, v[a][i]);
        }
    }
    float out[3];
    vg_slope slope;
    slope.all = vg_fits<T>(g);
    if (slope.all && vg_all_resident(g, v)) {
        const T* base = vg_global<const T>(g.base);
        vg_differences([&](int i, int j, int k) { return vg_float(base[offset[0][i] + offset[1][j] + offset[2][k]]); }, b[0].f, b[1].f, b[2].f, out);
    } else {
        // The rows along x but for the four outermost, whose voxels do not count.
        float rows[64];
        VG_NO_UNROLL
        for (int n = 0; n < 64; n++) {
            const int j = n >> 2 & 3, k = n >> 4;
            if ((j == 0 || j == 3) && (k == 0 || k == 3)) continue;
            T voxel;
            slope.all &= vg_load<T>(g, v[0][n & 3], v[1][j], v[2][k], &voxel);
            rows[n] = vg_float(voxel);
        }
        vg_differences([&](int i, int j, int k) { return rows[i + 4 * j + 16 * k]; }, b[0].f, b[1].f, b[2].f, out);
    }
    slope.x = out[0];
    slope.y = out[1];
    slope.z = out[2];
    return slope;
}

// The greatest number below a positive whole one.
VG_HD float vg_just_below(float v) {
#if defined(__CUDA_ARCH__)
    return __int_as_float(__float_as_int(v) - 1);
#else
    union { float value; vg_u32 bits; } u;
    u.value = v;
    u.bits--;
    return u.value;
#endif
}

// Neighbours of a tile, x fastest, 13 being the tile itself, of which each axis has some: bits 1, 2 and 4 for the one before, the tile's own and the one after.
VG_HD vg_u32 vg_neighbours(vg_u32 x, vg_u32 y, vg_u32 z) {
    const vg_u32 rows = (y & 1 ? x : 0) | x << 3 | (y & 4 ? x << 6 : 0);
    return (z & 1 ? rows : 0) | rows << 9 | (z & 4 ? rows << 18 : 0);
}

template <class T> struct vg_near {
    typedef T voxel_type;
    enum { FLAT = true };  // whether anything is ever flat: all lanes vote on it

    const vg_cast_level* level;
    const T* anchor;    // voxel `from`; this alone is needed until the next place
    int from[3];        // of the page that the tile is in, or of the box, the first voxel
    int first[3];       // the place's first voxel
    int last[3];        // and its last one inside the array
    bool whole;         // a box of tiles that are all resident
    vg_state state;
    vg_u64 tile;

    VG_HD explicit vg_near(const vg_cast& c) { go(c.level[0]); }

    VG_HD void go(const vg_cast_level& to) {
        level = &to;
    }

    VG_HD const vg_grid& grid() const { return level->grid; }

    // The place of a voxel of the array.
    VG_HD void enter(const int v[3]) {
        const vg_grid& g = grid();
        if (vg_fits<T>(g) && (box(level->large, level->large_log2, v) || box(level->small, level->small_log2, v))) {
            state = VG_RESIDENT;
            whole = true;
            return;
        }
        enter_tile(v);
    }

    // The tile of a voxel, also where it is in such a box.
    VG_HD void enter_tile(const int v[3]) {
        const vg_grid& g = grid();
        whole = false;
        vg_u32 t[3], page[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const vg_u32 shift = g.axis[a].tile_shift, pages = g.axis[a].page_shift;
            t[a] = (vg_u32)v[a] >> shift;
            page[a] = t[a] >> pages << pages;
            from[a] = (int)(page[a] << shift);
            first[a] = (int)((t[a] - page[a]) << shift);
            const int end = first[a] + (int)((1u << shift) - 1), most = above(a);
            last[a] = end < most ? end : most;
        }
        tile = vg_tile_id_at(g, t[0], t[1], t[2]);
        anchor = vg_tile_at<const T>(g, vg_tile_id_at(g, page[0], page[1], page[2]));
        state = vg_fits<T>(g) ? vg_tile_state(g, tile) : VG_MISSING;
    }

    VG_HD vg_u32 extent(int a) const { return grid().extent[a]; }
    VG_HD vg_u64 id() const { return tile; }
    VG_HD bool is_resident() const { return state == VG_RESIDENT; }
    VG_HD bool begins(int a) const { return from[a] + first[a] == 0; }
    VG_HD bool ends(int a) const { return last[a] == above(a); }

    // Makes ready for samples that go so far at the most, and says from where up to where they may: false, where a tile that they reach is not resident. The tile itself is.
    VG_HD bool open(const float most[3], float low[3], float top[3]) const {
        vg_u32 along[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const float end = (float)last[a];
            along[a] = 2;
            low[a] = (float)first[a];
            top[a] = vg_just_below(end);
            if (most[a] < end) continue;
            // At the array's far face the outermost voxel stands in for the next one: as good as none of it, where there is one before.
            if (ends(a) && last[a] > first[a]) continue;
            if (ends(a)) return false;
            if (level->closed >> a & 1 && ((vg_u32)last[a] + 1) >> level->page_log2[a]) return false;
            along[a] = 6;
            top[a] = vg_just_below(end + 1.0f);
        }
        return are_resident(vg_neighbours(along[0], along[1], along[2]));
    }

    // From `low` up to `top`, as they were opened.
    VG_HD float sample_inside(float px, float py, float pz) const {
        const vg_below x(px), y(py), z(pz);
        const vg_u32 ox[2] = {across(0, x.i), across(0, x.i + 1)}, oy[2] = {across(1, y.i), across(1, y.i + 1)}, oz[2] = {across(2, z.i), across(2, z.i + 1)};
        float c[8];
        VG_UNROLL
        for (int n = 0; n < 8; n++) c[n] = vg_float(anchor[ox[n & 1] + oy[n >> 1 & 1] + oz[n >> 2]]);
        return vg_trilerp(c, x.f, y.f, z.f);
    }

    // Whether one tile holds the voxels from one to another, and how they lie in memory then.
    VG_HD bool is_flat(const vg_u32 low[3], const vg_u32 high[3], vg_flat<T>* flat) const {
        const vg_cast_level& l = *level;
        vg_u32 jumps = 0, tiles = 0;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            tiles |= (low[a] ^ high[a]) >> l.tile_log2[a];
            jumps += (low[a] >> l.tile_log2[a]) * l.tile_jump[a] + (low[a] >> l.page_log2[a]) * l.page_jump[a];
        }
        flat->from = anchor + jumps;
        flat->row = 1u << l.row_log2[1];
        flat->plane = 1u << l.row_log2[2];
        return tiles == 0;
    }

    // A gradient between them: false, where it reaches further.
    VG_HD bool slope_inside(const float p[3], const float low[3], const float top[3], float out[3]) const {
        bool amid = true;
        VG_UNROLL
        for (int a = 0; a < 3; a++) amid = amid && p[a] >= low[a] + 1.0f && p[a] < top[a] - 1.0f;
        if (!amid) return false;
        const vg_below x(p[0]), y(p[1]), z(p[2]);
        vg_u32 o[3][4];
        VG_UNROLL
        for (vg_u32 i = 0; i < 4; i++) {
            o[0][i] = across(0, x.i + i - 1);
            o[1][i] = across(1, y.i + i - 1);
            o[2][i] = across(2, z.i + i - 1);
        }
        vg_differences([&](int i, int j, int k) { return vg_float(anchor[o[0][i] + o[1][j] + o[2][k]]); }, x.f, y.f, z.f, out);
        return true;
    }

    // A sample anywhere.
    VG_HD bool sample(const vg_i64 p[3], float* out) const {
        const vg_found found = vg_sample_at<T>(grid(), p[0], p[1], p[2]);
        *out = found.value;
        return found.all;
    }

    // A gradient anywhere.
    VG_HD bool slope(const vg_i64 p[3], float out[3]) const {
        const vg_slope found = vg_slope_at<T>(grid(), p[0], p[1], p[2]);
        out[0] = found.x;
        out[1] = found.y;
        out[2] = found.z;
        return found.all;
    }

    // What a uniform tile holds.
    VG_HD float value() const { return vg_float(vg_from_word<T>(vg_tile_word(grid(), tile))); }

    // The range of the tile, and with that of what samples in it may reach.
    VG_HD vg_range range() const {
        vg_range own;
        own.known = vg_range_of<T>(grid(), tile, state, &own.low, &own.high);
        return own;
    }
    VG_HD vg_range hull(const vg_range& own) const { return vg_hull_of<T>(grid(), position(0), position(1), position(2), own); }

private:
    // The array's last voxel along an axis, counted from `from`.
    VG_HD int above(int a) const { return (int)grid().extent[a] - 1 - from[a]; }

    // Where a voxel of the place, or beside it, lies along an axis, counted from `anchor`: the sum of three is where it is.
    VG_HD vg_u32 across(int a, vg_u32 v) const {
        const vg_cast_level& l = *level;
        return (a == 0 ? v : v << l.row_log2[a]) + (v >> l.tile_log2[a]) * l.tile_jump[a] + (v >> l.page_log2[a]) * l.page_jump[a];
    }

    // The tile's position in tiles along an axis.
    VG_HD vg_u32 position(int a) const { return (vg_u32)(from[a] + first[a]) >> grid().axis[a].tile_shift; }

    // Makes the box of a voxel the place, if all of it is there and its samples at that voxel need nothing else.
    VG_HD bool box(vg_u64 marks, const vg_u8 log2[3], const int v[3]) {
        if (marks == 0) return false;
        vg_u64 at = 0;
        vg_u32 tiles = 1, t[3];
        int start[3], end[3];
        bool amid = true;
        VG_UNROLL
        for (int i = 0; i < 3; i++) {
            const int a = 2 - i, most = (int)extent(a) - 1;
            start[a] = v[a] >> log2[a] << log2[a];
            end[a] = start[a] + (int)((1u << log2[a]) - 1);
            end[a] = end[a] < most ? end[a] : most;
            amid = amid && end[a] > start[a] && (v[a] < end[a] || end[a] == most);
            at = at * (vg_u64)((most >> log2[a]) + 1) + (vg_u64)(v[a] >> log2[a]);
            t[a] = (vg_u32)start[a] >> grid().axis[a].tile_shift;
            tiles *= ((vg_u32)end[a] >> grid().axis[a].tile_shift) - t[a] + 1;
        }
        if (!amid || !vg_is_whole(vg_known_word(marks + at * 8), tiles)) return false;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            from[a] = start[a];
            first[a] = 0;
            last[a] = end[a] - start[a];
        }
        anchor = vg_tile_at<const T>(grid(), vg_tile_id_at(grid(), t[0], t[1], t[2]));
        return true;
    }

    // Whether these neighbours are resident.
    VG_HD bool are_resident(vg_u32 neighbours) const {
        VG_NO_UNROLL
        for (vg_u32 left = neighbours & ~(1u << 13); left; left &= left - 1) {
            const vg_u32 n = (vg_u32)vg_lowest(left);
            const vg_u64 other = vg_tile_id_at(grid(), position(0) + n % 3 - 1, position(1) + n / 3 % 3 - 1, position(2) + n / 9 - 1);
            if (vg_tile_state(grid(), other) != VG_RESIDENT) return false;
        }
        return true;
    }
};

#endif
