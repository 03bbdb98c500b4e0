//! Owns one bit plane of a block: [`Plane`], a `bitvec` of whole words whose single bits are read and written as parts of those.

use std::ops::{Deref, DerefMut, Index};

use bitvec::prelude::{BitVec, Lsb0};

/// Bits, all clear at first.
#[derive(Debug)]
pub(super) struct Plane(BitVec<u64, Lsb0>);

impl Plane {
    pub(super) fn new(bits: usize) -> Self {
        Self(BitVec::repeat(false, bits))
    }

    /// Sets the bit or clears it, and returns what it was.
    ///
    /// `bitvec`'s own does the same in three times the time: it goes by pointers to bits.
    #[inline]
    pub(super) fn replace(&mut self, bit: usize, set: bool) -> bool {
        let word = &mut self.0.as_raw_mut_slice()[bit >> 6];
        let was = *word >> (bit & 63) & 1 == 1;
        *word = *word & !(1 << (bit & 63)) | u64::from(set) << (bit & 63);
        was
    }
}

impl Index<usize> for Plane {
    type Output = bool;

    #[inline]
    fn index(&self, bit: usize) -> &bool {
        if self.0.as_raw_slice()[bit >> 6] >> (bit & 63) & 1 == 1 { &true } else { &false }
    }
}

impl Deref for Plane {
    type Target = BitVec<u64, Lsb0>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Plane {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Positions of the set bits of a word.
#[inline]
pub(super) fn bits(word: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(word), |w| Some(w & w.wrapping_sub(1)))
        .take_while(|&w| w != 0)
        .map(|w| u64::from(w.trailing_zeros()))
}

/// Positions of the set bits, found word by word.
pub(super) fn ones(plane: &Plane) -> impl Iterator<Item = u64> {
    let words = (0u64..).step_by(64).zip(plane.as_raw_slice()).filter(|&(_, &word)| word != 0);
    words.flat_map(|(first, &word)| bits(word).map(move |i| first + i))
}
