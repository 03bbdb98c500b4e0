// What both sides of the bench cuda_g1024 share: the workload's shape, check sums that do not depend on the order of addition, and where samples lie along rays.
// Pasted after vastgrid.cuh.

#define G_TILES_LOG2 4       // tiles along a side
#define G_TILE_LOG2 6        // voxels along a tile's side
#define G_EXTENT 1024

struct g_tile {
    int x, y, z;  // its first voxel
    __device__ explicit g_tile(vg_u32 id)
        : x((int)(id & 15) << G_TILE_LOG2), y((int)(id >> 4 & 15) << G_TILE_LOG2), z((int)(id >> 8) << G_TILE_LOG2) {}
};

__device__ __forceinline__ int g_clamp(int v) { return v < 0 ? 0 : v < G_EXTENT ? v : G_EXTENT - 1; }

// Adds the threads' sums to one word.
__device__ __forceinline__ void g_note(vg_u64 sum, vg_u64* to) {
    for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (threadIdx.x % 32 == 0) atomicAdd(to, sum);
}

// The sum of a neighbourhood, x fastest, always in this order: its bits are the same wherever it is formed. Three chains; no part of it is one of another voxel's.
__device__ __forceinline__ vg_u32 g_sum27(const float v[27]) {
    float a = v[0], b = v[1], c = v[2];
    _Pragma("unroll") for (int i = 3; i < 27; i += 3) {
        a += v[i];
        b += v[i + 1];
        c += v[i + 2];
    }
    return __float_as_uint((a + b) + c);
}

// Parallel rays, 1024 x 1024 of them, a unit step apart along the axis that they follow and tilted a little. Every sample lies between the centres of voxels of the domain.
struct g_rays {
    float first[2];  // across the axis: of ray 0
    float tilt[2];   // and how far a ray goes astray with each step
    float spacing;   // between neighbouring rays
    float ahead;     // along the axis: of step 0
    vg_u32 steps;
};

// A ray, of a block of 256 threads that has 32 x 8 of them. AXIS 2: along z, neighbouring threads along x. AXIS 0: along x, neighbouring threads along z.
// WIDE: a warp is 32 x 1 rays, else 8 x 4.
template <int AXIS, bool WIDE> struct g_ray {
    const g_rays& rays;
    float start[2];
    vg_u32 index;

    __device__ __forceinline__ explicit g_ray(const g_rays& r) : rays(r) {
        const vg_u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const vg_u32 u = blockIdx.x * 32 + (WIDE ? lane : (warp & 3) * 8 + (lane & 7));
        const vg_u32 v = blockIdx.y * 8 + (WIDE ? warp : (warp >> 2) * 4 + (lane >> 3));
        start[0] = r.first[0] + (float)u * r.spacing;
        start[1] = r.first[1] + (float)v * r.spacing;
        index = v * 1024 + u;
    }

    // Where step k is, in voxels, voxel i having its centre at i + 0.5.
    __device__ __forceinline__ void at(vg_u32 k, float p[3]) const {
        const float t = (float)k, u = fmaf(t, rays.tilt[0], start[0]), v = fmaf(t, rays.tilt[1], start[1]);
        p[AXIS] = t + rays.ahead;
        p[2 - AXIS] = u;
        p[1] = v;
    }

    // Steps that stay where q, the position less half a voxel, is in [low, low + side - 1) along every axis; q is there. Never too many.
    __device__ __forceinline__ vg_u32 steps_within(const float q[3], const float low[3], float side, vg_u32 k) const {
        const float rate[3] = {AXIS == 0 ? 1.0f : rays.tilt[0], rays.tilt[1], AXIS == 2 ? 1.0f : rays.tilt[0]};
        float steps = (float)(rays.steps - k);
        _Pragma("unroll") for (int i = 0; i < 3; i++) {
            const float room = rate[i] < 0 ? low[i] - q[i] : low[i] + side - 1 - q[i];
            const float n = __fdividef(room, rate[i]) - 0.001f;
            if (rate[i] != 0) steps = fminf(steps, n);
        }
        return steps < 1 ? 1 : (vg_u32)steps;
    }
};

// Whole voxels below q, which is not negative, and what is beyond: without conversions, which few units of a multiprocessor can do.
struct g_below {
    int i;
    float f;
    __device__ __forceinline__ explicit g_below(float q) {
        const float whole = __fadd_rd(q, 8388608.0f);
        i = __float_as_int(whole) - 0x4b000000;
        f = q - (whole - 8388608.0f);
    }
};
