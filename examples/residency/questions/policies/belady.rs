//! Owns *Belady's optimum*: what goes is what is wanted again last, which takes knowing what comes. No policy loads less.
//!
//! Made good: pictures are asked for as a whole, as they are of all others, so what is there is met before anything goes for what is not; when each page is wanted next is found in one walk from the
//! end, and the page that is wanted last comes from a heap, in which entries that are out of date are passed over. That this is the least is asserted against a search of everything that could be done.
//!
//! **Source**: Belady, *A study of replacement algorithms for a virtual-storage computer*, IBM Systems Journal 5 (1966).

use std::collections::BinaryHeap;

use super::Moved;

const NEVER: u32 = u32::MAX;

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
        let before = moved.loads;
        let (met, mut missing): (Vec<_>, Vec<_>) =
            picture.iter().zip(next).partition(|(page, _)| there[**page as usize].is_some());
        for (&page, &next) in met {
            there[page as usize] = Some(next);
            order.push((next, page));
        }
        // Those that are wanted again last come first, so that they may go for the others.
        missing.sort_by_key(|(_, next)| std::cmp::Reverse(**next));
        for (&page, &next) in missing {
            moved.loads += 1;
            while room == 0 {
                let Some((at, last)) = order.pop() else { break };
                if there[last as usize] == Some(at) {
                    there[last as usize] = None;
                    room += 1;
                }
            }
            room = room.saturating_sub(1);
            there[page as usize] = Some(next);
            order.push((next, page));
        }
        moved.wants += picture.len() as u64;
        moved.stalls += u64::from(moved.loads > before);
    }
    moved
}
