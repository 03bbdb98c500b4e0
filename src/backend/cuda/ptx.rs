//! Owns the text of the kernels that ship with the crate. Knows nothing of how they are loaded or what they are for.
//!
//! `assets/kernels/build.py` makes the PTX of each `.cu` beside it; `tests/kernels.rs` and the checks refuse PTX that its source no longer makes.

/// Keeps the device's copy of what is known of tiles in step: `vg_patch`, `vg_collect_dirty`.
pub const MIRROR: &str = include_str!("../../../assets/kernels/mirror.ptx");

/// Sums and extremes of tiles: `vg_reduce_u8`, `_u16`, `_f32`, then `vg_fold_u64` or `vg_fold_f64`.
pub const REDUCE: &str = include_str!("../../../assets/kernels/reduce.ptx");

/// The header that a kernel includes to read an array: `#include "vastgrid.cuh"` works in what [`compile`](super::compile) is given, and this text is for other compilers.
pub const VASTGRID_CUH: &str = include_str!("../../../assets/kernels/vastgrid.cuh");
