// Where the samples of a ray lie: in fixed point, 2^32 to the voxel, the first voxel's centre being 0. The same numbers as `Path` and `Axes` in src/render/, bit for bit: sums of products are
// rounded twice, as there.
#ifndef VASTGRID_CAST_PATH_CUH
#define VASTGRID_CAST_PATH_CUH

#include "cast.cuh"

#define VG_ONE 4294967296.0
#define VG_MOST_SAMPLES 268435456.0

VG_HD double vg_times(double a, double b) {
#if defined(__CUDA_ARCH__)
    return __dmul_rn(a, b);
#else
    return a * b;
#endif
}

VG_HD double vg_plus(double a, double b) {
#if defined(__CUDA_ARCH__)
    return __dadd_rn(a, b);
#else
    return a + b;
#endif
}

struct vg_path {
    vg_i64 start[3], step[3];

    VG_HD void at(vg_u32 k, vg_i64 p[3]) const {
        VG_UNROLL
        for (int a = 0; a < 3; a++) p[a] = start[a] + step[a] * (vg_i64)k;
    }

    // `part` of 2^bits of a step behind sample k.
    VG_HD void between(vg_u32 k, int part, int bits, vg_i64 p[3]) const {
        VG_UNROLL
        for (int a = 0; a < 3; a++) p[a] = start[a] + step[a] * (vg_i64)k + (step[a] * part >> bits);
    }
};

// A ray: its samples, where the first is, and where it goes.
struct vg_line {
    vg_path path;
    vg_u32 samples;
    float first;  // how far along the ray sample 0 is, in the world
    float direction[3];
};

// The ray behind the centre of a pixel; without samples where it misses the box.
VG_HD vg_line vg_line_of(const vg_cast& c, vg_u32 column, vg_u32 row) {
    vg_line line;
    line.samples = 0;
    line.first = 0;
    const double w = c.width, h = c.height;
    const double x = vg_times((2.0 * (column + 0.5) - w) / h, c.half_height), y = vg_times((h - 2.0 * (row + 0.5)) / h, c.half_height);
    double from[3], to[3];
    const bool parallel = c.flags & VG_CAST_PARALLEL;
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        const double aside = vg_plus(vg_times(c.right[a], x), vg_times(c.up[a], y));
        from[a] = parallel ? vg_plus(c.eye[a], aside) : c.eye[a];
        to[a] = parallel ? c.forward[a] : vg_plus(c.forward[a], aside);
    }
    const double inverse_length = parallel ? 1.0 : 1.0 / sqrt(vg_plus(vg_plus(vg_times(to[0], to[0]), vg_times(to[1], to[1])), vg_times(to[2], to[2])));
    double enter = 0, leave = 1e300, origin[3], direction[3];
    bool misses = false;
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        to[a] = vg_times(to[a], inverse_length);
        line.direction[a] = (float)to[a];
        origin[a] = vg_plus(vg_times(from[a], c.per_world[a]), -0.5);
        direction[a] = vg_times(to[a], c.per_world[a]);
        if (fabs(to[a]) < 1e-12) {
            misses = misses || !(origin[a] >= c.low[a] && origin[a] <= c.high[a]);
            continue;
        }
        const double inverse = 1.0 / direction[a];
        const double t0 = vg_times(c.low[a] - origin[a], inverse), t1 = vg_times(c.high[a] - origin[a], inverse);
        const double near = inverse > 0 ? t0 : t1, far = inverse > 0 ? t1 : t0;
        enter = near > enter ? near : enter;
        leave = far < leave ? far : leave;
    }
    const double samples = vg_plus((leave - enter) / c.step, 0.5);
    if (misses || !(samples >= 1 && samples < 1e300)) return line;
    const double first = vg_plus(enter, vg_times(0.5, c.step));
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        line.path.start[a] = (vg_i64)vg_times(vg_plus(origin[a], vg_times(first, direction[a])), VG_ONE);
        line.path.step[a] = (vg_i64)vg_times(vg_times(c.step, direction[a]), VG_ONE);
    }
    line.samples = (vg_u32)(samples < VG_MOST_SAMPLES ? samples : VG_MOST_SAMPLES);
    line.first = (float)first;
    return line;
}

VG_RARE vg_i64 vg_divided(vg_i64 a, vg_u32 b) { return a / (vg_i64)b; }

// The samples of a coarser level, in its voxels, each in the middle of those of the finest that it stands for: q = (p + 1/2) / factor - 1/2. The same as `Path::coarser`.
VG_HD vg_path vg_path_at(const vg_path& finest, const vg_cast_level& level) {
    vg_path path;
    const vg_i64 half = 1ll << 31;
    VG_UNROLL
    for (int a = 0; a < 3; a++) {
        const vg_u32 f = level.factor[a];
        const vg_i64 start = finest.start[a] + half + (finest.step[a] * (vg_i64)(level.stride - 1) >> 1), step = finest.step[a] * (vg_i64)level.stride;
        if ((f & (f - 1)) == 0) {
            // A power of two, as nearly always.
            const int shift = vg_lowest(f);
            path.start[a] = (start >> shift) - half;
            path.step[a] = step >> shift;
        } else {
            path.start[a] = vg_divided(start, f) - half;
            path.step[a] = vg_divided(step, f);
        }
    }
    return path;
}

#endif
