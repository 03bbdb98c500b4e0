//! Owns the text of the kernels that ship with the crate. Knows nothing of how they are loaded or what they are for.
//!
//! `assets/kernels/build.py` makes the PTX of each `.cu` beside it; `tests/kernels.rs` and the checks refuse PTX that its source no longer makes.

/// Keeps the device's copy of what is known of tiles in step: `vg_patch`, `vg_collect_dirty`.
pub const MIRROR: &str = include_str!("../../../assets/kernels/mirror.ptx");

/// Whether pieces of memory hold one value: `vg_one_value`.
pub const ONE_VALUE: &str = include_str!("../../../assets/kernels/one_value.ptx");

/// Sums and extremes of tiles: `vg_reduce_u8`, `_u16`, `_f32`, then `vg_fold_u64` or `vg_fold_f64`.
pub const REDUCE: &str = include_str!("../../../assets/kernels/reduce.ptx");

/// Rays through arrays of u8: `vg_cast_dvr_u8`, `_dvr_lit`, `_mip`, `_iso`, and each with `_levels` for pyramids. What they are given is in `cast.cuh`.
pub const CAST_U8: &str = include_str!("../../../assets/kernels/cast_u8.ptx");
/// The same for u16.
pub const CAST_U16: &str = include_str!("../../../assets/kernels/cast_u16.ptx");
/// The same for i16.
pub const CAST_I16: &str = include_str!("../../../assets/kernels/cast_i16.ptx");
/// The same for f32.
pub const CAST_F32: &str = include_str!("../../../assets/kernels/cast_f32.ptx");

/// The header that a kernel includes to read an array: `#include "vastgrid.cuh"` works in what [`compile`](super::compile) is given, and this text is for other compilers.
pub const VASTGRID_CUH: &str = include_str!("../../../assets/kernels/vastgrid.cuh");
