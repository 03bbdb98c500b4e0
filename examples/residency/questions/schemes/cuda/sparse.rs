//! Owns the hardware's sparse texture: a three-dimensional array of the whole volume, with memory under the tiles that are wanted, and a texture of it that filters.
//!
//! Made good: nothing is looked up by kernels at all, and samples between tiles are the unit's business; a tile of the volume is a box of whole hardware tiles (64 KiB each) and a piece of physical memory of its own, which
//! goes from the tile that is evicted to the one that comes, so that nothing is ever allocated; all that is unmapped and mapped for a frame goes in one call, in the stream's order, and the host waits for none of it.
//! What differs: the unit's fractions (see the atlas), and that kernels cannot tell what is missing, which reads as zero; who needs to know has a table besides, which is not counted here.

use super::super::lru::{Load, Lru};
use super::arrays::{Array3D, Block, Part};
use super::page_table::slots;
use super::scheme::{Filter, Kernels, Parameters, Scheme, Setting, Task};
use super::source::tile_size;
use super::uploads::Uploads;
use crate::suite::Failure;

pub(crate) struct Sparse<'v> {
    setting: &'v Setting,
    kernels: Kernels,
    uploads: Uploads,
    lru: Lru,
    loads: Vec<Load>,
    /// The tile under which each slot's memory is.
    mapped: Vec<Option<u32>>,
    array: Array3D,
    /// After the array: it may still have them under it when it goes.
    blocks: Vec<Block>,
    remark: String,
}

/// Whether a tile is a box of whole hardware tiles, and how many of them.
fn hardware_tiles(tile: [u32; 3], hardware: [u32; 3]) -> Option<u32> {
    (0..3).try_fold(1, |all, k| {
        let fits = hardware[k] > 0 && tile[k].is_multiple_of(hardware[k]);
        fits.then(|| all * (tile[k] / hardware[k]))
    })
}

impl<'v> Sparse<'v> {
    pub(crate) fn new(setting: &'v Setting, budget_bytes: u64) -> Result<Self, Failure> {
        let (shape, stream) = (setting.shape, &setting.bench.stream);
        let array = Array3D::new(stream.device(), shape.voxels(), true)?;
        let found = array.sparse_properties()?;
        let size = tile_size(shape);
        let tiles = hardware_tiles(size, found.tile);
        let tiles = tiles.ok_or_else(|| format!("tiles of {size:?} voxels are no boxes of {found:?}"))?;
        let slots = slots(shape, budget_bytes)?;
        let blocks = (0..slots).map(|_| Block::new(stream.device(), shape.tile_bytes()));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        let mut scheme = Self {
            setting,
            kernels: setting.bench.kernels("texture")?,
            uploads: Uploads::new(stream)?,
            lru: Lru::new(shape.tile_count(), slots),
            loads: Vec::new(),
            mapped: vec![None; slots as usize],
            array,
            blocks,
            remark: String::new(),
        };
        // The first tile, for a trial of copies: it stays.
        let _ = scheme.want(&[0])?;
        let trial = scheme.uploads.choose(&scheme.array, [0; 3], &setting.source.tiles)?;
        scheme.remark = format!("hardware tiles of {:?} voxels, {tiles} to a tile; {trial}", found.tile);
        Ok(scheme)
    }

    fn at(&self, tile: u32) -> [u32; 3] {
        self.setting.shape.first_voxel(self.setting.shape.position(tile))
    }

    /// Maps memory for the loads, which other tiles had until now.
    fn map_loads(&mut self) -> Result<(), Failure> {
        let size = tile_size(self.setting.shape);
        let gone = self.loads.iter().filter_map(|load| self.mapped[load.slot as usize]);
        let gone = gone.map(|tile| Part { at: self.at(tile), size, memory: None });
        let come = self.loads.iter().map(|load| {
            let memory = self.blocks.get(load.slot as usize);
            Part { at: self.at(load.tile), size, memory }
        });
        let parts: Vec<_> = gone.chain(come).collect();
        self.array.begin_map(&self.setting.bench.stream, &parts)?;
        for load in &self.loads {
            self.mapped[load.slot as usize] = Some(load.tile);
        }
        Ok(())
    }
}

impl Scheme for Sparse<'_> {
    fn filter(&self) -> Filter {
        Filter::Texture
    }

    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.lru.want(tiles, &mut self.loads)?;
        if self.loads.is_empty() {
            return Ok(0);
        }
        // On the stream of the kernels, so after those that read what is unmapped; copies come after that.
        self.map_loads()?;
        let stream = &self.setting.bench.stream;
        self.uploads.begin(stream)?;
        for load in &self.loads {
            let at = self.setting.shape.first_voxel(self.setting.shape.position(load.tile));
            self.uploads.put_in_array(&self.array, at, &self.setting.source.tiles, load.tile)?;
        }
        self.uploads.end(stream)?;
        Ok(self.loads.len() as u64)
    }

    fn launch(&self, tasks: &[Task]) -> Result<(), Failure> {
        let parameters = Parameters::of_memory(self.array.texture(), 0, self.setting.shape);
        self.setting.bench.launch(&self.kernels, &parameters, tasks)
    }

    fn bytes(&self, tiles: u64) -> u64 {
        tiles * self.setting.shape.tile_bytes()
    }

    fn remark(&self) -> Option<&str> {
        Some(&self.remark)
    }
}

impl Drop for Sparse<'_> {
    fn drop(&mut self) {
        let size = tile_size(self.setting.shape);
        let mapped = self.mapped.iter().flatten();
        let parts: Vec<_> = mapped.map(|&tile| Part { at: self.at(tile), size, memory: None }).collect();
        let stream = &self.setting.bench.stream;
        if !parts.is_empty() {
            // What goes wrong here shows in the device's memory, which is looked at afterwards.
            let _ = self.array.begin_map(stream, &parts);
        }
        let _ = stream.synchronize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_whole_hardware_tiles_or_refused() {
        assert_eq!(hardware_tiles([128, 128, 64], [32, 32, 32]), Some(32));
        assert_eq!(hardware_tiles([128, 128, 64], [64, 32, 32]), Some(16));
        assert_eq!(hardware_tiles([128, 128, 64], [128, 128, 128]), None);
        assert_eq!(hardware_tiles([128, 128, 64], [0, 32, 32]), None);
    }
}
