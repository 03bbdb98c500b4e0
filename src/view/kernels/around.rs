//! Owns a box of bricks and those around it as one piece of flat memory: [`Around`].

use std::marker::PhantomData;

use super::{Batch, Samples, Test};

/// A box of bricks and those around it as one piece of flat memory: along each axis the bricks lie the same ways from each other, whatever the other axes. So the place
/// of a voxel is a sum over the axes, each of which has to know only how far along itself the brick is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a, T> {
    /// Address of the first brick's first voxel; the provenance of all the bricks is exposed.
    pub(super) base: usize,
    pub(super) axes: [Axis; 3],
    bricks: PhantomData<&'a [T]>,
}

/// How the voxels of bricks follow each other along an axis. The place of voxel `v` is `v * stride`, and what `ways` says of its brick.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Axis {
    /// Of the bricks from the box's first on, the one before it being the last.
    pub(super) ways: [i32; WAYS],
    /// Voxels to bricks.
    pub(super) shift: i32,
    pub(super) stride: i32,
    /// The first and the last voxel that are there: the volume's, or those of the bricks around.
    pub(super) low: i32,
    pub(super) high: i32,
}

/// As many as one instruction looks up.
const WAYS: usize = 8;

/// The most bricks of a box along each axis, without those around.
const MOST_BRICKS: i64 = 6;

impl<'a, T> Around<'a, T> {
    /// For a box of so many bricks. `brick` gives the voxels of each, counted from the first one of the box, densely; it is asked for those within the volume, which has voxels
    /// from `first` to `last` relative to the box. `None` where one is not there, or they do not lie like that, or are too far apart for the kernels.
    pub(crate) fn new(
        brick: impl Fn([i64; 3]) -> Option<&'a [T]>,
        bricks: [i64; 3],
        edge: [i64; 3],
        first: [i64; 3],
        last: [i64; 3],
    ) -> Option<Self> {
        let size = usize::try_from(edge[0].checked_mul(edge[1])?.checked_mul(edge[2])?).ok()?;
        let base = brick([0; 3])?.as_ptr().expose_provenance();
        // From the first brick, in voxels. Kernels read four bytes at a time, aligned.
        let way = |at: [i64; 3]| {
            let voxels = brick(at).filter(|voxels| voxels.len() >= size)?;
            let bytes = voxels.as_ptr().expose_provenance().wrapping_sub(base).cast_signed();
            (bytes % 4 == 0).then(|| i64::try_from(bytes / size_of::<T>().cast_signed()).ok())?
        };
        if !(base.is_multiple_of(4) && (size * size_of::<T>()).is_multiple_of(4)) {
            return None;
        }
        let mut axes = [Axis { ways: [0; WAYS], shift: 31, stride: 0, low: 0, high: 0 }; 3];
        let (mut there, mut ways) = ([(0, 0); 3], [[0; WAYS]; 3]);
        let mut far = i64::try_from(size).ok()?;
        for a in 0..3 {
            let stride = [1, edge[0], edge[0] * edge[1]][a];
            let (low, high) = (first[a].max(-edge[a]), last[a].min((bricks[a] + 1) * edge[a] - 1));
            let (from, to) = (low.div_euclid(edge[a]), high.div_euclid(edge[a]));
            let axis = &mut axes[a];
            if (from, to) != (0, 0) {
                // Supports reach one voxel back and two on, which has to be no further than the next brick.
                if edge[a] < 2 || !edge[a].cast_unsigned().is_power_of_two() || bricks[a] > MOST_BRICKS {
                    return None;
                }
                axis.shift = i32::try_from(edge[a].trailing_zeros()).ok()?;
            }
            (axis.stride, axis.low) = (i32::try_from(stride).ok()?, i32::try_from(low).ok()?);
            axis.high = i32::try_from(high).ok()?;
            let mut furthest = 0;
            for i in from..=to {
                let mut at = [0; 3];
                at[a] = i;
                let found = way(at)?;
                furthest = found.abs().max(furthest);
                ways[a][slot(i)] = found;
                axis.ways[slot(i)] = i32::try_from(found - i * edge[a] * stride).ok()?;
            }
            there[a] = (from, to);
            far += furthest;
        }
        if far > i64::from(i32::MAX) {
            return None;
        }
        let [x, y, z] = there.map(|(from, to)| from..=to);
        let mut all = z
            .flat_map(|z| y.clone().map(move |y| [y, z]))
            .flat_map(|[y, z]| x.clone().map(move |x| [x, y, z]));
        let in_line = all.all(|at| way(at) == Some((0..3).map(|a| ways[a][slot(at[a])]).sum()));
        in_line.then_some(Self { base, axes, bricks: PhantomData })
    }
}

/// Where [`Axis::ways`] has a brick.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lowest three bits")]
fn slot(brick: i64) -> usize {
    brick as usize % WAYS
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

    /// A box of `bricks` in the middle of `2 + bricks` along each axis, each at the place that `place` gives it.
    fn around(all: &[i16], bricks: i64, place: impl Fn(usize) -> Option<usize>) -> Option<Around<'_, i16>> {
        let brick = |at: [i64; 3]| {
            let index = at.iter().rev().fold(0, |sum, i| sum * (bricks + 2) + i + 1);
            place(usize::try_from(index).unwrap()).map(|at| &all[at * VOLUME..][..VOLUME])
        };
        let edge = i64::try_from(EDGE).unwrap();
        Around::new(brick, [bricks; 3], [edge; 3], [-edge; 3], [(bricks + 1) * edge - 1; 3])
    }

    #[test]
    fn bricks_in_line_are_flat_and_others_are_not() {
        let all = vec![0i16; 512 * VOLUME];
        assert!(around(&all, 1, Some).is_some());
        assert!(around(&all, 1, |i| Some(26 - i)).is_some(), "backwards is in line too");
        assert!(around(&all, 1, |i| Some(if i == 20 { 30 } else { i })).is_none(), "one elsewhere");
        assert!(around(&all, 1, |i| (i != 26).then_some(i)).is_none(), "one missing");
        assert!(around(&all, 6, Some).is_some());
        assert!(around(&all, 6, |i| (i != 511).then_some(i)).is_none(), "one missing at the rim");
        assert!(around(&all, 6, |i| (i != 256).then_some(i)).is_none(), "one missing in the middle");
        // Apart by ways that differ, but alike in all rows.
        let apart =
            |i: usize| [0, 1, 5, 6, 20, 21][i % 6] + [0, 2, 40, 42, 44, 46][i / 6 % 6] + 60 * (i / 36);
        assert!(around(&all, 4, |i| Some(apart(i))).is_some());
    }

    #[test]
    fn only_bricks_of_the_volume_are_needed() {
        let all = [0i16; VOLUME];
        let alone =
            |edge, last| Around::new(|at| (at == [0; 3]).then_some(&all[..]), [1; 3], edge, [0; 3], last);
        assert!(alone([4; 3], [3; 3]).is_some());
        assert!(alone([4; 3], [4, 3, 3]).is_none());
        assert!(alone([8; 3], [7; 3]).is_none(), "shorter than its shape");
        assert!(alone([3, 7, 2], [2, 6, 1]).is_some(), "with nothing beside it any shape will do");
    }
}
