// How a kernel reads an array of vastgrid: one flat pointer, and a test of residency once per tile entered.
//
//   extern "C" __global__ void sum(vg_grid grid, ...) {
//       vg_accessor<float> near(grid);               // one per thread; remembers the tile that it is in
//       float v;
//       if (near.get(x, y, z, &v)) ...               // one voxel; false where its tile is not there
//       if (near.sample(px, py, pz, &v)) ...         // trilinear; voxel i has its centre at i + 0.5
//       T* tile = vg_tile_to_write<T>(grid, id); // all voxels of a tile, one of whose threads says vg_mark_dirty(grid, id)
//       n = near.span(ray, k, end)                   // so many samples of a ray from here need no test at all: near.sample_inside(ray, k)
//   }
//
// Everything works under NVRTC without any include, and under nvcc. What is marked VG_HD compiles on the host too, where its tests run.
// Coordinates are unsigned and below 2^31; a negative one, converted, lies outside the array.
// The struct and the block are pinned to `GridView` and `block` in src/device/ by the assertions below.
#ifndef VASTGRID_CUH
#define VASTGRID_CUH

#if defined(__CUDACC__)
#define VG_HD __host__ __device__ __forceinline__
#define VG_UNROLL _Pragma("unroll")
#define VG_NO_UNROLL _Pragma("unroll 1")
#else
#define VG_HD inline
#define VG_UNROLL
#define VG_NO_UNROLL
#endif

typedef unsigned char vg_u8;
typedef unsigned int vg_u32;
typedef unsigned long long vg_u64;
typedef long long vg_i64;

// ---------------------------------------------------------------- the grid

// One axis: how a position contributes to the flat position. The three contributions are added up.
struct vg_axis {
    vg_u8 tile_shift;          // log2 of the tile's edge
    vg_u8 page_shift;          // log2 of the page's edge in tiles
    vg_u8 voxel_shift;         // where the position in the tile goes, in voxels
    vg_u8 slot_shift;          // where the tile's position in the page goes, in tiles
    vg_u32 pad;
    vg_u64 page_stride_tiles;  // tiles between pages that are neighbours along this axis
};

// An array, by value.
struct vg_grid {
    vg_u64 base;    // address of the reservation
    vg_u64 blocks;  // address of the table of block addresses; none of them is null
    vg_u64 fill;    // the fill value, as a word (see vg_from_word)
    vg_axis axis[3];
    vg_u32 extent[3];  // in voxels
    vg_u8 voxel_log2;
    vg_u8 tile_voxels_log2;
    vg_u8 block_log2;  // tiles of a block
    vg_u8 flags;       // VG_WRITABLE
};

#define VG_WRITABLE 1

#define VG_GRID_BYTES 88
#define VG_AXIS_BYTES 16
#define VG_OFFSET_BASE 0
#define VG_OFFSET_BLOCKS 8
#define VG_OFFSET_FILL 16
#define VG_OFFSET_AXIS 24
#define VG_OFFSET_EXTENT 72
#define VG_OFFSET_VOXEL_LOG2 84
#define VG_OFFSET_TILE_VOXELS_LOG2 85
#define VG_OFFSET_BLOCK_LOG2 86
#define VG_OFFSET_FLAGS 87

// What the device knows of 2^12 tiles: one piece of memory, all zero where nothing is known.
//   64 groups of 4 words {resident, uniform, dirty, spare}, a bit a tile | 4096 words: what uniform tiles hold | 4096 words: ranges
#define VG_BLOCK_LOG2 12
#define VG_BLOCK_TILES 4096
#define VG_GROUP_BYTES 32
#define VG_WORD_RESIDENT 0
#define VG_WORD_UNIFORM 1
#define VG_WORD_DIRTY 2
#define VG_BLOCK_GROUPS 0
#define VG_BLOCK_VALUES 2048
#define VG_BLOCK_RANGES 34816
#define VG_BLOCK_BYTES 67584

// NVRTC has no offsetof; this is what its front end makes of one.
#if defined(__CUDACC_RTC__)
#define VG_OFFSET_OF(type, member) __INTADDR__(&((type*)0)->member)
#else
#define VG_OFFSET_OF(type, member) __builtin_offsetof(type, member)
#endif
static_assert(sizeof(vg_grid) == VG_GRID_BYTES, "vg_grid");
static_assert(sizeof(vg_axis) == VG_AXIS_BYTES, "vg_axis");
static_assert(VG_OFFSET_OF(vg_axis, page_stride_tiles) == 8, "vg_axis::page_stride_tiles");
static_assert(VG_OFFSET_OF(vg_grid, base) == VG_OFFSET_BASE, "base");
static_assert(VG_OFFSET_OF(vg_grid, blocks) == VG_OFFSET_BLOCKS, "blocks");
static_assert(VG_OFFSET_OF(vg_grid, fill) == VG_OFFSET_FILL, "fill");
static_assert(VG_OFFSET_OF(vg_grid, axis) == VG_OFFSET_AXIS, "axis");
static_assert(VG_OFFSET_OF(vg_grid, extent) == VG_OFFSET_EXTENT, "extent");
static_assert(VG_OFFSET_OF(vg_grid, voxel_log2) == VG_OFFSET_VOXEL_LOG2, "voxel_log2");
static_assert(VG_OFFSET_OF(vg_grid, tile_voxels_log2) == VG_OFFSET_TILE_VOXELS_LOG2, "tile_voxels_log2");
static_assert(VG_OFFSET_OF(vg_grid, block_log2) == VG_OFFSET_BLOCK_LOG2, "block_log2");
static_assert(VG_OFFSET_OF(vg_grid, flags) == VG_OFFSET_FLAGS, "flags");
static_assert(VG_BLOCK_TILES == 1 << VG_BLOCK_LOG2, "tiles of a block");
static_assert(VG_BLOCK_VALUES == VG_BLOCK_TILES / 64 * VG_GROUP_BYTES, "groups of a block");
static_assert(VG_BLOCK_RANGES == VG_BLOCK_VALUES + VG_BLOCK_TILES * 8, "values of a block");
static_assert(VG_BLOCK_BYTES == VG_BLOCK_RANGES + VG_BLOCK_TILES * 8, "ranges of a block");

// ---------------------------------------------------------------- addresses

// This axis' part of the tile id, from a position in tiles.
VG_HD vg_u64 vg_axis_slot(const vg_axis& a, vg_u32 t) {
    return ((vg_u64)(t & ((1u << a.page_shift) - 1)) << a.slot_shift) + (t >> a.page_shift) * a.page_stride_tiles;
}

// This axis' part of the position in the tile, in voxels.
VG_HD vg_u32 vg_axis_within(const vg_axis& a, vg_u32 v) { return (v & ((1u << a.tile_shift) - 1)) << a.voxel_shift; }

// The id of the tile at a position in tiles.
VG_HD vg_u64 vg_tile_id_at(const vg_grid& g, vg_u32 tx, vg_u32 ty, vg_u32 tz) {
    return vg_axis_slot(g.axis[0], tx) + vg_axis_slot(g.axis[1], ty) + vg_axis_slot(g.axis[2], tz);
}

// The id of the tile that holds a voxel.
VG_HD vg_u64 vg_tile_id(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z) {
    return vg_tile_id_at(g, x >> g.axis[0].tile_shift, y >> g.axis[1].tile_shift, z >> g.axis[2].tile_shift);
}

// Where a tile begins, as an address.
VG_HD vg_u64 vg_tile_address(const vg_grid& g, vg_u64 tile) {
    return g.base + (tile << (g.tile_voxels_log2 + g.voxel_log2));
}

// The position of a voxel in its tile, in voxels.
VG_HD vg_u32 vg_within_tile(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z) {
    return vg_axis_within(g.axis[0], x) + vg_axis_within(g.axis[1], y) + vg_axis_within(g.axis[2], z);
}

// Where a voxel is, resident or not.
VG_HD vg_u64 vg_address(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z) {
    return vg_tile_address(g, vg_tile_id(g, x, y, z)) + ((vg_u64)vg_within_tile(g, x, y, z) << g.voxel_log2);
}

// What lies at an address of the device's memory. Said aloud, because the compiler takes an integer for an address of anything, which costs.
template <class T> VG_HD T* vg_global(vg_u64 address) {
    T* p = (T*)address;
#if defined(__CUDA_ARCH__)
    __builtin_assume(__isGlobal(p));
#endif
    return p;
}

// Where a tile begins. Derived from the reservation's pointer, so that the compiler knows what memory it is in.
template <class T> VG_HD T* vg_tile_at(const vg_grid& g, vg_u64 tile) { return vg_global<T>(g.base) + (tile << g.tile_voxels_log2); }

// Whether the array has such a voxel.
VG_HD bool vg_inside(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z) {
    return x < g.extent[0] && y < g.extent[1] && z < g.extent[2];
}

// The first voxel of a tile. Divides: for kernels that are given tile ids, once per tile. Ids at the far faces may stand for tiles outside the array.
VG_HD void vg_tile_origin(const vg_grid& g, vg_u64 tile, vg_u32 origin[3]) {
    const vg_u32 page_log2 = g.axis[0].page_shift + g.axis[1].page_shift + g.axis[2].page_shift;
    vg_u64 page = (tile >> page_log2) << page_log2;
    for (int i = 2; i >= 0; i--) {
        const vg_axis& a = g.axis[i];
        const vg_u64 p = page / a.page_stride_tiles;
        page -= p * a.page_stride_tiles;
        const vg_u32 in_page = (vg_u32)(tile >> a.slot_shift) & ((1u << a.page_shift) - 1);
        origin[i] = (((vg_u32)p << a.page_shift) + in_page) << a.tile_shift;
    }
}

// ---------------------------------------------------------------- what is known of a tile

enum vg_state { VG_MISSING = 0, VG_RESIDENT = 1, VG_UNIFORM = 2 };

struct alignas(16) vg_words {
    vg_u64 resident, uniform;
};

// A word, or the first two, of what is known of tiles. By the read-only path: what changes while a kernel runs concerns tiles that are not the kernel's to read.
VG_HD vg_u64 vg_known_word(vg_u64 address) {
#if defined(__CUDA_ARCH__)
    return __ldg((const vg_u64*)address);
#else
    return *(const vg_u64*)address;
#endif
}

VG_HD vg_words vg_known_words(vg_u64 address) {
#if defined(__CUDA_ARCH__)
    const ulonglong2 words = __ldg((const ulonglong2*)address);
    const vg_words both = {words.x, words.y};
    return both;
#else
    return *(const vg_words*)address;
#endif
}

// Where the block is that describes a tile.
VG_HD vg_u64 vg_block_of(const vg_grid& g, vg_u64 tile) { return vg_known_word(g.blocks + (tile >> VG_BLOCK_LOG2) * 8); }

// Where the words of a tile's group of 64 are.
VG_HD vg_u64 vg_group(vg_u64 block, vg_u64 tile) {
    return block + VG_BLOCK_GROUPS + ((vg_u32)tile & (VG_BLOCK_TILES - 1)) / 64 * VG_GROUP_BYTES;
}

VG_HD vg_state vg_state_in(vg_u64 block, vg_u64 tile) {
    const vg_words words = vg_known_words(vg_group(block, tile));
    const vg_u32 bit = (vg_u32)tile & 63;
    return words.resident >> bit & 1 ? VG_RESIDENT : words.uniform >> bit & 1 ? VG_UNIFORM : VG_MISSING;
}

// Whether the tile's memory may be read, or it is known to hold one value, or neither. Two loads, one after the other.
VG_HD vg_state vg_tile_state(const vg_grid& g, vg_u64 tile) { return vg_state_in(vg_block_of(g, tile), tile); }

// The word of a uniform tile's value.
VG_HD vg_u64 vg_tile_word(const vg_grid& g, vg_u64 tile) {
    return vg_known_word(vg_block_of(g, tile) + VG_BLOCK_VALUES + ((vg_u32)tile & (VG_BLOCK_TILES - 1)) * 8);
}

// A voxel from its word: the first bytes, and for voxels beyond 8 bytes the word again and again.
template <class T> VG_HD T vg_from_word(vg_u64 word) {
    union { vg_u64 words[(sizeof(T) + 7) / 8]; T value; } u;
    VG_UNROLL
    for (unsigned i = 0; i < (sizeof(T) + 7) / 8; i++) u.words[i] = word;
    return u.value;
}

VG_HD float vg_bits_to_float(vg_u32 bits) {
    union { vg_u32 bits; float value; } u;
    u.bits = bits;
    return u.value;
}

// The smallest and the largest value that a tile had when it was loaded, whatever was written to it since; false where they are not known. A tile of nothing but NaN has +infinity and -infinity.
// The word is that of `pack_range` in src/planes.rs: both ends' bits inverted, the minimum in the upper half, so that zero means not known.
VG_HD bool vg_tile_range(const vg_grid& g, vg_u64 tile, float* min, float* max) {
    const vg_u64 word = vg_known_word(vg_block_of(g, tile) + VG_BLOCK_RANGES + ((vg_u32)tile & (VG_BLOCK_TILES - 1)) * 8);
    *min = vg_bits_to_float((vg_u32)(~word >> 32));
    *max = vg_bits_to_float((vg_u32)~word);
    return word != 0;
}

// ---------------------------------------------------------------- one voxel

// A voxel of a tile that is known to be resident. Anything else may kill the context.
template <class T> VG_HD T vg_load_unchecked(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z) {
    return vg_tile_at<const T>(g, vg_tile_id(g, x, y, z))[vg_within_tile(g, x, y, z)];
}

// Whether T is as large as the grid's voxels. Where it is not, every tile is missing, and nothing is read or written: offsets would be those of other voxels.
template <class T> VG_HD bool vg_fits(const vg_grid& g) { return sizeof(T) == 1u << g.voxel_log2; }

// A voxel. False, and the fill value, outside the array and where the tile is neither resident nor uniform.
template <class T> VG_HD bool vg_load(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z, T* out) {
    *out = vg_from_word<T>(g.fill);
    if (!vg_fits<T>(g) || !vg_inside(g, x, y, z)) return false;
    const vg_u64 tile = vg_tile_id(g, x, y, z);
    const vg_state state = vg_tile_state(g, tile);
    if (state == VG_RESIDENT) {
        *out = vg_tile_at<const T>(g, tile)[vg_within_tile(g, x, y, z)];
    } else if (state == VG_UNIFORM) {
        *out = vg_from_word<T>(vg_tile_word(g, tile));
    }
    return state != VG_MISSING;
}

// Notes that a tile was written. Collected (see mirror.cu) once the kernels that write it have finished, never while they run.
VG_HD void vg_mark_dirty(const vg_grid& g, vg_u64 tile) {
    vg_u64* dirty = (vg_u64*)vg_group(vg_block_of(g, tile), tile) + VG_WORD_DIRTY;
    const vg_u64 bit = 1ull << ((vg_u32)tile & 63);
    if (*dirty & bit) return;
#if defined(__CUDA_ARCH__)
    atomicOr(dirty, bit);
#else
    *dirty |= bit;
#endif
}

// The voxels of a tile that may be written, x fastest; or null, where it is not resident, its grid is not writable, or T is not its voxel. For kernels that write whole tiles: one thread of those that
// share a tile marks it (vg_mark_dirty), before or after the stores, and the others do without.
template <class T> VG_HD T* vg_tile_to_write(const vg_grid& g, vg_u64 tile) {
    if (!(g.flags & VG_WRITABLE) || !vg_fits<T>(g) || vg_tile_state(g, tile) != VG_RESIDENT) return nullptr;
    return vg_tile_at<T>(g, tile);
}

// Writes a voxel. False, and nothing is written, outside the array, where the tile is not resident, and where the grid is not writable.
template <class T> VG_HD bool vg_store(const vg_grid& g, vg_u32 x, vg_u32 y, vg_u32 z, T value) {
    if (!(g.flags & VG_WRITABLE) || !vg_fits<T>(g) || !vg_inside(g, x, y, z)) return false;
    const vg_u64 tile = vg_tile_id(g, x, y, z);
    if (vg_tile_state(g, tile) != VG_RESIDENT) return false;
    vg_tile_at<T>(g, tile)[vg_within_tile(g, x, y, z)] = value;
    vg_mark_dirty(g, tile);
    return true;
}

// ---------------------------------------------------------------- shapes

// The tile's shape as the grid has it. Shifts are loop invariants.
struct vg_any_shape {
    VG_HD static vg_u32 shift(const vg_grid& g, int i) { return g.axis[i].tile_shift; }
    VG_HD static vg_u32 place(const vg_grid& g, int i) { return g.axis[i].voxel_shift; }
    VG_HD static bool fits(const vg_grid&) { return true; }
};

// A shape known when the kernel is compiled, as log2 of the edges: offsets within a tile become constants. In a grid of another shape every tile is missing.
template <vg_u32 X, vg_u32 Y, vg_u32 Z> struct vg_shape {
    VG_HD static vg_u32 shift(const vg_grid&, int i) { return i == 0 ? X : i == 1 ? Y : Z; }
    VG_HD static vg_u32 place(const vg_grid&, int i) { return i == 0 ? 0 : i == 1 ? X : X + Y; }
    VG_HD static bool fits(const vg_grid& g) {
        return g.axis[0].tile_shift == X && g.axis[1].tile_shift == Y && g.axis[2].tile_shift == Z;
    }
};

// -DVG_TILE_LOG2=6,6,6 compiles for tiles of 64 x 64 x 64.
#if defined(VG_TILE_LOG2)
typedef vg_shape<VG_TILE_LOG2> vg_tile_shape;
#else
typedef vg_any_shape vg_tile_shape;
#endif

// ---------------------------------------------------------------- interpolation

// A voxel as a float. Small integers by way of 32 bits, for which the conversion is several times faster.
template <class T> VG_HD float vg_float(T v) { return (float)v; }
#if defined(__CUDA_ARCH__)
VG_HD float vg_float(vg_u8 v) { return __uint2float_rn(v); }
VG_HD float vg_float(unsigned short v) { return __uint2float_rn(v); }
VG_HD float vg_float(signed char v) { return __int2float_rn(v); }
VG_HD float vg_float(short v) { return __int2float_rn(v); }
#endif

VG_HD float vg_lerp(float a, float b, float f) { return a + (b - a) * f; }

// Between eight values, x fastest.
VG_HD float vg_trilerp(const float c[8], float fx, float fy, float fz) {
    const float low = vg_lerp(vg_lerp(c[0], c[1], fx), vg_lerp(c[2], c[3], fx), fy);
    const float high = vg_lerp(vg_lerp(c[4], c[5], fx), vg_lerp(c[6], c[7], fx), fy);
    return vg_lerp(low, high, fz);
}

VG_HD int vg_floor(float v) {
#if defined(__CUDA_ARCH__)
    return __float2int_rd(v);
#else
    const int i = (int)v;
    return i - (v < (float)i);
#endif
}

// Whole voxels below v, from 0 up to 2^23, and what is beyond them: without a conversion, which few units of a multiprocessor can do.
struct vg_below {
    vg_u32 i;
    float f;
    VG_HD explicit vg_below(float v) {
#if defined(__CUDA_ARCH__)
        const float whole = __fadd_rd(v, 8388608.0f);
        i = __float_as_uint(whole) - 0x4b000000u;
        f = v - (whole - 8388608.0f);
#else
        i = (vg_u32)v;
        f = v - (float)i;
#endif
    }
};

// The voxel nearest to v along an axis.
VG_HD vg_u32 vg_clamp(int v, vg_u32 extent) { return v < 0 ? 0 : (vg_u32)v < extent ? (vg_u32)v : extent - 1; }

// The voxel below a position and how far the position is beyond its centre. Past a face the nearest voxel stands in.
struct vg_position {
    int x, y, z;
    float fx, fy, fz;
    VG_HD vg_position(float px, float py, float pz) {
        px -= 0.5f; py -= 0.5f; pz -= 0.5f;
        x = vg_floor(px); y = vg_floor(py); z = vg_floor(pz);
        fx = px - (float)x; fy = py - (float)y; fz = pz - (float)z;
    }
};

// A straight line of samples: sample k lies at origin + (k + 1/2) * step, in voxels.
struct vg_ray {
    float ox, oy, oz, sx, sy, sz;

    VG_HD static float along(float o, float s, vg_u32 k) {
#if defined(__CUDA_ARCH__)
        return __fmaf_rn((float)k + 0.5f, s, o);
#else
        return o + ((float)k + 0.5f) * s;
#endif
    }
    VG_HD vg_position at(vg_u32 k) const { return vg_position(along(ox, sx, k), along(oy, sy, k), along(oz, sz, k)); }
};

// ---------------------------------------------------------------- a thread's own tile

// Reads voxels and remembers the tile of the last one: the test of residency is made once per tile entered. One per thread, in registers.
// With TEST false nothing is tested, and every tile that get, sample or set come upon must be known to be resident.
template <class T, class S = vg_tile_shape, bool TEST = true> struct vg_accessor {
    const vg_grid& grid;
    T* tile;           // its voxels, where it is resident
    vg_u64 id;
    vg_u32 x0, y0, z0; // its first voxel
    vg_u32 xn, yn, zn; // its last voxel inside the array, counted from the first
    vg_state state;
    T value;           // what a tile that is not resident holds: its uniform value or the fill value
    bool dirty;        // marked by this thread since it entered
    vg_u32 beside;     // which of the seven tiles beyond its far faces were seen resident since: bit x + 2 y + 4 z

    VG_HD explicit vg_accessor(const vg_grid& g)
        : grid(g), tile(vg_global<T>(g.base)), id(~0ull), x0(~0u), y0(~0u), z0(~0u), xn(0), yn(0), zn(0), state(VG_MISSING),
          value(vg_from_word<T>(g.fill)), dirty(false), beside(0) {}

    // Makes the tile of voxel (x, y, z), which lies in the array, the current one.
    VG_HD vg_state enter(vg_u32 x, vg_u32 y, vg_u32 z) {
        const vg_u32 tx = x >> S::shift(grid, 0), ty = y >> S::shift(grid, 1), tz = z >> S::shift(grid, 2);
        id = vg_tile_id_at(grid, tx, ty, tz);
        state = !S::fits(grid) || !vg_fits<T>(grid) ? VG_MISSING : TEST ? vg_tile_state(grid, id) : VG_RESIDENT;
        tile = vg_tile_at<T>(grid, id);
        x0 = tx << S::shift(grid, 0); y0 = ty << S::shift(grid, 1); z0 = tz << S::shift(grid, 2);
        xn = last(0, x0); yn = last(1, y0); zn = last(2, z0);
        dirty = false;
        beside = 0;
        value = vg_from_word<T>(grid.fill);
        if (state == VG_UNIFORM) value = vg_from_word<T>(vg_tile_word(grid, id));
        return state;
    }

    // The state of the tile of a voxel, which becomes the current one. VG_MISSING outside the array.
    VG_HD vg_state at(vg_u32 x, vg_u32 y, vg_u32 z) {
        if (x - x0 <= xn && y - y0 <= yn && z - z0 <= zn) return state;
        return vg_inside(grid, x, y, z) ? enter(x, y, z) : VG_MISSING;
    }

    // A voxel; false, and the fill value, where it is not there.
    VG_HD bool get(vg_u32 x, vg_u32 y, vg_u32 z, T* out) {
        if (!(x - x0 <= xn && y - y0 <= yn && z - z0 <= zn)) {
            if (!vg_inside(grid, x, y, z)) {
                *out = vg_from_word<T>(grid.fill);
                return false;
            }
            enter(x, y, z);
        }
        *out = state == VG_RESIDENT ? in_tile(x - x0, y - y0, z - z0) : value;
        return state != VG_MISSING;
    }

    // Writes a voxel of a resident tile of a writable grid, as vg_store.
    VG_HD bool set(vg_u32 x, vg_u32 y, vg_u32 z, T v) {
        if (!(grid.flags & VG_WRITABLE) || at(x, y, z) != VG_RESIDENT) return false;
        tile[offset(x - x0, y - y0, z - z0)] = v;
        if (!dirty) vg_mark_dirty(grid, id);
        dirty = true;
        return true;
    }

    // A trilinear sample at (px, py, pz) in voxels, voxel i having its centre at i + 0.5; past a face the nearest voxel stands in.
    // False where a voxel of its support is not there; the fill value stands in for it.
    VG_HD bool sample(float px, float py, float pz, float* out) { return sample_at(vg_position(px, py, pz), out); }

    // The same, with the position as whole voxels and fractions: as exact at 2^30 as at 0.
    VG_HD bool sample_at(const vg_position& p, float* out) {
        if (!holds(p)) {
            const vg_u32 x = vg_clamp(p.x, grid.extent[0]), y = vg_clamp(p.y, grid.extent[1]), z = vg_clamp(p.z, grid.extent[2]);
            at(x, y, z);
            if (!holds(p)) return sample_rim(p, out);
        }
        if (state != VG_RESIDENT) {
            *out = vg_float(value);
            return state != VG_MISSING;
        }
        *out = eight((vg_u32)p.x - x0, (vg_u32)p.y - y0, (vg_u32)p.z - z0, p.fx, p.fy, p.fz);
        return true;
    }

    // Whether all of a sample's support lies in the current tile.
    VG_HD bool holds(const vg_position& p) const {
        return (vg_u32)p.x - x0 < xn && (vg_u32)p.y - y0 < yn && (vg_u32)p.z - z0 < zn;
    }

    // How many of a ray's samples, from k on and below `end`, have all of their support in the current tile, which holds that of sample k: `sample_inside` needs no test for them.
    // Along each axis a ray's places only ever grow or only ever shrink, rounded as they are, so if the first and the last of the samples lie inside, all do.
    VG_HD vg_u32 span(const vg_ray& ray, vg_u32 k, vg_u32 end) const {
        const float most = least(steps(ray.ox, ray.sx, k, x0, xn), least(steps(ray.oy, ray.sy, k, y0, yn), steps(ray.oz, ray.sz, k, z0, zn)));
        vg_u32 n = most < (float)(end - k) ? (vg_u32)most + 1 : end - k;
        while (n > 1 && !holds(ray.at(k + n - 1))) n--;
        return n;
    }

    // A sample of a ray within a span of the current tile, which is resident.
    VG_HD float sample_inside(const vg_ray& ray, vg_u32 k) const {
        const vg_below x(vg_ray::along(ray.ox, ray.sx, k) - 0.5f - (float)x0), y(vg_ray::along(ray.oy, ray.sy, k) - 0.5f - (float)y0),
            z(vg_ray::along(ray.oz, ray.sz, k) - 0.5f - (float)z0);
        return eight(x.i, y.i, z.i, x.f, y.f, z.f);
    }

    // How far a ray goes before the voxels below its samples leave the current tile: in units of its direction, whose reciprocals are (rx, ry, rz).
    // The ray is at (px, py, pz) and the current tile is that of the voxel below.
    VG_HD float exit(float px, float py, float pz, float rx, float ry, float rz) const {
        return least(along(px, rx, x0, 0), least(along(py, ry, y0, 1), along(pz, rz, z0, 2)));
    }

    // The voxel and its 26 neighbours, x fastest; past a face the nearest voxel stands in. False where one of them is not there (the fill value then).
    VG_HD bool neighbourhood(vg_u32 x, vg_u32 y, vg_u32 z, T out[27]) {
        const vg_state here = at(x, y, z);
        const vg_u32 lx = x - x0, ly = y - y0, lz = z - z0;
        // One unsigned comparison an axis: 0 wraps round.
        if (here == VG_RESIDENT && lx - 1 < xn - 1 && ly - 1 < yn - 1 && lz - 1 < zn - 1) {
            const vg_u32 row = 1u << S::place(grid, 1), plane = 1u << S::place(grid, 2);
            const T* v = tile + (offset(lx, ly, lz) - plane - row - 1);
            VG_UNROLL
            for (int i = 0; i < 9; i++) {
                const T* line = v + (i / 3 * plane + i % 3 * row);
                out[3 * i] = line[0]; out[3 * i + 1] = line[1]; out[3 * i + 2] = line[2];
            }
            return true;
        }
        bool all = vg_inside(grid, x, y, z);
        VG_NO_UNROLL
        for (int k = 0; k < 27; k++) {
            T v;
            all &= vg_load<T>(grid, vg_clamp((int)x + k % 3 - 1, grid.extent[0]), vg_clamp((int)y + k / 3 % 3 - 1, grid.extent[1]),
                              vg_clamp((int)z + k / 9 - 1, grid.extent[2]), &v);
            VG_UNROLL
            for (int i = 0; i < 27; i++) out[i] = k == 0 || i == k ? v : out[i];
        }
        return all;
    }

    // The position of a voxel of the current tile, counted from its first.
    VG_HD vg_u32 offset(vg_u32 lx, vg_u32 ly, vg_u32 lz) const {
        return lx + (ly << S::place(grid, 1)) + (lz << S::place(grid, 2));
    }

    // A voxel of the current tile, which is resident.
    VG_HD T in_tile(vg_u32 lx, vg_u32 ly, vg_u32 lz) const { return tile[offset(lx, ly, lz)]; }

private:
    // Between eight voxels of the current tile, from the one at (lx, ly, lz) on.
    VG_HD float eight(vg_u32 lx, vg_u32 ly, vg_u32 lz, float fx, float fy, float fz) const {
        const vg_u32 row = 1u << S::place(grid, 1), plane = 1u << S::place(grid, 2);
        const T* v = tile + offset(lx, ly, lz);
        const T *vy = v + row, *w = v + plane, *wy = v + (plane + row);
        const float c[8] = {vg_float(v[0]), vg_float(v[1]), vg_float(vy[0]), vg_float(vy[1]), vg_float(w[0]), vg_float(w[1]), vg_float(wy[0]), vg_float(wy[1])};
        return vg_trilerp(c, fx, fy, fz);
    }

    // How many steps a ray takes along an axis from sample k on before its support leaves the tile, about.
    VG_HD static float steps(float o, float s, vg_u32 k, vg_u32 first, vg_u32 n) {
        const float end = (float)(s < 0 ? first : first + n) + 0.5f;
        return s == 0 ? 3.0e38f : (end - vg_ray::along(o, s, k)) / s;
    }

    VG_HD vg_u32 last(int i, vg_u32 first) const {
        const vg_u32 side = (1u << S::shift(grid, i)) - 1, rest = grid.extent[i] - first - 1;
        return side < rest ? side : rest;
    }

    VG_HD static float least(float a, float b) { return a < b ? a : b; }

    VG_HD float along(float p, float r, vg_u32 first, int i) const {
        const float end = (float)(r < 0 ? first : first + (1u << S::shift(grid, i)));
        const float t = (end - (p - 0.5f)) * r;
        // Parallel to the axis: infinity, or 0 * infinity, which is NaN.
        return t >= 0 ? t : t < 0 ? 0.0f : 3.0e38f;
    }

    // A sample whose voxel below, clamped, lies in the current tile and whose support leaves it: the up to seven other tiles are tested, each once.
    VG_HD bool sample_rim(const vg_position& p, float* out) {
        const int low[3] = {p.x, p.y, p.z};
        const vg_u32 first[3] = {x0, y0, z0};
        vg_i64 step[3], far[3];
        vg_u32 from = 0, across = 0;
        VG_UNROLL
        for (int i = 0; i < 3; i++) {
            const vg_u32 v = vg_clamp(low[i], grid.extent[i]), next = vg_clamp(low[i] + 1, grid.extent[i]);
            const vg_u32 t = v >> S::shift(grid, i), u = next >> S::shift(grid, i);
            from += (v - first[i]) << S::place(grid, i);
            step[i] = (vg_i64)(next - v) << S::place(grid, i);
            far[i] = 0;
            if (t != u) {
                across |= 1u << i;
                far[i] = (vg_i64)(vg_axis_slot(grid.axis[i], u) - vg_axis_slot(grid.axis[i], t));
                step[i] = far[i] * (1ll << grid.tile_voxels_log2) - ((vg_i64)(v - first[i]) << S::place(grid, i));
            }
        }
        bool all = state == VG_RESIDENT;
        // The tiles that faces crossed lead to, a bit each: a byte for each of the eight ways to cross.
        const vg_u32 wanted = (vg_u32)(0xfe5432100e040200ull >> 8 * across) & 0xff;
        for (vg_u32 left = TEST && all ? wanted & ~beside : 0; left; left &= left - 1) {
            const vg_u32 bit = left & (0u - left);
            const vg_u64 near = id + (bit & 0xaa ? far[0] : 0) + (bit & 0xcc ? far[1] : 0) + (bit & 0xf0 ? far[2] : 0);
            all = vg_tile_state(grid, near) == VG_RESIDENT;
            if (!all) break;
            beside |= bit;
        }
        if (!all) return sample_mixed(p, out);
        const T* v = tile + from;
        const T *w = v + step[2], *vy = v + step[1], *wy = w + step[1];
        const float c[8] = {vg_float(*v), vg_float(v[step[0]]), vg_float(*vy), vg_float(vy[step[0]]), vg_float(*w), vg_float(w[step[0]]), vg_float(*wy), vg_float(wy[step[0]])};
        *out = vg_trilerp(c, p.fx, p.fy, p.fz);
        return true;
    }

    // A sample near uniform or missing tiles: voxel by voxel.
    VG_HD bool sample_mixed(const vg_position& p, float* out) const {
        float slices[2] = {0, 0}, row = 0;
        bool all = S::fits(grid);
        VG_NO_UNROLL
        for (int k = 0; k < 4; k++) {
            T v[2];
            VG_UNROLL
            for (int i = 0; i < 2; i++) {
                all &= vg_load<T>(grid, vg_clamp(p.x + i, grid.extent[0]), vg_clamp(p.y + (k & 1), grid.extent[1]), vg_clamp(p.z + (k >> 1), grid.extent[2]), &v[i]);
            }
            const float next = vg_lerp(vg_float(v[0]), vg_float(v[1]), p.fx);
            if (k == 1) slices[0] = vg_lerp(row, next, p.fy);
            if (k == 3) slices[1] = vg_lerp(row, next, p.fy);
            row = next;
        }
        *out = vg_lerp(slices[0], slices[1], p.fz);
        return all;
    }
};

// A trilinear sample at (px, py, pz) in voxels, voxel i having its centre at i + 0.5, where everything near is known to be resident. For samples here and there; along a ray
// the accessor's are cheaper.
template <class T> VG_HD float vg_trilinear_unchecked(const vg_grid& g, float px, float py, float pz) {
    vg_accessor<T, vg_tile_shape, false> once(g);
    float v;
    once.sample(px, py, pz, &v);
    return v;
}

// ---------------------------------------------------------------- a tile and its neighbours

// Neighbourhoods of the voxels of one tile, for threads that share it: the 26 tiles around are tested once per tile, and reading is free of branches, on the rim too.
// Local coordinates count from the tile's first voxel. Neighbours are numbered 0 to 26, x fastest; 13 is the tile itself.
template <class T, class S = vg_tile_shape> struct vg_around {
    const vg_grid& grid;
    const T* tile;           // its voxels, where it is resident
    vg_u32 x0, y0, z0;       // its first voxel
    vg_u32 xn, yn, zn;       // its last voxel inside the array, counted from the first
    vg_u32 resident, known;  // of the 27 tiles: memory may be read; resident or uniform
    vg_u32 special;          // uniform, but not with the fill value
    vg_i64 back[3], on[3];   // voxels from the tile's first one back into the tile before, and from its last one on into the next

    VG_HD explicit vg_around(const vg_grid& g) : grid(g), tile(vg_global<const T>(g.base)), resident(0), known(0), special(0) {}

    // What is known of the neighbours of the tile at (tx, ty, tz) in tiles, tested one after the other.
    VG_HD void enter(vg_u32 tx, vg_u32 ty, vg_u32 tz) {
        place(tx, ty, tz);
        VG_NO_UNROLL
        for (int i = 0; i < 27; i++) note(look(tx, ty, tz, i), i);
    }

#if defined(__CUDACC__)
    // The same by a whole warp, whose threads all call it with the same tile: one test each.
    __device__ __forceinline__ void enter_warp(vg_u32 tx, vg_u32 ty, vg_u32 tz) {
        place(tx, ty, tz);
        vg_u32 lane;
        asm("mov.u32 %0, %%laneid;" : "=r"(lane));
        const vg_u32 seen = lane < 27 ? look(tx, ty, tz, (int)lane) : 0;
        resident = __ballot_sync(0xffffffffu, seen & 1);
        known = __ballot_sync(0xffffffffu, seen & 2);
        special = __ballot_sync(0xffffffffu, seen & 4);
    }
#endif

    // The voxel at (lx, ly, lz) and its neighbours. Past the array's faces the nearest voxel stands in. False where one is not there; the fill value stands in.
    VG_HD bool load(vg_u32 lx, vg_u32 ly, vg_u32 lz, T out[27]) const {
        bool all = load_plane(lx, ly, lz, -1, out);
        all &= load_plane(lx, ly, lz, 0, out + 9);
        return all & load_plane(lx, ly, lz, 1, out + 18);
    }

    // The nine of them whose z is larger by dz (-1, 0 or 1): a thread that walks along z loads one plane a step.
    VG_HD bool load_plane(vg_u32 lx, vg_u32 ly, vg_u32 lz, int dz, T out[9]) const {
        const vg_i64 row = 1ll << S::place(grid, 1), plane = 1ll << S::place(grid, 2);
        const bool xb = lx == 0, xe = lx == xn, yb = ly == 0, ye = ly == yn;
        const vg_i64 steps_x[3] = {xb ? back[0] : -1, 0, xe ? on[0] : 1};
        const vg_i64 steps_y[3] = {yb ? back[1] : -row, 0, ye ? on[1] : row};
        const vg_i64 step_z = dz == 0 ? 0 : dz < 0 ? (lz == 0 ? back[2] : -plane) : (lz == zn ? on[2] : plane);
        // Which tile each neighbour lies in: bits of `resident`, three a row.
        const vg_u32 in_x[3] = {xb && x0 ? 1u : 2u, 2u, xe && beyond(0) ? 4u : 2u};
        const vg_u32 in_y[3] = {yb && y0 ? 0u : 3u, 3u, ye && beyond(1) ? 6u : 3u};
        const vg_u32 in_z = dz < 0 && lz == 0 && z0 ? 0 : dz > 0 && lz == zn && beyond(2) ? 18 : 9;
        const vg_u32 in_row = in_x[0] | 2u | in_x[2];
        const vg_u32 need = (in_row << in_y[0] | in_row << in_y[1] | in_row << in_y[2]) << in_z;
        if (need & special) return load_mixed(lx, ly, lz, dz, out);
        const T fill = vg_from_word<T>(grid.fill);
        const T* v = tile + (lx + (ly << S::place(grid, 1)) + (lz << S::place(grid, 2))) + step_z;
        VG_UNROLL
        for (int j = 0; j < 3; j++) {
            const T* line = v + steps_y[j];
            const vg_u32 there = resident >> (in_y[j] + in_z);
            VG_UNROLL
            for (int i = 0; i < 3; i++) {
                out[3 * j + i] = fill;
                if (there & in_x[i]) out[3 * j + i] = line[steps_x[i]];
            }
        }
        return (need & ~known) == 0;
    }

private:
    // Whether the array goes on past the tile along an axis.
    VG_HD bool beyond(int i) const {
        const vg_u32 first = i == 0 ? x0 : i == 1 ? y0 : z0;
        return first + (1u << S::shift(grid, i)) < grid.extent[i];
    }

    VG_HD void place(vg_u32 tx, vg_u32 ty, vg_u32 tz) {
        const vg_u32 t[3] = {tx, ty, tz};
        vg_u32 first[3], last[3];
        VG_UNROLL
        for (int i = 0; i < 3; i++) {
            const vg_u32 side = (1u << S::shift(grid, i)) - 1;
            first[i] = t[i] << S::shift(grid, i);
            const vg_u32 rest = grid.extent[i] - first[i] - 1;
            last[i] = side < rest ? side : rest;
            const vg_i64 slot = (vg_i64)vg_axis_slot(grid.axis[i], t[i]), across = (vg_i64)side << S::place(grid, i);
            back[i] = 0;
            on[i] = 0;
            if (t[i]) back[i] = (((vg_i64)vg_axis_slot(grid.axis[i], t[i] - 1) - slot) * (1ll << grid.tile_voxels_log2)) + across;
            if (rest > side) on[i] = (((vg_i64)vg_axis_slot(grid.axis[i], t[i] + 1) - slot) * (1ll << grid.tile_voxels_log2)) - across;
        }
        x0 = first[0]; y0 = first[1]; z0 = first[2];
        xn = last[0]; yn = last[1]; zn = last[2];
        tile = vg_tile_at<const T>(grid, vg_tile_id_at(grid, tx, ty, tz));
        resident = known = special = 0;
    }

    // Of one neighbour: 1 resident, 2 known, 4 special.
    VG_HD vg_u32 look(vg_u32 tx, vg_u32 ty, vg_u32 tz, int i) const {
        const vg_u32 nx = tx + (vg_u32)(i % 3) - 1, ny = ty + (vg_u32)(i / 3 % 3) - 1, nz = tz + (vg_u32)(i / 9) - 1;
        const bool inside = nx <= (grid.extent[0] - 1) >> S::shift(grid, 0) && ny <= (grid.extent[1] - 1) >> S::shift(grid, 1) &&
                            nz <= (grid.extent[2] - 1) >> S::shift(grid, 2);
        if (!inside || !S::fits(grid) || !vg_fits<T>(grid)) return 0;
        const vg_u64 id = vg_tile_id_at(grid, nx, ny, nz);
        const vg_state state = vg_tile_state(grid, id);
        if (state == VG_RESIDENT) return 3;
        return state == VG_MISSING ? 0 : vg_tile_word(grid, id) == grid.fill ? 2 : 6;
    }

    VG_HD void note(vg_u32 seen, int i) {
        resident |= (seen & 1) << i;
        known |= (seen >> 1 & 1) << i;
        special |= (seen >> 2 & 1) << i;
    }

    // Near uniform tiles of a value of their own: voxel by voxel.
    VG_HD bool load_mixed(vg_u32 lx, vg_u32 ly, vg_u32 lz, int dz, T out[9]) const {
        const vg_u32 z = vg_clamp((int)(z0 + lz) + dz, grid.extent[2]);
        bool all = true;
        VG_NO_UNROLL
        for (int k = 0; k < 9; k++) {
            T v;
            all &= vg_load<T>(grid, vg_clamp((int)(x0 + lx) + k % 3 - 1, grid.extent[0]), vg_clamp((int)(y0 + ly) + k / 3 - 1, grid.extent[1]), z, &v);
            // Selected, not indexed: the values stay in registers.
            VG_UNROLL
            for (int i = 0; i < 9; i++) out[i] = k == 0 || i == k ? v : out[i];
        }
        return all;
    }
};

// ---------------------------------------------------------------- keeping a warp together

#if defined(__CUDACC__)
// `lanes` is what __activemask() said before anything diverged: the votes below bring those lanes together again, which the compiler does not promise to do by itself.

// Whether all of the lanes say so.
__device__ __forceinline__ bool vg_warp_all(vg_u32 lanes, bool yes) { return __all_sync(lanes, yes); }

// The least that any of the lanes says, so that all take as many steps and go on reading memory side by side.
__device__ __forceinline__ vg_u32 vg_warp_least(vg_u32 lanes, vg_u32 n) {
    vg_u32 least = n;
    if (lanes == 0xffffffffu) {
        VG_UNROLL
        for (int d = 16; d; d /= 2) {
            const vg_u32 other = __shfl_xor_sync(lanes, least, d);
            least = other < least ? other : least;
        }
    } else {
        for (vg_u32 left = lanes; left; left &= left - 1) {
            const vg_u32 other = __shfl_sync(lanes, n, __ffs(left) - 1);
            least = other < least ? other : least;
        }
    }
    return least;
}
#endif

#endif
