//! Owns the levels that are computed: which there are, and what each is computed from. Knows nothing of arrays or memory.

use std::sync::Arc;

use super::blocks::Blocks;
use super::cached::Cached;
use super::computed::ComputedTiles;
use super::downsample::Downsample;
use super::downsampled::{Downsampled, PIECE_VOXELS};
use super::geometry::LevelGeometry;
use super::source::{Level, PyramidSource, SharedSource};
use super::source_builder::check_spacing;
use super::strided::Strided;
use crate::error::PyramidError;
use crate::geometry::Extent;
use crate::geometry::boxes::voxels;
use crate::source::{Procedural, TileSource, index};
use crate::voxel::{Scalar, Voxel};

/// How levels are derived: every knob, with its unit and default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeriveOptions {
    /// Distance of level-0 voxels along x, y and z. Only axes whose voxels are closer together than twice the finest are halved, until they even out. Default: 1.
    pub spacing: [f64; 3],
    /// No level is derived from one that has no more voxels than this: so the coarsest of a large volume has between an eighth of it and all of it. Default: 128^3.
    pub coarsest_voxels: u64,
    /// The most bytes of a temporary file (`TMPDIR`, or `/tmp`) that computed tiles are kept in, all levels together; the oldest give way. It has no name, and is gone with the last user of the levels. Where
    /// it cannot be written, tiles are computed again instead. 0: no file. Default: 1 GiB.
    pub kept_bytes: u64,
    /// Shape of what is computed and kept at once, at most 2^18 voxels: best that of the arrays' tiles, or a part of it. Larger ones may be computed by several threads at once. Default:
    /// that of an array's tiles on the host unless told otherwise, 64 KiB.
    pub tile: Option<Extent>,
    /// Whether single voxels out of level 0 stand in for the coarsest level until [`Pyramid3D::refine_coarsest`](super::Pyramid3D::refine_coarsest), which takes reading all of level 0.
    /// Default: yes.
    pub provisional: bool,
}

impl Default for DeriveOptions {
    fn default() -> Self {
        Self {
            spacing: [1.0; 3],
            coarsest_voxels: 128 * 128 * 128,
            kept_bytes: 1 << 30,
            tile: None,
            provisional: true,
        }
    }
}

impl<T: Scalar> PyramidSource<T> {
    /// The levels of a volume that has only one: each is computed from the one below it where and when it is read, by halves.
    ///
    /// **Cost**: a tile of level `k` takes reading its 8^k tiles' worth of `source`, unless levels below it are kept already (see [`DeriveOptions::kept_bytes`]). Memory: for each level and thread at most 2^18
    /// voxels of the level below and one tile.
    ///
    /// # Errors
    /// [`PyramidError::EmptyLevel`], [`PyramidError::Spacing`]; [`PyramidError::Block`], of [`DeriveOptions::tile`].
    pub fn derive(
        source: impl TileSource<T> + 'static,
        method: Downsample,
        options: DeriveOptions,
    ) -> Result<Self, PyramidError> {
        let single = Self::builder().level([1.0; 3], source).spacing(options.spacing).build()?;
        single.with_derived(method, options)
    }

    /// Adds levels below the coarsest that is available, as [`PyramidSource::derive`], with the spacing that the pyramid has. They take the place of unavailable ones that are coarser still.
    ///
    /// # Errors
    /// [`PyramidError::Block`], of [`DeriveOptions::tile`].
    pub fn with_derived(mut self, method: Downsample, options: DeriveOptions) -> Result<Self, PyramidError> {
        let base = self.source(self.coarsest)?.clone();
        let mut geometry = self.levels[self.coarsest].geometry;
        let factor = geometry.factor();
        let spacing = [0, 1, 2].map(|axis| self.spacing[axis] * factor[axis]);
        self.levels.truncate(self.coarsest + 1);
        let tile = options.tile.unwrap_or_else(default_tile::<T>);
        let tile = Blocks::new(geometry.extent(), tile, PIECE_VOXELS)?.block;
        let kept_tiles = Arc::new(ComputedTiles::new(index(voxels(tile)), options.kept_bytes));
        let (mut below, mut total) = (base.clone(), [1u64; 3]);
        for step in steps(geometry.extent(), spacing, options.coarsest_voxels) {
            total = [0, 1, 2].map(|axis| total[axis].saturating_mul(step[axis]));
            let computed = Downsampled::new(below, step, method)?;
            let level = u32::try_from(self.levels.len()).unwrap_or(u32::MAX);
            let kept: SharedSource<T> = Arc::new(Cached::new(computed, kept_tiles.clone(), level, tile));
            let factor = [0, 1, 2].map(|axis| factor[axis] * total[axis] as f64);
            geometry = LevelGeometry::new(geometry.full_extent(), factor).with_extent(kept.extent());
            self.levels.push(Level { geometry, source: Ok(kept.clone()) });
            below = kept;
        }
        if options.provisional && total != [1; 3] {
            self.provisional = Some(Arc::new(Strided::new(base, total)?));
        }
        self.coarsest = self.levels.len() - 1;
        Ok(self)
    }
}

impl<T: Voxel> PyramidSource<T> {
    /// The levels of a formula, which is given the level-0 coordinates of a voxel's centre: each level is computed from it directly. Levels and spacing as by [`DeriveOptions::default`].
    ///
    /// ```
    /// use vastgrid::{Extent, PyramidSource};
    ///
    /// let ripples = PyramidSource::procedural(Extent::cube(2048), |[x, y, z]| (x.hypot(y).hypot(z) % 256.0) as u8)?;
    /// assert_eq!(ripples.geometry(ripples.coarsest_level()).unwrap().extent(), Extent::cube(128));
    /// # Ok::<_, vastgrid::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PyramidError::EmptyLevel`].
    pub fn procedural(
        extent: Extent,
        voxel: impl Fn([f64; 3]) -> T + Send + Sync + 'static,
    ) -> Result<Self, PyramidError> {
        Self::procedural_with(extent, DeriveOptions::default(), voxel)
    }

    /// As [`PyramidSource::procedural`], with the spacing and the size of the coarsest level from `options`; nothing is kept, and nothing stands in.
    ///
    /// # Errors
    /// [`PyramidError::EmptyLevel`], [`PyramidError::Spacing`].
    pub fn procedural_with(
        extent: Extent,
        options: DeriveOptions,
        voxel: impl Fn([f64; 3]) -> T + Send + Sync + 'static,
    ) -> Result<Self, PyramidError> {
        if extent.is_empty() {
            return Err(PyramidError::EmptyLevel { level: 0, extent });
        }
        let spacing = check_spacing(options.spacing)?;
        let voxel = Arc::new(voxel);
        let mut factor = [1.0; 3];
        let mut levels = Vec::new();
        for step in [[1; 3]].into_iter().chain(steps(extent, spacing, options.coarsest_voxels)) {
            factor = [0, 1, 2].map(|axis| factor[axis] * step[axis] as f64);
            let (geometry, voxel) = (LevelGeometry::new(extent, factor), voxel.clone());
            let source = Procedural::new(geometry.extent(), move |c| voxel(geometry.centre(c)));
            levels.push(Level { geometry, source: Ok(Arc::new(source) as SharedSource<T>) });
        }
        Ok(Self { coarsest: levels.len() - 1, levels, spacing, provisional: None })
    }
}

/// The shape of 64 KiB of voxels, near cubic.
fn default_tile<T>() -> Extent {
    let bits = 16 - size_of::<T>().next_power_of_two().ilog2().min(16);
    Extent::new(1 << bits.div_ceil(3), 1 << ((bits + 1) / 3), 1 << (bits / 3))
}

/// Which axes are halved from level to level (2, the others 1), until no more than `most_voxels` are left.
pub(crate) fn steps(extent: Extent, spacing: [f64; 3], most_voxels: u64) -> Vec<[u64; 3]> {
    let (mut sides, mut spacing) = (extent.to_array(), spacing);
    let mut steps = Vec::new();
    while voxels(sides.into()) > most_voxels {
        let finest = (0..3).filter(|&a| sides[a] > 1).map(|a| spacing[a]).fold(f64::INFINITY, f64::min);
        let step = [0, 1, 2].map(|a| if sides[a] > 1 && spacing[a] < 2.0 * finest { 2 } else { 1 });
        if step == [1; 3] {
            break;
        }
        sides = [0, 1, 2].map(|a| sides[a].div_ceil(step[a]));
        spacing = [0, 1, 2].map(|a| spacing[a] * step[a] as f64);
        steps.push(step);
    }
    steps
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the volumes are a few voxels wide")]
mod tests {
    use super::*;
    use crate::geometry::{Coord, Region};
    use crate::source::Instrumented;

    #[test]
    fn axes_are_halved_until_they_even_out_and_the_rest_is_small() {
        assert_eq!(steps(Extent::cube(2048), [1.0; 3], 1 << 21), [[2; 3]; 4]);
        assert_eq!(steps(Extent::cube(128), [1.0; 3], 1 << 21).len(), 0);
        let thick = steps(Extent::cube(512), [1.0, 1.0, 5.0], 1 << 18);
        assert_eq!(thick, [[2, 2, 1], [2, 2, 1], [2; 3], [2; 3]]);
        let even = steps(Extent::cube(512), [1.0, 1.0, 2.0], 1 << 24);
        assert_eq!(even, [[2, 2, 1], [2; 3]]);
        let slice = steps(Extent::new(1 << 20, 1, 1), [8.0, 1.0, 1.0], 1 << 18);
        assert_eq!(slice, [[2, 1, 1]; 2], "sides of one voxel do not hold others back");
        assert_eq!(steps(Extent::cube(2), [1.0; 3], 0), [[2; 3]]);
        assert!(steps(Extent::cube(u64::MAX), [1.0; 3], 1 << 21).len() <= 64);
        assert!(steps(Extent::cube(u64::MAX), [f64::MAX; 3], 1).len() <= 64);
    }

    fn small(kept_bytes: u64) -> DeriveOptions {
        DeriveOptions { coarsest_voxels: 100, kept_bytes, ..DeriveOptions::default() }
    }

    fn read<T: Voxel>(source: &SharedSource<T>) -> Vec<T> {
        let whole = Region::whole(source.extent());
        let mut out = vec![T::zeroed(); voxels(whole.extent) as usize];
        source.read(whole, &mut out).unwrap();
        out
    }

    #[test]
    fn derived_levels_are_those_of_the_level_below() {
        let volume = Procedural::new(Extent::new(70, 45, 9), |c: Coord| (c.x * 7 + c.y * 13 + c.z) as u8);
        let pyramid = PyramidSource::derive(volume, Downsample::Max, small(1 << 20)).unwrap();
        let factors: Vec<_> =
            (0..pyramid.levels()).map(|k| pyramid.geometry(k).unwrap().factor()[0]).collect();
        assert_eq!(factors, [1.0, 2.0, 4.0, 8.0, 16.0]);
        for level in 1..5 {
            // The greatest of the greatest is the greatest of level 0.
            let block = [1 << level; 3];
            let base = pyramid.source(0).unwrap().clone();
            let exact = Downsampled::new(base, block, Downsample::Max).unwrap();
            assert_eq!(exact.extent(), pyramid.geometry(level).unwrap().extent());
            let exact: SharedSource<u8> = Arc::new(exact);
            assert_eq!(read(pyramid.source(level).unwrap()), read(&exact), "level {level}");
        }
        assert_eq!(read(pyramid.provisional.as_ref().unwrap()).len(), 5 * 3);
    }

    #[test]
    fn what_was_computed_is_not_computed_again() {
        let counted = |kept_bytes| {
            let volume = Instrumented::new(Procedural::new(Extent::cube(100), |c| (c.x * c.y * c.z) as u16));
            let watch = volume.instruments();
            let pyramid = PyramidSource::derive(volume, Downsample::Mean, small(kept_bytes)).unwrap();
            let levels = pyramid.levels();
            let mut seen = Vec::new();
            for level in [levels - 1, levels - 1, levels - 2, 1] {
                read(pyramid.source(level).unwrap());
                seen.push(watch.bytes_read() / 2_000_000);
            }
            seen
        };
        assert_eq!(counted(1 << 20), [1, 1, 1, 1], "level 0 was read once");
        assert_eq!(counted(0), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_kept_at_once_has_the_shape_of_tiles() {
        assert_eq!(default_tile::<u8>(), Extent::new(64, 32, 32));
        assert_eq!(default_tile::<u16>(), Extent::cube(32));
        assert_eq!(default_tile::<f64>(), Extent::new(32, 16, 16));
        for tile in [Extent::new(8, 0, 8), Extent::cube(65)] {
            let volume = Procedural::new(Extent::cube(9), |_| 0u8);
            let options = DeriveOptions { tile: Some(tile), ..small(0) };
            let error = PyramidSource::derive(volume, Downsample::Mean, options).unwrap_err();
            assert!(matches!(error, PyramidError::Block { .. }), "{error}");
        }
    }

    #[test]
    fn levels_of_a_formula_are_those_at_the_centres() {
        let pyramid = PyramidSource::procedural_with(Extent::new(50, 40, 30), small(0), |[x, y, z]| {
            x as f32 + 100.0 * y as f32 + 10_000.0 * z as f32
        })
        .unwrap();
        assert_eq!(pyramid.levels(), 4 + 1);
        let level_2 = read(pyramid.source(2).unwrap());
        assert_eq!(level_2[..2], [1.5 + 150.0 + 15_000.0, 5.5 + 150.0 + 15_000.0]);
        assert!(matches!(
            PyramidSource::procedural(Extent::new(3, 0, 3), |_| 0u8),
            Err(PyramidError::EmptyLevel { level: 0, .. })
        ));
    }

    #[test]
    fn levels_are_added_to_those_that_a_file_has() {
        let value = |c: Coord| (c.x + c.y + c.z) as u8;
        let pyramid = PyramidSource::builder()
            .try_level([1.0; 3], Err::<Procedural<u8>, _>(crate::SourceError::Other("gone".into())))
            .level([3.0, 3.0, 1.0], Procedural::new(Extent::new(20, 20, 40), value))
            .try_level([9.0; 3], Err::<Procedural<u8>, _>(crate::SourceError::Other("gone".into())))
            .spacing([1.0, 1.0, 2.0])
            .build()
            .unwrap()
            .with_derived(Downsample::Mode, small(0))
            .unwrap();
        let factors: Vec<_> = (0..pyramid.levels()).map(|k| pyramid.geometry(k).unwrap().factor()).collect();
        assert_eq!(
            factors,
            [[1.0; 3], [3.0, 3.0, 1.0], [6.0, 6.0, 2.0], [12.0, 12.0, 4.0], [24.0, 24.0, 8.0]]
        );
    }
}
