//! Owns numbers in the text of headers. Knows nothing of which field holds which.

use super::bad::Bad;

/// One whole number.
pub(super) fn count(field: &'static str, value: &str) -> Result<u64, Bad> {
    value.parse().map_err(|_| Bad::new(field, value, "must be a whole number below 2^64"))
}

/// Whole numbers with blanks between them.
pub(super) fn counts(field: &'static str, value: &str) -> Result<Vec<u64>, Bad> {
    let all: Result<_, _> = value.split_ascii_whitespace().map(str::parse).collect();
    all.map_err(|_| Bad::new(field, value, "must be whole numbers below 2^64"))
}

/// Numbers with blanks between them.
pub(super) fn numbers(field: &'static str, value: &str) -> Result<Vec<f64>, Bad> {
    let all: Result<_, _> = value.split_ascii_whitespace().map(str::parse).collect();
    all.map_err(|_| Bad::new(field, value, "must be numbers"))
}
