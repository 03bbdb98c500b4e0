// Which tiles the rays of a picture met, and which they lacked, of which level: a second walk along every ray, tile by tile, up to where it ended (vg_cast::ends).
#ifndef VASTGRID_CAST_MET_CUH
#define VASTGRID_CAST_MET_CUH

#include "cast_course.cuh"

// Places that are tiles throughout.
template <class T> struct vg_tile_near : vg_near<T> {
    VG_HD explicit vg_tile_near(const vg_cast& c) : vg_near<T>(c) {}
    VG_HD void enter(const int v[3]) { this->enter_tile(v); }
};

template <class T> struct vg_walk : vg_course<vg_tile_near<T>, true> {
    typedef vg_course<vg_tile_near<T>, true> course;
    using course::c;
    using course::near;
    using course::path;
    using course::level;
    using course::wanted;
    using course::change;
    using course::k;
    using course::index;

    vg_counts* counts;
    bool bare;  // somewhere no level had anything

    VG_HD vg_walk(const vg_cast& cast, vg_counts* into, vg_u32 column, vg_u32 row) : course(cast, column, row, true), counts(into), bare(false) {}

    // The samples of one tile: of the finest level that has it, from the one that is wanted on.
    VG_HD void visit(vg_u32 end) {
        if (k >= change) this->look_at_distance();
        vg_u32 until = change < end ? change : end;
        for (vg_u32 l = wanted; l < c.levels; l++) {
            vg_i64 p[3];
            this->to_place(l, p);
            const vg_u32 most = this->before(until);
            const vg_u32 through = this->run(most), next = this->after(through, most, until);
            if (is_quiet()) {
                k = next;
                return;
            }
            if (near.state == VG_MISSING) {
                tell(near.id(), VG_MISSING);
                until = next;
                if (l + 1 == c.levels) bare = true;
                continue;
            }
            tell(near.id(), near.state);
            around(next, l);
            k = next;
            return;
        }
        k = until;
    }

private:
    // Whether nothing of the tile, and of what samples in it reach, matters.
    VG_HD bool is_quiet() const {
        if (!(c.flags & VG_CAST_SKIP_EMPTY)) return false;
        const vg_range own = near.range();
        if (!own.known || !is_nothing(own)) return false;
        const vg_range all = near.hull(own);
        return all.known && is_nothing(all);
    }

    // The greatest value that a ray met is not known here.
    VG_HD bool is_nothing(const vg_range& range) const {
        const vg_u32 mode = c.flags >> VG_CAST_MODE;
        if (mode == VG_MIP) return false;
        return mode == VG_ISO ? vg_nothing_in<VG_ISO>(c, range, 0) : vg_nothing_in<VG_DVR>(c, range, 0);
    }

    VG_HD void tell(vg_u64 tile, vg_state state) {
        if (state == VG_MISSING) vg_note_met(c, level, tile, level == wanted ? VG_LACKED_WANTED : VG_LACKED_BEYOND, counts);
        if (state == VG_RESIDENT) vg_note_met(c, level, tile, level == wanted ? VG_MET_WANTED : VG_MET_BEYOND, counts);
    }

    // Tells of the tiles that samples of a tile reach, from the next one on up to where the finest level's go on, and perhaps one or two more; of the finest level from l on that has them all.
    VG_HD void around(vg_u32 next, vg_u32 l) {
        for (; l < c.levels; l++) {
            vg_i64 p[3], q[3];
            this->to_level(l);
            index = this->nearest(k);
            const vg_u32 most = this->before(next);
            path.at(index, p);
            path.at(index + (most > 0 ? most - 1 : 0), q);
            if (reached(p, q)) return;
        }
        bare = true;
    }

    // Tells of all tiles of the box of voxels that the supports of two samples span, so also those that only samples between them reach, and says whether none is missing.
    VG_HD bool reached(const vg_i64 p[3], const vg_i64 q[3]) {
        const vg_grid& g = near.grid();
        bool all = true;
        vg_each_tile(g, p, q, c.flags & VG_CAST_LIT ? 1 : 0, [&](vg_u64 tile) {
            const vg_state state = vg_tile_state(g, tile);
            tell(tile, state);
            all = all && state != VG_MISSING;
        });
        return all;
    }
};

// Follows the ray of a pixel once more.
template <class T> VG_HD void vg_walk_pixel(const vg_cast& c, vg_counts* counts, vg_u32 column, vg_u32 row) {
    vg_walk<T> ray(c, counts, column, row);
    const vg_u32 end = vg_global<const vg_u32>(c.ends)[(vg_u64)row * c.width + column];
    while (ray.k < end) ray.visit(end);
    if (ray.bare) vg_add(&counts->rays_uncovered, 1);
}

#if defined(__CUDACC__)
// Blocks as those that made the picture.
template <class T> __device__ void vg_walk_block(const vg_cast& c) {
    const vg_u32 column = blockIdx.x * 8 + threadIdx.x % 8, row = blockIdx.y * 8 + threadIdx.x / 8;
    if (column < c.width && row < c.height) vg_walk_pixel<T>(c, vg_global<vg_counts>(c.counts), column, row);
}
#endif

#endif
