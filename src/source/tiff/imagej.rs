//! Owns the description that `ImageJ` leaves in a stack: lines `key=value`. Knows nothing of pages.
//!
//! ```text
//! ImageJ=1.53t
//! images=12
//! channels=2
//! slices=3
//! frames=2
//! spacing=2.5
//! unit=\u00B5m
//! finterval=1.5
//! ```

use super::units;

/// What the description says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ImageJ {
    /// Planes in all.
    pub(super) images: u64,
    pub(super) channels: u64,
    pub(super) slices: u64,
    pub(super) frames: u64,
    /// Distance of slices.
    pub(super) spacing: Option<f64>,
    pub(super) unit: Option<String>,
    /// Distance of frames.
    pub(super) time_step: Option<f64>,
    /// Seconds where the file does not say.
    pub(super) time_unit: String,
    /// Least and greatest value to display.
    pub(super) window: Option<(f64, f64)>,
}

impl ImageJ {
    /// `None`: another program's description.
    pub(super) fn parse(description: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(description);
        if !text.starts_with("ImageJ=") {
            return None;
        }
        let value = |key: &str| {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.filter(|(k, _)| *k == key).map(|(_, value)| value.trim()).next()
        };
        let count = |key| value(key).and_then(|v| v.parse().ok()).filter(|n| *n > 0).unwrap_or(1u64);
        let number = |key| value(key).and_then(|v| v.parse::<f64>().ok()).filter(|n| n.is_finite());
        let unit = value("unit").map(unescaped).filter(|u| !matches!(u.as_str(), "" | "pixel" | "pixels"));
        Some(Self {
            images: count("images"),
            channels: count("channels"),
            slices: count("slices"),
            frames: count("frames"),
            spacing: number("spacing").map(f64::abs).filter(|s| *s > 0.0),
            unit: unit.map(|unit| units::name(&unit)),
            time_step: number("finterval").filter(|step| *step > 0.0),
            time_unit: value("tunit").map_or_else(|| "s".into(), |unit| units::name(&unescaped(unit))),
            window: number("min").zip(number("max")).filter(|(low, high)| low < high),
        })
    }

    /// Channels, slices and frames of a stack of so many planes; where they do not make as many, all planes are slices.
    pub(super) fn shape(&self, planes: u64) -> [u64; 3] {
        let all = self.channels.checked_mul(self.slices).and_then(|n| n.checked_mul(self.frames));
        if all == Some(planes) { [self.channels, self.slices, self.frames] } else { [1, planes, 1] }
    }
}

/// Undoes escapes such as `\u00B5`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        let code = rest.get(at + 2..at + 6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else { break };
        out.push_str(&rest[..at]);
        out.push(c);
        rest = &rest[at + 6..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_is_not_there_is_one() {
        let text = b"ImageJ=1.53t\nimages=12\nchannels=2\nslices=3\nframes=2\nhyperstack=true\nspacing=-2.5\nunit=\\u00B5m\nfinterval=0.5\nmin=1.5\nmax=300\nloop=false\n";
        let found = ImageJ::parse(text).unwrap();
        assert_eq!((found.images, found.shape(12), found.shape(11)), (12, [2, 3, 2], [1, 11, 1]));
        assert_eq!(
            (found.spacing, found.unit.as_deref(), found.window),
            (Some(2.5), Some("um"), Some((1.5, 300.0)))
        );
        assert_eq!((found.time_step, found.time_unit.as_str()), (Some(0.5), "s"));
        let minutes = ImageJ::parse(b"ImageJ=1\nfinterval=2\ntunit=min\n").unwrap();
        assert_eq!((minutes.time_step, minutes.time_unit.as_str()), (Some(2.0), "min"));
        let bare = ImageJ::parse(b"ImageJ=1\nimages=x\nunit=pixel\nspacing=nan").unwrap();
        assert_eq!((bare.images, bare.shape(7), bare.spacing, bare.unit), (1, [1, 7, 1], None, None));
        let huge = ImageJ::parse(b"ImageJ=\nchannels=9999999999999\nslices=9999999999999\n").unwrap();
        assert_eq!(huge.shape(3), [1, 3, 1]);
        assert_eq!(ImageJ::parse(b"images=3\n"), None);
    }

    #[test]
    fn broken_escapes_stay() {
        for text in ["\\u", "\\u12", "\\uD800x", "a\\u00zz", "\\u\u{e9}\u{e9}"] {
            assert_eq!(unescaped(text), text);
        }
    }
}
