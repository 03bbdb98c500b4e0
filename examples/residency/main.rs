//! What residency costs.

mod report;
mod suite;

fn main() {}
