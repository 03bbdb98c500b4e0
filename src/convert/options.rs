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
    /// Shape of what the input decodes as a whole, if it does: then it is read in such pieces. `None`: it is read in rows along x. Default: `None`.
    pub input_chunk: Option<Extent>,
    /// What the input itself keeps in memory, such as decoded chunks, which is a part of the budget. Default: nothing.
    pub input_kept_bytes: u64,
    /// How it is written.
    pub zarr: ZarrOptions,
    /// What the image is called. Default: nothing.
    pub name: Option<String>,
    /// Distance of voxels along x, y and z: only axes whose voxels are closer together than twice the finest are halved. Default: 1.
    pub spacing: [f64; 3],
    /// Where the centre of the first voxel lies. Default: 0.
    pub origin: [f64; 3],
    /// What both are measured in, by the names of UDUNITS-2, such as `micrometer`. Default: nothing.
    pub unit: Option<String>,
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
            input_kept_bytes: 0,
            zarr: ZarrOptions::default(),
            name: None,
            spacing: [1.0; 3],
            origin: [0.0; 3],
            unit: None,
            channel: None,
            ranges: true,
        }
    }
}
