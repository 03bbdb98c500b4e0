//! Owns writing Zarr v3: arrays ([`ZarrStore`]) and OME-Zarr images ([`PyramidWriter`]), saved as a whole or not at all. Reading them is the sources' business.
//!
//! ```text
//! level_store.rs  voxels -> chunks -> codec -> shard.rs: one object, one writer at a time
//! read_back.rs    what is complete, and reading it back
//! finisher.rs   objects that are written -> durable, by threads of its own
//! target.rs     what a save needs of wherever it goes; tree.rs: a folder (begin.rs: who may write, and what was left; journal.rs: what is complete; unnamed.rs, past_cache.rs: its files as they are written); bucket.rs: an object store (blocks.rs: what is put together for it)
//! save.rs       a save from beginning to end; pyramid.rs: of several levels; ome.rs, array.rs: what describes them; ranges.rs: what values are where; objects.rs: which objects there are; memory.rs: what all that takes
//! ```

mod array;
mod begin;
#[cfg(feature = "cloud")]
mod blocks;
#[cfg(feature = "cloud")]
mod bucket;
mod finisher;
mod journal;
mod level_store;
mod memory;
mod objects;
mod ome;
mod options;
mod past_cache;
mod pyramid;
mod ranges;
mod read_back;
mod save;
mod shard;
mod target;
mod tree;
mod unnamed;

pub use begin::unfinished_save;
pub use level_store::LevelStore;
pub(crate) use memory::{Kept, past_cache_bytes};
pub use ome::{ChannelDescription, PyramidDescription};
pub use options::{Shuffle, ZarrCodec, ZarrOptions};
pub use pyramid::PyramidWriter;
pub use save::ZarrStore;

#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
