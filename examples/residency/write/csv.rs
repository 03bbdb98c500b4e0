//! Owns `results.csv`: a line for each figure, for spreadsheets. Samples are in the JSON file.

use std::fmt::Write as _;

use crate::report::Row;

/// The file's contents, as RFC 4180 has them.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text = "suite,case,settings,metric,unit,median,least,most,samples\r\n".to_owned();
    for row in rows {
        let settings: Vec<_> = row.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (least, most) = row.spread();
        let words = [&row.suite, &row.case, &settings.join(";"), &row.metric, &row.unit].map(|w| field(w));
        let _ = write!(text, "{},{},{least},{most},{}\r\n", words.join(","), row.median(), row.samples.len());
    }
    text
}

/// A field, in quotes where it needs them.
fn field(word: &str) -> String {
    if word.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", word.replace('"', "\"\""))
    } else {
        word.to_owned()
    }
}
