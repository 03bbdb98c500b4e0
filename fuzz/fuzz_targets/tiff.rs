//! `cargo +nightly fuzz run tiff`
#![no_main]

#[allow(dead_code, reason = "each target calls one of them")]
#[path = "../../tests/common/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::tiff(bytes));
