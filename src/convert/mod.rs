//! Owns how a volume of any size becomes another file: levels computed as it passes through a byte budget, once. Knows nothing of formats.
//!
//! ```
//! use vastgrid::convert::{Conversion, ConvertOptions};
//! use vastgrid::source::Procedural;
//! use vastgrid::{Coord, Extent};
//!
//! let folder = std::env::temp_dir().join(format!("vastgrid-doc-convert-{}.ome.zarr", std::process::id()));
//! let volume = Procedural::new(Extent::cube(200), |c: Coord| (c.x + c.y + c.z) as u16);
//! let conversion = Conversion::new(volume, ConvertOptions { coarsest_voxels: 1 << 18, ..ConvertOptions::default() })?;
//! assert_eq!(conversion.plan().levels.len(), 3); // 200, 100 and 50 voxels a side
//! conversion.run(&folder)?;
//! assert!(folder.join("zarr.json").exists());
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How
//!
//! ```text
//!  source -> Pool, SparseArray3D -> block of level 0 -> its chunks, encoded -> shard
//!            (half of the budget)         |
//!                                     reduced -> its part of a block of level 1 -> when that has all its parts: the same again
//! ```
//!
//! Level 0 is gone through in *groups* of *blocks* (a block is a chunk of the file, or two where a chunk's side is odd): along x as far as the budget allows, so that rows of files are read in long stretches, and beyond that along a
//! space-filling curve, so that few blocks of coarser levels are unfinished at any time. While one group is encoded by all threads the next is read. Every voxel is read once where
//! the input's tiles, whose sides are powers of two, divide groups, or all of them fit; of chunks with other sides some tiles lie in two groups, and are read again where the pool has let go of them meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "zarr")]
mod block;
#[cfg(feature = "zarr")]
mod blocks;
#[cfg(feature = "zarr")]
mod options;
#[cfg(feature = "zarr")]
mod order;
#[cfg(feature = "zarr")]
mod pending;
#[cfg(feature = "zarr")]
mod plan;
mod region;
#[cfg(feature = "zarr")]
mod run;
#[cfg(feature = "zarr")]
mod shards;
mod tile;

#[cfg(feature = "zarr")]
pub use options::ConvertOptions;
#[cfg(feature = "zarr")]
pub use plan::{Plan, PlannedLevel};
pub use region::copy_region;
#[cfg(feature = "zarr")]
pub use run::{Conversion, ConvertSummary};

/// How far something is that goes on in other threads. Shared by reference; read whenever one likes.
#[derive(Debug, Default)]
pub struct Progress {
    done: Vec<AtomicU64>,
}

impl Progress {
    /// Of so many levels, of which nothing is done yet.
    #[must_use]
    pub fn new(levels: usize) -> Self {
        Self { done: (0..levels).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Voxels of a level that were written, by this run or an earlier one that it goes on with.
    #[must_use]
    pub fn voxels(&self, level: usize) -> u64 {
        self.done.get(level).map_or(0, |done| done.load(Ordering::Relaxed))
    }

    fn add(&self, level: usize, voxels: u64) {
        if let Some(done) = self.done.get(level) {
            done.fetch_add(voxels, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, feature = "zarr"))]
mod tests;
