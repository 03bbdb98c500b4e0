//! Owns where the marks of an axis are and what is written at them: powers where it is logarithmic, of two where it counts bytes.

use crate::report::Axis;

/// An axis as it is drawn: positions are values, or their logarithms.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) least: f64,
    pub(super) most: f64,
    /// Positions of the marks.
    pub(super) marks: Vec<f64>,
    logarithmic: bool,
    bytes: bool,
}

impl Scale {
    /// Fits an axis to values.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let bytes = axis.label.ends_with("(bytes)");
        let mut scale =
            Self { least: 0.0, most: 1.0, marks: Vec::new(), logarithmic: axis.logarithmic, bytes };
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for position in values.filter_map(|value| scale.position(value)) {
            (least, most) = (least.min(position), most.max(position));
        }
        if !least.is_finite() {
            (least, most) = (0.0, 1.0);
        }
        // Linear axes begin at nothing, so that lengths can be compared.
        if !scale.logarithmic {
            (least, most) = (least.min(0.0), most.max(0.0));
        }
        let margin = if most > least { (most - least) * 0.04 } else { 0.5 };
        scale.least = if scale.logarithmic || least < 0.0 { least - margin } else { least };
        scale.most = most + margin;
        scale.marks = scale.marks();
        scale
    }

    /// Where a value is drawn; nowhere if it cannot be.
    pub(super) fn position(&self, value: f64) -> Option<f64> {
        match (value.is_finite(), self.logarithmic) {
            (false, _) => None,
            (true, false) => Some(value),
            (true, true) => (value > 0.0).then(|| value.log10()),
        }
    }

    fn marks(&self) -> Vec<f64> {
        let (least, most) = (self.least, self.most);
        if !self.logarithmic {
            let span = (most - least).max(f64::MIN_POSITIVE);
            let power = 10f64.powf((span / 8.0).log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| span / s <= 9.0);
            return every(step.unwrap_or(span), least, most);
        }
        if self.bytes {
            let two = 2f64.log10();
            let doublings = (most - least) / two;
            return every(two * (doublings / 9.0).ceil().max(1.0), least, most);
        }
        let decades = every((((most - least) / 9.0).ceil()).max(1.0), least, most);
        if most - least >= 2.0 {
            return decades;
        }
        // Within two decades powers of ten alone would be too few.
        let from = every(1.0, least.floor(), most);
        let finer = if most - least >= 0.8 {
            &[1.0, 2.0, 5.0][..]
        } else {
            &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]
        };
        let all = from.iter().flat_map(|decade| finer.iter().map(move |m: &f64| decade + m.log10()));
        all.filter(|mark| (least..=most).contains(mark)).collect()
    }

    /// What is written at a position.
    pub(super) fn text(&self, position: f64) -> String {
        let value = if self.logarithmic { 10f64.powf(position) } else { position };
        if self.bytes {
            let (value, unit) = scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]);
            return format!("{} {unit}", short(value));
        }
        let (value, unit) =
            if value.abs() < 1000.0 { (value, "") } else { scaled(value, 1000.0, &["", "k", "M", "G", "T"]) };
        format!("{}{unit}", short(value))
    }
}

/// Multiples of a step in a range.
fn every(step: f64, least: f64, most: f64) -> Vec<f64> {
    let first = (least / step).ceil();
    // A range has tens of marks; what has thousands is no range.
    (0..1000u32)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|mark| *mark <= most + step * 1e-9)
        .collect()
}

fn scaled<'a>(mut value: f64, factor: f64, units: &[&'a str]) -> (f64, &'a str) {
    let mut unit = 0;
    while value.abs() >= factor * 0.9999 && unit + 1 < units.len() {
        value /= factor;
        unit += 1;
    }
    (value, units[unit])
}

/// Three digits, without zeros that say nothing.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() >= 99.95 {
        return format!("{value:.0}");
    }
    if value.abs() < 0.001 {
        return format!("{value:.1e}");
    }
    let digits = if value.abs() >= 9.995 {
        1
    } else if value.abs() >= 0.0995 {
        2
    } else {
        4
    };
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(label: &str, logarithmic: bool, values: [f64; 2]) -> Vec<String> {
        let scale = Scale::new(&Axis { label: label.to_owned(), logarithmic }, values.into_iter());
        scale.marks.iter().map(|&mark| scale.text(mark)).collect()
    }

    #[test]
    fn marks_are_bytes_where_that_is_the_unit() {
        assert_eq!(texts("size (bytes)", true, [1024.0, 4096.0]), ["1 KiB", "2 KiB", "4 KiB"]);
        assert_eq!(texts("bytes moved, times the least", true, [1.0, 2.0]), ["1", "1.2", "1.5", "2"]);
        assert_eq!(
            texts("time (s)", false, [0.0, 4000.0]),
            ["0", "500", "1k", "1.5k", "2k", "2.5k", "3k", "3.5k", "4k"]
        );
    }
}
