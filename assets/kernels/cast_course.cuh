// How a ray goes from place to place, and from level to level: where its samples are, which place (cast_near.cuh) one of them is in, and how many are in it. Knows nothing of what is made of them.
#ifndef VASTGRID_CAST_COURSE_CUH
#define VASTGRID_CAST_COURSE_CUH

#include "cast_boxes.cuh"
#include "cast_path.cuh"

// M: the places (vg_near). MANY: a pyramid.
template <class M, bool MANY> struct vg_course {
    const vg_cast& c;
    M near;
    vg_line line;
    vg_path path;             // in the voxels of `level`
    vg_u32 level;             // the level that `near` and `path` are at
    vg_u32 shade;             // the first of its colours
    vg_u32 wanted;            // the level that is wanted
    vg_u32 change;            // from which sample on another one is
    vg_u32 k;                 // the next sample, or the next one to look at; of the finest level, as all that is said of rays
    vg_u32 index;             // the next sample of `path`, in a pyramid
    float origin[3];          // of a sample, counted from the voxel that the place's are
    float step[3];            // of `path`

    VG_HD vg_course(const vg_cast& cast, vg_u32 column, vg_u32 row, bool exists)
        : c(cast), near(cast), line(vg_line_of(cast, column, row)), level(0), shade(0), wanted(0), change(0), k(0), index(0) {
        to_path(line.path);
        if (!exists) line.samples = 0;
    }

    VG_HD float along(int a, vg_u32 n) const {
#if defined(__CUDA_ARCH__)
        return __fmaf_rn((float)n, step[a], origin[a]);
#else
        return origin[a] + (float)n * step[a];
#endif
    }

    // Makes the place of sample k, at a level, the current one, and the samples' places in it known.
    VG_HD void to_place(vg_u32 l, vg_i64 p[3]) {
        if (MANY) {
            to_level(l);
            index = nearest(k);
        }
        path.at(sample(), p);
        int below[3];
        VG_UNROLL
        for (int a = 0; a < 3; a++) below[a] = vg_between(p[a], near.extent(a)).voxel;
        near.enter(below);
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            // In two parts, which are converted sooner than one of 64 bits.
            origin[a] = (float)((int)(p[a] >> 32) - near.from[a]) + (float)((vg_u32)p[a] >> 8) * (1.0f / 16777216.0f);
        }
    }

    VG_HD vg_u32 sample() const { return MANY ? index : k; }
    VG_HD vg_u32 stride() const { return MANY ? c.level[level].stride : 1; }

    // A sample of the present level stands for those of the finest around it: whichever level has its middle takes it.
    VG_HD vg_u32 nearest(vg_u32 at) const {
        const vg_u32 s = stride();
        return s == 1 ? at : (at + s / 2) / s;
    }

    // Samples of the present level from the next one on up to one of the finest.
    VG_HD vg_u32 before(vg_u32 until) const {
        if (!MANY) return until - k;
        const vg_u32 s = stride(), end = until == line.samples ? (until + s - 1) / s : nearest(until);
        return end > index ? end - index : 0;
    }

    // Where the finest level's samples go on after n of those `most` that there are before `until`.
    VG_HD vg_u32 after(vg_u32 n, vg_u32 most, vg_u32 until) const {
        if (!MANY) return k + n;
        return n == most ? until : (index + n) * stride();
    }

    VG_HD void to_level(vg_u32 l) {
        if (level == l) return;
        level = l;
        shade = c.level[l].shade;
        near.go(c.level[l]);
        to_path(l == 0 ? line.path : vg_path_at(line.path, c.level[l]));
    }

    VG_HD void to_path(const vg_path& to) {
        path = to;
        VG_UNROLL
        for (int a = 0; a < 3; a++) step[a] = (float)path.step[a] * (1.0f / 4294967296.0f);
    }

    // Which level is wanted at sample k, and up to which sample.
    VG_HD void look_at_distance() {
        const float apart = (float)c.step, distance = line.first + (float)k * apart;
        while (wanted + 1 < c.levels && c.level[wanted + 1].begin <= distance) wanted++;
        change = line.samples;
        if (wanted + 1 == c.levels) return;
        const float n = (c.level[wanted + 1].begin - distance) / apart;
        if (n < (float)(line.samples - k)) change = k + 1 + (vg_u32)(n > 0 ? n : 0);
    }

    // A quotient, or nearly.
    VG_HD static float over(float a, float b) {
#if defined(__CUDA_ARCH__)
        return __fdividef(a, b);
#else
        return a / b;
#endif
    }

    // How many samples from the next one on it takes to go beyond what lies from `low` on and before `high` along an axis, if that is less than n.
    VG_HD float fewer(float n, int a, float low, float high) const {
        // Whole steps that stay before the upper end, or that reach the lower one and one more. Zero by infinity, which is no number, is no less than n.
        const float t = step[a] < 0 ? floorf(over(low - origin[a], step[a])) + 1.0f : ceilf(over(high - origin[a], step[a]));
        return t < n ? t : n;
    }

    VG_HD static vg_u32 whole(float n, vg_u32 most) {
        if (MANY && most == 0) return 0;
        return n < (float)most ? n > 1 ? (vg_u32)n : 1 : most;
    }

    VG_HD float first(int a) const { return (float)near.first[a]; }
    VG_HD float last(int a) const { return (float)near.last[a]; }

    // How many samples from the next one on, of `most` that there are, have their voxel below in the place. One at least. Rounding may count one more, which lies next to the place's face: `low` and `top` see to it.
    VG_HD vg_u32 run(vg_u32 most) const {
        float n = VG_INFINITY;
        VG_UNROLL
        for (int a = 0; a < 3; a++) {
            // Past the array's faces the outermost voxels stand in: a voxel more.
            n = fewer(n, a, first(a) - (near.begins(a) ? 1.0f : 0.0f), last(a) + 1.0f);
        }
        return whole(n, most);
    }
};

#endif
