//! Owns [`Objects`]: a set of objects by their place, in a few bits for each. Knows nothing of what is in them.

use std::collections::HashMap;

use crate::geometry::Coord;

/// Objects of a cube of 8 x 8 x 8 places are kept together.
const SIDE: u64 = 8;

/// Bytes of the map for such a cube, about: place, bits, and room that hash tables leave empty.
const CUBE_BYTES: u64 = 2 * (24 + 64);

/// A set of places: a bit each, where there are others nearby.
#[derive(Debug, Default)]
pub(super) struct Objects {
    cubes: HashMap<Coord, [u64; 8]>,
}

impl Objects {
    pub(super) fn insert(&mut self, object: Coord) {
        let (cube, word, bit) = place(object);
        self.cubes.entry(cube).or_default()[word] |= bit;
    }

    pub(super) fn contains(&self, object: Coord) -> bool {
        let (cube, word, bit) = place(object);
        self.cubes.get(&cube).is_some_and(|words| words[word] & bit != 0)
    }

    /// Memory for as many objects along each axis.
    pub(super) fn bytes(along: [u64; 3]) -> u64 {
        along.into_iter().map(|side| side.div_ceil(SIDE)).fold(CUBE_BYTES, u64::saturating_mul)
    }
}

fn place(object: Coord) -> (Coord, usize, u64) {
    let cube = Coord::new(object.x / SIDE, object.y / SIDE, object.z / SIDE);
    let word = crate::source::index(object.z % SIDE);
    (cube, word, 1 << (object.x % SIDE + SIDE * (object.y % SIDE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::boxes::grid;
    use crate::geometry::{Extent, Region};

    #[test]
    fn what_was_put_in_is_there_and_nothing_else() {
        let mut objects = Objects::default();
        let is_in = |c: Coord| (c.x % 31 + c.y * 17 + c.z % 7).is_multiple_of(5);
        let start = Coord::new(u64::MAX - 20, 3, 1 << 40);
        let region = Region::new(start, Extent::new(20, 19, 18));
        let places = || grid(region, Extent::cube(1)).map(|place| place.start);
        places().filter(|&c| is_in(c)).for_each(|c| objects.insert(c));
        assert!(places().all(|c| objects.contains(c) == is_in(c)));
    }
}
