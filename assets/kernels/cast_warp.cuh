// How the rays of a warp go together.
//
// The lanes of a warp look for their next samples together, and take them together: as soon as less than three quarters of those that began are still at it, all look again.
// Samples are counted from where a ray enters the volume, so after as many of them the rays of a warp are in a plane like the face that they came in by. In one across x (that, for all rays that came in by such a
// face) each lane needs rows of voxels of its own, all at the same x, so on the same few banks of the L1. So each ray waits at the start until it is in line with the hindmost: in a plane that holds
// the x axis, where lanes share rows and differ in x. It takes the samples that it would take anyway, only later, so pictures are the same, bit for bit.
//
// Counted on an H200 (ncu, the slanted view of `benches/cuda_cast.rs`), for each load of a warp, at once / in line (there by warps of 16 x 2 pixels): 23.9 / 18.9 sectors and 12.4 / 5.6 passes through the L1's
// banks unshaded, 22.3 / 16.7 and 11.1 / 3.5 shaded.
#ifndef VASTGRID_CAST_WARP_CUH
#define VASTGRID_CAST_WARP_CUH

#include "cast_march.cuh"

// A ray that is further ahead, in samples, waits for none.
#define VG_MOST_LEAD 128

// The least that any lane of the warp says; all of them ask. On the host others say less, so that rays wait there too.
VG_HD float vg_least(float value) {
#if defined(__CUDA_ARCH__)
    VG_UNROLL
    for (int d = 16; d; d /= 2) value = fminf(value, __shfl_xor_sync(0xffffffffu, value, d));
    return value;
#else
    return value - 3.3f;
#endif
}

// By how many of its samples a ray is ahead of the hindmost of its warp, of which `busy` lanes have samples to take; all of them ask. Along z or y, whichever most go along more: lanes that are level there are in a plane
// that holds the x axis.
template <class RAY> VG_HD vg_u32 vg_lead(const RAY& ray, vg_u32 busy) {
    const bool takes = ray.left > 0, deep = vg_lanes(takes && fabsf(ray.step[2]) >= fabsf(ray.step[1])) * 2 >= busy;
    const float step = deep ? ray.step[2] : ray.step[1];
    const float place = (deep ? ray.origin[2] : ray.origin[1]) + (float)(deep ? ray.near.from[2] : ray.near.from[1]);
    const float ahead = step < 0 ? -place : place, least = vg_least(takes ? ahead : VG_INFINITY);
    // Rounding takes no whole sample away. Along an axis that a ray does not go along it is infinitely many, or no number.
    const float n = RAY::over(ahead - least, fabsf(step)) + 0.01f;
    return takes && n < (float)VG_MOST_LEAD ? (vg_u32)n : 0;
}

// Follows the ray of a pixel. All lanes of a warp do, those of pixels that do not exist too.
template <class M, int MODE, bool LIT, bool MANY> VG_HD void vg_cast_pixel(const vg_cast& c, vg_counts* counts, vg_u32 column, vg_u32 row) {
    const bool exists = column < c.width && row < c.height;
    vg_march<M, MODE, LIT, MANY> ray(c, counts, column, row, exists);
    for (bool first = true;; first = false) {
        ray.next();
        const vg_u32 busy = vg_lanes(ray.left > 0);
        if (busy == 0) break;
        // Not in a pyramid: its kernels lack the registers, and were 4 % slower with it.
        if (first && !MANY) ray.lead = vg_lead(ray, busy);
        do ray.go();
        while (vg_lanes(ray.left > 0) >= busy - busy / 4);
    }
    if (!exists) return;
    vg_global<vg_colour>(c.image)[(vg_u64)row * c.width + column] = ray.finished();
    if (MANY && c.rays) {
        const vg_turn is = {ray.colour, ray.most, ray.k, ray.waits, 0};
        vg_global<vg_turn>(c.rays)[(vg_u64)row * c.width + column] = is;
    }
    if (c.ends) vg_global<vg_u32>(c.ends)[(vg_u64)row * c.width + column] = ray.line.samples;
    if (ray.line.samples == 0) return;
    vg_add(&counts->rays, 1);
    vg_add(&counts->samples, ray.samples);
    vg_add(&counts->skipped, ray.skipped);
    if (ray.lacking) vg_add(&counts->rays_incomplete, 1);
}

#endif
