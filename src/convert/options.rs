//! Owns [`ConvertOptions`]: every knob of a conversion, with its unit and default. Knows nothing of how they are met.

use crate::geometry::Extent;
use crate::pyramid::Downsample;
use crate::store::{ChannelDescription, ZarrOptions};

/// How a volume becomes an OME-Zarr image: every knob, with its unit and default.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertOptions {
    /// Bytes of memory for everything: tiles of the input, blocks under way, unfinished ones of coarser levels, ranges. Default: 512 MiB.
    pub budget_bytes: u64,
    /// Threads that encode; as many read. Default: 0, one for each processor.
    pub threads: usize,
    /// How a block of voxels becomes one of the next level. Default: the mean.
    pub method: Downsample,
    /// The most levels, the full resolution among them. Default: as many as `coarsest_voxels` makes.
    pub most_levels: usize,
    /// No level is computed from one that has no more voxels than this. Default: 128^3.
    pub coarsest_voxels: u64,
    /// Shape of what the input decodes as a whole, if it does: then it is read in such pieces, else in rows along x. Default: what the source says ([`TileSource::chunk`](crate::TileSource::chunk)).
    pub input_chunk: Option<Extent>,
    /// What the input keeps in memory at most, such as decoded chunks: a part of the budget. Default: what the source says ([`TileSource::kept_bytes`](crate::TileSource::kept_bytes)), and where that is more than the budget has
    /// room for, half of it or less, which the source is told.
    pub input_kept_bytes: Option<u64>,
    /// How it is written.
    pub zarr: ZarrOptions,
    /// What the image is called. Default: nothing.
    pub name: Option<String>,
    /// Distance of voxels along x, y and z: only axes whose voxels are closer together than twice the finest are halved. Default: 1.
    pub spacing: [f64; 3],
    /// Where the centre of the first voxel lies. Default: 0.
    pub origin: [f64; 3],
    /// What both are measured in along x, y and z, by the names of UDUNITS-2, such as `micrometer`. Default: nothing.
    pub units: [Option<String>; 3],
    /// How to show it. Default: nothing.
    pub channel: Option<ChannelDescription>,
    /// Whether the smallest and largest value of each cell of every level is written, too. Default: yes.
    pub ranges: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            budget_bytes: 512 << 20,
            threads: 0,
            method: Downsample::Mean,
            most_levels: usize::MAX,
            coarsest_voxels: 128 * 128 * 128,
            input_chunk: None,
            input_kept_bytes: None,
            zarr: ZarrOptions::default(),
            name: None,
            spacing: [1.0; 3],
            origin: [0.0; 3],
            units: [None, None, None],
            channel: None,
            ranges: true,
        }
    }
}
