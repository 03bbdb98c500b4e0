//! Owns *Belady's optimum*: what goes is what is wanted again last, which takes knowing what comes. Nobody who has each picture there as a whole loads less.
//!
//! Made good: when each page is wanted next is found in one walk from the end, and the page that is wanted last comes from a heap, in which entries that are out of date are passed over. Pages that are
//! next wanted by the same picture are alike, since that will have both. That this is the least is asserted against a search of everything that could be done.
//!
//! **Source**: Belady, *A study of replacement algorithms for a virtual-storage computer*, IBM Systems Journal 5 (1966).

use std::collections::BinaryHeap;

use super::Moved;

const NEVER: u32 = u32::MAX;
/// Of a page that the picture wants which is being met: no picture's number.
const NOW: u32 = u32::MAX - 1;

/// What is moved at least, with room for so many pages. No picture wants more than that, nor anything twice.
pub(super) fn belady(pictures: &[&[u32]], pages: usize, distinct: usize) -> Moved {
    // When each want is followed by another one of the same page, as the number of a picture.
    let mut next = Vec::with_capacity(pictures.len());
    let mut wanted_at = vec![NEVER; distinct];
    let count = u32::try_from(pictures.len()).unwrap_or(NEVER);
    for (at, picture) in (0..count).rev().zip(pictures.iter().rev()) {
        let replaced = picture.iter().map(|&page| std::mem::replace(&mut wanted_at[page as usize], at));
        next.push(replaced.collect::<Vec<_>>());
    }
    next.reverse();

    // Of pages that are there, when they are wanted next.
    let mut there: Vec<Option<u32>> = vec![None; distinct];
    let mut order = BinaryHeap::new();
    let mut room = pages;
    let mut moved = Moved::default();
    for (picture, next) in pictures.iter().zip(&next) {
        let mut loads = 0;
        for &page in *picture {
            // What the picture wants does not go for the rest of it.
            if there[page as usize].replace(NOW).is_some() {
                continue;
            }
            loads += 1;
            while room == 0 {
                let Some((at, last)) = order.pop() else { break };
                if there[last as usize] == Some(at) {
                    there[last as usize] = None;
                    room += 1;
                }
            }
            room = room.saturating_sub(1);
        }
        for (&page, &next) in picture.iter().zip(next) {
            there[page as usize] = Some(next);
            order.push((next, page));
        }
        moved.enter(picture.len() as u64, loads);
    }
    moved
}
