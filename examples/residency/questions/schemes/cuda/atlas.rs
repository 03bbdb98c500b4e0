//! Owns the atlas on a device: blocks of a tile and the first voxels of the next ones, side by side in one three-dimensional texture that filters, and a table of where each tile's block is.
//!
//! Made good: the texture unit filters, and no sample ever needs a second block, so that nothing is done between tiles; only the far faces have a border, one voxel of it, which is all that filtering needs (1 % to
//! 3 % more bytes, where borders all around, as gradients need them, would take thrice as many); a ray looks its block up once for all samples that it has there and keeps where it begins in registers; blocks come with
//! their borders from page-locked memory that has them, so that no load waits for its neighbours, by two streams and by the faster of two ways; what changed of the table goes in one copy.
//! What differs: the unit's fractions have 8 bits, so that samples are off by up to a 512th of the difference of two voxels along each axis, and voxels must be of a type that textures filter.

use super::super::lru::{Load, Lru};
use super::arrays::Array3D;
use super::page_table::changes;
use super::scheme::{Filter, Kernels, Parameters, Scheme, Setting, Task};
use super::source::bordered_size;
use super::uploads::{Table, Uploads};
use crate::suite::Failure;

/// The longest side of a three-dimensional array, in voxels.
const MOST_VOXELS: u32 = 16384;
/// Bits of a place along an axis, in the table.
const PLACE_BITS: u32 = 10;

pub(crate) struct Atlas<'v> {
    setting: &'v Setting,
    kernels: Kernels,
    uploads: Uploads,
    lru: Lru,
    loads: Vec<Load>,
    /// Blocks along each axis.
    blocks: [u32; 3],
    table: Table,
    array: Array3D,
    remark: String,
}

/// As many blocks as a box can have that holds at most so many, and of such boxes the one whose sides are the shortest.
fn arranged(slots: u32, block: [u32; 3]) -> [u32; 3] {
    let most = block.map(|side| (MOST_VOXELS / side).min((1 << PLACE_BITS) - 1));
    let mut best = [0; 3];
    let better = |a: [u32; 3], b: [u32; 3]| {
        let longest = |size: [u32; 3]| (0..3).map(|k| size[k] * block[k]).max();
        let count = |size: [u32; 3]| size.iter().product::<u32>();
        (count(a), longest(b)) > (count(b), longest(a))
    };
    for x in 1..=most[0].min(slots) {
        for y in 1..=most[1].min(slots / x) {
            let size = [x, y, most[2].min(slots / (x * y))];
            if better(size, best) {
                best = size;
            }
        }
    }
    best
}

/// Where a slot's block is, in blocks.
fn place([wide, high, _]: [u32; 3], slot: u32) -> [u32; 3] {
    [slot % wide.max(1), slot / wide.max(1) % high.max(1), slot / (wide * high).max(1)]
}

impl<'v> Atlas<'v> {
    pub(crate) fn new(setting: &'v Setting, budget_bytes: u64) -> Result<Self, Failure> {
        let (shape, stream) = (setting.shape, &setting.bench.stream);
        let size = bordered_size(shape);
        let block_bytes = size.iter().map(|side| u64::from(*side)).product::<u64>() * 2;
        let slots = u32::try_from(budget_bytes / block_bytes)?.min(shape.tile_count());
        let blocks = arranged(slots, size);
        let slots = blocks.iter().product::<u32>();
        if slots == 0 {
            return Err(
                format!("a budget of {budget_bytes} bytes is less than a block of {block_bytes}").into()
            );
        }
        let array = Array3D::new(stream.device(), std::array::from_fn(|k| blocks[k] * size[k]), false)?;
        let mut uploads = Uploads::new(stream)?;
        let remark = uploads.choose(&array, [0; 3], &setting.source.bordered)?;
        Ok(Self {
            setting,
            kernels: setting.bench.kernels("atlas")?,
            uploads,
            lru: Lru::new(shape.tile_count(), slots),
            loads: Vec::new(),
            blocks,
            table: Table::new(stream, shape.tile_count())?,
            array,
            remark,
        })
    }
}

impl Scheme for Atlas<'_> {
    fn filter(&self) -> Filter {
        Filter::Texture
    }

    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.lru.want(tiles, &mut self.loads)?;
        if self.loads.is_empty() {
            return Ok(0);
        }
        let (stream, pieces, blocks) =
            (&self.setting.bench.stream, &self.setting.source.bordered, self.blocks);
        self.uploads.begin(stream)?;
        for load in &self.loads {
            let place = place(blocks, load.slot);
            let at = std::array::from_fn(|k| place[k] * pieces.size[k]);
            self.uploads.put_in_array(&self.array, at, pieces, load.tile)?;
        }
        self.uploads.end(stream)?;
        let word = |slot| {
            let [x, y, z] = place(blocks, slot);
            x | y << PLACE_BITS | z << (2 * PLACE_BITS)
        };
        self.table.change(stream, changes(&self.loads, word))?;
        Ok(self.loads.len() as u64)
    }

    fn launch(&self, tasks: &[Task]) -> Result<(), Failure> {
        let parameters =
            Parameters::of_memory(self.array.texture(), self.table.address(), self.setting.shape);
        self.setting.bench.launch(&self.kernels, &parameters, tasks)
    }

    fn bytes(&self, tiles: u64) -> u64 {
        tiles * self.setting.source.bordered.range(0).len() as u64 + self.table.bytes()
    }

    fn remark(&self) -> Option<&str> {
        Some(&self.remark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_arranged_within_what_there_is() {
        for slots in [1, 2, 15, 16, 31, 248, 496, 1023, 5000] {
            let blocks = arranged(slots, [129, 129, 65]);
            let count = blocks.iter().product::<u32>();
            assert!(count <= slots && count * 20 >= slots * 19, "{slots}: {blocks:?}");
            assert!((0..3).all(|k| blocks[k] * [129, 129, 65][k] <= MOST_VOXELS), "{blocks:?}");
            let mut places: Vec<_> = (0..count).map(|slot| place(blocks, slot)).collect();
            assert!(places.iter().all(|place| (0..3).all(|k| place[k] < blocks[k])));
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), count as usize);
        }
    }
}
