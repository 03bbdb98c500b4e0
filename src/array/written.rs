//! Owns what was written to an array as a whole: which tiles, and writing them to a store.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::backend::Backend;
use crate::error::{Error, StoreError};
use crate::geometry::{Coord, Extent, Region};
use crate::layout::TileCoord;
use crate::planes::to_words;
use crate::store::TileStore;
use crate::voxel::Voxel;

use super::SparseArray3D;

impl<T: Voxel, B: Backend> SparseArray3D<T, B> {
    /// The tiles that were written to and not given up since, in memory order, wherever their contents are now: in memory, or in the array's scratch store. Empty for arrays that are not writable.
    /// On a device, kernels of frames that have ended are waited for first, however long they run.
    ///
    /// **Cost**: a short lock, and a look at every such tile.
    ///
    /// ```
    /// use vastgrid::{Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord, source::Fill};
    ///
    /// let pool = Pool::new(HostBackend::new(), 1 << 20)?;
    /// let fill = Fill::new(Extent::cube(1 << 13), 0u8);
    /// let mut array = SparseArray3D::builder(&pool, fill).tile([32, 32, 32]).writable().build()?;
    /// array.writer()?.set([100, 0, 0], 7)?;
    /// array.evict(Region::whole(Extent::cube(128)))?; // it goes to the scratch store
    /// assert_eq!(array.written_tiles(), [TileCoord::new(3, 0, 0)]);
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    #[must_use]
    pub fn written_tiles(&self) -> Vec<TileCoord> {
        let tiles = self.engine().written_tiles(self.shared());
        tiles.into_iter().filter_map(|tile| self.layout().tile_coord(tile)).collect()
    }

    /// Writes what was written to this array, and nothing else, to a store of the same extent: its pieces that tiles of [`SparseArray3D::written_tiles`] lie in, as the array has them. Everywhere else the store keeps
    /// its own fill value, so that a grid of 2^40 voxels costs what was touched of it: what the array's *source* holds is **not** written, and is lost where the store takes the place of the one that the source reads.
    /// [`SparseArray3D::write_all_to`] writes that too.
    ///
    /// What was written here stays written; the store is to be saved or flushed afterwards, and others see it no sooner.
    ///
    /// **Cost**: every such piece is read once through the budget, and written by rayon's threads, one piece each at a time. Disk: a [`RawStore`](crate::store::RawStore) has the rows of a tile far apart, and most file systems
    /// give each 4 KiB of its own, so that a thin grid takes tens of times its voxels; a `ZarrStore` (feature `zarr`) takes its chunks.
    ///
    /// ```
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Fill, store::RawStore};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("grid.raw");
    /// let pool = Pool::new(HostBackend::new(), 4 << 20)?;
    /// let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(64), 0u16)).writable().build()?;
    /// array.writer()?.fill(Region::new(Coord::new(10, 10, 10), Extent::cube(20)), 7)?;
    ///
    /// let store = RawStore::<u16>::create(&path, Extent::cube(64))?;
    /// array.write_to(&store)?;
    /// store.save()?; // now it is there, as a whole
    /// assert_eq!(std::fs::read(&path)?.iter().filter(|&&byte| byte == 7).count(), 20 * 20 * 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StoreError::BadCall`]: the store has another extent. What keeps a piece from being read or written, the first of them: others may have been written then.
    pub fn write_to(&self, store: &impl TileStore<T>) -> Result<(), Error> {
        let piece = self.piece_of(store)?;
        self.write_pieces(store, piece, &self.written_pieces(piece))
    }

    /// Writes all that the array holds to a store of the same extent: what was written to it, and what its source holds. That is how one goes on with a volume that was saved: open it as the source of a
    /// writable array, change it, and write all of it to a store that takes the old one's place.
    ///
    /// Pieces that nothing was written to, and that the source knows to hold the store's fill value throughout, are left out.
    ///
    /// **Cost**: as [`SparseArray3D::write_to`], of every other piece, and what it takes to ask the source, by halves, which pieces those are: next to nothing of [`Fill`](crate::source::Fill), a look for every chunk
    /// of the extent of a Zarr store (microseconds each; 2^40 voxels in chunks of 32^3 are a minute). A source that knows nothing of its values is read in full.
    ///
    /// ```
    /// use vastgrid::source::{Fill, RawFile, RawSpec};
    /// use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, store::RawStore};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let (first, second) = (folder.path().join("first.raw"), folder.path().join("second.raw"));
    /// let (pool, extent) = (Pool::new(HostBackend::new(), 4 << 20)?, Extent::cube(64));
    /// let mut array = SparseArray3D::builder(&pool, Fill::new(extent, 0u8)).writable().build()?;
    /// array.writer()?.set([1, 1, 1], 1)?;
    /// let store = RawStore::<u8>::create(&first, extent)?;
    /// array.write_all_to(&store)?;
    /// store.save()?;
    ///
    /// let source = RawFile::<u8>::open(&first, RawSpec::new(extent))?;
    /// let mut array = SparseArray3D::builder(&pool, source).writable().build()?;
    /// array.writer()?.set([50, 50, 50], 2)?;
    /// let store = RawStore::<u8>::create(&second, extent)?;
    /// array.write_all_to(&store)?; // `write_to` would leave the 1 out
    /// store.save()?;
    /// assert_eq!(std::fs::read(&second)?.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 3);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`SparseArray3D::write_to`].
    pub fn write_all_to(&self, store: &impl TileStore<T>) -> Result<(), Error> {
        let piece = self.piece_of(store)?;
        let mut pieces = self.written_pieces(piece);
        let fill = to_words(store.fill_value());
        let along = |extent: u64, piece: u64| 0..extent.div_ceil(piece);
        let extent = self.extent();
        let mut boxes = vec![[along(extent.z, piece.z), along(extent.y, piece.y), along(extent.x, piece.x)]];
        while let Some([z, y, x]) = boxes.pop() {
            let start = Coord::new(x.start * piece.x, y.start * piece.y, z.start * piece.z);
            let end = Coord::new(x.end * piece.x, y.end * piece.y, z.end * piece.z);
            let size = Extent::new(end.x - start.x, end.y - start.y, end.z - start.z);
            let known = self.shared().source.uniform(Region::new(start, size).clipped_to(extent));
            if known.is_ok_and(|value| value == Some(fill)) {
                continue;
            }
            let sides = [&z, &y, &x].map(|side| side.end - side.start);
            let longest = (0..3).max_by_key(|&axis| sides[axis]).unwrap_or(0);
            if sides[longest] == 1 {
                pieces.insert([z.start, y.start, x.start]);
                continue;
            }
            let (mut low, mut high) = ([z.clone(), y.clone(), x.clone()], [z, y, x]);
            let middle = low[longest].start + sides[longest] / 2;
            (low[longest].end, high[longest].start) = (middle, middle);
            boxes.extend([high, low]);
        }
        self.write_pieces(store, piece, &pieces)
    }

    /// What is written to a store at once: one or more of its pieces, and whole tiles where it takes anything.
    fn piece_of(&self, store: &impl TileStore<T>) -> Result<Extent, Error> {
        let (extent, shape, piece) = (self.extent(), self.layout().tile_shape(), store.piece());
        if store.extent() != extent {
            let (extent, region) = (store.extent(), Region::whole(extent));
            return Err(StoreError::BadCall { extent, region, piece, buffer_voxels: 0 }.into());
        }
        let side = |piece: u64, tile: u64| {
            if piece.is_multiple_of(tile) { piece } else { piece * tile.div_ceil(piece) }
        };
        Ok(Extent::new(side(piece.x, shape.x), side(piece.y, shape.y), side(piece.z, shape.z)))
    }

    /// The pieces that written tiles lie in, by z, y and x.
    fn written_pieces(&self, piece: Extent) -> BTreeSet<[u64; 3]> {
        let mut pieces = BTreeSet::new();
        for tile in self.written_tiles() {
            let region = self.layout().tile_region(tile);
            let last = region.end().unwrap_or(region.start);
            for z in region.start.z / piece.z..=(last.z - 1) / piece.z {
                for y in region.start.y / piece.y..=(last.y - 1) / piece.y {
                    pieces.extend((region.start.x / piece.x..=(last.x - 1) / piece.x).map(|x| [z, y, x]));
                }
            }
        }
        pieces
    }

    fn write_pieces(
        &self,
        store: &impl TileStore<T>,
        piece: Extent,
        pieces: &BTreeSet<[u64; 3]>,
    ) -> Result<(), Error> {
        let pieces: Vec<_> = pieces.iter().collect();
        pieces.into_par_iter().with_max_len(1).try_for_each(|&[z, y, x]| {
            let start = Coord::new(x * piece.x, y * piece.y, z * piece.z);
            let region = Region::new(start, piece).clipped_to(self.extent());
            store.write(region, &self.to_vec(region)?)?;
            Ok(())
        })
    }
}
