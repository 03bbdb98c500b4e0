// The tile that a ray is in, and reading in it and around it. Knows nothing of what rays are for.
//
// What can be read one way is a *place*: of the flat reservation, here, a tile and the first voxels beyond its far faces. Kernels that benches compare with have others; all offer what
// vg_near does:
//
//   go(level)                 another level's grid
//   holds(v), enter(v)        the place of a voxel
//   extent(a), first, last, id(), state, value()
//   far(a)                    samples from 0 up to that, counted from the first voxel along axis a, need nothing of other places
//   open(most, top)           whether samples up to `most` may be read without a test, and up to where then
//   sample_inside, slope_inside    so read; a gradient may reach further than is there
//   sample, slope             anywhere, with all tests; false where part of the support is not there
//   range(), hull(range)      the range of values, where that is known; with what samples may reach from here
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

// A box of voxels as flat memory: rows along x.
template <class T, class O> struct vg_flat {
    // Between eight voxels from the one below (x, y, z) on, counted from `v`'s.
    VG_HD static float sample(const T* v, O row, O plane, float px, float py, float pz) {
        const vg_below x(px), y(py), z(pz);
        v += (O)x.i + (O)y.i * row + (O)z.i * plane;
        const T *vy = v + row, *w = v + plane, *wy = vy + plane;
        const float c[8] = {vg_float(v[0]), vg_float(v[1]), vg_float(vy[0]), vg_float(vy[1]), vg_float(w[0]), vg_float(w[1]), vg_float(wy[0]), vg_float(wy[1])};
        return vg_trilerp(c, x.f, y.f, z.f);
    }

    VG_HD static void slope(const T* v, O row, O plane, float px, float py, float pz, float out[3]) {
        const vg_below x(px), y(py), z(pz);
        v += (O)x.i + (O)y.i * row + (O)z.i * plane;
        v -= 1 + row + plane;
        vg_differences([&](int i, int j, int k) { return vg_float(v[(O)i + (O)j * row + (O)k * plane]); }, x.f, y.f, z.f, out);
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
    const vg_grid* grid;
    const T* tile;     // its voxels, where it is resident
    int first[3];      // its first voxel
    vg_u32 last[3];    // its last voxel inside the array, counted from the first
    vg_state state;
    vg_u32 beside;     // which of its neighbours were seen resident: see vg_neighbours
    vg_i64 on[3];      // bytes from a voxel at its far faces to the next one, of the axes along which `open` says that samples reach so far

    VG_HD explicit vg_near(const vg_cast& c) { go(c.level[0]); }

    VG_HD void go(const vg_cast_level& level) {
        grid = &level.grid;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            first[a] = -1;
            last[a] = 0;
            on[a] = 0;
        }
    }

    VG_HD bool holds(const int v[3]) const {
        return (vg_u32)(v[0] - first[0]) <= last[0] && (vg_u32)(v[1] - first[1]) <= last[1] && (vg_u32)(v[2] - first[2]) <= last[2];
    }

    // The tile of a voxel of the array.
    VG_HD void enter(const int v[3]) {
        vg_u32 t[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const vg_u32 shift = grid->axis[a].tile_shift, side = (1u << shift) - 1;
            t[a] = (vg_u32)v[a] >> shift;
            first[a] = (int)(t[a] << shift);
            const vg_u32 rest = grid->extent[a] - 1 - (vg_u32)first[a];
            last[a] = side < rest ? side : rest;
        }
        const vg_u64 id = vg_tile_id_at(*grid, t[0], t[1], t[2]);
        tile = vg_tile_at<const T>(*grid, id);
        beside = 1u << 13;
        state = vg_fits<T>(*grid) ? vg_tile_state(*grid, id) : VG_MISSING;
    }

    VG_HD vg_u32 extent(int a) const { return grid->extent[a]; }
    VG_HD vg_u64 id() const { return (vg_u64)(tile - vg_global<const T>(grid->base)) >> grid->tile_voxels_log2; }
    VG_HD bool is_resident() const { return state == VG_RESIDENT; }
    VG_HD float far(int a) const { return (float)last[a]; }

    // Makes ready for samples that go so far at the most, and says up to where they may: false, where a tile that they reach is not resident. The tile itself is.
    VG_HD bool open(const float most[3], float top[3]) {
        vg_u32 along[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const float end = (float)last[a];
            along[a] = 2;
            top[a] = vg_just_below(end);
            if (most[a] < end) continue;
            // At the array's far face the outermost voxel stands in for the next one.
            on[a] = 0;
            top[a] = end;
            if (ends(a)) continue;
            along[a] = 6;
            top[a] = vg_just_below(end + 1.0f);
            on[a] = (to_tile(a, 1) - ((vg_i64)last[a] << grid->axis[a].voxel_shift)) * (vg_i64)sizeof(T);
        }
        return are_resident(vg_neighbours(along[0], along[1], along[2]));
    }

    // From 0 up to `top` along each axis.
    VG_HD float sample_inside(float px, float py, float pz) const {
        const vg_below x(px), y(py), z(pz);
        const char* v = (const char*)(tile + (x.i + (y.i << grid->axis[1].voxel_shift) + (z.i << grid->axis[2].voxel_shift)));
        const vg_i64 dx = x.i == last[0] ? on[0] : (vg_i64)sizeof(T);
        const vg_i64 dy = y.i == last[1] ? on[1] : (vg_i64)sizeof(T) << grid->axis[1].voxel_shift;
        const vg_i64 dz = z.i == last[2] ? on[2] : (vg_i64)sizeof(T) << grid->axis[2].voxel_shift;
        const char *vy = v + dy, *w = v + dz, *wy = w + dy;
        const float c[8] = {at(v), at(v + dx), at(vy), at(vy + dx), at(w), at(w + dx), at(wy), at(wy + dx)};
        return vg_trilerp(c, x.f, y.f, z.f);
    }

    // A gradient at such a place: false, where a tile that it reaches is not resident.
    VG_HD bool slope_inside(float px, float py, float pz, float out[3]) {
        const vg_u32 row = 1u << grid->axis[1].voxel_shift, plane = 1u << grid->axis[2].voxel_shift;
        const bool flat = px >= 1.0f && py >= 1.0f && pz >= 1.0f && px < (float)last[0] - 1.0f && py < (float)last[1] - 1.0f && pz < (float)last[2] - 1.0f;
        if (flat) {
            vg_flat<T, vg_u32>::slope(tile, row, plane, px, py, pz, out);
            return true;
        }
        const vg_below b[3] = {vg_below(px), vg_below(py), vg_below(pz)};
        vg_u32 along[3];
        vg_i64 offset[3][4];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            // In tiles of one voxel a gradient reaches beyond the neighbours.
            if (grid->axis[a].tile_shift == 0) return false;
            along[a] = reach(a, b[a].i, offset[a]);
        }
        if (!are_resident(vg_neighbours(along[0], along[1], along[2]))) return false;
        vg_differences([&](int i, int j, int k) { return vg_float(tile[offset[0][i] + offset[1][j] + offset[2][k]]); }, b[0].f, b[1].f, b[2].f, out);
        return true;
    }

    // A sample anywhere.
    VG_HD bool sample(const vg_i64 p[3], float* out) const {
        const vg_found found = vg_sample_at<T>(*grid, p[0], p[1], p[2]);
        *out = found.value;
        return found.all;
    }

    // A gradient anywhere.
    VG_HD bool slope(const vg_i64 p[3], float out[3]) const {
        const vg_slope found = vg_slope_at<T>(*grid, p[0], p[1], p[2]);
        out[0] = found.x;
        out[1] = found.y;
        out[2] = found.z;
        return found.all;
    }

    // What a uniform tile holds.
    VG_HD float value() const { return vg_float(vg_from_word<T>(vg_tile_word(*grid, id()))); }

    // The range of the tile, and with that of what samples in it may reach.
    VG_HD vg_range range() const {
        vg_range own;
        own.known = vg_range_of<T>(*grid, id(), state, &own.low, &own.high);
        return own;
    }
    VG_HD vg_range hull(const vg_range& own) const { return vg_hull_of<T>(*grid, position(0), position(1), position(2), own); }

private:
    VG_HD static float at(const char* voxel) { return vg_float(*(const T*)voxel); }

    // Along an axis: the position in tiles, whether the array ends with the tile, and how many voxels it is to the tile before or after.
    VG_HD vg_u32 position(int a) const { return (vg_u32)first[a] >> grid->axis[a].tile_shift; }
    VG_HD bool ends(int a) const { return (vg_u32)first[a] + last[a] + 1 >= grid->extent[a]; }
    VG_HD vg_i64 to_tile(int a, int by) const {
        const vg_axis& axis = grid->axis[a];
        return (vg_i64)(vg_axis_slot(axis, position(a) + (vg_u32)by) - vg_axis_slot(axis, position(a))) * (1ll << grid->tile_voxels_log2);
    }

    // Where the four voxels of a gradient lie along an axis, counted from the tile's first, and in which of the three tiles.
    VG_HD vg_u32 reach(int a, vg_u32 below, vg_i64 offset[4]) const {
        const vg_u32 shift = grid->axis[a].voxel_shift, rest = grid->extent[a] - 1 - (vg_u32)first[a];
        const vg_u32 up = below + 1 < rest ? below + 1 : rest, far = below + 2 < rest ? below + 2 : rest;
        vg_u32 along = 2;
        offset[0] = (vg_i64)(below - (below ? 1 : 0)) << shift;
        offset[1] = (vg_i64)below << shift;
        offset[2] = (vg_i64)up << shift;
        offset[3] = (vg_i64)far << shift;
        if (below == 0 && first[a] > 0) {
            along |= 1;
            offset[0] = to_tile(a, -1) + ((vg_i64)((1u << grid->axis[a].tile_shift) - 1) << shift);
        }
        if (far > last[a]) {
            along |= 4;
            const vg_i64 next = to_tile(a, 1);
            offset[3] = next + ((vg_i64)(far - last[a] - 1) << shift);
            if (up > last[a]) offset[2] = next;
        }
        return along;
    }

    // Whether these neighbours are resident. Each is looked up once per tile.
    VG_HD bool are_resident(vg_u32 neighbours) {
        VG_NO_UNROLL
        for (vg_u32 left = neighbours & ~beside; left; left &= left - 1) {
            const vg_u32 n = (vg_u32)vg_lowest(left);
            const vg_u64 other = vg_tile_id_at(*grid, position(0) + n % 3 - 1, position(1) + n / 3 % 3 - 1, position(2) + n / 9 - 1);
            if (vg_tile_state(*grid, other) != VG_RESIDENT) return false;
            beside |= 1u << n;
        }
        return true;
    }
};

#endif
