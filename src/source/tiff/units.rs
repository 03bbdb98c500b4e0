//! Owns units of length: what they are called, and lengths in one that are given in another. Knows nothing of who measures what.

/// A unit as it is called here: `um` whichever of its letters stands for "micro".
pub(super) fn name(unit: &str) -> String {
    // Micro sign, Greek mu, and what is left of either where a text is in another encoding than it should be.
    match unit.trim() {
        "\u{b5}m" | "\u{3bc}m" | "\u{fffd}m" | "micron" | "microns" => "um".into(),
        "\u{b5}s" | "\u{3bc}s" | "\u{fffd}s" => "us".into(),
        "sec" => "s".into(),
        other => other.into(),
    }
}

/// Power of ten of a unit, in metres.
fn power(unit: &str) -> Option<i32> {
    Some(match unit {
        "km" => 3,
        "m" => 0,
        "dm" => -1,
        "cm" => -2,
        "mm" => -3,
        "um" => -6,
        "nm" => -9,
        "\u{c5}" | "\u{212b}" => -10,
        "pm" => -12,
        _ => return None,
    })
}

/// A length in another unit; `None` where nobody knows how many of one are in the other.
pub(super) fn converted(length: f64, from: &str, to: &str) -> Option<f64> {
    if from == to {
        return Some(length);
    }
    let by = power(from)? - power(to)?;
    // Powers of ten are exact, and their reciprocals are not.
    Some(if by < 0 { length / 10f64.powi(-by) } else { length * 10f64.powi(by) })
}

/// Lengths along x, y and z in one unit, that of the first of them, as far as that can be; and the unit of each.
pub(super) fn in_one_unit(lengths: [Option<(f64, String)>; 3]) -> ([Option<f64>; 3], [Option<String>; 3]) {
    let first = lengths.iter().flatten().map(|(_, unit)| unit.clone()).next();
    let each = lengths.map(|found| {
        let (length, unit) = found?;
        let to = first.as_ref()?;
        Some(converted(length, &unit, to).map_or((length, unit), |length| (length, to.clone())))
    });
    (each.each_ref().map(|found| found.as_ref().map(|(length, _)| *length)), each.map(|found| Some(found?.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_converted_where_that_is_known() {
        let um = |length| Some((length, "um".to_owned()));
        let (lengths, units) = in_one_unit([um(0.5), Some((500.0, "nm".into())), Some((0.002, "mm".into()))]);
        assert_eq!(lengths, [Some(0.5), Some(0.5), Some(2.0)]);
        assert_eq!(units, [(); 3].map(|()| Some("um".to_owned())));
        let (lengths, units) = in_one_unit([None, um(0.5), Some((3.0, "pixel".into()))]);
        assert_eq!(lengths, [None, Some(0.5), Some(3.0)]);
        assert_eq!(units, [None, Some("um".into()), Some("pixel".into())]);
        assert_eq!(converted(2.0, "\u{c5}", "nm"), Some(0.2));
        assert_eq!(converted(1.0, "reference frame", "reference frame"), Some(1.0));
        assert_eq!(
            (name("\u{3bc}m"), name("\u{fffd}m"), name(" mm")),
            ("um".into(), "um".into(), "mm".into())
        );
    }
}
