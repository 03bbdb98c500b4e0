// Whether a piece of memory repeats its beginning to its end, told by a block of threads.
#include "vastgrid.cuh"

struct alignas(16) vg_vector {
    vg_u64 a, b;
};

// What is told of a piece. TOLD_BYTES in src/backend/cuda/one_value.rs.
struct vg_told {
    vg_vector first[4];  // its beginning, as far as it goes
    vg_u32 repeats;
    vg_u32 pad[3];
};
static_assert(sizeof(vg_told) == 80, "vg_told");

// Vectors that a block looks at between two questions to all of its threads whether it can stop.
#define VG_TOLD_STEP 2048

VG_HD bool vg_differ(const vg_vector& a, const vg_vector& b) { return ((a.a ^ b.a) | (a.b ^ b.b)) != 0; }

// One thread's part of the vectors from `from` on, up to VG_TOLD_STEP of them: whether one of them is not as its like among the first `period`, a power of two.
VG_HD bool vg_part_differs(const vg_vector* piece, vg_u64 from, vg_u64 vectors, vg_u32 period, vg_u32 thread, vg_u32 threads) {
    const vg_u64 end = from + VG_TOLD_STEP < vectors ? from + VG_TOLD_STEP : vectors;
    bool differs = false;
    for (vg_u64 k = from + thread; k < end; k += threads) differs |= vg_differ(piece[k], piece[k & (period - 1)]);
    return differs;
}

VG_HD void vg_tell(const vg_vector* piece, vg_u64 vectors, bool repeats, vg_told* out) {
    const vg_vector none = {0, 0};
    for (vg_u32 i = 0; i < 4; i++) out->first[i] = i < vectors ? piece[i] : none;
    out->repeats = repeats ? 1 : 0;
}
