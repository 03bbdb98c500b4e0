// Other ways to find a voxel, to compare with: the same march, another `M` (see cast_near.cuh). All read what the first level shows; where their memory is, the second level's grid
// says, which is otherwise not used: `base`, and a table in `blocks`.
#ifndef VASTGRID_CAST_RIVALS_CUH
#define VASTGRID_CAST_RIVALS_CUH

#include "cast_kernels.cuh"

// A gradient in flat memory.
template <class T> VG_HD void vg_slope_in(const vg_flat<T>& flat, float px, float py, float pz, float out[3]) {
    const vg_below x(px), y(py), z(pz);
    const T* v = flat.from + (x.i + y.i * flat.row + z.i * flat.plane) - (1 + flat.row + flat.plane);
    vg_differences([&](int i, int j, int k) { return vg_float(v[(vg_u32)i + (vg_u32)j * flat.row + (vg_u32)k * flat.plane]); }, x.f, y.f, z.f, out);
}

// Samples and gradients past the faces, by a place's `voxel`.
template <class M> VG_HD bool vg_sample_by(const M& m, const vg_i64 p[3], float* out) {
    const vg_between x(p[0], m.extent(0)), y(p[1], m.extent(1)), z(p[2], m.extent(2));
    float c[8];
    VG_UNROLL
    for (int k = 0; k < 8; k++) c[k] = m.voxel(x.voxel + (k & 1), y.voxel + (k >> 1 & 1), z.voxel + (k >> 2));
    *out = vg_trilerp(c, x.f, y.f, z.f);
    return true;
}

template <class M> VG_HD bool vg_slope_by(const M& m, const vg_i64 p[3], float out[3]) {
    const vg_between x(p[0], m.extent(0)), y(p[1], m.extent(1)), z(p[2], m.extent(2));
    vg_differences([&](int i, int j, int k) { return m.voxel(x.voxel + i - 1, y.voxel + j - 1, z.voxel + k - 1); }, x.f, y.f, z.f, out);
    return true;
}

// The whole volume in one piece of memory, row by row: one place. Of less than 2^32 voxels.
template <class T> struct vg_dense_near : vg_near<T> {
    enum { FLAT = false };
    const T* data;

    VG_HD explicit vg_dense_near(const vg_cast& c) : vg_near<T>(c), data(vg_global<const T>(c.level[1].grid.base)) {
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            this->from[a] = this->first[a] = 0;
            this->last[a] = (int)this->extent(a) - 1;
        }
        this->state = VG_RESIDENT;
        this->whole = true;
    }
    // The next voxel is always read.
    VG_HD bool begins(int) const { return true; }
    VG_HD bool ends(int) const { return false; }
    // Whether a gradient takes no voxel past the faces.
    VG_HD bool amid(float x, float y, float z) const {
        return x >= 1.0f && y >= 1.0f && z >= 1.0f && x < (float)this->last[0] - 1.0f && y < (float)this->last[1] - 1.0f && z < (float)this->last[2] - 1.0f;
    }
    VG_HD void enter(const int*) {}
    VG_HD vg_u32 row() const { return this->extent(0); }
    VG_HD vg_u32 plane() const { return this->extent(0) * this->extent(1); }
    VG_HD vg_flat<T> flat() const {
        const vg_flat<T> all = {data, row(), plane()};
        return all;
    }
    VG_HD float voxel(int x, int y, int z) const {
        return vg_float(data[vg_clamp(x, this->extent(0)) + row() * vg_clamp(y, this->extent(1)) + plane() * vg_clamp(z, this->extent(2))]);
    }
    VG_HD float sample_inside(float x, float y, float z) const { return flat().sample(x, y, z); }
    VG_HD bool slope_inside(const float p[3], const float*, const float*, float out[3]) const {
        if (!amid(p[0], p[1], p[2])) return false;
        vg_slope_in(flat(), p[0], p[1], p[2], out);
        return true;
    }
    VG_HD bool sample(const vg_i64 p[3], float* out) const { return vg_sample_by(*this, p, out); }
    VG_HD bool slope(const vg_i64 p[3], float out[3]) const { return vg_slope_by(*this, p, out); }
};

// A software page table: a slot for each tile, row by row, looked up for each sample whose support lies in one tile, and for each voxel otherwise. Slots are the array's own tiles.
template <class T> struct vg_table_near : vg_dense_near<T> {
    const vg_u32* slots;

    VG_HD explicit vg_table_near(const vg_cast& c) : vg_dense_near<T>(c), slots(vg_global<const vg_u32>(c.level[1].grid.blocks)) {}
    VG_HD const T* tile_of(vg_u32 x, vg_u32 y, vg_u32 z) const {
        const vg_grid& g = this->grid();
        const vg_u32 tx = x >> g.axis[0].tile_shift, ty = y >> g.axis[1].tile_shift, tz = z >> g.axis[2].tile_shift;
        const vg_u32 nx = ((g.extent[0] - 1) >> g.axis[0].tile_shift) + 1, ny = ((g.extent[1] - 1) >> g.axis[1].tile_shift) + 1;
        return vg_tile_at<const T>(g, slots[tx + nx * (ty + ny * tz)]);
    }
    VG_HD float voxel(int px, int py, int pz) const {
        const vg_grid& g = this->grid();
        const vg_u32 x = vg_clamp(px, g.extent[0]), y = vg_clamp(py, g.extent[1]), z = vg_clamp(pz, g.extent[2]);
        return vg_float(tile_of(x, y, z)[vg_within_tile(g, x, y, z)]);
    }
    // Whether n voxels from one on lie in one tile along an axis.
    VG_HD bool within(int a, vg_u32 v, vg_u32 n) const {
        const vg_u32 side = 1u << this->grid().axis[a].tile_shift;
        return (v & (side - 1)) + n <= side;
    }
    VG_HD float sample_inside(float px, float py, float pz) const {
        const vg_below x(px), y(py), z(pz);
        const vg_grid& g = this->grid();
        if (within(0, x.i, 2) && within(1, y.i, 2) && within(2, z.i, 2)) {
            const vg_flat<T> v = {tile_of(x.i, y.i, z.i) + vg_within_tile(g, x.i, y.i, z.i), 1u << g.axis[1].voxel_shift, 1u << g.axis[2].voxel_shift};
            return v.sample(x.f, y.f, z.f);
        }
        float c[8];
        VG_UNROLL
        for (int k = 0; k < 8; k++) c[k] = voxel(x.i + (k & 1), y.i + (k >> 1 & 1), z.i + (k >> 2));
        return vg_trilerp(c, x.f, y.f, z.f);
    }
    VG_HD bool slope_inside(const float p[3], const float*, const float*, float out[3]) const {
        const float px = p[0], py = p[1], pz = p[2];
        if (!this->amid(px, py, pz)) return false;
        const vg_below x(px), y(py), z(pz);
        const vg_grid& g = this->grid();
        if (within(0, x.i - 1, 4) && within(1, y.i - 1, 4) && within(2, z.i - 1, 4)) {
            const vg_flat<T> v = {tile_of(x.i, y.i, z.i) + vg_within_tile(g, x.i, y.i, z.i), 1u << g.axis[1].voxel_shift, 1u << g.axis[2].voxel_shift};
            vg_slope_in(v, x.f, y.f, z.f, out);
        } else {
            vg_differences([&](int i, int j, int k) { return voxel((int)x.i + i - 1, (int)y.i + j - 1, (int)z.i + k - 1); }, x.f, y.f, z.f, out);
        }
        return true;
    }
    VG_HD bool sample(const vg_i64 p[3], float* out) const { return vg_sample_by(*this, p, out); }
    VG_HD bool slope(const vg_i64 p[3], float out[3]) const { return vg_slope_by(*this, p, out); }
};

// The same asked for every voxel.
template <class T> struct vg_voxel_table_near : vg_table_near<T> {
    VG_HD explicit vg_voxel_table_near(const vg_cast& c) : vg_table_near<T>(c) {}
    VG_HD float sample_inside(float px, float py, float pz) const {
        const vg_below x(px), y(py), z(pz);
        float c[8];
        VG_UNROLL
        for (int k = 0; k < 8; k++) c[k] = this->voxel(x.i + (k & 1), y.i + (k >> 1 & 1), z.i + (k >> 2));
        return vg_trilerp(c, x.f, y.f, z.f);
    }
    VG_HD bool slope_inside(const float p[3], const float*, const float*, float out[3]) const {
        const float px = p[0], py = p[1], pz = p[2];
        if (!this->amid(px, py, pz)) return false;
        const vg_below x(px), y(py), z(pz);
        vg_differences([&](int i, int j, int k) { return this->voxel((int)x.i + i - 1, (int)y.i + j - 1, (int)z.i + k - 1); }, x.f, y.f, z.f, out);
        return true;
    }
};

// An atlas of tiles with ghost borders, one voxel below and two above: nothing but the volume's lower faces has a rim. A table says where each tile is.
template <class T> struct vg_atlas_near : vg_near<T> {
    enum { FLAT = false };
    const T* atlas;
    const vg_u32* slots;

    VG_HD explicit vg_atlas_near(const vg_cast& c)
        : vg_near<T>(c), atlas(vg_global<const T>(c.level[1].grid.base)), slots(vg_global<const vg_u32>(c.level[1].grid.blocks)) {}
    VG_HD vg_u32 row() const { return (1u << this->grid().axis[0].tile_shift) + 3; }
    VG_HD vg_u32 plane() const { return row() * ((1u << this->grid().axis[1].tile_shift) + 3); }
    VG_HD vg_flat<T> flat() const {
        const vg_flat<T> tile = {this->anchor, row(), plane()};
        return tile;
    }
    VG_HD const T* place(vg_u32 tx, vg_u32 ty, vg_u32 tz) const {
        const vg_grid& g = this->grid();
        const vg_u32 nx = ((g.extent[0] - 1) >> g.axis[0].tile_shift) + 1, ny = ((g.extent[1] - 1) >> g.axis[1].tile_shift) + 1;
        return atlas + (vg_u64)slots[tx + nx * (ty + ny * tz)] * (plane() * ((1u << g.axis[2].tile_shift) + 3)) + (1 + row() + plane());
    }
    VG_HD void enter(const int v[3]) {
        vg_u32 t[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            const vg_u32 shift = this->grid().axis[a].tile_shift;
            t[a] = (vg_u32)v[a] >> shift;
            this->from[a] = (int)(t[a] << shift);
            const int side = (1 << shift) - 1, rest = (int)this->extent(a) - 1 - this->from[a];
            this->first[a] = 0;
            this->last[a] = side < rest ? side : rest;
        }
        this->whole = false;
        this->anchor = place(t[0], t[1], t[2]);
        this->state = VG_RESIDENT;
    }
    VG_HD vg_range range() const {
        const vg_range none = {0, 0, false};
        return none;
    }
    // At the array's far face the outermost voxel stands in for the next one.
    VG_HD bool open(const float*, float low[3], float top[3]) const {
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            low[a] = 0;
            top[a] = this->ends(a) ? (float)this->last[a] : vg_just_below((float)this->last[a] + 1.0f);
        }
        return true;
    }
    VG_HD float sample_inside(float x, float y, float z) const { return flat().sample(x, y, z); }
    VG_HD bool slope_inside(const float p[3], const float*, const float*, float out[3]) const {
        vg_slope_in(flat(), p[0], p[1], p[2], out);
        return true;
    }
    VG_HD float voxel(int px, int py, int pz) const {
        const vg_grid& g = this->grid();
        const vg_u32 x = vg_clamp(px, g.extent[0]), y = vg_clamp(py, g.extent[1]), z = vg_clamp(pz, g.extent[2]);
        const vg_u32 sx = g.axis[0].tile_shift, sy = g.axis[1].tile_shift, sz = g.axis[2].tile_shift;
        return vg_float(place(x >> sx, y >> sy, z >> sz)[(x & ((1u << sx) - 1)) + (y & ((1u << sy) - 1)) * row() + (z & ((1u << sz) - 1)) * plane()]);
    }
    VG_HD bool sample(const vg_i64 p[3], float* out) const { return vg_sample_by(*this, p, out); }
    VG_HD bool slope(const vg_i64 p[3], float out[3]) const { return vg_slope_by(*this, p, out); }
};

#endif
