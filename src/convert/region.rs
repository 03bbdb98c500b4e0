//! Owns [`copy_region`]: a box of a volume into a store, through a byte budget. Knows nothing of levels.

use std::sync::mpsc::sync_channel;

use super::Progress;
use super::tile::{check_extent, tile};
use crate::array::SparseArray3D;
use crate::backend::HostBackend;
use crate::error::{Error, ResidencyError, StoreError};
use crate::geometry::boxes::{grid, voxels};
use crate::geometry::{Coord, Extent, Region};
use crate::pool::Pool;
use crate::source::{TileSource, index};
use crate::store::TileStore;
use crate::voxel::Voxel;

/// The most that is read and written at once.
const PIECE_BYTES: u64 = 64 << 20;

/// The least memory for tiles.
const POOL_BYTES: u64 = 1 << 20;

/// Copies a box of `source` into a store of the box' size, within `budget_bytes` of memory, of which what the source keeps is a part; `input_chunk` is what the source decodes as a whole, if it does and does not say so itself. The store is neither flushed nor saved.
///
/// ```
/// use vastgrid::convert::{Progress, copy_region};
/// use vastgrid::source::Procedural;
/// use vastgrid::store::RawStore;
/// use vastgrid::{Coord, Extent, Region};
///
/// let path = std::env::temp_dir().join(format!("vastgrid-doc-region-{}.raw", std::process::id()));
/// let volume = Procedural::new(Extent::cube(1 << 12), |c: Coord| c.x as u8);
/// let region = Region::new(Coord::new(100, 0, 7), Extent::new(3, 2, 1));
/// let store = RawStore::create(&path, region.extent)?;
/// copy_region(volume, region, &store, 4 << 20, None, &Progress::new(1))?;
/// store.save()?;
/// assert_eq!(std::fs::read(&path)?, [100, 101, 102, 100, 101, 102]);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Layout`]: an empty volume, or one beyond the address space; [`ResidencyError::OutOfBounds`]: the region leaves the volume; [`ResidencyError::OverBudget`]; [`Error::Tile`]: a tile could not be read; [`Error::Store`]: the store is of another size, takes other
/// pieces than single voxels, or could not be written.
pub fn copy_region<T: Voxel>(
    source: impl TileSource<T> + 'static,
    region: Region,
    store: &dyn TileStore<T>,
    budget_bytes: u64,
    input_chunk: Option<Extent>,
    progress: &Progress,
) -> Result<(), Error> {
    let extent = source.extent();
    let voxel_bytes = size_of::<T>().max(1) as u64;
    check_extent(extent, voxel_bytes)?;
    if !region.is_within(extent) {
        return Err(ResidencyError::OutOfBounds { region, extent }.into());
    }
    if store.extent() != region.extent || store.piece() != Extent::cube(1) {
        let (extent, piece) = (store.extent(), store.piece());
        return Err(StoreError::BadCall { extent, region, piece, buffer_voxels: 0 }.into());
    }
    let full = extent.to_array();
    let tile = tile(full, full, input_chunk.or(source.chunk()), voxel_bytes);
    let needed_bytes = voxels(tile).saturating_mul(voxel_bytes * 4).max(2 * POOL_BYTES);
    let Some(more) = budget_bytes.checked_sub(needed_bytes) else {
        return Err(ResidencyError::OverBudget { needed_bytes, budget_bytes }.into());
    };
    let kept_bytes = source.kept_bytes().min(budget_bytes / 2).min(more);
    source.keep_at_most(kept_bytes);
    // Of the rest half for tiles, and a quarter each for what is read and what is written.
    let rest = budget_bytes - kept_bytes;
    let piece = piece(tile, region.extent, (rest / 4).min(PIECE_BYTES) / voxel_bytes);
    let pool = Pool::new(HostBackend::new(), rest / 2)?;
    let array = SparseArray3D::builder(&pool, source).tile(tile).build()?;
    let (sender, pieces_read) = sync_channel::<(Region, Vec<T>)>(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for (part, all) in pieces_read {
                let start = part.start;
                let at =
                    Coord::new(start.x - region.start.x, start.y - region.start.y, start.z - region.start.z);
                store.write(Region::new(at, part.extent), &all)?;
                progress.add(0, voxels(part.extent));
            }
            Ok::<(), StoreError>(())
        });
        let mut read = Ok(());
        for part in grid(region, piece).filter_map(|part| part.intersection(&region)) {
            let mut all = vec![T::zeroed(); index(voxels(part.extent))];
            read = array.read_region(part, &mut all);
            if read.is_err() || sender.send((part, all)).is_err() {
                break;
            }
        }
        drop(sender);
        // What failed to be written is why no more was read.
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(Error::from).and(read)
    })
}

/// A box of whole tiles, long in x first, then in y, then in z.
fn piece(tile: Extent, region: Extent, most_voxels: u64) -> Extent {
    let mut sides = tile.to_array();
    for axis in 0..3 {
        while sides[axis] < region.to_array()[axis] && voxels(sides.into()).saturating_mul(2) <= most_voxels {
            sides[axis] *= 2;
        }
    }
    sides.into()
}
