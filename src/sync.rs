//! Owns the choice of atomics and locks: the standard library's, or loom's when the frame protocol is model-checked.
//!
//! Everything that takes part in the protocol of [`crate::engine::frame`] takes them from here.

#[cfg(vastgrid_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(vastgrid_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(vastgrid_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(vastgrid_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};
