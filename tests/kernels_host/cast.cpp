// Runs the ray caster's kernels on the host, pixel by pixel. Reads cases from a file that tests/kernels_host/mod.rs writes, and writes what the kernels do.
//
//   case:  u64 { type, kernel + 4 * way, levels of a pyramid or 0, input bytes, output bytes, levels } | vg_cast | input | for each level: u64 { memory bytes, blocks } | memory | blocks
//
// A way other than 0 is a rival's (cast_rivals.cuh), whose memory is made here from the first level, all of which is there.
// Addresses in vg_cast count from the beginning of the input or the output.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cast_rivals.cuh"

// Memory aligned as a device's is.
struct Piece {
    std::vector<vg_u64> words;
    explicit Piece(size_t bytes) : words(bytes / 8 + 4, 0) {}
    char* at() { return (char*)(((vg_u64)words.data() + 15) / 16 * 16); }
};

static bool fill(FILE* file, void* to, size_t bytes) { return fread(to, 1, bytes, file) == bytes; }

template <class M, int MODE, bool LIT, bool MANY> static void picture(const vg_cast& c) {
    for (vg_u32 row = 0; row < c.height; row++)
        for (vg_u32 column = 0; column < c.width; column++) vg_cast_pixel<M, MODE, LIT, MANY>(c, (vg_counts*)c.counts, column, row);
}

template <class T, int MODE, bool LIT> static void picture(const vg_cast& c, bool many) {
    if (many)
        picture<vg_near<T>, MODE, LIT, true>(c);
    else
        picture<vg_near<T>, MODE, LIT, false>(c);
}

template <class M> static void rival(const vg_cast& c, vg_u64 kernel) {
    if (kernel == 0) picture<M, VG_DVR, false, false>(c);
    if (kernel == 1) picture<M, VG_DVR, true, false>(c);
}

// Tiles with `below` voxels more in front and `above` behind, the outermost ones standing in past the faces, one after the other; and where each is.
template <class T> static void lay_out(vg_cast& c, const vg_u32 side[3], int below, int above, std::vector<T>& memory, std::vector<vg_u32>& slots) {
    const vg_grid& g = c.level[0].grid;
    vg_u32 tiles[3];
    for (int a = 0; a < 3; a++) tiles[a] = (g.extent[a] - 1) / side[a] + 1;
    for (vg_u32 t = 0; t < tiles[0] * tiles[1] * tiles[2]; t++) {
        slots.push_back(t);
        const int first[3] = {(int)(t % tiles[0] * side[0]), (int)(t / tiles[0] % tiles[1] * side[1]), (int)(t / tiles[0] / tiles[1] * side[2])};
        for (int z = -below; z < (int)side[2] + above; z++)
            for (int y = -below; y < (int)side[1] + above; y++)
                for (int x = -below; x < (int)side[0] + above; x++)
                    memory.push_back(vg_load_unchecked<T>(g, vg_clamp(first[0] + x, g.extent[0]), vg_clamp(first[1] + y, g.extent[1]), vg_clamp(first[2] + z, g.extent[2])));
    }
    c.level[1].grid.base = (vg_u64)memory.data();
    c.level[1].grid.blocks = (vg_u64)slots.data();
}

// 1: dense; 2, 3: a page table asked per sample and per voxel; 4: an atlas.
template <class T> static void run_rival(vg_cast& c, vg_u64 kernel, vg_u64 way) {
    const vg_grid& g = c.level[0].grid;
    std::vector<T> memory;
    std::vector<vg_u32> slots;
    const vg_u32 side[3] = {1u << g.axis[0].tile_shift, 1u << g.axis[1].tile_shift, 1u << g.axis[2].tile_shift};
    if (way == 4) {
        lay_out<T>(c, side, 1, 2, memory, slots);
        return rival<vg_atlas_near<T> >(c, kernel);
    }
    lay_out<T>(c, g.extent, 0, 0, memory, slots);
    if (way == 1) return rival<vg_dense_near<T> >(c, kernel);
    slots.clear();
    for (vg_u32 z = 0; z < g.extent[2]; z += side[2])
        for (vg_u32 y = 0; y < g.extent[1]; y += side[1])
            for (vg_u32 x = 0; x < g.extent[0]; x += side[0]) slots.push_back((vg_u32)vg_tile_id(g, x, y, z));
    c.level[1].grid.blocks = (vg_u64)slots.data();
    if (way == 2) rival<vg_table_near<T> >(c, kernel);
    if (way == 3) rival<vg_voxel_table_near<T> >(c, kernel);
}

static void mark(const vg_cast& c) {
    for (vg_u32 l = 0; l < c.levels; l++) {
        const vg_cast_level& level = c.level[l];
        if (!vg_has_boxes(c, level)) continue;
        for (vg_u64 tile = 0; tile < vg_groups(level.grid) * 64; tile++)
            if (vg_resident_word(level.grid, tile / 64) >> (tile & 63) & 1) vg_mark_tile(c, level, tile);
    }
}

template <class T> static void run(vg_cast& c, vg_u64 kernel, bool many) {
    if (kernel >= 4) return run_rival<T>(c, kernel % 4, kernel / 4);
    mark(c);
    if (kernel == 0) picture<T, VG_DVR, false>(c, many);
    if (kernel == 1) picture<T, VG_DVR, true>(c, many);
    if (kernel == 2) picture<T, VG_MIP, false>(c, many);
    if (kernel == 3) picture<T, VG_ISO, true>(c, many);
    if (!c.ends) return;
    for (vg_u32 row = 0; row < c.height; row++)
        for (vg_u32 column = 0; column < c.width; column++) vg_walk_pixel<T>(c, (vg_counts*)c.counts, column, row);
}

int main(int, char** arguments) {
    FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
    if (!in || !out) return 1;
    vg_u64 head[6];
    while (fill(in, head, sizeof head)) {
        vg_cast c;
        Piece input(head[3]), output(head[4]);
        if (!fill(in, &c, sizeof c) || !fill(in, input.at(), head[3])) return 2;
        std::vector<Piece> pieces;
        std::vector<std::vector<vg_u64>> tables(head[5]);
        for (vg_u64 l = 0; l < head[5]; l++) {
            vg_u64 sizes[2];
            if (!fill(in, sizes, sizeof sizes)) return 3;
            Piece memory(sizes[0]), blocks(sizes[1] * VG_BLOCK_BYTES);
            if (!fill(in, memory.at(), sizes[0]) || !fill(in, blocks.at(), sizes[1] * VG_BLOCK_BYTES)) return 4;
            for (vg_u64 b = 0; b < sizes[1]; b++) tables[l].push_back((vg_u64)blocks.at() + b * VG_BLOCK_BYTES);
            c.level[l].grid.base = (vg_u64)memory.at();
            c.level[l].grid.blocks = (vg_u64)tables[l].data();
            pieces.push_back(std::move(memory));
            pieces.push_back(std::move(blocks));
        }
        const vg_u64 from = (vg_u64)input.at(), to = (vg_u64)output.at();
        c.colours += from;
        c.seen += from;
        c.highlight += from;
        c.image += to;
        c.counts += to;
        c.wants += to;
        if (c.ends) c.ends += to;
        c.met += to;
        if (c.rays) c.rays += to;
        if (c.before) c.before += from;
        for (vg_u32 l = 0; l < c.levels; l++) {
            if (c.level[l].small) c.level[l].small += to;
            if (c.level[l].large) c.level[l].large += to;
        }
        if (head[0] == 0) run<unsigned char>(c, head[1], head[2] != 0);
        if (head[0] == 1) run<unsigned short>(c, head[1], head[2] != 0);
        if (head[0] == 2) run<short>(c, head[1], head[2] != 0);
        if (head[0] == 3) run<float>(c, head[1], head[2] != 0);
        if (fwrite(output.at(), 1, head[4], out) != head[4]) return 5;
    }
    return fclose(out);
}
