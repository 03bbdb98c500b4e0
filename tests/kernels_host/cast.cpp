// Runs the ray caster's kernels on the host, pixel by pixel. Reads cases from a file that tests/kernels_cast.rs writes, and writes what the kernels do.
//
//   case:  u64 { type, kernel, levels of a pyramid or 0, input bytes, output bytes, levels } | vg_cast | input | for each level: u64 { memory bytes, blocks } | memory | blocks
//
// Addresses in vg_cast count from the beginning of the input or the output.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cast_march.cuh"

// Memory aligned as a device's is.
struct Piece {
    std::vector<vg_u64> words;
    explicit Piece(size_t bytes) : words(bytes / 8 + 4, 0) {}
    char* at() { return (char*)(((vg_u64)words.data() + 15) / 16 * 16); }
};

static bool fill(FILE* file, void* to, size_t bytes) { return fread(to, 1, bytes, file) == bytes; }

template <class T, int MODE, bool LIT> static void picture(const vg_cast& c, bool many) {
    vg_counts* counts = (vg_counts*)c.counts;
    for (vg_u32 row = 0; row < c.height; row++)
        for (vg_u32 column = 0; column < c.width; column++)
            if (many)
                vg_cast_pixel<vg_near<T>, MODE, LIT, true>(c, counts, column, row);
            else
                vg_cast_pixel<vg_near<T>, MODE, LIT, false>(c, counts, column, row);
}

template <class T> static void run(const vg_cast& c, vg_u64 kernel, bool many) {
    if (kernel == 0) picture<T, VG_DVR, false>(c, many);
    if (kernel == 1) picture<T, VG_DVR, true>(c, many);
    if (kernel == 2) picture<T, VG_MIP, false>(c, many);
    if (kernel == 3) picture<T, VG_ISO, true>(c, many);
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
        if (head[0] == 0) run<unsigned char>(c, head[1], head[2] != 0);
        if (head[0] == 1) run<unsigned short>(c, head[1], head[2] != 0);
        if (head[0] == 2) run<short>(c, head[1], head[2] != 0);
        if (head[0] == 3) run<float>(c, head[1], head[2] != 0);
        if (fwrite(output.at(), 1, head[4], out) != head[4]) return 5;
    }
    return fclose(out);
}
