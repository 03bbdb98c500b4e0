// Which pieces of memory hold one value throughout.
#include "one_value.cuh"

// One block a piece of `vectors` vectors, each of which begins at an address of the list.
extern "C" __global__ void __launch_bounds__(256) vg_one_value(const vg_u64* pieces, vg_u64 vectors, vg_u32 period, vg_told* out) {
    const vg_vector* piece = vg_global<const vg_vector>(pieces[blockIdx.x]);
    bool differs = false;
    for (vg_u64 from = 0; from < vectors && !differs; from += VG_TOLD_STEP) {
        differs = __syncthreads_or(vg_part_differs(piece, from, vectors, period, threadIdx.x, blockDim.x));
    }
    if (threadIdx.x == 0) vg_tell(piece, vectors, !differs, out + blockIdx.x);
}
