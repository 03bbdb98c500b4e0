// Reading the array of the bench cuda_g1024. Pasted after vastgrid.cuh and g1024.cuh.

typedef vg_shape<G_TILE_LOG2, G_TILE_LOG2, G_TILE_LOG2> g_shape;

// ---- 27-point stencil. blockIdx.x: the tile. A thread has a column of voxels along z, a warp 32 of them along x; blockIdx.y: which four rows; blockIdx.z: which part.

// Through the header's vg_around: 9 loads a voxel, 18 values kept from the steps before. The 26 tiles around are tested once by each warp.
template <int STEPS> __device__ __forceinline__ void g_walk(const vg_grid& g, const vg_u32* tiles, vg_u64* out) {
    const vg_u32 id = tiles[blockIdx.x];
    vg_around<float, g_shape> around(g);
    around.enter_warp(id & 15, id >> 4 & 15, id >> 8);
    const vg_u32 lx = threadIdx.x & 63, ly = blockIdx.y * 4 + (threadIdx.x >> 6), first = blockIdx.z * STEPS;
    float v[27];
    around.load_plane(lx, ly, first, -1, v + 9);
    around.load_plane(lx, ly, first, 0, v + 18);
    vg_u64 sum = 0;
    _Pragma("unroll 4") for (vg_u32 k = 0; k < STEPS; k++) {
        _Pragma("unroll") for (int i = 0; i < 18; i++) v[i] = v[i + 9];
        around.load_plane(lx, ly, first + k, 1, v + 18);
        sum += g_sum27(v);
    }
    g_note(sum, out + id);
}

extern "C" __global__ void __launch_bounds__(256) flat_walk_16(vg_grid g, const vg_u32* tiles, vg_u64* out) { g_walk<16>(g, tiles, out); }
extern "C" __global__ void __launch_bounds__(256) flat_walk_32(vg_grid g, const vg_u32* tiles, vg_u64* out) { g_walk<32>(g, tiles, out); }
extern "C" __global__ void __launch_bounds__(256) flat_walk_64(vg_grid g, const vg_u32* tiles, vg_u64* out) { g_walk<64>(g, tiles, out); }

// Through the header's accessor: 27 loads a voxel.
extern "C" __global__ void __launch_bounds__(256) flat_neighbourhood(vg_grid g, const vg_u32* tiles, vg_u64* out) {
    const vg_u32 id = tiles[blockIdx.x];
    const g_tile tile(id);
    vg_accessor<float, g_shape> near(g);
    const vg_u32 x = tile.x + (threadIdx.x & 63), y = tile.y + blockIdx.y * 4 + (threadIdx.x >> 6), z = tile.z + blockIdx.z * 16;
    vg_u64 sum = 0;
    _Pragma("unroll 1") for (vg_u32 k = 0; k < 16; k++) {
        float v[27];
        near.neighbourhood(x, y, z + k, v);
        sum += g_sum27(v);
    }
    g_note(sum, out + id);
}

// Laid out by hand over the header's addresses: where every tile around begins is looked up once a block, and within the tile all but the first of 9 loads is at a
// constant distance. Tiles that are not resident count as the fill value of this workload, 0.
struct g_plane {
    float v[9];
};

// A plane of nine around a voxel counted from the tile's first one, wherever it lies; past the domain's faces the nearest voxel stands in. `near`: where the 27 tiles begin,
// x fastest, or 0 where one is not resident. A function of its own, of values alone: most voxels do without, and keep theirs in registers.
__device__ __noinline__ g_plane g_around(const vg_u64* near, const g_tile tile, int x, int y, int z) {
    g_plane plane;
    _Pragma("unroll") for (int i = 0; i < 9; i++) {
        const int vx = g_clamp(tile.x + x + i % 3 - 1) - tile.x, vy = g_clamp(tile.y + y + i / 3 - 1) - tile.y, vz = g_clamp(tile.z + z) - tile.z;
        const vg_u64 at = near[((vx + 64) >> 6) + 3 * ((vy + 64) >> 6) + 9 * ((vz + 64) >> 6)];
        plane.v[i] = at ? ((const float*)at)[(vx & 63) + ((vy & 63) << 6) + ((vz & 63) << 12)] : 0.0f;
    }
    return plane;
}

// A column whose rows lie in the tile: three pointers, from which everything is at a constant distance.
struct g_column {
    const float *left, *here, *right;
    bool has_left, has_right;

    // A plane of nine, k planes beyond the pointers.
    __device__ __forceinline__ g_plane within(int k) const {
        g_plane plane;
        _Pragma("unroll") for (int j = 0; j < 3; j++) {
            const int at = k * 4096 + (j - 1) * 64;
            const float a = __ldg(left + at), c = __ldg(right + at);
            plane.v[3 * j] = has_left ? a : 0.0f;
            plane.v[3 * j + 1] = __ldg(here + at);
            plane.v[3 * j + 2] = has_right ? c : 0.0f;
        }
        return plane;
    }
};

__device__ __forceinline__ vg_u64 g_sum_planes(const g_plane& a, const g_plane& b, const g_plane& c) {
    float v[27];
    _Pragma("unroll") for (int i = 0; i < 9; i++) v[i] = a.v[i], v[i + 9] = b.v[i], v[i + 18] = c.v[i];
    return g_sum27(v);
}

template <int STEPS> __device__ __forceinline__ void g_by_hand(const vg_grid& g, const vg_u32* tiles, vg_u64* out) {
    __shared__ vg_u64 near[27];
    const vg_u32 id = tiles[blockIdx.x];
    const g_tile tile(id);
    if (threadIdx.x < 27) {
        const int i = (int)threadIdx.x;
        const vg_u32 tx = (id & 15) + i % 3 - 1, ty = (id >> 4 & 15) + i / 3 % 3 - 1, tz = (id >> 8) + i / 9 - 1;
        near[i] = 0;
        if (tx < 16 && ty < 16 && tz < 16) {
            const vg_u64 t = vg_tile_id_at(g, tx, ty, tz);
            if (vg_tile_state(g, t) == VG_RESIDENT) near[i] = vg_tile_address(g, t);
        }
    }
    __syncthreads();
    const int first = (int)blockIdx.z * STEPS, x = (int)threadIdx.x & 63, y = (int)blockIdx.y * 4 + (int)(threadIdx.x >> 6);
    vg_u64 sum = 0;
    // The same for all of a warp.
    if (y > 0 && y < 63) {
        const int row = (y << 6) + (first << 12);
        g_column c;
        c.here = (const float*)near[13] + x + row;
        c.left = c.here - 1, c.right = c.here + 1;
        c.has_left = c.has_right = true;
        // At the faces of the domain the voxel stands in for its neighbour; elsewhere it is read in vain where the tile next to it is not resident.
        if (x == 0) {
            c.has_left = tile.x == 0 || near[12];
            c.left = tile.x && near[12] ? (const float*)near[12] + 63 + row : c.here;
        }
        if (x == 63) {
            const bool face = tile.x + 64 == G_EXTENT;
            c.has_right = face || near[14];
            c.right = !face && near[14] ? (const float*)near[14] + row : c.here;
        }
        g_plane below = first ? c.within(-1) : g_around(near, tile, x, y, -1), at = c.within(0);
        _Pragma("unroll") for (int k = 0; k < STEPS; k++) {
            const g_plane above = k + 1 < STEPS || first + STEPS < 64 ? c.within(k + 1) : g_around(near, tile, x, y, 64);
            sum += g_sum_planes(below, at, above);
            below = at, at = above;
        }
    } else {
        g_plane below = g_around(near, tile, x, y, first - 1), at = g_around(near, tile, x, y, first);
        _Pragma("unroll 1") for (int k = 0; k < STEPS; k++) {
            const g_plane above = g_around(near, tile, x, y, first + k + 1);
            sum += g_sum_planes(below, at, above);
            below = at, at = above;
        }
    }
    g_note(sum, out + id);
}

extern "C" __global__ void __launch_bounds__(256) flat_by_hand_16(vg_grid g, const vg_u32* tiles, vg_u64* out) { g_by_hand<16>(g, tiles, out); }
extern "C" __global__ void __launch_bounds__(256) flat_by_hand_32(vg_grid g, const vg_u32* tiles, vg_u64* out) { g_by_hand<32>(g, tiles, out); }

// ---- rays.

// Every sample through the header's accessor, which tests a tile when it enters it.
template <int AXIS, bool WIDE> __device__ __forceinline__ void g_sample(const vg_grid& g, const g_rays& rays, float* out) {
    const g_ray<AXIS, WIDE> ray(rays);
    vg_accessor<float, g_shape> near(g);
    float sum = 0;
    for (vg_u32 k = 0; k < rays.steps; k++) {
        float p[3], v;
        ray.at(k, p);
        near.sample(p[0], p[1], p[2], &v);
        sum += v;
    }
    out[ray.index] = sum;
}

// A loop for each tile entered: one test, then all samples whose support the tile holds, without another; a tile that is not resident adds what it holds. LEAP: at once, else
// one by one.
template <int AXIS, bool WIDE, bool LEAP> __device__ __forceinline__ void g_by_tile(const vg_grid& g, const g_rays& rays, float* out) {
    const g_ray<AXIS, WIDE> ray(rays);
    vg_accessor<float, g_shape> near(g);
    float sum = 0;
    for (vg_u32 k = 0; k < rays.steps;) {
        float p[3];
        ray.at(k, p);
        float q[3] = {p[0] - 0.5f, p[1] - 0.5f, p[2] - 0.5f};
        const int x = g_below(q[0]).i, y = g_below(q[1]).i, z = g_below(q[2]).i;
        const vg_state state = near.at(x, y, z);
        if ((x & 63) == 63 || (y & 63) == 63 || (z & 63) == 63) {
            float v;
            near.sample(p[0], p[1], p[2], &v);
            sum += v;
            k++;
            continue;
        }
        const float low[3] = {(float)near.x0, (float)near.y0, (float)near.z0};
        const vg_u32 end = k + ray.steps_within(q, low, 64.0f, k);
        if (state != VG_RESIDENT) {
            if (LEAP) {
                sum += near.value * (float)(end - k);
                k = end;
            } else {
                _Pragma("unroll 1") for (; k < end; k++) {
                    // Not to be made a product of: each sample is formed.
                    float v = near.value;
                    asm volatile("" : "+f"(v));
                    sum += v;
                }
            }
            continue;
        }
        const float* tile = (const float*)near.tile;
        _Pragma("unroll 4") for (; k < end; k++) {
            ray.at(k, p);
            const g_below bx(p[0] - 0.5f - low[0]), by(p[1] - 0.5f - low[1]), bz(p[2] - 0.5f - low[2]);
            const float* v = tile + (bx.i + (by.i << 6) + (bz.i << 12));
            const float c[8] = {__ldg(v), __ldg(v + 1), __ldg(v + 64), __ldg(v + 65), __ldg(v + 4096), __ldg(v + 4097), __ldg(v + 4160), __ldg(v + 4161)};
            sum += vg_trilerp(c, bx.f, by.f, bz.f);
        }
    }
    out[ray.index] = sum;
}

#define G_RAYS(name, AXIS, WIDE)                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) flat_sample_##name(vg_grid g, g_rays r, float* o) { g_sample<AXIS, WIDE>(g, r, o); } \
    extern "C" __global__ void __launch_bounds__(256) flat_tiles_##name(vg_grid g, g_rays r, float* o) { g_by_tile<AXIS, WIDE, false>(g, r, o); } \
    extern "C" __global__ void __launch_bounds__(256) flat_leap_##name(vg_grid g, g_rays r, float* o) { g_by_tile<AXIS, WIDE, true>(g, r, o); }
G_RAYS(z_wide, 2, true)
G_RAYS(z_square, 2, false)
G_RAYS(x_wide, 0, true)
G_RAYS(x_square, 0, false)

// ---- random reads. Coordinates are x | y << 10 | z << 20.

extern "C" __global__ void __launch_bounds__(256) flat_random(vg_grid g, const vg_u32* at, vg_u32 n, vg_u64* out) {
    vg_u64 sum = 0;
    _Pragma("unroll 4") for (vg_u32 i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) {
        const vg_u32 c = at[i];
        float v;
        vg_load<float>(g, c & 1023, c >> 10 & 1023, c >> 20, &v);
        sum += __float_as_uint(v);
    }
    g_note(sum, out);
}

extern "C" __global__ void __launch_bounds__(256) flat_random_unchecked(vg_grid g, const vg_u32* at, vg_u32 n, vg_u64* out) {
    vg_u64 sum = 0;
    _Pragma("unroll 4") for (vg_u32 i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) {
        const vg_u32 c = at[i];
        sum += __float_as_uint(vg_load_unchecked<float>(g, c & 1023, c >> 10 & 1023, c >> 20));
    }
    g_note(sum, out);
}
