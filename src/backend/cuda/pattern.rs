//! Owns [`Pattern`] and [`Fill`]: memory of the device that gets one value again and again, in as few calls as that takes. Calls nothing itself.

use super::sys::CUdeviceptr;

/// A value of 1, 2 or 4 bytes, which the driver can set memory to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Every byte.
    U8(u8),
    /// Every two.
    U16(u16),
    /// Every four.
    U32(u32),
}

impl Pattern {
    /// What repeats in a value, the shortest; `None` where that is longer than 4 bytes.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let repeats = |bytes: usize| {
            value.len().is_multiple_of(bytes) && value.chunks_exact(bytes).all(|part| part == &value[..bytes])
        };
        match *value {
            [a, ..] if repeats(1) => Some(Self::U8(a)),
            [a, b, ..] if repeats(2) => Some(Self::U16(u16::from_le_bytes([a, b]))),
            [a, b, c, d, ..] if repeats(4) => Some(Self::U32(u32::from_le_bytes([a, b, c, d]))),
            _ => None,
        }
    }
}

/// Memory that gets a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) to: CUdeviceptr,
    pub(super) bytes: u64,
    /// Which page it lies in: the driver promises nothing across mappings.
    pub(super) page: u64,
    pub(super) pattern: Pattern,
    /// Where in the reservation, for errors.
    pub(super) offset_bytes: u64,
}

/// The same with neighbours in one: a call of the driver costs as much as some hundred KiB that it sets. No two of them overlap.
pub(super) fn merged(mut fills: Vec<Fill>) -> Vec<Fill> {
    fills.sort_unstable_by_key(|fill| fill.to);
    fills.dedup_by(|next, before| {
        let goes_on =
            before.to + before.bytes == next.to && (before.page, before.pattern) == (next.page, next.pattern);
        if goes_on {
            before.bytes += next.bytes;
        }
        goes_on
    });
    fills
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_by_what_repeats() {
        assert_eq!(Pattern::of(&0f32.to_le_bytes()), Some(Pattern::U8(0)));
        assert_eq!(Pattern::of(&[7]), Some(Pattern::U8(7)));
        assert_eq!(Pattern::of(&0x0102u16.to_le_bytes()), Some(Pattern::U16(0x0102)));
        assert_eq!(Pattern::of(&1f32.to_le_bytes()), Some(Pattern::U32(1f32.to_bits())));
        assert_eq!(Pattern::of(&0x0102_0102u32.to_le_bytes()), Some(Pattern::U16(0x0102)));
        assert_eq!(Pattern::of(&[1, 2, 3, 4].repeat(4)), Some(Pattern::U32(0x0403_0201)));
        assert_eq!(Pattern::of(&1f64.to_le_bytes()), None);
        assert_eq!(Pattern::of(&u64::MAX.to_le_bytes()), Some(Pattern::U8(255)));
        assert_eq!(Pattern::of(&[]), None);
    }

    #[test]
    fn neighbours_of_a_page_are_set_together() {
        let fill = |to: u64, page: u64, value: u8| Fill {
            to,
            bytes: 16,
            page,
            pattern: Pattern::U8(value),
            offset_bytes: to,
        };
        let all = vec![
            fill(48, 0, 1),
            fill(0, 0, 1),
            fill(16, 0, 1),
            fill(64, 1, 1),
            fill(32, 0, 2),
            fill(96, 1, 1),
        ];
        let merged: Vec<_> = merged(all).iter().map(|f| (f.to, f.bytes)).collect();
        assert_eq!(merged, [(0, 32), (32, 16), (48, 16), (64, 16), (96, 16)]);
    }
}
