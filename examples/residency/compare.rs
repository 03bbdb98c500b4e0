//! Owns the comparison of two runs: their figures side by side, and which differ by more than they vary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::report::Row;
use crate::say;
use crate::suite::Failure;

/// What one value or two must differ by to be told: nobody knows how far they spread.
const MUCH: f64 = 1.25;

/// Prints how the figures of two runs differ, each given by its folder or its `results.json`.
pub(crate) fn run(a: &Path, b: &Path) -> Result<(), Failure> {
    let (a, b) = (read(a, "A")?, read(b, "B")?);
    let key = |row: &Row| {
        let names = [&row.suite, &row.case, &row.metric, &row.unit].map(String::clone);
        (names, row.settings.clone())
    };
    let others: BTreeMap<_, _> = b.iter().map(|row| (key(row), row)).collect();
    let mut only_a = 0;
    let (mut pairs, mut differing, mut differing_much) = (0, 0, 0);
    say(format_args!("{:>14} {:>14} {:>8}  figure", "median of A", "median of B", "B / A"));
    for row in &a {
        let Some(other) = others.get(&key(row)) else {
            only_a += 1;
            continue;
        };
        let (first, second) = (row.median(), other.median());
        // Two figures of nothing are the same.
        let ratio = if first == second { 1.0 } else { second / first };
        let inside = |value: f64, (least, most): (f64, f64)| least <= value && value <= most;
        let enough = row.samples.len().min(other.samples.len()) >= 3;
        let differs = enough && !inside(second, row.spread()) && !inside(first, other.spread());
        pairs += 1;
        differing += u64::from(differs);
        // What is no number is no difference.
        let differs_much = !enough && !ratio.is_nan() && !(1.0 / MUCH..=MUCH).contains(&ratio);
        differing_much += u64::from(differs_much);
        let word = match (differs, differs_much) {
            (true, _) => "  outside both spreads",
            (_, true) => "  few samples, and far apart",
            _ => "",
        };
        say(format_args!(
            "{first:>14.3} {second:>14.3} {ratio:>8.3}  {} {}, {}: {} of {}{word}",
            row.suite,
            row.case,
            row.settings_text(),
            row.unit,
            row.metric
        ));
    }
    let only_b = others.len().saturating_sub(pairs);
    say(format_args!(
        "{pairs} figures in both, {differing} outside both spreads, {differing_much} of few samples apart by a factor of {MUCH} and more; {only_a} in A only, {only_b} in B only"
    ));
    Ok(())
}

/// The rows of a run. Says what it is of.
fn read(path: &Path, name: &str) -> Result<Vec<Row>, Failure> {
    let file: PathBuf = if path.is_dir() { path.join("results.json") } else { path.to_owned() };
    let damaged = |what: String| format!("{}: {what}", file.display());
    let text = fs::read_to_string(&file).map_err(|error| damaged(error.to_string()))?;
    let all: Value =
        serde_json::from_str(&text).map_err(|error| damaged(format!("this is no JSON: {error}")))?;
    let known = |field: &str| all.pointer(field).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let early = all.get("ended_early").and_then(Value::as_bool).unwrap_or(false);
    say(format_args!(
        "{name}: {}, on {}, effort {}, commit {}, {}{}",
        known("/started"),
        known("/settings/on"),
        known("/settings/effort"),
        known("/commit"),
        known("/machine/cpu"),
        if early { ", ended early" } else { "" }
    ));
    let rows = all.get("rows").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| damaged("field 'rows' is missing, or no list".to_owned()))?;
    let each = rows.iter().enumerate().map(|(i, row)| self::row(row, i).map_err(damaged));
    Ok(each.collect::<Result<_, String>>()?)
}

/// One row; says which field is not what it should be.
fn row(value: &Value, i: usize) -> Result<Row, String> {
    let text = |name: &str| {
        let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| format!("field 'rows[{i}].{name}' is missing, or no text"))
    };
    let settings = value.get("settings").and_then(Value::as_object);
    let settings = settings.ok_or_else(|| format!("field 'rows[{i}].settings' is missing, or no object"))?;
    let setting = |(name, value): (&String, &Value)| {
        let text = value.as_str().map(|value| (name.clone(), value.to_owned()));
        text.ok_or_else(|| format!("field 'rows[{i}].settings.{name}' is no text"))
    };
    let samples = value.get("samples").and_then(Value::as_array).filter(|samples| !samples.is_empty());
    let samples =
        samples.ok_or_else(|| format!("field 'rows[{i}].samples' is missing, or no list, or empty"))?;
    let sample = |(k, value): (usize, &Value)| {
        // What is no number, such as 0 / 0, is written as null.
        let number = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
        number.ok_or_else(|| format!("field 'rows[{i}].samples[{k}]' is no number"))
    };
    Ok(Row {
        suite: text("suite")?,
        case: text("case")?,
        settings: settings.iter().map(setting).collect::<Result<_, _>>()?,
        metric: text("metric")?,
        unit: text("unit")?,
        samples: samples.iter().enumerate().map(sample).collect::<Result<_, _>>()?,
    })
}
