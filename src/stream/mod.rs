//! Owns requests that nobody waits for: [`Streamer`] takes wants with priorities, and threads of its own make ordinary requests of them. Nothing below knows that it exists.
//!
//! ```text
//! rendering thread           short lock              streaming threads
//!   begin_generation   -->                     <--   take the most urgent tiles of one array
//!   want, want, want   -->   Schedule                SparseArray3D::request, which may wait for
//!   status, failures   <--                     -->   sources, mapping calls, frames
//!
//! schedule.rs    decides; a plain value without threads
//! queue.rs       what is wanted and not begun, by priority
//! shares.rs      which wanted pages the budget holds at once
//! under_way.rs   what is being loaded, against the caps
//! failures.rs    what is not tried again, and the log
//! desk.rs        the schedule under its lock; wants go in, requests come out
//! changes.rs     what came and went, for who keeps books of it
//! judge.rs       what the end of a request says
//! streamer.rs    the public face, and the threads
//! ```
//!
//! **What is wanted and resident** is stamped as used, like the hits of a request, so that it is the last to be evicted. **What is wanted beyond the budget** is left alone: the most
//! urgent pages that the budget holds together have a share of it, and the others are neither loaded nor kept, so that nothing is loaded only to be evicted by the next. Tiles that are
//! pinned need not be wanted: pinned bytes are taken off the budget first.

#[cfg(feature = "render")]
mod changes;
mod desk;
mod failures;
mod judge;
mod options;
mod priority;
mod queue;
mod schedule;
#[cfg(test)]
mod schedule_tests;
mod shares;
mod status;
mod streamer;
mod under_way;
mod want;

#[cfg(feature = "render")]
pub(crate) use crate::engine::Became;
#[cfg(feature = "render")]
pub(crate) use changes::{Change, Changes};
pub use failures::{StreamFailure, StreamFailures};
pub use options::StreamOptions;
pub use priority::{Priority, Urgency};
pub use status::{StreamLimit, StreamStatus};
pub use streamer::Streamer;
pub use want::{Enrolled, Want};
