//! Owns what lies around a tile: for every position near it, which tile has it, and where. Worked out once for each axis; knows nothing of what is done with it.

use crate::error::{Error, ResidencyError};
use crate::geometry::Extent;
use crate::layout::{Layout, TileCoord};
use crate::view::{Tile, View};
use crate::voxel::Voxel;

use super::reduce::index;

/// What stands for the voxels beyond the faces of an array.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Boundary<T> {
    /// One value.
    Fill(T),
    /// The nearest voxel inside.
    Clamp,
    /// The array again, from its other face on: it is periodic.
    Wrap,
}

impl<T: Voxel> Boundary<T> {
    /// The value that stands beyond the faces, if there is one; of the others none is asked for.
    pub(super) fn beyond(&self) -> T {
        if let Self::Fill(value) = *self { value } else { bytemuck::Zeroable::zeroed() }
    }
}

/// Where a position along one axis is: in which of the tiles, and where in that. `None`: beyond the faces, where one value stands.
pub(super) type At = Option<(usize, usize)>;

/// Positions along one axis, from some before a tile's first voxel to some past its last.
#[derive(Clone, Debug, Default)]
pub(super) struct Axis {
    /// The tiles that they are in, each once.
    pub(super) tiles: Vec<u64>,
    /// One for each position.
    pub(super) at: Vec<At>,
}

impl Axis {
    /// `first` may be outside by any number of voxels.
    fn lay<T: Copy>(&mut self, first: i128, count: u64, edge: u64, size: u64, boundary: Boundary<T>) {
        self.tiles.clear();
        self.at.clear();
        let (edge, size) = (i128::from(edge), i128::from(size));
        for position in first..first + i128::from(count) {
            let inside = match boundary {
                _ if (0..size).contains(&position) => position,
                Boundary::Fill(_) => {
                    self.at.push(None);
                    continue;
                }
                Boundary::Clamp => position.clamp(0, size - 1),
                Boundary::Wrap => position.rem_euclid(size),
            };
            let (tile, within) = (narrow(inside / edge), index(narrow(inside % edge)));
            // Mostly it is the tile of the position before.
            let slot = self.tiles.iter().rposition(|&t| t == tile).unwrap_or_else(|| {
                self.tiles.push(tile);
                self.tiles.len() - 1
            });
            self.at.push(Some((slot, within)));
        }
    }
}

/// What lies around a tile, along each axis.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub(super) axes: [Axis; 3],
}

impl Around {
    /// The positions from `halo` before the tile's first voxel on, `halo` past the first `size`.
    pub(super) fn lay<T: Copy>(
        &mut self,
        layout: &Layout,
        tile: TileCoord,
        size: Extent,
        halo: Extent,
        boundary: Boundary<T>,
    ) {
        let (edges, whole) = (layout.tile_shape().to_array(), layout.extent().to_array());
        let (halo, size) = (halo.to_array(), size.to_array());
        for (i, tile) in [tile.x, tile.y, tile.z].into_iter().enumerate() {
            let first = i128::from(tile) * i128::from(edges[i]) - i128::from(halo[i]);
            let count = size[i].saturating_add(halo[i].saturating_mul(2));
            self.axes[i].lay(first, count, edges[i], whole[i], boundary);
        }
    }

    /// The tiles that it reaches into, x fastest.
    pub(super) fn tiles(&self) -> impl Iterator<Item = TileCoord> + '_ {
        let [x, y, z] = &self.axes;
        z.tiles.iter().flat_map(move |&z| {
            y.tiles.iter().flat_map(move |&y| x.tiles.iter().map(move |&x| TileCoord::new(x, y, z)))
        })
    }

    /// Looks each of those up.
    ///
    /// # Errors
    /// [`ResidencyError::NotThere`].
    pub(super) fn look_up<'v, T: Voxel>(&self, view: &'v View<'_, T>) -> Result<Vec<Tile<'v, T>>, Error> {
        let found = self.tiles().map(|tile| match view.tile(tile) {
            Tile::Missing => Err(ResidencyError::NotThere { tile }.into()),
            found => Ok(found),
        });
        found.collect()
    }

    /// Which of those it is.
    #[inline]
    pub(super) fn slot(&self, [x, y, z]: [usize; 3]) -> usize {
        x + self.axes[0].tiles.len() * (y + self.axes[1].tiles.len() * z)
    }
}

/// A position inside an array.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "inside an array, whose sides are 64 bits"
)]
fn narrow(v: i128) -> u64 {
    v as u64
}
