//! Owns the arithmetic of dense boxes: cutting one into pieces, and copying the part that two share. Knows nothing of what is in them.

use super::{Coord, Extent, Region};

/// Number of voxels, saturated.
pub(crate) fn voxels(extent: Extent) -> u64 {
    extent.checked_volume().unwrap_or(u64::MAX)
}

/// The boxes of a grid of `shape` that begins at the origin, as far as they touch `region`: x fastest. Each is whole, not clipped.
pub(crate) fn grid(region: Region, shape: Extent) -> impl Iterator<Item = Region> {
    let (start, size, side) = (region.start.to_array(), region.extent.to_array(), shape.to_array());
    let range = |a: usize| match size[a] {
        0 => 0..0,
        size => start[a] / side[a]..(start[a] + (size - 1)) / side[a] + 1,
    };
    let (xs, ys, zs) = (range(0), range(1), range(2));
    zs.flat_map(move |z| {
        let xs = xs.clone();
        ys.clone().flat_map(move |y| xs.clone().map(move |x| Coord { x, y, z }))
    })
    .map(move |c| Region::new(Coord::new(c.x * side[0], c.y * side[1], c.z * side[2]), shape))
}

/// The pieces of a box, at most `shape` each, from its own first voxel on: x fastest.
pub(crate) fn pieces(region: Region, shape: Extent) -> impl Iterator<Item = Region> {
    let start = region.start;
    grid(Region::whole(region.extent), shape).map(move |piece| {
        let piece = piece.clipped_to(region.extent);
        let at = Coord::new(start.x + piece.start.x, start.y + piece.start.y, start.z + piece.start.z);
        Region::new(at, piece.extent)
    })
}

/// A shape of at most `most_voxels`: `extent` with its longest sides halved, z first, until it fits.
pub(crate) fn shape_within(extent: Extent, most_voxels: u64) -> Extent {
    let mut sides = extent.to_array().map(|side| side.max(1));
    while voxels(sides.into()) > most_voxels.max(1) {
        let longest = if sides[2] >= sides[0].max(sides[1]) { 2 } else { usize::from(sides[1] >= sides[0]) };
        sides[longest] = sides[longest].div_ceil(2);
    }
    sides.into()
}

/// Copies the voxels that both boxes have from one dense buffer to the other.
pub(crate) fn copy_shared<T: Copy>(from: Region, source: &[T], to: Region, out: &mut [T]) {
    let Some(part) = from.intersection(&to) else { return };
    let place = |of: Region, y: u64, z: u64| {
        let (dx, dy, dz) = (part.start.x - of.start.x, y - of.start.y, z - of.start.z);
        index(dx + of.extent.x * (dy + of.extent.y * dz))
    };
    let width = index(part.extent.x);
    for z in part.start.z..part.start.z + part.extent.z {
        for y in part.start.y..part.start.y + part.extent.y {
            let (at, here) = (place(to, y, z), place(from, y, z));
            out[at..at + width].copy_from_slice(&source[here..here + width]);
        }
    }
}

/// A place in a buffer that exists.
#[expect(clippy::cast_possible_truncation, reason = "never larger than a buffer that exists")]
const fn index(voxels: u64) -> usize {
    voxels as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_box_once() {
        let region = Region::new(Coord::new(3, 5, 7), Extent::new(10, 7, 3));
        let mut seen = vec![0; 210];
        for piece in pieces(region, Extent::new(4, 3, 2)) {
            assert!(voxels(piece.extent) <= 24);
            let ones = vec![1; index(voxels(piece.extent))];
            let mut here = vec![0; 210];
            copy_shared(piece, &ones, region, &mut here);
            seen.iter_mut().zip(here).for_each(|(s, h)| *s += h);
        }
        assert!(seen.iter().all(|&s| s == 1));
        assert_eq!(pieces(Region::default(), Extent::cube(4)).count(), 0);
    }

    #[test]
    fn grid_boxes_are_those_of_the_origin() {
        let region = Region::new(Coord::new(31, 0, 64), Extent::new(2, 1, 32));
        let boxes: Vec<_> = grid(region, Extent::cube(32)).map(|b| b.start).collect();
        assert_eq!(boxes, [Coord::new(0, 0, 64), Coord::new(32, 0, 64)]);
    }

    #[test]
    fn shapes_shrink_until_they_fit() {
        assert_eq!(shape_within(Extent::cube(64), 1 << 18), Extent::cube(64));
        assert_eq!(shape_within(Extent::cube(64), 1 << 17), Extent::new(64, 64, 32));
        assert_eq!(shape_within(Extent::new(1 << 40, 1, 1), 4), Extent::new(4, 1, 1));
        assert_eq!(shape_within(Extent::cube(9), 0), Extent::cube(1));
    }
}
