//! Builds a `NanoVDB` grid of floats in memory: what a bench uploads to be read through `PNanoVDB.h`. Knows that library's memory layout, and nothing of reading it.
//!
//! ```text
//! grid 672 B | tree 64 B | root 64 B + one entry of 32 B | upper node 32^3 | lower nodes 16^3 | leaves 8^3
//! ```
//!
//! Breadth first, as the library's own builder writes it: lower nodes by their place in the upper one, leaves by their lower node and their place in it. x is the slowest axis
//! everywhere. Everything lies within one upper node, whose edge is 4096 voxels.
//!
//! **Source**: `PNanoVDB.h` of `NanoVDB` 32.8, its offset constants and the row of `pnanovdb_grid_type_constants` for floats, which [`matches_header`] compares.

use std::collections::BTreeMap;

use vastgrid::Coord;

const GRID_BYTES: usize = 672;
const TREE_BYTES: usize = 64;
const ROOT_BYTES: usize = 64;
const ROOT_ENTRY_BYTES: usize = 32;
const UPPER_BYTES: usize = 270_400;
const LOWER_BYTES: usize = 33_856;
const LEAF_BYTES: usize = 2144;

const ROOT: usize = GRID_BYTES + TREE_BYTES;
const UPPER: usize = ROOT + ROOT_BYTES + ROOT_ENTRY_BYTES;
const LOWERS: usize = UPPER + UPPER_BYTES;

/// How an inner node is laid out, in bytes from its start.
struct Inner {
    value_mask: usize,
    child_mask: usize,
    stats: usize,
    table: usize,
}

const IN_UPPER: Inner = Inner { value_mask: 32, child_mask: 4128, stats: 8224, table: 8256 };
const IN_LOWER: Inner = Inner { value_mask: 32, child_mask: 544, stats: 1056, table: 1088 };
const LEAF_MASK: usize = 16;
const LEAF_STATS: usize = 80;
const LEAF_VALUES: usize = 96;

/// The header's row of offsets for floats, without spaces.
const FLOAT_ROW: &str = "{28,32,36,40,44,64,32,8,20,32,8224,8228,8232,8236,8256,270400,1056,1060,1064,1068,1088,33856,80,84,88,92,96,2144}";

/// Whether a `PNanoVDB.h` describes the layout that is built here.
pub(crate) fn matches_header(text: &str) -> bool {
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let constants = ["PNANOVDB_MAJOR_VERSION_NUMBER32", "PNANOVDB_GRID_SIZE672", "PNANOVDB_TREE_SIZE64"];
    dense.contains(FLOAT_ROW) && constants.iter().all(|c| dense.contains(c))
}

/// A grid whose active voxels are those of some tiles of 64^3, named x + 16 y + 256 z as in G1024; the background is zero.
pub(crate) struct NanoGrid {
    /// All of it, to be read from offset 0.
    pub(crate) bytes: Vec<u8>,
    /// The first voxel of each leaf, in memory order.
    pub(crate) leaves: Vec<[u32; 3]>,
}

/// The lowest and highest value of some voxels, and what their mean and deviation come from.
#[derive(Clone, Copy)]
struct Tally {
    min: f32,
    max: f32,
    count: f64,
    sum: f64,
    squares: f64,
    low: [i32; 3],
    high: [i32; 3],
}

impl Tally {
    const NOTHING: Self = Self {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        count: 0.0,
        sum: 0.0,
        squares: 0.0,
        low: [i32::MAX; 3],
        high: [i32::MIN; 3],
    };

    fn of_leaf(first: [u32; 3], values: &[f32]) -> Self {
        let mut all = Self::NOTHING;
        for &v in values {
            all.min = all.min.min(v);
            all.max = all.max.max(v);
            all.sum += f64::from(v);
            all.squares += f64::from(v) * f64::from(v);
        }
        all.count = values.len() as f64;
        all.low = first.map(u32::cast_signed);
        all.high = all.low.map(|c| c + 7);
        all
    }

    fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        for i in 0..3 {
            self.low[i] = self.low[i].min(other.low[i]);
            self.high[i] = self.high[i].max(other.high[i]);
        }
    }

    /// Minimum, maximum, average, standard deviation: the order in which every node keeps them.
    fn stats(&self) -> [f32; 4] {
        let mean = self.sum / self.count;
        let variance = (self.squares / self.count - mean * mean).max(0.0);
        [self.min, self.max, mean as f32, variance.sqrt() as f32]
    }
}

impl NanoGrid {
    /// Builds it. **Cost**: one call of `value` for each voxel, 2144 bytes for each 512.
    pub(crate) fn new(tiles: &[u32], value: impl Fn(Coord) -> f32) -> Self {
        let nodes = Self::nodes(tiles);
        let leaf_count: usize = nodes.values().map(Vec::len).sum();
        let leaves_at = LOWERS + nodes.len() * LOWER_BYTES;
        let mut grid = Self {
            bytes: vec![0; leaves_at + leaf_count * LEAF_BYTES],
            leaves: Vec::with_capacity(leaf_count),
        };
        let mut whole = Tally::NOTHING;
        for (n, (&[_, _, _, place], children)) in nodes.iter().enumerate() {
            let lower_at = LOWERS + n * LOWER_BYTES;
            let mut inside = Tally::NOTHING;
            for &[x, y, z, within] in children {
                let leaf_at = leaves_at + grid.leaves.len() * LEAF_BYTES;
                inside.join(&grid.leaf(leaf_at, [x, y, z], &value));
                grid.child(lower_at, &IN_LOWER, within, leaf_at);
                grid.leaves.push([x, y, z]);
            }
            grid.inner(lower_at, &IN_LOWER, &inside);
            grid.child(UPPER, &IN_UPPER, place, lower_at);
            whole.join(&inside);
        }
        grid.inner(UPPER, &IN_UPPER, &whole);
        grid.root(&whole);
        grid.head(leaves_at, [leaf_count, nodes.len()], &whole);
        grid
    }

    /// The lower nodes in memory order, each a first voxel and a place in the upper node, and in each the leaves: first voxel and place in the lower one.
    fn nodes(tiles: &[u32]) -> BTreeMap<[u32; 4], Vec<[u32; 4]>> {
        let mut nodes: BTreeMap<[u32; 4], Vec<[u32; 4]>> = BTreeMap::new();
        for &tile in tiles {
            let first = [tile & 15, tile >> 4 & 15, tile >> 8].map(|t| t * 64);
            for i in 0..512 {
                let [x, y, z] =
                    [first[0] + (i >> 6) * 8, first[1] + (i >> 3 & 7) * 8, first[2] + (i & 7) * 8];
                let lower = [x, y, z].map(|c| c & !127);
                let place = (x >> 7) << 10 | (y >> 7) << 5 | z >> 7;
                let within = (x >> 3 & 15) << 8 | (y >> 3 & 15) << 4 | (z >> 3 & 15);
                nodes.entry([lower[0], lower[1], lower[2], place]).or_default().push([x, y, z, within]);
            }
        }
        for leaves in nodes.values_mut() {
            leaves.sort_unstable_by_key(|l| l[3]);
        }
        nodes
    }

    fn leaf(&mut self, at: usize, first: [u32; 3], value: &impl Fn(Coord) -> f32) -> Tally {
        let [x, y, z] = first.map(u64::from);
        let mut values = [0.0; 512];
        for (n, v) in (0..).zip(&mut values) {
            *v = value(Coord::new(x + (n >> 6), y + (n >> 3 & 7), z + (n & 7)));
        }
        let all = Tally::of_leaf(first, &values);
        self.put(at, bytemuck::cast_slice(&all.low));
        // Its box reaches 7 voxels beyond its first; the flag says that there is one.
        self.put(at + 12, &[7, 7, 7, 2]);
        self.put(at + LEAF_MASK, &[0xff; 64]);
        self.put(at + LEAF_STATS, bytemuck::cast_slice(&all.stats()));
        self.put(at + LEAF_VALUES, bytemuck::cast_slice(&values));
        all
    }

    /// What a node with children says of itself, beside its children.
    fn inner(&mut self, at: usize, parts: &Inner, inside: &Tally) {
        self.put(at, bytemuck::cast_slice(&inside.low));
        self.put(at + 12, bytemuck::cast_slice(&inside.high));
        self.put(at + 24, &2u64.to_le_bytes());
        self.put(at + parts.stats, bytemuck::cast_slice(&inside.stats()));
        // No tile of one value is active: nothing but children is.
        self.bytes[at + parts.value_mask..at + parts.child_mask].fill(0);
    }

    fn child(&mut self, at: usize, parts: &Inner, place: u32, child_at: usize) {
        let place = place as usize;
        self.bytes[at + parts.child_mask + place / 8] |= 1 << (place % 8);
        self.put(at + parts.table + place * 8, &((child_at - at) as u64).to_le_bytes());
    }

    fn root(&mut self, whole: &Tally) {
        self.put(ROOT, bytemuck::cast_slice(&whole.low));
        self.put(ROOT + 12, bytemuck::cast_slice(&whole.high));
        self.put(ROOT + 24, &1u32.to_le_bytes());
        // The background, at 28, is zero.
        self.put(ROOT + 32, bytemuck::cast_slice(&whole.stats()));
        // The entry: key 0 stands for the first 4096 voxels along every axis.
        self.put(ROOT + ROOT_BYTES + 8, &((UPPER - ROOT) as u64).to_le_bytes());
    }

    /// The grid and the tree, `counts` being leaves and lower nodes.
    fn head(&mut self, leaves_at: usize, counts: [usize; 2], whole: &Tally) {
        let bytes = self.bytes.len() as u64;
        self.put(0, b"NanoVDB1");
        self.put(8, &u64::MAX.to_le_bytes()); // no checksum
        self.put(16, &(32u32 << 21 | 8 << 10).to_le_bytes());
        self.put(20, &0b11_1110_u32.to_le_bytes()); // box, range, average, deviation, breadth first
        self.put(28, &1u32.to_le_bytes());
        self.put(32, &bytes.to_le_bytes());
        self.put(40, b"G1024");
        // The map from index to world space is the identity: matrix and inverse as f32 and f64, and two tapers.
        for i in [0, 4, 8] {
            self.put(296 + 4 * i, &1f32.to_le_bytes());
            self.put(332 + 4 * i, &1f32.to_le_bytes());
            self.put(384 + 8 * i, &1f64.to_le_bytes());
            self.put(456 + 8 * i, &1f64.to_le_bytes());
        }
        self.put(380, &1f32.to_le_bytes());
        self.put(552, &1f64.to_le_bytes());
        for i in 0..3 {
            self.put(560 + 8 * i, &f64::from(whole.low[i]).to_le_bytes());
            self.put(584 + 8 * i, &f64::from(whole.high[i] + 1).to_le_bytes());
            self.put(608 + 8 * i, &1f64.to_le_bytes());
        }
        self.put(632, &2u32.to_le_bytes()); // a fog volume
        self.put(636, &1u32.to_le_bytes()); // of floats
        let tree = GRID_BYTES;
        let nodes = [leaves_at, LOWERS, UPPER, ROOT];
        for (i, at) in nodes.into_iter().enumerate() {
            self.put(tree + 8 * i, &((at - tree) as u64).to_le_bytes());
        }
        self.put(tree + 32, &(counts[0] as u32).to_le_bytes());
        self.put(tree + 36, &(counts[1] as u32).to_le_bytes());
        self.put(tree + 40, &1u32.to_le_bytes());
        self.put(tree + 56, &(whole.count as u64).to_le_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
