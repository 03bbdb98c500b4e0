//! Owns the text form of a [`TransferFunction`]. Knows nothing of rendering.
//!
//! One thing a line; `#` begins a comment; the order of the lines does not matter but within each list:
//!
//! ```text
//! unit 1             opacities are per this distance in the world (1 where the line is missing)
//! opacity 200 0      value, opacity
//! opacity 1200 0.9
//! colour 0 1 0.9 0.8 value, red, green, blue
//! ```

use std::fmt::Write;

use super::error::RenderError;
use super::transfer::TransferFunction;

impl TransferFunction {
    /// Reads the text form: lines of `opacity VALUE ALPHA`, `colour VALUE RED GREEN BLUE` (each part from 0 to 1, values not falling) and
    /// at most one of `unit DISTANCE`. `#` begins a comment.
    ///
    /// # Errors
    /// [`RenderError::TransferText`] with the line that cannot be read; and what [`TransferFunction::new`] refuses.
    pub fn from_text(text: &str) -> Result<Self, RenderError> {
        let (mut opacity, mut colour, mut unit) = (Vec::new(), Vec::new(), None);
        for (i, full) in text.lines().enumerate() {
            let bad = |problem| RenderError::TransferText { line: i + 1, problem, text: excerpt(full) };
            let mut words = full.split('#').next().unwrap_or_default().split_whitespace();
            let Some(kind) = words.next() else { continue };
            let numbers: Vec<f32> = words
                .take(5)
                .map(|w| w.parse().map_err(|_| bad("not a number")))
                .collect::<Result<_, _>>()?;
            match (kind, numbers.as_slice()) {
                ("opacity", &[value, alpha]) => opacity.push((value, alpha)),
                ("opacity", _) => return Err(bad("opacity takes a value and an opacity")),
                ("colour" | "color", &[value, r, g, b]) => colour.push((value, [r, g, b])),
                ("colour" | "color", _) => return Err(bad("colour takes a value, red, green and blue")),
                ("unit", _) if unit.is_some() => return Err(bad("a second unit")),
                ("unit", &[distance]) => unit = Some(distance),
                ("unit", _) => return Err(bad("unit takes one distance")),
                _ => return Err(bad("must begin with opacity, colour or unit")),
            }
        }
        Self::new(&opacity, &colour, unit.unwrap_or(1.0))
    }

    /// The text form; [`TransferFunction::from_text`] reads back exactly the same function.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("unit {}\n", self.unit_distance());
        for (value, alpha) in self.opacity() {
            let _ = writeln!(text, "opacity {value} {alpha}");
        }
        for (value, [r, g, b]) in self.colour() {
            let _ = writeln!(text, "colour {value} {r} {g} {b}");
        }
        text
    }
}

/// Enough of a line to find it again.
fn excerpt(line: &str) -> String {
    line.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_exactly() {
        let points = [(-0.1, 0.3), (1e-7, 0.1), (123_456.79, 1.0)];
        let f = TransferFunction::new(&points, &[(0.3, [0.1, 0.2, 1.0 / 3.0])], 0.7).unwrap();
        assert_eq!(TransferFunction::from_text(&f.to_text()).unwrap(), f);
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        let text = "# bones\n\n opacity 0 0 # air\nopacity 10 1\ncolor 0 1 1 1\n";
        let f = TransferFunction::from_text(text).unwrap();
        assert_eq!((f.opacity().len(), f.unit_distance()), (2, 1.0));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [
            ("opacity 0", 1),
            ("unit 1\nunit 2", 2),
            ("\ncolour 0 1 1 1 1", 2),
            ("opacity 0 x", 1),
            ("alpha 0 1", 1),
            ("unit", 1),
        ] {
            let error = TransferFunction::from_text(text).unwrap_err();
            assert!(
                matches!(error, RenderError::TransferText { line: l, .. } if l == line),
                "{text}: {error}"
            );
        }
        assert!(TransferFunction::from_text("").is_err());
        assert!(TransferFunction::from_text("opacity nan 0\ncolour 0 1 1 1").is_err());
        assert!(TransferFunction::from_text("unit inf\nopacity 0 0\ncolour 0 1 1 1").is_err());
    }
}
