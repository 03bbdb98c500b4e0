//! Owns a brick and those around it as one piece of flat memory: [`Around`].

use std::marker::PhantomData;

use super::{Batch, Samples, Test};

/// A brick and the 26 around it as one piece of flat memory: along each axis the next brick lies a fixed way from this one, whatever the other axes. So the
/// place of a voxel is a sum over the axes, and nobody has to ask which brick it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a, T> {
    /// Address of the brick's first voxel; the provenance of all the bricks is exposed.
    pub(super) base: usize,
    pub(super) axes: [Axis; 3],
    bricks: PhantomData<&'a [T]>,
}

/// How the voxels of three bricks follow each other along an axis. The place of voxel `v` is `v * stride`, and `before` more below 0, `after` more from `edge` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) stride: i32,
    pub(super) edge: i32,
    pub(super) before: i32,
    pub(super) after: i32,
    /// The first and the last voxel that are there: the volume's, or those of the bricks around.
    pub(super) low: i32,
    pub(super) high: i32,
}

impl<'a, T> Around<'a, T> {
    /// `bricks`, x fastest, this one in the middle: the voxels of each, densely, or none beyond the volume, which has voxels from `first` to `last`
    /// relative to this brick. `None` where the bricks do not lie like that, or are too far apart for the kernels.
    pub(crate) fn new(
        bricks: &[Option<&'a [T]>; 27],
        edge: [i64; 3],
        first: [i64; 3],
        last: [i64; 3],
    ) -> Option<Self> {
        const MIDDLE: usize = 13;
        let voxels = usize::try_from(edge[0].checked_mul(edge[1])?.checked_mul(edge[2])?).ok()?;
        let base = bricks[MIDDLE]?.as_ptr().expose_provenance();
        let way = |to: usize| {
            let bytes = bricks[to]?.as_ptr().expose_provenance().wrapping_sub(base).cast_signed();
            let size = size_of::<T>().cast_signed();
            (bytes % size == 0).then(|| bytes / size)
        };
        let mut ways = [[0; 3]; 3];
        let mut axes = [Axis { stride: 0, edge: 0, before: 0, after: 0, low: 0, high: 0 }; 3];
        for a in 0..3 {
            let (step, stride) = ([1, 3, 9][a], [1, edge[0], edge[0] * edge[1]][a]);
            let (low, high) = (first[a].max(-edge[a]), last[a].min(2 * edge[a] - 1));
            let (alone, span) = (low >= 0 && high < edge[a], i32::try_from(edge[a] * stride).ok()?);
            // Beside one brick only there is none to reach across.
            if edge[a] < 2 && !alone {
                return None;
            }
            ways[a] = [
                if low < 0 { way(MIDDLE - step)? } else { 0 },
                0,
                if high >= edge[a] { way(MIDDLE + step)? } else { 0 },
            ];
            axes[a] = Axis {
                stride: i32::try_from(stride).ok()?,
                edge: i32::try_from(edge[a]).ok()?,
                before: i32::try_from(ways[a][0]).ok()?.checked_add(span)?,
                after: i32::try_from(ways[a][2]).ok()?.checked_sub(span)?,
                low: i32::try_from(low).ok()?,
                high: i32::try_from(high).ok()?,
            };
        }
        // Far from overflow, whichever voxels are added up.
        let far =
            axes.iter().map(|x| 2 * i64::from(x.before).abs() + 2 * i64::from(x.after).abs()).sum::<i64>();
        if far + 8 * i64::try_from(voxels).ok()? > i64::from(i32::MAX) {
            return None;
        }
        for (i, brick) in bricks.iter().enumerate() {
            let at = [i % 3, i / 3 % 3, i / 9];
            let there = (0..3).all(|a| [axes[a].low < 0, true, axes[a].high >= axes[a].edge][at[a]]);
            if !there {
                continue;
            }
            // Kernels read four bytes at a time, aligned.
            let whole = brick.is_some_and(|b| b.len() >= voxels && b.as_ptr().addr() % 4 == 0);
            let in_line = way(i)? == (0..3).map(|a| ways[a][at[a]]).sum::<isize>();
            if !(whole && in_line && (voxels * size_of::<T>()).is_multiple_of(4)) {
                return None;
            }
        }
        Some(Self { base, axes, bricks: PhantomData })
    }
}

/// As [`Trilinear`], for samples whose support may reach into the next bricks.
pub(super) type TrilinearAcross<T> = unsafe fn(&Around<'_, T>, Samples<'_>, Test<'_>, &mut Batch) -> u32;
/// As [`Gradient`], for samples whose support may reach into the next bricks.
pub(super) type GradientAcross<T> = unsafe fn(&Around<'_, T>, Samples<'_>) -> [Batch; 3];

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: usize = 4;
    const VOLUME: usize = EDGE * EDGE * EDGE;

    /// The bricks around the middle one of 3^3, each at the place that `place` gives it.
    fn around(all: &[i16], place: impl Fn(usize) -> Option<usize>) -> Option<Around<'_, i16>> {
        let bricks = std::array::from_fn(|i| place(i).map(|at| &all[at * VOLUME..][..VOLUME]));
        Around::new(&bricks, [4; 3], [-4; 3], [7; 3])
    }

    #[test]
    fn bricks_in_line_are_flat_and_others_are_not() {
        let all = vec![0i16; 40 * VOLUME];
        assert!(around(&all, Some).is_some());
        assert!(around(&all, |i| Some(26 - i)).is_some(), "backwards is in line too");
        assert!(around(&all, |i| Some(if i == 20 { 30 } else { i })).is_none(), "one elsewhere");
        assert!(around(&all, |i| (i != 26).then_some(i)).is_none(), "one missing");
        // With the volume ending at the middle brick nothing else is needed.
        let alone = std::array::from_fn(|i| (i == 13).then(|| &all[..VOLUME]));
        assert!(Around::new(&alone, [4; 3], [0; 3], [3; 3]).is_some());
        assert!(Around::new(&alone, [4; 3], [0; 3], [4, 3, 3]).is_none());
        assert!(Around::new(&alone, [8; 3], [0; 3], [7; 3]).is_none(), "shorter than its shape");
    }
}
