//! Owns the question what the same work costs under each way of holding a volume that is larger than memory: the same tiles, the same order of use, the same path, the same sums.
//!
//! | file | owns |
//! | --- | --- |
//! | `volume`, `path`, `sampling` | the files, where the camera goes, the arithmetic |
//! | `scheme`, `lru`, `memory` | what every scheme can do, and what the rivals are built of |
//! | `flat` | ours |
//! | `page_table`, `atlas`, `buffers`, `mapped`, `dense` | the rivals |
//! | `held`, `rates`, `swaps`, `frames` (and `course`) | what is measured: memory, samples, swaps, whole frames |
//! | `cuda/` | the same on a device, with the same volume, paths, order of use and figures, and rivals of its own |

use std::sync::Arc;

use crate::process::available_bytes;
use crate::suite::{Context, Failure, On};

mod atlas;
mod buffers;
mod course;
mod cuda;
mod dense;
mod flat;
mod frames;
mod held;
mod lru;
mod mapped;
mod memory;
mod page_table;
mod path;
mod rates;
mod sampling;
mod scheme;
mod swaps;
mod volume;

use atlas::Atlas;
use buffers::Buffers;
use flat::Flat;
use mapped::{Hints, Mapped};
use page_table::PageTable;
use scheme::Maker;
use volume::{Shape, TILE_BYTES, Volume};

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
    /// Samples along rays in one turn.
    rate_samples: u32,
}

impl Sizes {
    fn of(context: &Context<'_>) -> Self {
        let shape = Shape::of_cubes(context.pick([3, 2, 2], [4, 3, 3], [4, 4, 4]));
        Self {
            shape,
            // A quarter of the volume, so that a path through all of it wants four times the budget.
            budget_tiles: shape.tile_count() / 4,
            seed: context.seed,
            frames: context.pick(10, 30, 60),
            samples: context.pick((1 << 15, 1 << 13), (1 << 18, 1 << 16), (1 << 18, 1 << 16)),
            paths: context.pick(1, 2, 3),
            rounds: context.pick(3, 5, 9),
            rate_samples: context.pick(1 << 17, 1 << 19, 1 << 20),
        }
    }

    fn budget_bytes(self) -> u64 {
        u64::from(self.budget_tiles) * TILE_BYTES as u64
    }
}

/// Enters what each scheme costs.
pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    if context.on == On::Cuda {
        return cuda::run(context);
    }
    let sizes = Sizes::of(context);
    // All schemes side by side, and both files in the page cache, one of them a little larger than the volume.
    let needed = sizes.budget_bytes() * 10 + sizes.shape.bytes() * 9 / 4;
    let available = available_bytes()?;
    if available < needed {
        context.note(format!(
            "not measured: all schemes side by side, and their files, take {needed} bytes of memory, and {available} are available"
        ));
        return Ok(());
    }
    // Twice, in rows and in tiles, and as much again for everybody else.
    let dense_fits = available - needed > sizes.shape.bytes() * 3;
    let volume = Arc::new(Volume::make(sizes.shape)?);
    volume.forget_all(false)?;
    say_what_it_is(context, &volume, sizes, dense_fits);
    held::measure(context, &volume, sizes)?;
    rates::measure(context, &volume, sizes, dense_fits)?;
    swaps::measure(context, &volume, sizes)?;
    say_what_left(context, &volume, "swaps");
    frames::measure(context, &volume, sizes, dense_fits)
}

/// Whether both files stayed in the page cache: else the disk is a part of what was measured.
fn say_what_left(context: &mut Context<'_>, volume: &Volume, after: &str) {
    let left = [&volume.tiles, &volume.bordered].map(volume::Store::left_cache);
    let [Some(tiles), Some(bordered)] = left else {
        return context.note(format!(
            "after {after}: the system does not tell whether the files are still in the page cache"
        ));
    };
    context.note(format!(
        "after {after}: {tiles} tiles of the file and {bordered} of the atlas' own were no longer in the page cache, of {} each",
        volume.shape.tile_count()
    ));
}

/// Every scheme that keeps to a budget, ours first.
const MAKERS: [Maker; 8] = [
    |volume, bytes| Ok(Box::new(Flat::new(volume, bytes, 1)?)),
    |volume, bytes| Ok(Box::new(PageTable::new(volume, bytes, true)?)),
    |volume, bytes| Ok(Box::new(Atlas::new(volume, bytes)?)),
    |volume, bytes| Ok(Box::new(Buffers::new(volume, bytes)?)),
    |volume, bytes| Ok(Box::new(Mapped::new(volume, bytes, Hints::None)?)),
    |volume, bytes| Ok(Box::new(Mapped::new(volume, bytes, Hints::WillNeed)?)),
    |volume, bytes| Ok(Box::new(Mapped::new(volume, bytes, Hints::Populate)?)),
    |volume, bytes| Ok(Box::new(Flat::new(volume, bytes, 4)?)),
];

fn say_what_it_is(context: &mut Context<'_>, volume: &Volume, sizes: Sizes, dense_fits: bool) {
    context.note(format!(
        "a volume of {} MiB, 16 bits a voxel, in {} tiles of 64^3 voxels (512 KiB); a budget of {} MiB; sums agree bit for bit",
        sizes.shape.bytes() >> 20,
        sizes.shape.tile_count(),
        sizes.budget_bytes() >> 20
    ));
    context.note(
        "samples are one thread's; loads are shared by as many threads as there are processors under every scheme; but where it says so the file is in the page cache, so that what shows is a scheme's own cost and not the disk's"
            .to_owned(),
    );
    context.note(
        "every scheme has the same budget for tiles, and mapped files unmap what leaves it; none of that bounds the page cache, which holds the file besides and of which mapped files use the very pages: only where the file is dropped from it as tiles are evicted or copied is the budget all that a scheme has"
            .to_owned(),
    );
    context.note(
        "which of the tiles goes that the same frame wanted last is each scheme's own choice, so that loads differ by a few; pages of four tiles go as a whole"
            .to_owned(),
    );
    if !dense_fits {
        context.note(format!(
            "the whole volume in memory, which is the ceiling, was left out: {} bytes do not fit three times beside the rest",
            volume.shape.bytes()
        ));
    }
}
