// Reading the same voxels of a NanoVDB grid for the bench cuda_g1024. Pasted after vastgrid.cuh (for the interpolation, which is one for both sides), g1024.cuh and PNanoVDB.h.
// z is the fastest axis of a leaf: neighbouring threads have neighbouring z.

#define N_FLOAT PNANOVDB_GRID_TYPE_FLOAT

struct n_reader {
    pnanovdb_buf_t buf;
    pnanovdb_readaccessor_t near;

    __device__ __forceinline__ explicit n_reader(uint32_t* data) {
        buf = pnanovdb_make_buf(data, 0);
        const pnanovdb_grid_handle_t grid = {pnanovdb_address_null()};
        pnanovdb_readaccessor_init(&near, pnanovdb_tree_get_root(buf, pnanovdb_grid_get_tree(buf, grid)));
    }

    __device__ __forceinline__ float get(int x, int y, int z) {
        const pnanovdb_coord_t c = {x, y, z};
        return pnanovdb_read_float(buf, pnanovdb_readaccessor_get_value_address(N_FLOAT, buf, &near, &c));
    }

    // FACE: past the domain's faces the nearest voxel stands in.
    template <bool FACE> __device__ __forceinline__ float get_at(int x, int y, int z) {
        return FACE ? get(g_clamp(x), g_clamp(y), g_clamp(z)) : get(x, y, z);
    }
};

__device__ __forceinline__ vg_u32 n_tile_of(int x, int y, int z) { return (vg_u32)(x >> 6 | y >> 6 << 4 | z >> 6 << 8); }

__device__ __forceinline__ bool n_at_face(int first, int side) { return first == 0 || first + side == G_EXTENT; }

// ---- 27-point stencil.

// A block has a leaf, a thread one voxel: 27 reads, in the order of the leaf.
template <bool FACE> __device__ __forceinline__ vg_u64 n_each(uint32_t* data, int x, int y, int z) {
    n_reader read(data);
    float v[27];
    _Pragma("unroll") for (int i = 0; i < 3; i++)
        _Pragma("unroll") for (int j = 0; j < 3; j++)
            _Pragma("unroll") for (int k = 0; k < 3; k++) v[9 * k + 3 * j + i] = read.get_at<FACE>(x + i - 1, y + j - 1, z + k - 1);
    return g_sum27(v);
}

extern "C" __global__ void __launch_bounds__(512) nano_each(uint32_t* data, const int4* leaves, vg_u64* out) {
    const int4 leaf = leaves[blockIdx.x];
    const int t = (int)threadIdx.x, x = leaf.x + (t >> 6), y = leaf.y + (t >> 3 & 7), z = leaf.z + (t & 7);
    const bool face = n_at_face(leaf.x, 8) || n_at_face(leaf.y, 8) || n_at_face(leaf.z, 8);
    const vg_u64 sum = face ? n_each<true>(data, x, y, z) : n_each<false>(data, x, y, z);
    g_note(sum, out + n_tile_of(leaf.x, leaf.y, leaf.z));
}

// A thread walks along x: 9 reads a voxel, 18 values kept from the steps before. 64 threads have the cross section of a leaf.
template <int STEPS, bool FACE> __device__ __forceinline__ vg_u64 n_walk(uint32_t* data, int x, int y, int z) {
    n_reader read(data);
    float v[27];
    vg_u64 sum = 0;
    _Pragma("unroll 1") for (int s = -1; s <= STEPS; s++) {
        _Pragma("unroll") for (int i = 0; i < 27; i += 3) v[i] = v[i + 1], v[i + 1] = v[i + 2];
        _Pragma("unroll") for (int j = 0; j < 3; j++)
            _Pragma("unroll") for (int k = 0; k < 3; k++) v[9 * k + 3 * j + 2] = read.get_at<FACE>(x + s, y + j - 1, z + k - 1);
        if (s > 0) sum += g_sum27(v);
    }
    return sum;
}

template <int STEPS> __device__ __forceinline__ void n_columns(uint32_t* data, const vg_u32* tiles, vg_u64* out) {
    const vg_u32 id = tiles[blockIdx.x];
    const g_tile tile(id);
    // Which of the 64 cross sections of leaves, and which thread of it.
    const int leaf = (int)(blockIdx.y * 4 + (threadIdx.x >> 6)), t = (int)threadIdx.x & 63;
    const int x = tile.x + (int)blockIdx.z * STEPS, y = tile.y + (leaf >> 3) * 8 + (t >> 3), z = tile.z + (leaf & 7) * 8 + (t & 7);
    const bool face = n_at_face(tile.x, 64) || n_at_face(tile.y, 64) || n_at_face(tile.z, 64);
    g_note(face ? n_walk<STEPS, true>(data, x, y, z) : n_walk<STEPS, false>(data, x, y, z), out + id);
}

extern "C" __global__ void __launch_bounds__(256) nano_walk_8(uint32_t* data, const vg_u32* tiles, vg_u64* out) { n_columns<8>(data, tiles, out); }
extern "C" __global__ void __launch_bounds__(256) nano_walk_16(uint32_t* data, const vg_u32* tiles, vg_u64* out) { n_columns<16>(data, tiles, out); }
extern "C" __global__ void __launch_bounds__(256) nano_walk_64(uint32_t* data, const vg_u32* tiles, vg_u64* out) { n_columns<64>(data, tiles, out); }

// By hand: a block reads a leaf and the voxels around it into shared memory, two reads a thread, and forms its neighbourhoods there.
extern "C" __global__ void __launch_bounds__(512) nano_staged(uint32_t* data, const int4* leaves, vg_u64* out) {
    __shared__ float box[10 * 240];
    const int4 leaf = leaves[blockIdx.x];
    n_reader read(data);
    for (int i = (int)threadIdx.x; i < 1000; i += 512) {
        const int x = i / 100, y = i / 10 % 10, z = i % 10;
        box[x * 240 + y * 24 + z] = read.get_at<true>(leaf.x + x - 1, leaf.y + y - 1, leaf.z + z - 1);
    }
    __syncthreads();
    const int t = (int)threadIdx.x;
    const float* at = box + (t >> 6) * 240 + (t >> 3 & 7) * 24 + (t & 7);
    float v[27];
    _Pragma("unroll") for (int i = 0; i < 27; i++) v[i] = at[i % 3 * 240 + i / 3 % 3 * 24 + i / 9];
    g_note(g_sum27(v), out + n_tile_of(leaf.x, leaf.y, leaf.z));
}

// ---- rays.

// The eight voxels of every sample through the accessor, as the library's own sampler reads them.
template <int AXIS, bool WIDE> __device__ __forceinline__ void n_sample(uint32_t* data, const g_rays& rays, float* out) {
    const g_ray<AXIS, WIDE> ray(rays);
    n_reader read(data);
    float sum = 0;
    for (vg_u32 k = 0; k < rays.steps; k++) {
        float p[3];
        ray.at(k, p);
        const g_below x(p[0] - 0.5f), y(p[1] - 0.5f), z(p[2] - 0.5f);
        float c[8];
        _Pragma("unroll") for (int i = 0; i < 8; i++) {
            const int dx = i >> 2, dy = i >> 1 & 1, dz = i & 1;
            c[4 * dz + 2 * dy + dx] = read.get(x.i + dx, y.i + dy, z.i + dz);
        }
        sum += vg_trilerp(c, x.f, y.f, z.f);
    }
    out[ray.index] = sum;
}

// By hand: one look-up a sample where a leaf, or a region of one value, holds its support. LEAP: regions of one value are left at once.
template <int AXIS, bool WIDE, bool LEAP> __device__ __forceinline__ void n_by_node(uint32_t* data, const g_rays& rays, float* out) {
    const g_ray<AXIS, WIDE> ray(rays);
    n_reader read(data);
    float sum = 0;
    for (vg_u32 k = 0; k < rays.steps;) {
        float p[3];
        ray.at(k, p);
        const float q[3] = {p[0] - 0.5f, p[1] - 0.5f, p[2] - 0.5f};
        const g_below x(q[0]), y(q[1]), z(q[2]);
        const pnanovdb_coord_t voxel = {x.i, y.i, z.i};
        pnanovdb_uint32_t level;
        const pnanovdb_address_t at = pnanovdb_readaccessor_get_value_address_and_level(N_FLOAT, read.buf, &read.near, &voxel, &level);
        // What the value at this address stands for: a voxel of a leaf, or a cube of 8, 128 or 4096 voxels a side.
        const int side = level < 2 ? 8 : level == 2 ? 128 : 4096, last = side - 1;
        if ((x.i & last) != last && (y.i & last) != last && (z.i & last) != last) {
            const float first = pnanovdb_read_float(read.buf, at);
            if (level == 0) {
                const float c[8] = {first, pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 256)),
                                    pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 32)), pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 288)),
                                    pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 4)), pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 260)),
                                    pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 36)), pnanovdb_read_float(read.buf, pnanovdb_address_offset(at, 292))};
                sum += vg_trilerp(c, x.f, y.f, z.f);
                k++;
            } else if (LEAP) {
                const float low[3] = {(float)(x.i & ~last), (float)(y.i & ~last), (float)(z.i & ~last)};
                const vg_u32 steps = ray.steps_within(q, low, (float)side, k);
                sum += first * (float)steps;
                k += steps;
            } else {
                sum += first;
                k++;
            }
            continue;
        }
        float c[8];
        _Pragma("unroll") for (int i = 0; i < 8; i++) {
            const int dx = i >> 2, dy = i >> 1 & 1, dz = i & 1;
            c[4 * dz + 2 * dy + dx] = read.get(x.i + dx, y.i + dy, z.i + dz);
        }
        sum += vg_trilerp(c, x.f, y.f, z.f);
        k++;
    }
    out[ray.index] = sum;
}

#define N_RAYS(name, AXIS, WIDE)                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256) nano_sample_##name(uint32_t* d, g_rays r, float* o) { n_sample<AXIS, WIDE>(d, r, o); }   \
    extern "C" __global__ void __launch_bounds__(256) nano_nodes_##name(uint32_t* d, g_rays r, float* o) { n_by_node<AXIS, WIDE, false>(d, r, o); } \
    extern "C" __global__ void __launch_bounds__(256) nano_leap_##name(uint32_t* d, g_rays r, float* o) { n_by_node<AXIS, WIDE, true>(d, r, o); }
N_RAYS(z_wide, 2, true)
N_RAYS(z_square, 2, false)
N_RAYS(x_wide, 0, true)
N_RAYS(x_square, 0, false)

// ---- random reads.

extern "C" __global__ void __launch_bounds__(256) nano_random(uint32_t* data, const vg_u32* at, vg_u32 n, vg_u64* out) {
    n_reader read(data);
    vg_u64 sum = 0;
    _Pragma("unroll 4") for (vg_u32 i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) {
        const vg_u32 c = at[i];
        sum += __float_as_uint(read.get(c & 1023, c >> 10 & 1023, c >> 20));
    }
    g_note(sum, out);
}
