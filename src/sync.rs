//! Owns the choice of atomics: the standard library's, or loom's when the frame protocol is model-checked.
//!
//! Everything that takes part in the protocol of [`crate::engine::frame`] takes its atomics from here.

#[cfg(vastgrid_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(vastgrid_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
