//! Owns [`Dimensions`]: which dimensions of an array are x, y, z, times and channels, by what they are called or where they stand. Knows nothing of arrays.

use crate::source::ZarrSlice;

/// What the dimensions of an array are. What is none of these is chosen by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dimensions {
    pub(super) x: usize,
    pub(super) y: Option<usize>,
    pub(super) z: Option<usize>,
    pub(super) time: Option<usize>,
    pub(super) channel: Option<usize>,
}

/// What dimensions are called that are known here: x, y, z, times and channels.
const KNOWN: [&[&str]; 5] = [&["x"], &["y"], &["z"], &["t", "time"], &["c", "channel"]];

impl Dimensions {
    /// By name, as far as there are some: those that are not known become x, y and z where none is called that, the last ones first. Without names, or where two have the same, the last are t, c, z, y, x.
    pub(super) fn of(names: &[Option<String>], count: usize) -> Self {
        Self::by_name(names, count).unwrap_or_else(|| {
            let ZarrSlice { x, y, z, .. } = ZarrSlice::last(count);
            Self { x, y, z, time: count.checked_sub(5), channel: count.checked_sub(4) }
        })
    }

    fn by_name(names: &[Option<String>], count: usize) -> Option<Self> {
        let mut found = [None; 5];
        let mut unknown = Vec::new();
        for dimension in 0..count {
            let name = names.get(dimension).cloned().flatten().map(|name| name.to_ascii_lowercase());
            let known = name.and_then(|name| KNOWN.iter().position(|known| known.contains(&&*name)));
            match known {
                Some(known) if found[known].is_some() => return None,
                Some(known) => found[known] = Some(dimension),
                None => unknown.push(dimension),
            }
        }
        if names.iter().all(Option::is_none) {
            return None;
        }
        let [mut x, mut y, mut z, mut time, mut channel] = found;
        for axis in [&mut x, &mut y, &mut z] {
            *axis = axis.or_else(|| unknown.pop());
        }
        // There is always a row: where nothing is called x, of what comes next.
        for next in [&mut y, &mut z, &mut channel, &mut time] {
            x = x.or_else(|| next.take());
        }
        Some(Self { x: x?, y, z, time, channel })
    }

    /// The slice at the first place along all others.
    pub(super) fn slice(&self) -> ZarrSlice {
        ZarrSlice { x: self.x, y: self.y, z: self.z, at: Vec::new() }
    }

    /// What a dimension without a name is called.
    pub(super) fn default_name(&self, dimension: usize) -> String {
        let all = [Some(self.x), self.y, self.z, self.time, self.channel];
        let known = all.iter().position(|other| *other == Some(dimension));
        known.map_or_else(|| format!("dimension {dimension}"), |known| KNOWN[known][0].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> [Option<usize>; 5] {
        let names: Vec<_> = names.iter().map(|n| (!n.is_empty()).then(|| (*n).to_owned())).collect();
        let Dimensions { x, y, z, time, channel } = Dimensions::of(&names, names.len());
        [Some(x), y, z, time, channel]
    }

    #[test]
    fn names_count_where_there_are_some() {
        for (names, [x, y, z, t, c]) in [
            (&["x", "y", "z"][..], [Some(0), Some(1), Some(2), None, None]),
            (&["t", "c", "y", "x"], [Some(3), Some(2), None, Some(0), Some(1)]),
            (&["Z", "Y", "X", "Channel"], [Some(2), Some(1), Some(0), None, Some(3)]),
            (&["time", "lat", "lon"], [Some(2), Some(1), None, Some(0), None]),
            (&["energy", "angle", "slice", "row", "column"], [Some(4), Some(3), Some(2), None, None]),
            (&["energy", "z", "y", "x"], [Some(3), Some(2), Some(1), None, None]),
            (&["energy", "y", "x"], [Some(2), Some(1), Some(0), None, None]),
            (&["z", "y", ""], [Some(2), Some(1), Some(0), None, None]),
            (&["t", "c"], [Some(1), None, None, Some(0), None]),
            (&["t", "z", "y"], [Some(2), None, Some(1), Some(0), None]),
            (&["t"], [Some(0), None, None, None, None]),
        ] {
            assert_eq!(of(names), [x, y, z, t, c], "{names:?}");
        }
    }

    #[test]
    fn places_count_where_names_are_none_or_ambiguous() {
        assert_eq!(of(&["", "", "", "", "", ""]), [Some(5), Some(4), Some(3), Some(1), Some(2)]);
        assert_eq!(of(&["", "", "", ""]), [Some(3), Some(2), Some(1), None, Some(0)]);
        assert_eq!(of(&["x", "X", "y"]), [Some(2), Some(1), Some(0), None, None]);
        assert_eq!(of(&["t", "time", "z", "y", "x"]), [Some(4), Some(3), Some(2), Some(0), Some(1)]);
        assert_eq!(of(&[""]), [Some(0), None, None, None, None]);
        let named = Dimensions::of(&[None, Some("y".into()), None], 3);
        assert_eq!([0, 1, 2, 3].map(|d| named.default_name(d)), ["z", "y", "x", "dimension 3"]);
    }
}
