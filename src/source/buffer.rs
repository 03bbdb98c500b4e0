//! Owns the buffer that each thread reads through when a file's order is not the caller's. Knows nothing of files.

use std::cell::RefCell;

use crate::voxel::Voxel;

/// Buffers beyond this are given back to the system after use, so that one large read does not pin memory for good.
const KEEP_BYTES: usize = 4 << 20;

/// So many are kept: a source that decodes through one may read what it decodes through another.
const KEEP: usize = 3;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` on a buffer of `len` voxels, whose contents are unspecified. May be nested.
///
/// **Cost**: no allocation where this thread has used a buffer of that size before.
pub(crate) fn with_buffer<T: Voxel, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    if align_of::<T>() > align_of::<u64>() {
        return work(&mut vec![T::zeroed(); len]);
    }
    let mut words = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    let needed_words = len.saturating_mul(size_of::<T>()).div_ceil(size_of::<u64>());
    if words.len() < needed_words {
        words.clear();
        words.resize(needed_words, 0);
    }
    let bytes = bytemuck::cast_slice_mut::<u64, u8>(&mut words);
    let result = work(bytemuck::cast_slice_mut(&mut bytes[..len * size_of::<T>()]));
    if words.len() * size_of::<u64>() <= KEEP_BYTES {
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < KEEP {
                kept.push(words);
            }
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_buffers_are_apart_and_have_the_length_asked_for() {
        with_buffer::<u16, _>(7, |outer| {
            outer.fill(1);
            with_buffer::<f64, _>(1000, |inner| {
                assert_eq!(inner.len(), 1000);
                inner.fill(2.0);
            });
            assert_eq!(outer, [1; 7]);
        });
        with_buffer::<u128, _>(3, |wide| assert_eq!(wide.len(), 3));
        with_buffer::<u8, _>(0, |empty| assert!(empty.is_empty()));
    }

    #[test]
    fn large_buffers_are_not_kept() {
        with_buffer::<u8, _>(KEEP_BYTES + 1, |b| b.fill(1));
        assert!(KEPT.take().iter().all(|kept| kept.len() * 8 <= KEEP_BYTES));
    }
}
