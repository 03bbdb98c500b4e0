//! Owns [`GridView`], the struct that a kernel gets of an array, and what of a layout it can represent. Knows nothing of devices: addresses are numbers.

use std::mem::offset_of;

use super::block;
use crate::error::LayoutError;
use crate::layout::Layout;

/// The longest side of an array that kernels count in: positions are 32 bits, and one beyond the last is still a positive number.
const MAX_SIDE_VOXELS: u64 = (1 << 31) - 1;
/// The largest tile, so that offsets within one are 31 bits.
const MAX_TILE_BYTES: u64 = 1 << 31;

/// One axis of a [`GridView`]: how a position contributes to the flat position. `vg_axis` in C.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GridAxis {
    tile_shift: u8,
    page_shift: u8,
    voxel_shift: u8,
    slot_shift: u8,
    pad: u32,
    page_stride_tiles: u64,
}

impl GridAxis {
    /// The axis as a list of numbers, in the order of the fields: tile, page, voxel and slot shift, and tiles between neighbouring pages.
    #[must_use]
    pub fn fields(&self) -> [u64; 5] {
        [
            self.tile_shift.into(),
            self.page_shift.into(),
            self.voxel_shift.into(),
            self.slot_shift.into(),
            self.page_stride_tiles,
        ]
    }
}

/// An array as a kernel sees it, passed by value: `vg_grid` in `vastgrid.cuh`.
///
/// It holds addresses, not memory: a kernel that uses it runs while the reservation and the blocks live, and no longer than the frame in which the tiles that it reads were seen resident.
///
/// **Shape**: x fastest, as everywhere. Positions in kernels are 32 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[doc(alias = "vg_grid")]
pub struct GridView {
    base: u64,
    blocks: u64,
    fill: u64,
    axis: [GridAxis; 3],
    extent: [u32; 3],
    voxel_log2: u8,
    tile_voxels_log2: u8,
    block_log2: u8,
    flags: u8,
}

const _: () = {
    assert!(size_of::<GridAxis>() == 16 && align_of::<GridAxis>() == 8);
    assert!(offset_of!(GridAxis, page_stride_tiles) == 8);
    assert!(size_of::<GridView>() == 88 && align_of::<GridView>() == 8);
    assert!(offset_of!(GridView, base) == 0);
    assert!(offset_of!(GridView, blocks) == 8);
    assert!(offset_of!(GridView, fill) == 16);
    assert!(offset_of!(GridView, axis) == 24);
    assert!(offset_of!(GridView, extent) == 72);
    assert!(offset_of!(GridView, voxel_log2) == 84);
    assert!(offset_of!(GridView, tile_voxels_log2) == 85);
    assert!(offset_of!(GridView, block_log2) == 86);
    assert!(offset_of!(GridView, flags) == 87);
};

impl GridView {
    /// The flag of arrays that kernels may write to.
    pub const WRITABLE: u8 = 1;

    /// A view of an array laid out as `layout` in the reservation at `base`.
    ///
    /// `blocks` is the address of a table of [`block::count`] addresses, none of them null, of [`block`]s. `fill` is the bytes of the fill value. Both addresses are the
    /// device's; nothing here uses them.
    ///
    /// # Errors
    /// [`LayoutError::BeyondKernels`] for a side of 2^31 voxels or more, a page of 2^32 tiles or more along an axis, or a tile beyond 2 GiB; [`LayoutError::FillOfKernels`] for a fill value that is
    /// not a voxel of the layout, or one of more than 8 bytes that does not repeat its first 8 (see [`block::word_of`]).
    pub fn new(
        layout: &Layout,
        base: u64,
        blocks: u64,
        fill: &[u8],
        writable: bool,
    ) -> Result<Self, LayoutError> {
        let beyond = || LayoutError::BeyondKernels {
            extent: layout.extent(),
            tile: layout.tile_shape(),
            page: layout.page_shape(),
            max_side_voxels: MAX_SIDE_VOXELS,
            max_tile_bytes: MAX_TILE_BYTES,
        };
        let sides = layout.extent().to_array();
        if layout.tile_bytes() > MAX_TILE_BYTES || sides.into_iter().any(|side| side > MAX_SIDE_VOXELS) {
            return Err(beyond());
        }
        let word = (fill.len() as u64 == layout.voxel_bytes()).then(|| block::word_of(fill)).flatten();
        let refused =
            || LayoutError::FillOfKernels { fill_bytes: fill.len(), voxel_bytes: layout.voxel_bytes() };
        let small = |shift: u32| u8::try_from(shift).ok();
        let axis = |i: usize| {
            let axis = &layout.axes()[i];
            Some(GridAxis {
                tile_shift: small(axis.tile_shift)?,
                page_shift: small(axis.page_shift).filter(|&shift| shift < 32)?,
                voxel_shift: small(axis.voxel_shift)?,
                slot_shift: small(axis.slot_shift)?,
                pad: 0,
                page_stride_tiles: axis.page_stride_tiles,
            })
        };
        let side = |i: usize| u32::try_from(sides[i]).ok();
        let view = || {
            Some(Self {
                base,
                blocks,
                fill: 0,
                axis: [axis(0)?, axis(1)?, axis(2)?],
                extent: [side(0)?, side(1)?, side(2)?],
                voxel_log2: small(layout.voxel_bytes().trailing_zeros())?,
                tile_voxels_log2: small(layout.tile_voxels_log2())?,
                block_log2: small(block::TILES_LOG2)?,
                flags: if writable { Self::WRITABLE } else { 0 },
            })
        };
        Ok(Self { fill: word.ok_or_else(refused)?, ..view().ok_or_else(beyond)? })
    }

    /// Address of the reservation.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Address of the table of block addresses.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The fill value, as a word.
    #[must_use]
    pub fn fill_word(&self) -> u64 {
        self.fill
    }

    /// Whether kernels may write.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.flags & Self::WRITABLE != 0
    }

    /// The axes, x first.
    #[must_use]
    pub fn axes(&self) -> &[GridAxis; 3] {
        &self.axis
    }

    /// Every field in order, as a number each: what the kernel `vg_echo` writes, but for the struct's size at its end.
    #[must_use]
    pub fn fields(&self) -> Vec<u64> {
        let mut all = vec![self.base, self.blocks, self.fill];
        all.extend(self.axis.iter().flat_map(GridAxis::fields));
        all.extend(self.extent.map(u64::from));
        all.extend([self.voxel_log2, self.tile_voxels_log2, self.block_log2, self.flags].map(u64::from));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::LayoutSpec;

    fn view(extent: Extent, voxel_bytes: usize, tile: Option<Extent>) -> Result<GridView, LayoutError> {
        let spec = LayoutSpec { tile, ..LayoutSpec::default() };
        let layout = Layout::new(extent, voxel_bytes, spec, 1 << 21, 1 << 20)?;
        GridView::new(&layout, 1 << 40, 512, &vec![0; voxel_bytes], false)
    }

    #[test]
    fn what_kernels_cannot_count_is_refused() {
        assert!(view(Extent::new((1 << 31) - 1, 2, 1), 1, None).is_ok());
        let long = view(Extent::new(1 << 31, 1, 1), 1, None).unwrap_err();
        assert!(matches!(long, LayoutError::BeyondKernels { .. }), "{long}");
        assert!(view(Extent::cube(1 << 12), 2, Some(Extent::cube(1 << 10))).is_ok());
        let tile = view(Extent::cube(1 << 12), 4, Some(Extent::cube(1 << 10))).unwrap_err();
        assert!(matches!(tile, LayoutError::BeyondKernels { .. }), "{tile}");
    }

    #[test]
    fn a_fill_value_is_a_voxel_that_fits_a_word() {
        let layout = Layout::new(Extent::cube(64), 16, LayoutSpec::default(), 1, 1 << 20).unwrap();
        let repeated = GridView::new(&layout, 0, 0, &[[1, 2, 3, 4]; 4].concat(), true).unwrap();
        assert_eq!(repeated.fill_word(), 0x0403_0201_0403_0201);
        assert!(repeated.is_writable());
        for fill in [&[0; 8][..], &[0; 32], &[], &[[0; 15].as_slice(), &[1]].concat()] {
            let error = GridView::new(&layout, 0, 0, fill, true).unwrap_err();
            assert!(matches!(error, LayoutError::FillOfKernels { .. }), "{error}");
        }
    }
}
