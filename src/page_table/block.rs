//! Owns the planes of some neighbouring tiles: [`Block`].

use super::plane::{Plane, ones};
use super::{OfPage, index};

#[derive(Debug)]
pub(super) struct Block {
    pub(super) mapped: Plane,
    pub(super) fresh: Plane,
    pub(super) evicting: Plane,
    pub(super) resident: Plane,
    pub(super) dirty: Plane,
    pub(super) uniform: Plane,
    /// Mapped pages and uniform tiles: without any of them nothing else is set either.
    pub(super) in_use: u64,
    /// The how manieth it was of those that became empty; 0 while it is in use.
    pub(super) emptied: u64,
}

impl Block {
    /// With no bit set.
    pub(super) fn new(tiles: usize, page_shift: u32) -> Self {
        Self {
            mapped: Plane::new(tiles >> page_shift),
            fresh: Plane::new(tiles >> page_shift),
            evicting: Plane::new(tiles >> page_shift),
            resident: Plane::new(tiles),
            dirty: Plane::new(tiles),
            uniform: Plane::new(tiles),
            in_use: 0,
            emptied: 0,
        }
    }

    #[inline]
    pub(super) fn of_page(&self, bit: usize) -> OfPage {
        OfPage { mapped: self.mapped[bit], fresh: self.fresh[bit], evicting: self.evicting[bit] }
    }

    /// Whether the planes agree with each other: resident tiles have memory, dirty ones are resident, uniform ones are not; fresh pages and those on their way out have memory.
    pub(super) fn is_valid(&self, page_shift: u32) -> bool {
        let subset = |a: &Plane, of: &Plane| {
            a.as_raw_slice().iter().zip(of.as_raw_slice()).all(|(a, of)| a & !of == 0)
        };
        let disjoint =
            |a: &Plane, b: &Plane| a.as_raw_slice().iter().zip(b.as_raw_slice()).all(|(a, b)| a & b == 0);
        let backed = ones(&self.resident).all(|tile| self.mapped[index(tile >> page_shift, 63)]);
        let in_use = self.mapped.count_ones() + self.uniform.count_ones();
        in_use as u64 == self.in_use
            && backed
            && subset(&self.evicting, &self.mapped)
            && subset(&self.fresh, &self.mapped)
            && subset(&self.dirty, &self.resident)
            && disjoint(&self.resident, &self.uniform)
    }
}
