//! A source of one's own: where tiles come from, what needs no memory, and what happens when some of it cannot be read.
//!
//! `cargo run --example 02_custom_source` prints a request of three tiles: one is loaded, one is uniform (and takes no memory), one fails with the
//! source's own error. The two others can be read all the same, and the failing tile loads once its reason is gone.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use vastgrid::{
    Coord, Extent, HostBackend, Pool, Region, SourceError, SparseArray3D, Tile, TileCoord, TileSource,
};

/// A lake: water up to z = 512, air above. One sensor is broken until it is repaired.
struct Lake {
    broken: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("the sensor at {0} does not answer")]
struct NoAnswer(Coord);

const SENSOR: Coord = Coord::new(100, 100, 100);

impl TileSource<f32> for Lake {
    fn extent(&self) -> Extent {
        Extent::cube(1024)
    }

    /// What all of a region holds, where that is known without reading it.
    fn uniform(&self, region: Region) -> Option<f32> {
        (region.start.z >= 512).then_some(-1.0)
    }

    /// Called from several threads at once; must write every voxel of `out`.
    fn read(&self, region: Region, out: &mut [f32]) -> Result<(), SourceError> {
        if self.broken.load(Relaxed) && region.contains(SENSOR) {
            return Err(SourceError::Other(NoAnswer(SENSOR).into()));
        }
        let (width, height) = (region.extent.x, region.extent.y);
        for (i, voxel) in (0..).zip(out) {
            let depth = 512 - (region.start.z + i / (width * height)).min(512);
            *voxel = 4.0 + 16.0 / f32::from(u16::try_from(depth).unwrap_or(u16::MAX)).max(1.0);
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let lake = Arc::new(Lake { broken: AtomicBool::new(true) });
    let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    let array = SparseArray3D::builder(&pool, lake.clone()).tile(Extent::cube(16)).build()?;

    let tiles = [TileCoord::new(0, 0, 0), TileCoord::new(0, 0, 40), array.layout().tile_of(SENSOR)];
    let report = array.request(&tiles)?;
    println!("{} loaded, {} uniform, {} failed", report.loaded, report.uniform, report.failed.len());
    for failure in &report.failed {
        println!("  {}: {}", failure.tile, failure.error);
    }

    let frame = array.frame();
    for tile in tiles {
        match frame.tile(tile) {
            Tile::Resident(voxels) => println!("{tile}: {} voxels, the first is {}", voxels.len(), voxels[0]),
            Tile::Uniform(value) => println!("{tile}: {value} everywhere, without memory"),
            Tile::Missing => println!("{tile}: not there"),
        }
    }
    drop(frame);

    lake.broken.store(false, Relaxed);
    let report = array.request(&tiles)?.complete()?;
    let (loaded, hits) = (report.loaded, report.hits);
    println!("after the repair: {loaded} loaded, {hits} were there; the sensor says {}", array.get(SENSOR)?);
    Ok(())
}
