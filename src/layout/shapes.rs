//! Owns the choice of tile and page shapes: [`LayoutSpec`] is what the user asks for, [`Shapes`] what fits.

use super::{MAX_RESERVED_BYTES, tile_counts};
use crate::error::LayoutError;
use crate::geometry::Extent;

/// What the user may choose of a layout; what is `None` is derived so that tiles and pages come out near cubic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutSpec {
    /// Shape of a tile in voxels: powers of two.
    pub tile: Option<Extent>,
    /// Shape of a page in tiles: powers of two.
    pub page: Option<Extent>,
    /// Size of a page where `page` is not given, in bytes: a power of two.
    pub page_bytes: Option<u64>,
}

/// Shapes that fit each other, as powers of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shapes {
    pub(super) voxel_shift: u32,
    pub(super) tile: [u32; 3],
    pub(super) page: [u32; 3],
}

impl Shapes {
    /// As [`Layout::new`](super::Layout::new), which documents it.
    pub(super) fn choose(
        extent: Extent,
        voxel_bytes: usize,
        spec: LayoutSpec,
        granularity_bytes: u64,
        default_tile_bytes: u64,
    ) -> Result<Self, LayoutError> {
        if extent.is_empty() {
            return Err(LayoutError::EmptyExtent { extent });
        }
        if !voxel_bytes.is_power_of_two() || voxel_bytes > 64 {
            return Err(LayoutError::VoxelSize { voxel_bytes });
        }
        let voxel_shift = voxel_bytes.trailing_zeros();
        let page_bytes = match spec.page_bytes {
            Some(b) if !b.is_power_of_two() || b < granularity_bytes => {
                return Err(LayoutError::PageBytes { page_bytes: b, granularity_bytes });
            }
            given => given,
        };
        let tile_shifts = if let Some(tile) = spec.tile {
            shifts(tile).ok_or(LayoutError::TileShape { tile })?
        } else {
            let most = page_bytes.unwrap_or(u64::MAX).min(default_tile_bytes.max(voxel_bytes as u64));
            near_cubic(most.ilog2().saturating_sub(voxel_shift), extent)
        };
        let tile_shift: u32 = tile_shifts.iter().sum();
        let tile_bits = tile_shift + voxel_shift;
        if tile_bits > 46 {
            return Err(LayoutError::TileShape { tile: unshift(tile_shifts) });
        }
        let page_shifts = match (spec.page, page_bytes) {
            (Some(page), _) => shifts(page).ok_or(LayoutError::PageShape { page })?,
            (None, wanted) => {
                let wanted = wanted.unwrap_or(granularity_bytes.max(1 << tile_bits));
                if wanted < 1 << tile_bits {
                    return Err(LayoutError::TileLargerThanPage {
                        tile_bytes: 1 << tile_bits,
                        page_bytes: wanted,
                    });
                }
                let tiles = tile_counts(extent, tile_shifts);
                near_cubic_exactly(wanted.ilog2() - tile_bits, tiles)
            }
        };
        let page_shift: u32 = page_shifts.iter().sum();
        let page_bits = page_shift + tile_bits;
        if page_bits > 46 {
            return Err(LayoutError::PageShape { page: unshift(page_shifts) });
        }
        if !(1u64 << page_bits).is_multiple_of(granularity_bytes) {
            return Err(LayoutError::PageBytes { page_bytes: 1 << page_bits, granularity_bytes });
        }
        if let (Some(_), Some(given)) = (spec.page, page_bytes)
            && given != 1 << page_bits
        {
            return Err(LayoutError::PageBytesContradictShape {
                page_bytes: given,
                shape_bytes: 1 << page_bits,
            });
        }
        Ok(Self { voxel_shift, tile: tile_shifts, page: page_shifts })
    }
}

/// log2 of each side, or `None` where one is no power of two (or beyond 2^46).
fn shifts(e: Extent) -> Option<[u32; 3]> {
    let one = |v: u64| (v.is_power_of_two() && v <= MAX_RESERVED_BYTES).then(|| v.trailing_zeros());
    Some([one(e.x)?, one(e.y)?, one(e.z)?])
}

#[inline]
pub(super) fn unshift([x, y, z]: [u32; 3]) -> Extent {
    Extent::new(1 << x, 1 << y, 1 << z)
}

/// Spreads up to `bits` doublings over the axes, shortest side first and x before y before z; an axis stops growing once it covers `limit`.
fn near_cubic(bits: u32, limit: Extent) -> [u32; 3] {
    let limit = limit.to_array();
    let mut s = [0u32; 3];
    for _ in 0..bits {
        let open = |i: &usize| 1u64.checked_shl(s[*i]).is_some_and(|edge| edge < limit[*i]);
        match (0..3).filter(open).min_by_key(|&i| s[i]) {
            Some(axis) => s[axis] += 1,
            None => break,
        }
    }
    s
}

/// As [`near_cubic`], but spends every doubling: what the extent does not need goes to z.
fn near_cubic_exactly(bits: u32, limit: Extent) -> [u32; 3] {
    let mut s = near_cubic(bits, limit);
    s[2] += bits - s.iter().sum::<u32>();
    s
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;

    #[test]
    fn derived_tiles_are_near_cubic_and_pages_reach_the_granularity() {
        let spec = LayoutSpec::default();
        let l = Layout::new(Extent::cube(1000), 2, spec, 4096, 64 << 10).unwrap();
        assert_eq!((l.tile_shape(), l.page_shape()), (Extent::cube(32), Extent::cube(1)));
        let l = Layout::new(Extent::cube(1000), 4, spec, 2 << 20, 64 << 10).unwrap();
        assert_eq!(l.tile_shape(), Extent::new(32, 32, 16));
        assert_eq!(l.page_bytes(), 2 << 20);
        let thin = Layout::new(Extent::new(5000, 5000, 1), 1, spec, 4096, 64 << 10).unwrap();
        assert_eq!(thin.tile_shape(), Extent::new(256, 256, 1), "a slice gets flat tiles");
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let e = Extent::cube(64);
        let new = |spec| Layout::new(e, 2, spec, 4096, 1 << 16).unwrap_err();
        let tile = |x| Some(Extent::cube(x));
        let base = LayoutSpec::default();
        assert!(matches!(new(LayoutSpec { tile: tile(24), ..base }), LayoutError::TileShape { .. }));
        assert!(matches!(new(LayoutSpec { tile: tile(0), ..base }), LayoutError::TileShape { .. }));
        assert!(matches!(new(LayoutSpec { page: tile(3), ..base }), LayoutError::PageShape { .. }));
        let small = LayoutSpec { tile: tile(8), page: tile(1), ..base };
        assert!(matches!(new(small), LayoutError::PageBytes { page_bytes: 1024, granularity_bytes: 4096 }));
        let over = LayoutSpec { tile: tile(32), page_bytes: Some(4096), ..base };
        assert!(matches!(new(over), LayoutError::TileLargerThanPage { .. }));
        let both = LayoutSpec { tile: tile(32), page: tile(2), page_bytes: Some(65536) };
        assert!(matches!(new(both), LayoutError::PageBytesContradictShape { .. }));
        let huge = LayoutSpec { tile: tile(1 << 20), ..base };
        assert!(matches!(new(huge), LayoutError::TileShape { .. }));
        assert!(matches!(
            Layout::new(e, 3, base, 4096, 1 << 16),
            Err(LayoutError::VoxelSize { voxel_bytes: 3 })
        ));
        assert!(matches!(
            Layout::new(Extent::new(0, 1, 1), 1, base, 4096, 1),
            Err(LayoutError::EmptyExtent { .. })
        ));
    }
}
