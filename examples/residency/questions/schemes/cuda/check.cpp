// Runs the bodies of schemes.cuh on the host: reads a volume in every form that a way reads, and rays and points, and prints what each way's samples add up to, how many lacked a tile, and what each tile adds up to.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "schemes.cuh"

static FILE* file;

static void must(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
}

template <class T> static std::vector<T> list() {
    unsigned long long count = 0;
    must(std::fread(&count, 8, 1, file) == 1, "no length");
    std::vector<T> all(count);
    must(count == 0 || std::fread(all.data(), sizeof(T), count, file) == count, "too short");
    return all;
}

template <class W> static void run(const char* name, const vg_scheme& s, const std::vector<vg_scheme_ray>& rays, const std::vector<vg_u32>& points) {
    vg_u64 along = 0, at = 0, missing[2] = {0, 0};
    for (const vg_scheme_ray& ray : rays) {
        W way(s);
        along += vg_whole(vg_sum_along(way, ray, &missing[0]));
    }
    W way(s);
    for (size_t i = 0; i + 2 < points.size(); i += 3) {
        float v;
        if (!way.sample(&points[i], &v)) missing[1]++;
        at += vg_whole(v);
    }
    std::printf("%s %llu %llu %llu %llu", name, along, at, missing[0], missing[1]);
    for (vg_u32 tz = 0; tz < 1u << s.log2[2]; tz++) {
        for (vg_u32 ty = 0; ty < 1u << s.log2[1]; ty++) {
            for (vg_u32 tx = 0; tx < 1u << s.log2[0]; tx++) {
                vg_u64 sum = 0;
                for (vg_u32 z = 0; z < 1u << VG_TILE_Z; z++) {
                    for (vg_u32 y = 0; y < 1u << VG_TILE_Y; y++) {
                        for (vg_u32 x = 0; x < 1u << VG_TILE_X; x++) {
                            vg_u32 v;
                            way.voxel((tx << VG_TILE_X) + x, (ty << VG_TILE_Y) + y, (tz << VG_TILE_Z) + z, &v);
                            sum += (vg_u64)v * vg_weight(x, y, z);
                        }
                    }
                }
                std::printf(" %llu", sum);
            }
        }
    }
    std::printf("\n");
}

int main(int, char** arguments) {
    file = std::fopen(arguments[1], "rb");
    must(file != nullptr, "no file");
    const std::vector<vg_scheme> given = list<vg_scheme>();
    const std::vector<vg_scheme_ray> rays = list<vg_scheme_ray>();
    const std::vector<vg_u32> points = list<vg_u32>();
    const std::vector<vg_u16> flat = list<vg_u16>();
    const std::vector<vg_u64> blocks = list<vg_u64>();
    const std::vector<vg_u32> table = list<vg_u32>();
    const std::vector<vg_u16> pool = list<vg_u16>();
    const std::vector<vg_u16> tiles = list<vg_u16>();
    const std::vector<vg_u16> rows = list<vg_u16>();
    const std::vector<vg_u32> places = list<vg_u32>();
    const std::vector<vg_u32> sizes = list<vg_u32>();
    const std::vector<vg_u16> atlas = list<vg_u16>();
    vg_scheme s = given[0];

    // Blocks are 16 bytes and more apart from everything, as the device has them.
    std::vector<vg_u64> aligned(blocks.size() + 1);
    vg_u64* at = aligned.data() + ((vg_u64)aligned.data() % 16 ? 1 : 0);
    for (size_t i = 0; i < blocks.size(); i++) at[i] = blocks[i];
    const vg_u64 block_table[1] = {(vg_u64)at};
    s.grid.base = (vg_u64)flat.data();
    s.grid.blocks = (vg_u64)block_table;
    run<vg_way_flat<true> >("flat", s, rays, points);
    run<vg_way_flat<false> >("untested", s, rays, points);
    s.memory = (vg_u64)pool.data();
    s.table = (vg_u64)table.data();
    run<vg_way_table>("table", s, rays, points);
    s.memory = (vg_u64)tiles.data();
    run<vg_way_tiles>("tiles", s, rays, points);
    s.memory = (vg_u64)rows.data();
    run<vg_way_rows>("rows", s, rays, points);
    const vg_host_texture texture = {rows.data(), {sizes[0], sizes[1], sizes[2]}}, of_atlas = {atlas.data(), {sizes[3], sizes[4], sizes[5]}};
    s.memory = (vg_u64)&texture;
    run<vg_way_texture>("texture", s, rays, points);
    s.memory = (vg_u64)&of_atlas;
    s.table = (vg_u64)places.data();
    run<vg_way_atlas>("atlas", s, rays, points);
    return 0;
}
