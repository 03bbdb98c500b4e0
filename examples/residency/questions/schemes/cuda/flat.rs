//! Owns what this crate does on a device: the whole volume is a range of the device's addresses, wanted tiles have memory, and kernels read them through a view of an open frame.
//!
//! A tile is a page of 2 MiB, the smallest that the driver maps. Twice: as the backend is by default, which leaves mappings in place for tiles that come back, and with none left, so that every swap is made by
//! the driver's calls. And without the test of residency, which kernels do not need where all that they read was asked for.

use std::sync::Arc;

use vastgrid::cuda::CudaConfig;
use vastgrid::source::TileSource;
use vastgrid::{CudaBackend, Extent, Pool, Prepared, Region, SourceError, SparseArray3D, TileCoord};

use super::super::volume::Shape;
use super::scheme::{Bench, Kernels, Parameters, Scheme, Setting, Task};
use super::source::{Source, tile_size};
use crate::suite::Failure;

/// The volume in page-locked memory, as the crate reads it: tiles are copied from where they are.
#[derive(Debug)]
struct Tiles {
    shape: Shape,
    source: Arc<Source>,
}

impl Tiles {
    fn tile(&self, region: Region) -> u32 {
        let first = region.start.to_array();
        // Whole tiles alone are asked for, whose numbers are small.
        self.shape.index(std::array::from_fn(|k| {
            u32::try_from(first[k] >> self.shape.edges_log2[k]).unwrap_or(u32::MAX)
        }))
    }
}

impl TileSource<u16> for Tiles {
    fn extent(&self) -> Extent {
        self.shape.extent()
    }

    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        let pieces = &self.source.tiles;
        let part = pieces.memory.part(pieces.range(self.tile(region)));
        Ok(part.map(|part| Arc::new(part) as Arc<dyn Prepared>))
    }

    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        let tile = self.source.tiles.of(self.tile(region)).map_err(SourceError::Other)?;
        let tile: &[u16] = bytemuck::cast_slice(tile);
        if tile.len() != out.len() {
            return Err(SourceError::Other(format!("{region} is no tile").into()));
        }
        out.copy_from_slice(tile);
        Ok(())
    }
}

pub(crate) struct Flat<'v> {
    bench: &'v Bench,
    kernels: Kernels,
    shape: Shape,
    array: SparseArray3D<u16, CudaBackend>,
    pool: Pool<CudaBackend>,
    coords: Vec<TileCoord>,
}

impl<'v> Flat<'v> {
    /// With mappings left in place or not, and with the test of residency or without.
    pub(crate) fn new(
        setting: &'v Setting,
        budget_bytes: u64,
        keeps_mappings: bool,
        tests: bool,
    ) -> Result<Self, Failure> {
        let (shape, bench) = (setting.shape, &setting.bench);
        let default = CudaConfig::default();
        let kept_mappings = if keeps_mappings { default.kept_mappings } else { 0 };
        let backend = CudaBackend::on(bench.device().clone(), CudaConfig { kept_mappings, ..default })?;
        let pool = Pool::new(backend, budget_bytes)?;
        let array = SparseArray3D::builder(&pool, Tiles { shape, source: setting.source.clone() })
            .tile(tile_size(shape).map(u64::from))
            .page_bytes(shape.tile_bytes())
            .build()?;
        let kernels = bench.kernels(if tests { "flat" } else { "untested" })?;
        Ok(Self { bench, kernels, shape, array, pool, coords: Vec::new() })
    }
}

impl Scheme for Flat<'_> {
    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure> {
        self.coords.clear();
        self.coords.extend(tiles.iter().map(|&tile| self.shape.coord(tile)));
        Ok(self.array.request(&self.coords)?.complete()?.loaded)
    }

    fn launch(&self, tasks: &[Task]) -> Result<(), Failure> {
        let frame = self.pool.device_frame();
        let view = frame.view(&self.array, &self.bench.stream)?;
        self.bench.launch(&self.kernels, &Parameters::of_view(view, self.shape), tasks)?;
        Ok(frame.end()?)
    }

    fn bytes(&self, _tiles: u64) -> u64 {
        // Pages as they are, and what kernels are told of tiles: 66 KiB for every 4096 of them.
        self.pool.stats().used_bytes + u64::from(self.shape.tile_count().div_ceil(4096)) * (66 << 10)
    }
}
