//! Owns how large the boxes of tiles are that a ray may go through in one run ([`Boxes`]), and the steps from tile to tile that kernels take in them.
//!
//! A box is a part of the volume, aligned to its own size, whole pages along each axis. There are small ones, of four tiles along each axis or more, and large ones, as large as positions in them
//! are still exact enough and steps fit in 32 bits.

use super::parameters::BoxParameters;
use crate::layout::{Axis, Layout};

/// Edges of boxes, at the most, as log2 of voxels: positions in them are floats of 24 bits, of which that leaves 14 to tell places between two voxels apart.
const LONGEST: u32 = 10;
/// Tiles of a small box along each axis, at the least, as log2.
const TILES: u32 = 2;
/// The most boxes of one size in a level.
const MOST_BOXES: u64 = 1 << 20;
/// The farthest that voxels are apart along one axis in a run, in voxels: three of them are less than 2^32.
const FARTHEST: u64 = 1 << 30;

/// How a level is divided: everything but addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boxes {
    parameters: BoxParameters,
    /// How many small and large ones; `None`: there are none.
    counts: Option<(u64, u64)>,
}

impl Boxes {
    /// Of a level.
    pub(super) fn of(layout: &Layout) -> Self {
        let (axes, voxels_log2) = (layout.axes(), layout.tile_voxels_log2());
        let each = |of: &dyn Fn(&Axis) -> u32| [of(&axes[0]), of(&axes[1]), of(&axes[2])];
        let mut parameters = BoxParameters {
            tile_log2: each(&|axis| axis.tile_shift),
            page_log2: each(&|axis| axis.tile_shift + axis.page_shift),
            row_log2: each(&|axis| axis.voxel_shift),
            ..BoxParameters::default()
        };
        let far = [0, 1, 2].map(|a| axes[a].page_stride_tiles << voxels_log2);
        for (a, axis) in axes.iter().enumerate() {
            let row = 1u64 << (axis.tile_shift + axis.voxel_shift);
            let tile = 1u64 << (axis.slot_shift + voxels_log2);
            // Pages are contiguous, so none of these is negative. Of pages that are too far apart faces are closed, so that no such step is taken; larger ones than fit are refused.
            let jump = |from: u64, to: u64| u32::try_from(to.saturating_sub(from)).unwrap_or(0);
            parameters.tile_jump[a] = jump(row, tile);
            parameters.page_jump[a] = jump(tile << axis.page_shift, far[a]);
            parameters.closed |= u8::from(far[a] > FARTHEST) << a;
        }
        let size = |log2: [u32; 3]| Size {
            log2,
            extent: layout.extent().to_array(),
            pages: parameters.page_log2,
            far,
        };
        let least = [0, 1, 2].map(|a| match parameters.closed >> a & 1 {
            0 => parameters.page_log2[a].max(parameters.tile_log2[a] + TILES),
            _ => parameters.page_log2[a],
        });
        let mut small = size(least);
        while small.count() > MOST_BOXES && small.grow() {}
        let mut large = small;
        while large.grow() {}
        let bytes = |size: &Size| size.log2.map(|log2| u8::try_from(log2).unwrap_or(u8::MAX));
        (parameters.small_log2, parameters.large_log2) = (bytes(&small), bytes(&large));
        let some = small.fits() && small.count() <= MOST_BOXES;
        Self { parameters, counts: some.then(|| (small.count(), large.count())) }
    }

    /// Bytes of their words.
    pub(super) fn bytes(&self) -> usize {
        self.counts.map_or(0, |(small, large)| usize::try_from((small + large) * 8).unwrap_or(0))
    }

    /// With the words at an address.
    pub(super) fn at(&self, address: u64) -> BoxParameters {
        match self.counts {
            Some((small, _)) => {
                BoxParameters { small: address, large: address + small * 8, ..self.parameters }
            }
            None => self.parameters,
        }
    }
}

/// Edges of the boxes of one size.
#[derive(Clone, Copy, Debug)]
struct Size {
    log2: [u32; 3],
    extent: [u64; 3],
    /// Edges of pages, and how far it is from page to page, in voxels.
    pages: [u32; 3],
    far: [u64; 3],
}

impl Size {
    fn count(&self) -> u64 {
        (0..3).map(|a| ((self.extent[a] - 1) >> self.log2[a]) + 1).product()
    }

    /// Whether positions in such a box are exact enough, and steps small enough.
    fn fits(&self) -> bool {
        let steps = |a: usize| self.far[a].saturating_mul((1 << (self.log2[a] - self.pages[a])) - 1);
        (0..3).all(|a| self.log2[a] <= LONGEST && steps(a) <= FARTHEST)
    }

    /// Doubles the shortest edge that may be, and says whether one may.
    fn grow(&mut self) -> bool {
        let mut shortest = [0, 1, 2];
        shortest.sort_by_key(|&a| self.log2[a]);
        let longer = |a: usize| {
            let mut size = *self;
            size.log2[a] += 1;
            size
        };
        let next = shortest.into_iter().filter(|&a| self.extent[a] > 1 << self.log2[a]).map(longer);
        let Some(next) = next.into_iter().find(Size::fits) else { return false };
        *self = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::LayoutSpec;

    fn boxes(extent: Extent, tile: u64, page: [u64; 3]) -> Boxes {
        let spec = LayoutSpec { tile: Some(Extent::cube(tile)), page: Some(page.into()), page_bytes: None };
        Boxes::of(&Layout::new(extent, 2, spec, 1, 1 << 20).unwrap())
    }

    #[test]
    fn a_volume_of_1024_voxels_a_side_is_one_large_box() {
        let boxes = boxes(Extent::cube(1024), 64, [2, 2, 1]);
        let BoxParameters { small_log2, large_log2, closed, .. } = boxes.parameters;
        assert_eq!((small_log2, large_log2, closed), ([8; 3], [10; 3], 0));
        assert_eq!((boxes.counts, boxes.bytes()), (Some((64, 1)), 65 * 8));
        assert_eq!((boxes.at(1000).small, boxes.at(1000).large), (1000, 1000 + 64 * 8));
    }

    /// The way that a kernel goes, against the layout's own.
    #[test]
    fn steps_lead_where_voxels_are() {
        for (extent, tile, page) in
            [([300, 200, 100], 16, [2, 4, 1]), ([70, 90, 300], 8, [1, 2, 4]), ([64; 3], 16, [4; 3])]
        {
            let spec =
                LayoutSpec { tile: Some(Extent::cube(tile)), page: Some(page.into()), page_bytes: None };
            let layout = Layout::new(extent.into(), 2, spec, 1, 1 << 20).unwrap();
            let p = Boxes::of(&layout).parameters;
            let across = |a: usize, v: u64| {
                let v = u32::try_from(v).unwrap();
                (v << p.row_log2[a])
                    + (v >> p.tile_log2[a]) * p.tile_jump[a]
                    + (v >> p.page_log2[a]) * p.page_jump[a]
            };
            for i in 0..5000u64 {
                let c = [i * 37 % extent[0], i * 71 % extent[1], i * 13 % extent[2]];
                let at = across(0, c[0]) + across(1, c[1]) + across(2, c[2]);
                assert_eq!(u64::from(at) * 2, layout.voxel_offset_bytes(c.into()).unwrap(), "{c:?}");
            }
        }
    }

    #[test]
    fn faces_between_pages_that_are_too_far_apart_are_closed() {
        // 4096^2 voxels in layers of pages of 64: just near enough.
        assert_eq!(boxes(Extent::cube(4096), 64, [1; 3]).parameters.closed, 0);
        let boxes = boxes(Extent::cube(1 << 15), 64, [1; 3]);
        assert_eq!(boxes.parameters.closed, 4);
        let (small, large) = (boxes.parameters.small_log2, boxes.parameters.large_log2);
        assert_eq!((small[2], large[2]), (6, 6), "one page along z");
        assert!(large[0] == 10 && large[1] >= 8 && boxes.counts.unwrap().0 <= MOST_BOXES, "{large:?}");
    }

    #[test]
    fn where_there_would_be_too_many_there_are_none() {
        let boxes = boxes(Extent::new(1 << 15, 1 << 15, 1 << 15), 4, [1; 3]);
        assert!(boxes.counts.is_none_or(|(small, _)| small <= MOST_BOXES));
        assert_eq!(boxes.counts.is_none(), boxes.bytes() == 0);
    }
}
