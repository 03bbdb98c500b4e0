//! Owns the same question on a device: one kernel body, tiles, order of use, paths and samples, under each way of holding a volume that is larger than the device's memory.
//!
//! | file | owns |
//! | --- | --- |
//! | `driver`, `arrays` | calls of the driver that the library does not make: arrays, textures, memory under parts of them |
//! | `source`, `reference` | the volume in page-locked memory; what all sums have to be |
//! | `scheme`, `uploads` | what every scheme can do, kernels (`assets/kernels/schemes.cuh`), leaving out who fails; copies and tables as rivals make them |
//! | `flat` | ours |
//! | `page_table`, `atlas`, `sparse`, `dense` | the rivals |
//! | `held`, `rates`, `swaps`, `frames` | what is measured: memory, samples, swaps, whole frames |

use std::sync::Arc;

use vastgrid::cuda::Device;

use super::volume::Shape;
use crate::process::available_bytes;
use crate::suite::{Context, Failure};

mod arrays;
mod atlas;
#[cfg(test)]
mod check;
mod dense;
mod driver;
mod flat;
mod frames;
mod held;
mod page_table;
mod rates;
mod reference;
mod scheme;
mod source;
mod sparse;
mod swaps;
mod uploads;

use atlas::Atlas;
use dense::{Dense, Order};
use flat::Flat;
use page_table::PageTable;
use scheme::{Bench, Entry, Setting};
use source::Source;
use sparse::Sparse;

/// Voxels along a tile's edges, as powers of two: 2 MiB of 16 bits a voxel, the smallest page that the driver maps. As in `assets/kernels/schemes.cuh`.
const EDGES_LOG2: [u32; 3] = [7, 7, 6];

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    shape: Shape,
    budget_tiles: u32,
    /// Where random numbers begin.
    seed: u64,
    /// Frames of a path, and samples of a frame along rays and at points.
    frames: usize,
    samples: (u32, u32),
    /// How often a path is gone along, each time another one.
    paths: usize,
    /// How often samples and swaps are timed.
    rounds: usize,
    /// Samples of a turn along rays and at points, at most.
    rate_samples: (u32, u32),
    /// Swaps in a turn.
    swaps: usize,
}

impl Sizes {
    fn of(context: &Context<'_>) -> Self {
        let log2 = context.pick([3, 2, 2], [3, 3, 4], [4, 3, 4]);
        let shape = Shape { log2, edges_log2: EDGES_LOG2 };
        Self {
            shape,
            // A quarter of the volume, so that a path through all of it wants four times the budget.
            budget_tiles: shape.tile_count() / 4,
            seed: context.seed,
            frames: context.pick(8, 30, 60),
            samples: context.pick((1 << 20, 1 << 17), (1 << 23, 1 << 19), (1 << 23, 1 << 19)),
            paths: context.pick(1, 2, 2),
            rounds: context.pick(3, 5, 9),
            rate_samples: context.pick((1 << 22, 1 << 20), (1 << 26, 1 << 23), (1 << 27, 1 << 24)),
            swaps: context.pick(32, 128, 128),
        }
    }

    fn budget_bytes(self) -> u64 {
        u64::from(self.budget_tiles) * self.shape.tile_bytes()
    }

    /// As megabytes, for settings.
    fn mib(self, tiles: u32) -> String {
        ((u64::from(tiles) * self.shape.tile_bytes()) >> 20).to_string()
    }
}

/// Every scheme that keeps to a budget, ours first.
const ENTRIES: [Entry; 5] = [
    ("flat", |setting, bytes| Ok(Box::new(Flat::new(setting, bytes, true, true)?))),
    ("flat, no mappings kept", |setting, bytes| Ok(Box::new(Flat::new(setting, bytes, false, true)?))),
    ("page table", |setting, bytes| Ok(Box::new(PageTable::new(setting, bytes)?))),
    ("atlas with ghost borders", |setting, bytes| Ok(Box::new(Atlas::new(setting, bytes)?))),
    ("sparse texture", |setting, bytes| Ok(Box::new(Sparse::new(setting, bytes)?))),
];

/// Those that hold the whole volume.
const CEILINGS: [Entry; 3] = [
    ("dense, in tiles", |setting, _| Ok(Box::new(Dense::new(setting, Order::Tiles)?))),
    ("dense, in rows", |setting, _| Ok(Box::new(Dense::new(setting, Order::Rows)?))),
    ("dense texture", |setting, _| Ok(Box::new(Dense::new(setting, Order::Texture)?))),
];

/// Enters what each scheme costs on the first device.
pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    const MIB: u64 = 1 << 20;
    let device = Device::open(0)?;
    let sizes = Sizes::of(context);
    // Twice the volume page-locked, and some for staging and lists.
    let (needed, available) = (Source::bytes(sizes.shape) + 1024 * MIB, available_bytes()?);
    if available < needed {
        context.note(format!(
            "not measured: the volume in page-locked memory, twice, takes {needed} bytes, and {available} are available"
        ));
        return Ok(());
    }
    // All schemes side by side, lists of samples, and what the driver takes.
    let (needed, free) = (sizes.budget_bytes() * 7 + 1024 * MIB, device.memory()?.0);
    if free < needed {
        context.note(format!(
            "not measured: all schemes side by side take {needed} bytes of the device, and {free} are free"
        ));
        return Ok(());
    }
    let dense_fits = free - needed > sizes.shape.bytes() * 7 / 2;
    let bench = Bench::new(&device, sizes.shape.tile_count())?;
    let source = Arc::new(Source::new(&device, sizes.shape)?);
    let tile_sums = reference::tiles(sizes.shape);
    let setting = Setting { shape: sizes.shape, source, bench, tile_sums };
    say_what_it_is(context, sizes, dense_fits);
    held::measure(context, &setting, sizes)?;
    rates::measure(context, &setting, sizes, dense_fits)?;
    swaps::measure(context, &setting, sizes)?;
    frames::measure(context, &setting, sizes, dense_fits)
}

fn say_what_it_is(context: &mut Context<'_>, sizes: Sizes, dense_fits: bool) {
    let shape = sizes.shape;
    context.note(format!(
        "a volume of {} MiB, 16 bits a voxel, in {} tiles of {:?} voxels ({} KiB); a budget of {} MiB; all schemes copy tiles from page-locked memory that holds the volume",
        shape.bytes() >> 20,
        shape.tile_count(),
        source::tile_size(shape),
        shape.tile_bytes() >> 10,
        sizes.budget_bytes() >> 20
    ));
    context.note(
        "tiles of 2 MiB are the smallest that 'flat' can have one by one, since the driver maps no less; its rivals could have smaller ones, which is not asked here"
            .to_owned(),
    );
    context.note(
        "sums of samples agree bit for bit with the host's where kernels filter; where the texture unit does (atlas, sparse and dense texture), whose fractions have 8 bits, within a ten-thousandth, and the voxels of all tiles that a frame wanted, read one by one, agree exactly everywhere"
            .to_owned(),
    );
    context.note(
        "which of the tiles goes that the same frame wanted last is each scheme's own choice, and 'flat' prefers memory that a tile had before, which is mapped still, so that loads differ; an atlas has room for fewer tiles in the same bytes"
            .to_owned(),
    );
    if !dense_fits {
        let bytes = shape.bytes();
        context.note(format!(
            "the whole volume in the device's memory, which is the ceiling, was left out: {bytes} bytes do not fit three times beside the rest"
        ));
    }
}
