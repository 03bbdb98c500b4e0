//! Owns which parts of one object are fetched together. Knows nothing of requests.

use std::ops::Range;

/// Ranges that are fetched as one, and what they make together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) whole: Range<u64>,
    /// Which of the given ranges are in it, in the order of their starts.
    pub(super) members: Vec<usize>,
    /// Bytes of its members, each byte once.
    pub(super) wanted_bytes: u64,
}

/// Groups of ranges that are no further apart than `gap_bytes`, and make no more than `most_bytes` together, unless a single one does.
pub(super) fn coalesce(ranges: &[Range<u64>], gap_bytes: u64, most_bytes: u64) -> Vec<Group> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|&i| (ranges[i].start, ranges[i].end));
    let mut groups: Vec<Group> = Vec::new();
    for i in order {
        let range = &ranges[i];
        if let Some(group) = groups.last_mut() {
            let end = group.whole.end.max(range.end);
            let near = range.start <= group.whole.end.saturating_add(gap_bytes);
            // What overlaps is not fetched twice, however long that makes it.
            let overlaps = range.start < group.whole.end;
            if overlaps || (near && end - group.whole.start <= most_bytes) {
                group.wanted_bytes += end - range.start.max(group.whole.end).min(end);
                group.whole.end = end;
                group.members.push(i);
                continue;
            }
        }
        groups.push(Group {
            whole: range.clone(),
            members: vec![i],
            wanted_bytes: range.end.saturating_sub(range.start),
        });
    }
    groups
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range is a case of many")]
mod tests {
    use super::*;

    fn wholes(ranges: &[Range<u64>], gap: u64, most: u64) -> Vec<(Range<u64>, Vec<usize>, u64)> {
        coalesce(ranges, gap, most).into_iter().map(|g| (g.whole, g.members, g.wanted_bytes)).collect()
    }

    #[test]
    fn near_ranges_are_one_and_far_ones_are_not() {
        let ranges = [50..60, 0..10, 12..20, 100..110];
        assert_eq!(
            wholes(&ranges, 2, 100),
            [(0..20, vec![1, 2], 18), (50..60, vec![0], 10), (100..110, vec![3], 10)]
        );
        assert_eq!(wholes(&ranges, 1, 100).len(), 4);
        assert_eq!(wholes(&ranges, 1000, 1000), [(0..110, vec![1, 2, 0, 3], 38)]);
        assert_eq!(
            wholes(&ranges, 1000, 60),
            [(0..60, vec![1, 2, 0], 28), (100..110, vec![3], 10)],
            "not too long"
        );
    }

    #[test]
    fn what_overlaps_counts_once() {
        assert_eq!(wholes(&[0..10, 5..15, 3..4, 0..10], 0, 1), [(0..15, vec![0, 3, 2, 1], 15)]);
        assert_eq!(wholes(&[5..5], 0, 10), [(5..5, vec![0], 0)]);
        assert_eq!(wholes(&[], 0, 10), []);
    }

    #[test]
    fn every_range_is_in_exactly_one_group() {
        let mut seed = std::process::id().into();
        let mut random = |below: u64| {
            seed = u64::wrapping_mul(seed, 6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let ranges: Vec<Range<u64>> = (0..random(20))
                .map(|_| {
                    let start = random(1000);
                    start..start + random(50)
                })
                .collect();
            let groups = coalesce(&ranges, random(40), random(300));
            let mut members: Vec<usize> = groups.iter().flat_map(|g| g.members.clone()).collect();
            members.sort_unstable();
            assert_eq!(members, (0..ranges.len()).collect::<Vec<_>>(), "{ranges:?}");
            for group in &groups {
                let mut bytes = std::collections::HashSet::new();
                for &i in &group.members {
                    assert!(group.whole.start <= ranges[i].start && ranges[i].end <= group.whole.end);
                    bytes.extend(ranges[i].clone());
                }
                assert_eq!(group.wanted_bytes, bytes.len() as u64, "{ranges:?}");
            }
        }
    }
}
