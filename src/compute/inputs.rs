//! Owns [`Inputs`]: the arrays that a computation reads beside the one it writes, none to four of them.

use std::ops::Range;

use crate::array::SparseArray3D;
use crate::backend::HostAddressable;
use crate::error::{Error, ResidencyError};
use crate::layout::{Layout, TileCoord};
use crate::view::{ArrayFrame, Tile};
use crate::voxel::Voxel;

use super::steps::{Pages, ids};

/// Arrays that are read together: `()`, an `&array`, or a tuple of up to four of those. Each may have its own type of voxels and its own pool.
///
/// The array that is written cannot be among them: its writer has it alone.
///
/// ```compile_fail,E0502
/// # use vastgrid::{Extent, HostBackend, Pool, SparseArray3D, compute, source::Fill};
/// # let pool = Pool::new(HostBackend::new(), 4 << 20)?;
/// # let mut array = SparseArray3D::builder(&pool, Fill::new(Extent::cube(64), 0u8)).writable().build()?;
/// let all = compute::all(&array);
/// compute::zip(&mut array.writer()?, &array, &all, |_, out, other: u8| *out = other)?;
/// # Ok::<_, vastgrid::Error>(())
/// ```
pub trait Inputs: sealed::Inputs {}

impl<I: sealed::Inputs> Inputs for I {}

/// A tile of one of them: its voxels, or a row of the one value that it holds.
#[derive(Debug)]
pub enum Rows<'f, T> {
    /// The whole tile.
    Voxels(&'f [T]),
    /// As long as a tile along x.
    Same(Vec<T>),
}

impl<T> Rows<'_, T> {
    fn row(&self, range: Range<usize>) -> &[T] {
        match self {
            Self::Voxels(voxels) => &voxels[range],
            Self::Same(row) => &row[..range.len()],
        }
    }
}

pub(super) mod sealed {
    use super::{Error, Layout, Pages, Range, TileCoord};

    pub trait Inputs: Sync {
        /// One voxel of each.
        type Voxels: Copy;
        /// A frame of each.
        type Frames<'f>
        where
            Self: 'f;
        /// A tile of each.
        type Tiles<'f>
        where
            Self: 'f;
        /// A row of each.
        type Row<'r>: Copy
        where
            Self: 'r;

        /// Bytes of the tightest budget that no pin holds.
        fn unpinned_budget(&self) -> u64;
        /// Refuses arrays that lie differently.
        fn check_alike(&self, layout: &Layout) -> Result<(), Error>;
        /// Counts what a tile needs.
        fn need(&self, tile: TileCoord, pages: &mut Pages);
        /// Holds tiles of all of them.
        fn hold<'h>(&'h self, tiles: &[TileCoord], held: &mut Vec<Box<dyn Guard + 'h>>) -> Result<(), Error>;
        fn frames(&self) -> Self::Frames<'_>;
        fn tiles<'f, 'g: 'f>(frames: &'f Self::Frames<'g>, tile: TileCoord) -> Result<Self::Tiles<'f>, Error>
        where
            Self: 'g;
        fn row<'r, 'f: 'r>(tiles: &'r Self::Tiles<'f>, range: Range<usize>) -> Self::Row<'r>
        where
            Self: 'f;
        fn at(row: Self::Row<'_>, i: usize) -> Self::Voxels;
    }

    /// Whatever is dropped in time.
    pub trait Guard {}
    impl<T> Guard for T {}
}

impl<T: Voxel, B: HostAddressable> sealed::Inputs for &SparseArray3D<T, B> {
    type Voxels = T;
    type Frames<'f>
        = ArrayFrame<'f, T, B>
    where
        Self: 'f;
    type Tiles<'f>
        = Rows<'f, T>
    where
        Self: 'f;
    type Row<'r>
        = &'r [T]
    where
        Self: 'r;

    fn unpinned_budget(&self) -> u64 {
        (**self).unpinned_budget()
    }

    fn check_alike(&self, layout: &Layout) -> Result<(), Error> {
        (**self).check_alike(layout)
    }

    fn need(&self, tile: TileCoord, pages: &mut Pages) {
        pages.add(self, tile);
    }

    fn hold<'h>(
        &'h self,
        tiles: &[TileCoord],
        held: &mut Vec<Box<dyn sealed::Guard + 'h>>,
    ) -> Result<(), Error> {
        // In memory order already, where all pages have one shape.
        let ids = ids(self.layout(), tiles)?;
        held.push(Box::new((**self).hold(&ids)?));
        Ok(())
    }

    fn frames(&self) -> ArrayFrame<'_, T, B> {
        self.frame()
    }

    fn tiles<'f, 'g: 'f>(frames: &'f Self::Frames<'g>, tile: TileCoord) -> Result<Rows<'f, T>, Error>
    where
        Self: 'g,
    {
        match frames.tile(tile) {
            Tile::Resident(voxels) => Ok(Rows::Voxels(voxels)),
            Tile::Uniform(value) => {
                Ok(Rows::Same(vec![value; super::reduce::index(frames.layout().tile_shape().x)]))
            }
            Tile::Missing => Err(ResidencyError::NotThere { tile }.into()),
        }
    }

    fn row<'r, 'f: 'r>(tiles: &'r Rows<'f, T>, range: Range<usize>) -> &'r [T]
    where
        Self: 'f,
    {
        tiles.row(range)
    }

    #[inline(always)]
    fn at(row: &[T], i: usize) -> T {
        row[i]
    }
}

macro_rules! tuple {
    ($($name:ident $number:tt),*) => {
        #[allow(unused_variables, unused_mut, clippy::unused_unit, reason = "of no arrays at all too")]
        impl<$($name: sealed::Inputs),*> sealed::Inputs for ($($name,)*) {
            type Voxels = ($($name::Voxels,)*);
            type Frames<'f> = ($($name::Frames<'f>,)*) where Self: 'f;
            type Tiles<'f> = ($($name::Tiles<'f>,)*) where Self: 'f;
            type Row<'r> = ($($name::Row<'r>,)*) where Self: 'r;

            fn unpinned_budget(&self) -> u64 {
                u64::MAX$(.min(self.$number.unpinned_budget()))*
            }

            fn check_alike(&self, layout: &Layout) -> Result<(), Error> {
                $(self.$number.check_alike(layout)?;)*
                Ok(())
            }

            fn need(&self, tile: TileCoord, pages: &mut Pages) {
                $(self.$number.need(tile, pages);)*
            }

            fn hold<'h>(
                &'h self,
                tiles: &[TileCoord],
                held: &mut Vec<Box<dyn sealed::Guard + 'h>>,
            ) -> Result<(), Error> {
                $(self.$number.hold(tiles, held)?;)*
                Ok(())
            }

            fn frames(&self) -> Self::Frames<'_> {
                ($(self.$number.frames(),)*)
            }

            fn tiles<'f, 'g: 'f>(frames: &'f Self::Frames<'g>, tile: TileCoord) -> Result<Self::Tiles<'f>, Error>
            where
                Self: 'g,
            {
                Ok(($($name::tiles(&frames.$number, tile)?,)*))
            }

            fn row<'r, 'f: 'r>(tiles: &'r Self::Tiles<'f>, range: Range<usize>) -> Self::Row<'r>
            where
                Self: 'f,
            {
                ($($name::row(&tiles.$number, range.clone()),)*)
            }

            #[inline(always)]
            fn at(row: Self::Row<'_>, i: usize) -> Self::Voxels {
                ($($name::at(row.$number, i),)*)
            }
        }
    };
}
tuple!();
tuple!(I 0);
tuple!(I 0, J 1);
tuple!(I 0, J 1, K 2);
tuple!(I 0, J 1, K 2, L 3);
