// One step of a cloud that spreads and is blown along x, tile by tile: `examples/06_moving_band.rs`. A block of 256 threads has a tile of 16^3: it gathers the tile with what lies around it into shared
// memory, and each of its threads computes a column along z. Where voxels come from and go to is a parameter: a grid, or a dense array to compare with.
//
// Every product and sum is rounded by itself, in the order of the example's own, so that the host's result is the same to the last bit.
#include "vastgrid.cuh"

#define BAND_LOG2 4
#define BAND_SIDE 16
#define BAND_BOX 18  // with one voxel on either side
#define BAND_THREADS 256
#define BAND_VOXELS 4096

VG_HD float band_add(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

VG_HD float band_mul(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

// A voxel of the next step from it and its 26 neighbours, x fastest.
VG_HD float band_blown(const float near[27], float least) {
    float sum = near[0];
    VG_UNROLL
    for (int i = 1; i < 27; i++) sum = band_add(sum, near[i]);
    const float mean = sum / 27.0f;
    const float value = band_add(band_add(band_mul(0.5f, near[13]), band_mul(0.3f, near[12])), band_mul(0.2f, mean));
    return value < least ? 0.0f : value;
}

// ---------------------------------------------------------------- where voxels come from

// The 27 tiles around one of a grid, itself among them: where each begins, or the one value that it holds. Shared by the threads of a block.
struct band_near {
    vg_u64 at[27];  // 0 where it has no memory
    float value[27];

    // Looks for one of them, x fastest. Beyond the grid, and where nothing is known, there is nothing: the fill value.
    VG_HD void find(const vg_grid& g, vg_u32 tx, vg_u32 ty, vg_u32 tz, vg_u32 i) {
        const vg_u32 nx = tx + i % 3 - 1, ny = ty + i / 3 % 3 - 1, nz = tz + i / 9 - 1;
        at[i] = 0;
        value[i] = vg_from_word<float>(g.fill);
        if (nx > (g.extent[0] - 1) >> BAND_LOG2 || ny > (g.extent[1] - 1) >> BAND_LOG2 || nz > (g.extent[2] - 1) >> BAND_LOG2) return;
        const vg_u64 id = vg_tile_id_at(g, nx, ny, nz);
        const vg_state state = vg_tile_state(g, id);
        if (state == VG_RESIDENT) at[i] = vg_tile_address(g, id);
        if (state == VG_UNIFORM) value[i] = vg_from_word<float>(vg_tile_word(g, id));
    }

    // A voxel of the tile that lies (i, j, k) tiles from the first of the 27.
    VG_HD float get(vg_u32 i, vg_u32 j, vg_u32 k, vg_u32 x, vg_u32 y, vg_u32 z) const {
        const vg_u32 n = i + 3 * j + 9 * k;
        const float* tile = vg_global<const float>(at[n]);
        return at[n] ? tile[x + (y << BAND_LOG2) + (z << 2 * BAND_LOG2)] : value[n];
    }
};

// A dense array, x fastest, and the box of it that a tile would be. Beyond its faces there is nothing.
struct band_dense {
    const float* voxels;
    vg_u32 extent[3];
    vg_u32 x0, y0, z0;

    VG_HD float get(vg_u32 i, vg_u32 j, vg_u32 k, vg_u32 x, vg_u32 y, vg_u32 z) const {
        // What lies before the first voxel wraps round, and lies outside.
        const vg_u32 vx = x0 + (i << BAND_LOG2) - BAND_SIDE + x, vy = y0 + (j << BAND_LOG2) - BAND_SIDE + y, vz = z0 + (k << BAND_LOG2) - BAND_SIDE + z;
        if (vx >= extent[0] || vy >= extent[1] || vz >= extent[2]) return 0.0f;
        return voxels[vx + (vg_u64)extent[0] * (vy + (vg_u64)extent[1] * vz)];
    }
};

// ---------------------------------------------------------------- a block's work, in two parts with a barrier between

// One voxel of what lies around a tile, from where it is along each axis: -1 and 16 are in the tiles before and after.
template <class F> VG_HD void band_take(const F& from, int x, int y, int z, float* box) {
    const vg_u32 i = x < 0 ? 0 : x < BAND_SIDE ? 1 : 2, j = y < 0 ? 0 : y < BAND_SIDE ? 1 : 2, k = z < 0 ? 0 : z < BAND_SIDE ? 1 : 2;
    box[(x + 1) + BAND_BOX * ((y + 1) + BAND_BOX * (z + 1))] = from.get(i, j, k, x & (BAND_SIDE - 1), y & (BAND_SIDE - 1), z & (BAND_SIDE - 1));
}

// A thread's part of a tile and of what lies around it: a column of the tile, a voxel of each face, and one of an edge or a corner. But for the last one, all threads read the same tile at a time.
template <class F> VG_HD void band_gather(const F& from, vg_u32 thread, float* box) {
    const int a = thread & (BAND_SIDE - 1), b = thread >> BAND_LOG2;
    float column[BAND_SIDE];
    VG_UNROLL
    for (int z = 0; z < BAND_SIDE; z++) column[z] = from.get(1, 1, 1, a, b, z);
    VG_UNROLL
    for (int z = 0; z < BAND_SIDE; z++) box[(a + 1) + BAND_BOX * ((b + 1) + BAND_BOX * (z + 1))] = column[z];
    VG_UNROLL
    for (int side = -1; side <= BAND_SIDE; side += BAND_SIDE + 1) {
        band_take(from, a, b, side, box);
        band_take(from, a, side, b, box);
        band_take(from, side, a, b, box);
    }
    // 4 edges along each axis, and 8 corners.
    const vg_u32 edge = thread >> BAND_LOG2, along = edge < 4 ? 0 : edge < 8 ? 1 : edge < 12 ? 2 : 3;
    const vg_u32 corner = along < 3 ? edge : thread;
    const int u = corner & 1 ? BAND_SIDE : -1, v = corner & 2 ? BAND_SIDE : -1, w = along < 3 ? a : corner & 4 ? BAND_SIDE : -1;
    if (thread < 12 * BAND_SIDE + 8) band_take(from, along == 0 ? w : u, along == 1 ? w : along == 0 ? u : v, along >= 2 ? w : v, box);
}

// A thread's column: each voxel of the next step to `to`, which has rows and planes at such distances.
VG_HD void band_column(const float* box, vg_u32 thread, float least, float* to, vg_u64 row, vg_u64 plane) {
    const vg_u32 x = thread & (BAND_SIDE - 1), y = thread >> BAND_LOG2;
    const float* from = box + y * BAND_BOX + x;
    float near[27];
    VG_UNROLL
    for (int i = 0; i < 18; i++) near[9 + i] = from[(i / 9 * BAND_BOX + i / 3 % 3) * BAND_BOX + i % 3];
    VG_UNROLL
    for (int z = 0; z < BAND_SIDE; z++) {
        VG_UNROLL
        for (int i = 0; i < 18; i++) near[i] = near[i + 9];
        VG_UNROLL
        for (int i = 0; i < 9; i++) near[18 + i] = from[((z + 2) * BAND_BOX + i / 3) * BAND_BOX + i % 3];
        to[x + y * row + z * plane] = band_blown(near, least);
    }
}

// ---------------------------------------------------------------- how it begins

// A ball: 1 inside, and falling to 0 within the last voxel of its radius.
struct band_ball {
    float centre[3], radius;
};

VG_HD float band_begun(const band_ball& ball, vg_u32 x, vg_u32 y, vg_u32 z) {
    const float dx = (float)x - ball.centre[0], dy = (float)y - ball.centre[1], dz = (float)z - ball.centre[2];
    const float squares = band_add(band_add(band_mul(dx, dx), band_mul(dy, dy)), band_mul(dz, dz));
#if defined(__CUDA_ARCH__)
    const float deep = __fadd_rn(ball.radius, -__fsqrt_rn(squares));
#else
    const float deep = ball.radius - __builtin_sqrtf(squares);
#endif
    return deep < 0.0f ? 0.0f : deep > 1.0f ? 1.0f : deep;
}
