//! Owns waiting for room: what a request that found none waits for, and what it is told when it waits no longer.

use crate::backend::Backend;
use crate::error::{Error, ResidencyError};
use crate::residency::NoRoom;

use super::Engine;
use super::frame::Epoch;
use super::waiting::{Change, Deadline};

impl<B: Backend> Engine<B> {
    /// Waits until another request's mapping calls, which wait for the frames up to `epoch`, are through.
    pub(super) fn await_change(
        &self,
        needed_bytes: u64,
        epoch: Epoch,
        seen: Change,
        deadline: Deadline<'_>,
    ) -> Result<(), Error> {
        if self.own_frame_until(epoch) {
            return Err(self.own_frame_in_the_way(needed_bytes));
        }
        if self.wait_for_change(seen, false, deadline) {
            return Ok(());
        }
        let (frames, budget_bytes) = (self.clock.open_frames(), self.budget());
        if frames > 0 {
            return Err(ResidencyError::FramesOpen { needed_bytes, frames, own: false }.into());
        }
        Err(ResidencyError::NothingToEvict {
            needed_bytes,
            budget_bytes,
            pinned_bytes: 0,
            busy_bytes: needed_bytes,
            written_bytes: 0,
        }
        .into())
    }

    /// Waits for room, if there is any hope of it. `framed`: frames were open when there was none.
    pub(super) fn await_room(
        &self,
        why: NoRoom,
        framed: bool,
        budget_bytes: u64,
        seen: Change,
        deadline: Deadline<'_>,
    ) -> Result<(), Error> {
        let NoRoom { needed_bytes, pinned_bytes, busy_bytes, spared_bytes } = why;
        // What an open frame asked for can go when the frame ends, unless that is this thread's own.
        let (spared_by_frames, own) = (framed && spared_bytes > 0, self.has_own_frame());
        let hopeful = busy_bytes > 0 || spared_by_frames && !own;
        if hopeful && self.wait_for_change(seen, framed, deadline) {
            return Ok(());
        }
        if spared_by_frames {
            return Err(
                ResidencyError::FramesOpen { needed_bytes, frames: self.clock.open_frames(), own }.into()
            );
        }
        let written_bytes = self.stats().dirty_bytes;
        let busy_bytes = busy_bytes + spared_bytes.saturating_sub(written_bytes);
        Err(ResidencyError::NothingToEvict {
            needed_bytes,
            budget_bytes,
            pinned_bytes,
            busy_bytes,
            written_bytes,
        }
        .into())
    }

    /// What is waited for is this thread's own frame.
    pub(super) fn own_frame_in_the_way(&self, needed_bytes: u64) -> Error {
        ResidencyError::FramesOpen { needed_bytes, frames: self.clock.open_frames(), own: true }.into()
    }
}
