// Keeps the device's copy of what is known of tiles in step with the host's.
#include "vastgrid.cuh"

// Writes n words: *pair.x = pair.y. No address stands in two pairs.
extern "C" __global__ void vg_patch(const ulonglong2* pairs, unsigned n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        const ulonglong2 pair = pairs[i];
        *(vg_u64*)pair.x = pair.y;
    }
}

// Takes the dirty words of n_blocks blocks, 64 threads a block: appends {group, word} to `out` and clears the word. `first_group[b]` is the number of block b's first group,
// which counts 64 tiles a group. `*count` was zeroed; beyond `capacity` it counts on, and the words keep their bits.
extern "C" __global__ void vg_collect_dirty(const vg_u64* blocks, const vg_u64* first_group, unsigned n_blocks, ulonglong2* out, unsigned* count,
                                            unsigned capacity) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned block = i / (VG_BLOCK_TILES / 64), group = i % (VG_BLOCK_TILES / 64);
    if (block >= n_blocks) return;
    vg_u64* word = (vg_u64*)(blocks[block] + VG_BLOCK_GROUPS) + group * (VG_GROUP_BYTES / 8) + VG_WORD_DIRTY;
    if (*(volatile vg_u64*)word == 0) return;
    const unsigned at = atomicAdd(count, 1);
    if (at < capacity) out[at] = make_ulonglong2(first_group[block] + group, atomicExch(word, 0));
}
