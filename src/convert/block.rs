//! Owns [`Block`] and [`Shown`]: the voxels of a block, where they are not all the same, and what it becomes on the next level. Knows nothing of where blocks come from.

use std::sync::Arc;

use crate::error::{Error, SourceError};
use crate::geometry::boxes::{copy_shared, voxels};
use crate::geometry::{Extent, Region};
use crate::pyramid::{Downsample, Reducer};
use crate::source::index;
use crate::view::{Tile, View};
use crate::voxel::{Scalar, ScalarType, Voxel};

/// A block's voxels, densely, x fastest.
#[derive(Debug)]
pub(super) enum Block<T> {
    /// All are the same.
    Uniform(T),
    /// Each by itself.
    Voxels(Vec<T>),
}

impl<T: Voxel> Block<T> {
    pub(super) fn shown(&self) -> Shown<'_, T> {
        match self {
            Self::Uniform(value) => Shown::Uniform(*value),
            Self::Voxels(all) => Shown::Voxels(all),
        }
    }
}

/// A block whose voxels somebody else keeps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown<'a, T> {
    /// All are the same.
    Uniform(T),
    /// Each by itself.
    Voxels(&'a [T]),
}

impl<'a, T: Voxel> Shown<'a, T> {
    /// What a view shows of a region whose tiles are pinned. Its voxels come into `buffer`, which has room for them and whose contents are overwritten, if they are needed.
    ///
    /// # Errors
    /// [`Error::Tile`]: one is not there all the same.
    pub(super) fn gather(view: &View<'_, T>, region: Region, buffer: &'a mut [T]) -> Result<Self, Error> {
        let layout = view.layout();
        let shape = layout.tile_shape();
        if let Some(value) = uniform(view, region) {
            return Ok(Self::Uniform(value));
        }
        for tile in layout.tiles_in(region) {
            let place = Region::new(layout.tile_region(tile).start, shape);
            match view.tile(tile) {
                Tile::Resident(there) => copy_shared(place, there, region, buffer),
                Tile::Uniform(value) => {
                    if let Some(part) = place.intersection(&region) {
                        fill(part, value, region, buffer);
                    }
                }
                Tile::Missing => {
                    let error = SourceError::Other("the tile went although it was pinned".into());
                    return Err(Error::Tile { tile, error: Arc::new(error) });
                }
            }
        }
        Ok(Self::Voxels(buffer))
    }
}

impl<T: Scalar> Shown<'_, T> {
    /// What a block of that extent becomes. The blocks of `step` voxels begin with its first voxel.
    pub(super) fn reduced(self, extent: Extent, step: [u64; 3], method: Downsample) -> Block<T> {
        let out = Extent::from([0, 1, 2].map(|a| extent.to_array()[a].div_ceil(step[a])));
        match self {
            Self::Uniform(value) if stays(value, method) => Block::Uniform(value),
            Self::Uniform(value) => {
                Block::Voxels(reduce(&vec![value; index(voxels(extent))], extent, step, out, method))
            }
            Self::Voxels(all) => Block::Voxels(reduce(all, extent, step, out, method)),
        }
    }
}

/// The one value of a region of tiles that are all known to hold it.
fn uniform<T: Voxel>(view: &View<'_, T>, region: Region) -> Option<T> {
    let mut tiles = view.layout().tiles_in(region);
    let Tile::Uniform(value) = view.tile(tiles.next()?) else { return None };
    let same = |other: T| bytemuck::bytes_of(&other) == bytemuck::bytes_of(&value);
    tiles.all(|tile| matches!(view.tile(tile), Tile::Uniform(other) if same(other))).then_some(value)
}

/// Whether what many voxels of one value become is sure to be that value: many doubles may sum up to something else, unless they are short of digits.
fn stays<T: Scalar>(value: T, method: Downsample) -> bool {
    T::TYPE != ScalarType::F64
        || method != Downsample::Mean
        || f64::from(value.to_f32()).to_bits() == value.to_f64().to_bits()
}

fn reduce<T: Scalar>(
    fine: &[T],
    extent: Extent,
    step: [u64; 3],
    out_extent: Extent,
    method: Downsample,
) -> Vec<T> {
    let mut reducer = Reducer::new(method);
    let [w, h, d] = extent.to_array().map(index);
    let [width, height, depth] = out_extent.to_array().map(index);
    let step = step.map(index);
    let mut out = vec![T::zeroed(); width * height * depth];
    for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let (y, z) = (row % height, row / height);
        let ys = y * step[1]..((y + 1) * step[1]).min(h);
        let zs = z * step[2]..((z + 1) * step[2]).min(d);
        let rows = zs.flat_map(|z| ys.clone().map(move |y| (z * h + y) * w));
        reducer.row(rows.map(|from| &fine[from..from + w]), step[0], out);
    }
    out
}

/// Fills a part of a region's buffer.
pub(super) fn fill<T: Copy>(part: Region, value: T, region: Region, out: &mut [T]) {
    let width = index(part.extent.x);
    for z in part.start.z..part.start.z + part.extent.z {
        for y in part.start.y..part.start.y + part.extent.y {
            let row = (z - region.start.z) * region.extent.y + (y - region.start.y);
            let at = index(row * region.extent.x + (part.start.x - region.start.x));
            out[at..at + width].fill(value);
        }
    }
}
