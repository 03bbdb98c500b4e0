// Runs the functions of assets/kernels/vastgrid.cuh on the host. Reads cases from a file that tests/kernels.rs writes, and prints what is wrong.
//
//   case:  u32 voxel bytes | u32 positions | u64 reserved bytes | vg_grid | positions x { u32 x, y, z, pad; u64 tile id, byte offset }
//
// Every position's id and offset are compared. Small arrays of u16 and f32 are then really laid out in memory, some tiles resident, some uniform, some missing, and everything
// that reads or writes is compared with a plain map of their voxels. What may not be read holds a poison.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "band.cuh"
#include "one_value.cuh"
#include "vastgrid.cuh"

// The function of check.cu, cut out of it.
#include "hash.inc"

static int failures = 0;

#define CHECK(condition, ...)                      \
    do {                                           \
        if (!(condition) && failures++ < 20) {     \
            printf("%s: ", #condition);            \
            printf(__VA_ARGS__);                   \
            printf("\n");                          \
        }                                          \
    } while (0)

static vg_u64 random_state = 1;
static vg_u32 random_below(vg_u32 n) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (vg_u32)((random_state >> 33) % n);
}

// The array as a list of voxels, and what is known of each.
template <class T> struct Model {
    vg_grid g;
    std::vector<T> memory, voxels;
    std::vector<vg_u64> table, storage;
    std::vector<vg_u8> states;  // by tile id
    T fill;

    Model(vg_grid grid, vg_u64 bytes, T fill_value) : g(grid), memory(bytes / sizeof(T)), fill(fill_value) {
        const vg_u64 tiles = bytes >> (g.tile_voxels_log2 + g.voxel_log2);
        const vg_u64 blocks = (tiles + VG_BLOCK_TILES - 1) / VG_BLOCK_TILES;
        storage.assign(blocks * (VG_BLOCK_BYTES / 8) + 2, 0);
        const vg_u64 first = ((vg_u64)storage.data() + 15) / 16 * 16;
        for (vg_u64 b = 0; b < blocks; b++) table.push_back(first + b * VG_BLOCK_BYTES);
        g.base = (vg_u64)memory.data();
        g.blocks = (vg_u64)table.data();
        g.fill = 0;
        std::memcpy(&g.fill, &fill, sizeof(T));
        for (size_t i = 0; i < memory.size(); i++) memory[i] = (T)60000;
        voxels.assign((size_t)g.extent[0] * g.extent[1] * g.extent[2], fill);
        for (vg_u64 t = 0; t < tiles; t++) {
            const vg_u32 kind = random_below(8);
            const vg_u8 state = kind < 5 ? VG_RESIDENT : kind < 7 ? VG_UNIFORM : VG_MISSING;
            states.push_back(state);
            const vg_u64 block = vg_block_of(g, t);
            if (state != VG_MISSING) ((vg_u64*)vg_group(block, t))[state == VG_RESIDENT ? VG_WORD_RESIDENT : VG_WORD_UNIFORM] |= 1ull << (t & 63);
            const T uniform = kind == 5 ? fill : (T)(100 + random_below(100));
            std::memcpy((char*)block + VG_BLOCK_VALUES + (t % VG_BLOCK_TILES) * 8, &uniform, sizeof(T));
        }
        for (vg_u32 z = 0; z < g.extent[2]; z++)
            for (vg_u32 y = 0; y < g.extent[1]; y++)
                for (vg_u32 x = 0; x < g.extent[0]; x++) {
                    const vg_u64 t = vg_tile_id(g, x, y, z);
                    T& voxel = voxels[at(x, y, z)];
                    if (states[t] == VG_RESIDENT) *(T*)vg_address(g, x, y, z) = voxel = (T)random_below(1000);
                    if (states[t] == VG_UNIFORM) voxel = vg_from_word<T>(vg_tile_word(g, t));
                }
    }
    size_t at(vg_u32 x, vg_u32 y, vg_u32 z) const { return x + (size_t)g.extent[0] * (y + (size_t)g.extent[1] * z); }
    bool there(vg_u32 x, vg_u32 y, vg_u32 z) const { return states[vg_tile_id(g, x, y, z)] != VG_MISSING; }
};

template <class T, class S> void check_stencils(const Model<T>& m) {
    const vg_grid& g = m.g;
    vg_accessor<T, S> near(g);
    vg_around<T, S> around(g);
    const vg_u32 *e = g.extent, sx = g.axis[0].tile_shift, sy = g.axis[1].tile_shift, sz = g.axis[2].tile_shift;
    for (vg_u32 z = 0; z < e[2]; z++)
        for (vg_u32 y = 0; y < e[1]; y++)
            for (vg_u32 x = 0; x < e[0]; x++) {
                T expected[27], a[27], b[27], v;
                bool all = true;
                for (int i = 0; i < 27; i++) {
                    const vg_u32 nx = vg_clamp((int)x + i % 3 - 1, e[0]), ny = vg_clamp((int)y + i / 3 % 3 - 1, e[1]), nz = vg_clamp((int)z + i / 9 - 1, e[2]);
                    expected[i] = m.voxels[m.at(nx, ny, nz)];
                    all &= m.there(nx, ny, nz);
                }
                CHECK(near.neighbourhood(x, y, z, a) == all && !std::memcmp(a, expected, sizeof a), "(%u, %u, %u)", x, y, z);
                if (x % (1u << sx) == 0 || around.x0 >> sx != x >> sx) around.enter(x >> sx, y >> sy, z >> sz);
                CHECK(around.load(x - around.x0, y - around.y0, z - around.z0, b) == all && !std::memcmp(b, expected, sizeof b), "(%u, %u, %u)", x, y, z);
                const bool ok = near.get(x, y, z, &v);
                CHECK(ok == m.there(x, y, z) && v == expected[13], "(%u, %u, %u)", x, y, z);
                if (m.states[vg_tile_id(g, x, y, z)] == VG_RESIDENT) CHECK(vg_load_unchecked<T>(g, x, y, z) == v, "(%u, %u, %u)", x, y, z);
                T w;
                CHECK(vg_load<T>(g, x, y, z, &w) == ok && w == v, "(%u, %u, %u)", x, y, z);
            }
    T v;
    CHECK(!near.get((vg_u32)-1, 0, 0, &v) && v == m.fill && !near.get(e[0], 0, 0, &v) && !vg_load<T>(g, 0, e[1], 0, &v), "outside");
    vg_accessor<T, S> fresh(g);
    CHECK(!fresh.get((vg_u32)-1, (vg_u32)-1, (vg_u32)-1, &v) && v == m.fill, "outside, first of all");
}

template <class T, class S> void check_samples(const Model<T>& m) {
    const vg_grid& g = m.g;
    vg_accessor<T, S> near(g);
    for (int n = 0; n < 20000; n++) {
        float p[3];
        for (int a = 0; a < 3; a++) p[a] = -0.5f + (float)random_below((g.extent[a] + 1) * 64) / 64.0f;
        const vg_position q(p[0], p[1], p[2]);
        float c[8], got, flat;
        bool all = true, resident = true;
        for (int k = 0; k < 8; k++) {
            const vg_u32 x = vg_clamp(q.x + (k & 1), g.extent[0]), y = vg_clamp(q.y + (k >> 1 & 1), g.extent[1]), z = vg_clamp(q.z + (k >> 2), g.extent[2]);
            c[k] = (float)m.voxels[m.at(x, y, z)];
            all &= m.there(x, y, z);
            resident &= m.states[vg_tile_id(g, x, y, z)] == VG_RESIDENT;
        }
        const float expected = vg_trilerp(c, q.fx, q.fy, q.fz);
        const bool ok = near.sample(p[0], p[1], p[2], &got);
        CHECK(ok == all && std::fabs(got - expected) < 1e-2f, "(%g, %g, %g): %g, not %g", p[0], p[1], p[2], got, expected);
        if (resident) {
            flat = vg_trilinear_unchecked<T>(g, p[0], p[1], p[2]);
            CHECK(flat == expected, "(%g, %g, %g): %g, not %g", p[0], p[1], p[2], flat, expected);
            vg_accessor<T, S, false> untested(g);
            CHECK(untested.sample(p[0], p[1], p[2], &flat) && std::fabs(flat - expected) < 1e-2f, "(%g, %g, %g)", p[0], p[1], p[2]);
        }
        // A ray leaves the tile where its voxel below does.
        float d[3];
        for (int a = 0; a < 3; a++) d[a] = random_below(4) ? (float)random_below(200) / 100.0f - 1.0f : 0.0f;
        vg_u32 low[3];
        const int below[3] = {q.x, q.y, q.z};
        bool inside = d[0] != 0 || d[1] != 0 || d[2] != 0;
        for (int a = 0; a < 3; a++) {
            low[a] = (vg_u32)below[a];
            inside = inside && low[a] < g.extent[a];
        }
        if (!inside) continue;
        near.at(low[0], low[1], low[2]);
        const vg_u64 tile = near.id;
        const float out = near.exit(p[0], p[1], p[2], 1 / d[0], 1 / d[1], 1 / d[2]);
        for (int side = 0; side < 2; side++) {
            const float t = side ? out + 0.01f : out - 0.01f;
            if (t < 0) continue;
            const vg_position r(p[0] + t * d[0], p[1] + t * d[1], p[2] + t * d[2]);
            const bool within = vg_inside(g, r.x, r.y, r.z);
            if (side == 0) CHECK(!within || vg_tile_id(g, r.x, r.y, r.z) == tile, "(%g, %g, %g) + %g * (%g, %g, %g) has left", p[0], p[1], p[2], t, d[0], d[1], d[2]);
            if (side == 1 && within) CHECK(vg_tile_id(g, r.x, r.y, r.z) != tile || std::fabs(d[0]) + std::fabs(d[1]) + std::fabs(d[2]) < 0.2f, "(%g, %g, %g) + %g * (%g, %g, %g) has not left", p[0], p[1], p[2], t, d[0], d[1], d[2]);
        }
    }
}

// Every sample of a span lies in the tile that it was asked of, is what a single sample gives, and the span ends where the tile does.
template <class T, class S> void check_spans(const Model<T>& m) {
    const vg_grid& g = m.g;
    vg_accessor<T, S> near(g), other(g);
    vg_u32 longest = 0;
    for (int n = 0; n < 3000; n++) {
        float o[3], d[3];
        for (int a = 0; a < 3; a++) {
            o[a] = (float)random_below(g.extent[a] * 64) / 64.0f;
            d[a] = random_below(4) ? ((float)random_below(2000) / 1000.0f - 1.0f) * (n % 3 ? 1.0f : 0.01f) : 0.0f;
        }
        const vg_ray ray = {o[0], o[1], o[2], d[0], d[1], d[2]};
        const vg_u32 end = 1 + random_below(400);
        for (vg_u32 k = 0; k < end;) {
            const vg_position p = ray.at(k);
            if (!near.holds(p)) {
                float v;
                near.sample_at(p, &v);
                if (!near.holds(p)) {
                    k++;
                    continue;
                }
            }
            const vg_u32 many = near.span(ray, k, end);
            CHECK(many >= 1 && many <= end - k, "%u of %u", many, end - k);
            for (vg_u32 i = k; i < k + many; i++) {
                const vg_position q = ray.at(i);
                CHECK(near.holds(q), "sample %u of a span of %u from %u on", i, many, k);
                if (near.state != VG_RESIDENT) continue;
                float one;
                const float inside = near.sample_inside(ray, i);
                CHECK(other.sample_at(q, &one) && one == inside, "sample %u: %g, not %g", i, inside, one);
            }
            // A step short at most, where rounding is in doubt.
            if (k + many + 1 < end) CHECK(!near.holds(ray.at(k + many + 1)) || many == 1, "a span of %u from %u on could go on", many, k);
            if (many > longest) longest = many;
            k += many;
        }
    }
    // A tile, or an array, one voxel thin holds no sample's support.
    bool thin = false;
    for (int a = 0; a < 3; a++) thin = thin || g.axis[a].tile_shift == 0 || g.extent[a] == 1;
    CHECK(thin ? longest == 0 : longest > 20, "%u", longest);
}

template <class T, class S> void check_writes(Model<T>& m) {
    vg_grid g = m.g;
    std::vector<vg_u8> dirty(m.states.size(), 0);
    for (int n = 0; n < 3000; n++) {
        const vg_u32 x = random_below(g.extent[0] + 1), y = random_below(g.extent[1] + 1), z = random_below(g.extent[2] + 1);
        g.flags = n % 5 ? VG_WRITABLE : 0;
        const bool may = n % 5 && vg_inside(g, x, y, z) && m.states[vg_tile_id(g, x, y, z)] == VG_RESIDENT;
        const T value = (T)random_below(1000);
        vg_accessor<T, S> near(g);
        CHECK((n % 2 ? near.set(x, y, z, value) : vg_store<T>(g, x, y, z, value)) == may, "(%u, %u, %u)", x, y, z);
        if (!may) continue;
        dirty[vg_tile_id(g, x, y, z)] = 1;
        m.voxels[m.at(x, y, z)] = value;
        T v;
        CHECK(vg_load<T>(g, x, y, z, &v) && v == value, "(%u, %u, %u)", x, y, z);
    }
    for (vg_u64 t = 0; t < dirty.size(); t++)
        CHECK((((vg_u64*)vg_group(vg_block_of(g, t), t))[VG_WORD_DIRTY] >> (t & 63) & 1) == dirty[t], "tile %llu", t);
}

// Whole tiles: who may be written, and that one mark is one bit.
template <class T> void check_tile_writes(Model<T>& m) {
    vg_grid g = m.g;
    for (vg_u64 t = 0; t < m.states.size(); t++) {
        vg_u64* word = (vg_u64*)vg_group(vg_block_of(g, t), t) + VG_WORD_DIRTY;
        const vg_u64 before = *word;
        g.flags = 0;
        CHECK(!vg_tile_to_write<T>(g, t), "tile %llu of a grid that may not be written", t);
        g.flags = VG_WRITABLE;
        T* tile = vg_tile_to_write<T>(g, t);
        CHECK((tile != nullptr) == (m.states[t] == VG_RESIDENT) && !vg_tile_to_write<vg_told>(g, t), "tile %llu", t);
        if (tile) CHECK((vg_u64)tile == vg_tile_address(g, t), "tile %llu", t);
        vg_mark_dirty(g, t);
        CHECK(*word == (before | 1ull << (t & 63)), "tile %llu", t);
        *word = before;
    }
}

// A piece of memory that repeats itself but for one bit, or altogether, as a block of threads sees it.
void check_one_value() {
    for (vg_u32 n = 0; n < 400; n++) {
        const vg_u32 period = 1u << random_below(3), vectors = period << random_below(n % 8 ? 6 : 13);
        std::vector<vg_vector> piece(vectors);
        for (vg_u32 k = 0; k < vectors; k++) piece[k] = vg_vector{(k % period) * 77ull + n, ~(vg_u64)(k % period)};
        const bool odd = n % 2 && vectors > period;
        if (odd) (n % 4 == 1 ? piece[period + random_below(vectors - period)].a : piece[period + random_below(vectors - period)].b) ^= 1ull << random_below(64);
        bool differs = false;
        for (vg_u64 from = 0; from < vectors && !differs; from += VG_TOLD_STEP)
            for (vg_u32 thread = 0; thread < 256; thread++) differs |= vg_part_differs(piece.data(), from, vectors, period, thread, 256);
        vg_told told;
        vg_tell(piece.data(), vectors, !differs, &told);
        CHECK(told.repeats == (odd ? 0 : 1), "%u vectors, period %u", vectors, period);
        for (vg_u32 i = 0; i < 4 && i < vectors; i++) CHECK(!vg_differ(told.first[i], piece[i]), "vector %u", i);
    }
}

// A step of the cloud, tile by tile, against the same voxel by voxel; from the grid and from a dense array.
void check_band(const Model<float>& m) {
    const vg_grid& g = m.g;
    const vg_u32* e = g.extent;
    const auto at = [&](vg_i64 x, vg_i64 y, vg_i64 z) {
        return x < 0 || y < 0 || z < 0 || x >= e[0] || y >= e[1] || z >= e[2] ? 0.0f : m.voxels[m.at((vg_u32)x, (vg_u32)y, (vg_u32)z)];
    };
    const band_ball ball = {{20.5f, 9.0f, 30.0f}, 11.25f};
    for (vg_u32 tz = 0; tz < e[2] / 16; tz++)
        for (vg_u32 ty = 0; ty < e[1] / 16; ty++)
            for (vg_u32 tx = 0; tx < e[0] / 16; tx++) {
                band_near near;
                for (vg_u32 i = 0; i < 27; i++) near.find(g, tx, ty, tz, i);
                const band_dense dense = {m.voxels.data(), {e[0], e[1], e[2]}, tx * 16, ty * 16, tz * 16};
                std::vector<float> box(18 * 18 * 18, NAN), other(18 * 18 * 18, NAN), out(4096, NAN);
                for (vg_u32 thread = 0; thread < 256; thread++) {
                    band_gather(near, thread, box.data());
                    band_gather(dense, thread, other.data());
                }
                for (vg_u32 thread = 0; thread < 256; thread++) band_column(box.data(), thread, 40.0f, out.data(), 16, 256);
                for (int i = 0; i < 18 * 18 * 18; i++) {
                    const float expected = at((vg_i64)tx * 16 + i % 18 - 1, (vg_i64)ty * 16 + i / 18 % 18 - 1, (vg_i64)tz * 16 + i / 324 - 1);
                    // Beyond the dense array is nothing; beyond the grid its fill value, and so where a tile is missing.
                    const bool inside = (vg_u32)(tx * 16 + i % 18 - 1) < e[0] && (vg_u32)(ty * 16 + i / 18 % 18 - 1) < e[1] && (vg_u32)(tz * 16 + i / 324 - 1) < e[2];
                    CHECK(other[i] == expected && box[i] == (inside ? expected : m.fill), "tile (%u, %u, %u), %d", tx, ty, tz, i);
                }
                for (vg_u32 i = 0; i < 4096; i++) {
                    float around[27];
                    for (int k = 0; k < 27; k++) around[k] = box[(i % 16 + k % 3) + 18 * (i / 16 % 16 + k / 3 % 3) + 324 * (i / 256 + k / 9)];
                    float sum = 0.0f;
                    for (int k = 0; k < 27; k++) sum += around[k];
                    const float value = 0.5f * around[13] + 0.3f * around[12] + 0.2f * (sum / 27.0f), expected = value < 40.0f ? 0.0f : value;
                    CHECK(out[i] == expected, "tile (%u, %u, %u), voxel %u: %g, not %g", tx, ty, tz, i, out[i], expected);
                    const float x = (float)(tx * 16 + i % 16) - 20.5f, y = (float)(ty * 16 + i / 16 % 16) - 9.0f, z = (float)(tz * 16 + i / 256) - 30.0f;
                    const float deep = 11.25f - std::sqrt(x * x + y * y + z * z);
                    CHECK(band_begun(ball, tx * 16 + i % 16, ty * 16 + i / 16 % 16, tz * 16 + i / 256) == (deep < 0 ? 0 : deep > 1 ? 1 : deep), "voxel %u", i);
                }
            }
}

template <class T, class S> void check_array(const vg_grid& grid, vg_u64 bytes) {
    Model<T> m(grid, bytes, (T)7);
    check_stencils<T, S>(m);
    check_samples<T, S>(m);
    check_spans<T, S>(m);
    check_writes<T, S>(m);
    check_stencils<T, S>(m);
    check_tile_writes<T>(m);
    // A shape that is not the grid's: everything is missing, and nothing is touched.
    vg_accessor<T, vg_shape<9, 9, 9>> wrong(m.g);
    T v;
    float f;
    CHECK(!wrong.get(0, 0, 0, &v) && v == m.fill, "a shape of another grid");
    wrong.sample(1.5f, 1.5f, 1.5f, &f);
    const vg_u64 block = vg_block_of(m.g, 5);
    float low, high;
    CHECK(!vg_tile_range(m.g, 5, &low, &high), "zero is not known");
    const vg_u64 word = ~(0xbfc00000ull << 32 | 0x40e00000ull);
    std::memcpy((char*)block + VG_BLOCK_RANGES + 5 * 8, &word, 8);
    CHECK(vg_tile_range(m.g, 5, &low, &high) && low == -1.5f && high == 7.0f, "%g to %g", low, high);
}

template <class T> void check_small(const vg_grid& g, vg_u64 bytes) {
    check_array<T, vg_any_shape>(g, bytes);
    const vg_axis* a = g.axis;
    if (a[0].tile_shift == 2 && a[1].tile_shift == 3 && a[2].tile_shift == 1) check_array<T, vg_shape<2, 3, 1>>(g, bytes);
    if (a[0].tile_shift == 3 && a[1].tile_shift == 3 && a[2].tile_shift == 3) check_array<T, vg_shape<3, 3, 3>>(g, bytes);
}

struct Position {
    vg_u32 x, y, z, pad;
    vg_u64 id, offset;
};

int main(int, char** arguments) {
    FILE* file = std::fopen(arguments[1], "rb");
    if (!file) return 2;
    struct { vg_u32 voxel_bytes, positions; vg_u64 bytes; vg_grid g; } c;
    int cases = 0, small = 0, bands = 0;
    while (std::fread(&c, sizeof c, 1, file) == 1) {
        cases++;
        for (vg_u32 i = 0; i < c.positions; i++) {
            Position p;
            if (std::fread(&p, sizeof p, 1, file) != 1) return 2;
            const vg_u64 id = vg_tile_id(c.g, p.x, p.y, p.z);
            CHECK(id == p.id, "case %d (%u, %u, %u): %llu, not %llu", cases, p.x, p.y, p.z, id, p.id);
            const vg_u64 offset = vg_address(c.g, p.x, p.y, p.z) - c.g.base;
            CHECK(offset == p.offset, "case %d (%u, %u, %u): %llu, not %llu", cases, p.x, p.y, p.z, offset, p.offset);
            CHECK(vg_inside(c.g, p.x, p.y, p.z), "case %d (%u, %u, %u)", cases, p.x, p.y, p.z);
            vg_u32 first[3];
            vg_tile_origin(c.g, id, first);
            const vg_u32 v[3] = {p.x, p.y, p.z};
            for (int a = 0; a < 3; a++) CHECK(first[a] == v[a] >> c.g.axis[a].tile_shift << c.g.axis[a].tile_shift, "case %d, axis %d: %u", cases, a, first[a]);
        }
        if (c.bytes <= 1 << 18 && (c.voxel_bytes == 2 || c.voxel_bytes == 4)) {
            small++;
            if (c.voxel_bytes == 2) check_small<unsigned short>(c.g, c.bytes);
            else check_small<float>(c.g, c.bytes);
            const vg_u32* e = c.g.extent;
            if (c.voxel_bytes == 4 && c.g.tile_voxels_log2 == 12 && (e[0] | e[1] | e[2]) % 16 == 0) {
                check_band(Model<float>(c.g, c.bytes, 7.0f));
                bands++;
            }
        }
    }
    check_one_value();
    CHECK(bands == 1, "%d grids of 16^3", bands);
    for (vg_u32 i = 0; i < 100; i++) std::printf("%llu\n", vg_hash(i, i * 77777, i * i * 1000003, i + 3));
    std::printf("%d cases, %d of them in memory, %d wrong\n", cases, small, failures);
    return failures != 0;
}
