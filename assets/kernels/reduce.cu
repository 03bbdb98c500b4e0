// Sum, count, minimum and maximum of the voxels of tiles. The result depends on the tiles alone, not on how many blocks run: a tile is summed by one block of 256 threads
// in a fixed order, and so are the tiles' results.
#include "vastgrid.cuh"

#define THREADS 256

// A double's sum for f32, an integer's for u8 and u16, in the same bits.
struct vg_reduction {
    vg_u64 sum;     // u64, or the bits of a double
    vg_u64 voxels;  // how many were there
    double min, max;
};

template <class T> struct vg_sum { typedef vg_u64 type; };
template <> struct vg_sum<float> { typedef double type; };

template <class A> struct vg_part {
    A sum;
    vg_u64 voxels;
    double min, max;
    __device__ void add(A s, vg_u64 n, double least, double most) {
        sum += s;
        voxels += n;
        min = least < min ? least : min;
        max = most > max ? most : max;
    }
};

template <class A> __device__ vg_part<A> vg_nothing() {
    const double infinity = __longlong_as_double(0x7ff0000000000000ll);
    return vg_part<A>{A(0), 0, infinity, -infinity};
}

// Folds the parts of a block, of 256 threads, in a fixed order. The result is thread 0's.
template <class A> __device__ vg_part<A> vg_fold_block(vg_part<A> part) {
    __shared__ vg_part<A> parts[THREADS];
    parts[threadIdx.x] = part;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            const vg_part<A> other = parts[threadIdx.x + half];
            part.add(other.sum, other.voxels, other.min, other.max);
            parts[threadIdx.x] = part;
        }
    }
    __syncthreads();
    return part;
}

template <class A> __device__ void vg_write(vg_reduction* out, const vg_part<A>& part) {
    union { A sum; vg_u64 bits; } u;
    u.sum = part.sum;
    *out = vg_reduction{u.bits, part.voxels, part.min, part.max};
}

// One result a tile; none of its voxels are counted where it is neither resident nor uniform.
template <class T> __device__ void vg_reduce(const vg_grid& g, const vg_u64* tiles, unsigned n, vg_reduction* out) {
    typedef typename vg_sum<T>::type A;
    struct alignas(16) vector { T v[16 / sizeof(T)]; };
    const unsigned lanes = 16 / sizeof(T);
    for (unsigned i = blockIdx.x; i < n; i += gridDim.x) {
        const vg_u64 tile = tiles[i];
        vg_u32 first[3], rest[3];
        vg_tile_origin(g, tile, first);
        bool inside = vg_inside(g, first[0], first[1], first[2]), whole = inside && g.tile_voxels_log2 >= 4;
        for (int a = 0; a < 3; a++) {
            rest[a] = inside ? min(g.extent[a] - first[a], 1u << g.axis[a].tile_shift) : 0;
            whole = whole && rest[a] == 1u << g.axis[a].tile_shift;
        }
        const vg_state state = inside ? vg_tile_state(g, tile) : VG_MISSING;
        vg_part<A> part = vg_nothing<A>();
        if (state == VG_UNIFORM && threadIdx.x == 0) {
            const T v = vg_from_word<T>(vg_tile_word(g, tile));
            const vg_u64 voxels = (vg_u64)rest[0] * rest[1] * rest[2];
            part.add((A)v * (A)voxels, voxels, (double)v, (double)v);
        } else if (state == VG_RESIDENT && whole) {
            const vector* all = (const vector*)vg_tile_at<const T>(g, tile);
            const vg_u32 vectors = (1u << g.tile_voxels_log2) / lanes;
            T least = all[0].v[0], most = least;
            for (vg_u32 k = threadIdx.x; k < vectors; k += THREADS) {
                const vector w = all[k];
                A sum = 0;
                VG_UNROLL
                for (unsigned j = 0; j < lanes; j++) {
                    sum += (A)w.v[j];
                    // A NaN to begin with gives way to any number.
                    least = !(least <= w.v[j]) ? w.v[j] == w.v[j] ? w.v[j] : least : least;
                    most = !(most >= w.v[j]) ? w.v[j] == w.v[j] ? w.v[j] : most : most;
                }
                part.sum += sum;
                part.voxels += lanes;
            }
            part.add(A(0), 0, (double)least, (double)most);
        } else if (state == VG_RESIDENT) {
            const T* all = vg_tile_at<const T>(g, tile);
            for (vg_u32 k = threadIdx.x; k < 1u << g.tile_voxels_log2; k += THREADS) {
                bool counts = true;
                for (int a = 0; a < 3; a++) counts = counts && (k >> g.axis[a].voxel_shift & ((1u << g.axis[a].tile_shift) - 1)) < rest[a];
                if (counts) part.add((A)all[k], 1, (double)all[k], (double)all[k]);
            }
        }
        part = vg_fold_block(part);
        if (threadIdx.x == 0) vg_write(&out[i], part);
    }
}

// All results into one, by one block.
template <class A> __device__ void vg_fold(const vg_reduction* parts, unsigned n, vg_reduction* out) {
    vg_part<A> part = vg_nothing<A>();
    for (unsigned i = threadIdx.x; i < n; i += THREADS) {
        union { vg_u64 bits; A sum; } u;
        u.bits = parts[i].sum;
        part.add(u.sum, parts[i].voxels, parts[i].min, parts[i].max);
    }
    part = vg_fold_block(part);
    if (threadIdx.x == 0) vg_write(out, part);
}

#define VG_REDUCE(name, T)                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS) vg_reduce_##name(vg_grid g, const vg_u64* tiles, unsigned n, vg_reduction* out) {      \
        vg_reduce<T>(g, tiles, n, out);                                                                                                         \
    }
VG_REDUCE(u8, unsigned char)
VG_REDUCE(u16, unsigned short)
VG_REDUCE(f32, float)

extern "C" __global__ void __launch_bounds__(THREADS) vg_fold_u64(const vg_reduction* parts, unsigned n, vg_reduction* out) {
    vg_fold<vg_u64>(parts, n, out);
}
extern "C" __global__ void __launch_bounds__(THREADS) vg_fold_f64(const vg_reduction* parts, unsigned n, vg_reduction* out) {
    vg_fold<double>(parts, n, out);
}
