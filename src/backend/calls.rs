//! Owns the record of calls that [`Checked`](super::Checked) keeps: how many, which, and what they would cost on a device.
//! Knows nothing of what the calls do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Call;
use crate::error::BackendError;

const KINDS: usize = Call::ALL.len();

/// How many calls of each kind were made, and what they were about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    calls: [u64; KINDS],
    failed: [u64; KINDS],
    handles: [u64; KINDS],
    bytes: [u64; KINDS],
}

impl CallCounts {
    /// Calls of a kind, failed ones included.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.calls[call.index()]
    }

    /// Calls of a kind that failed.
    #[must_use]
    pub fn failed(&self, call: Call) -> u64 {
        self.failed[call.index()]
    }

    /// Pages that the successful calls of a kind were about: a `set_access` over four pages counts as four.
    #[must_use]
    pub fn handles(&self, call: Call) -> u64 {
        self.handles[call.index()]
    }

    /// Bytes that the successful calls of a kind were about.
    #[must_use]
    pub fn bytes(&self, call: Call) -> u64 {
        self.bytes[call.index()]
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |a: [u64; KINDS], b: [u64; KINDS]| std::array::from_fn(|i| a[i].saturating_sub(b[i]));
        Self {
            calls: minus(self.calls, earlier.calls),
            failed: minus(self.failed, earlier.failed),
            handles: minus(self.handles, earlier.handles),
            bytes: minus(self.bytes, earlier.bytes),
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Which.
    pub call: Call,
    /// Number of the reservation, counted from 1; 0 where the call is about none.
    pub reservation: u64,
    /// Offset in the reservation.
    pub offset_bytes: u64,
    /// Size.
    pub bytes: u64,
    /// Pages that it was about.
    pub handles: u64,
    /// The error, if it failed.
    pub error: Option<String>,
}

/// The latest calls, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallLog {
    records: VecDeque<CallRecord>,
    keep: usize,
    dropped: u64,
}

impl CallLog {
    /// The calls that were kept.
    pub fn iter(&self) -> impl Iterator<Item = &CallRecord> {
        self.records.iter()
    }

    /// The kinds of the calls that were kept, in order: what a test of call order compares.
    #[must_use]
    pub fn kinds(&self) -> Vec<Call> {
        self.records.iter().map(|record| record.call).collect()
    }

    /// Calls that had to make room for later ones.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push(&mut self, record: CallRecord) {
        if self.keep == 0 {
            return;
        }
        if self.records.len() == self.keep {
            self.records.pop_front();
            self.dropped += 1;
        }
        self.records.push_back(record);
    }
}

/// What one kind of call costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallPrice {
    /// For the call as such.
    pub call_ns: u64,
    /// For each page.
    pub handle_ns: u64,
    /// For each mebibyte.
    pub mebibyte_ns: u64,
}

/// What every kind of call costs: an estimate of what counted calls would take elsewhere, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPrices {
    prices: [CallPrice; KINDS],
}

impl CallPrices {
    /// Nothing costs anything.
    pub const FREE: Self = Self { prices: [CallPrice { call_ns: 0, handle_ns: 0, mebibyte_ns: 0 }; KINDS] };

    /// The middle of what was measured on one NVIDIA H200 with driver 580.159: mapping, access and unmapping are paid by the page, whatever its size and
    /// however many one call covers; copies at 55 GB/s from pinned memory, with about 3 us each on top. Asking and waiting are not priced.
    #[must_use]
    pub fn cuda() -> Self {
        let call = |call_ns| CallPrice { call_ns, ..CallPrice::default() };
        let handle = |handle_ns| CallPrice { handle_ns, ..CallPrice::default() };
        let copy = CallPrice { call_ns: 2_700, handle_ns: 0, mebibyte_ns: 19_000 };
        Self::FREE
            .with(Call::Reserve, call(3_000))
            .with(Call::Release, call(3_000))
            .with(Call::Create, handle(10_000))
            .with(Call::Destroy, handle(14_000))
            .with(Call::Map, handle(1_000))
            .with(Call::SetAccess, handle(30_000))
            .with(Call::Unmap, handle(20_000))
            .with(Call::Submit, copy)
            .with(Call::Read, copy)
    }

    /// With another price for one kind.
    #[must_use]
    pub fn with(mut self, call: Call, price: CallPrice) -> Self {
        self.prices[call.index()] = price;
        self
    }

    /// What the successful calls among these would cost. Saturates.
    #[must_use]
    pub fn total_ns(&self, counts: &CallCounts) -> u64 {
        let cost = |call: Call| {
            let price = self.prices[call.index()];
            let calls = counts.calls(call).saturating_sub(counts.failed(call));
            let copied = (u128::from(counts.bytes(call)) * u128::from(price.mebibyte_ns)) >> 20;
            (calls.saturating_mul(price.call_ns))
                .saturating_add(counts.handles(call).saturating_mul(price.handle_ns))
                .saturating_add(u64::try_from(copied).unwrap_or(u64::MAX))
        };
        Call::ALL.into_iter().map(cost).fold(0, u64::saturating_add)
    }
}

impl Default for CallPrices {
    /// [`CallPrices::cuda`].
    fn default() -> Self {
        Self::cuda()
    }
}

/// Reads what a [`Checked`](super::Checked) backend recorded, also while something else owns the backend. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct CallRecorder {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: CallCounts,
    log: CallLog,
}

impl CallRecorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All calls since the backend was made.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.state().counts
    }

    /// Keeps the values and outcomes of the latest `records` calls from now on; 0, as at first, keeps none.
    pub fn keep_log(&self, records: usize) {
        self.state().log = CallLog { keep: records, ..CallLog::default() };
    }

    /// The calls that were kept.
    #[must_use]
    pub fn log(&self) -> CallLog {
        self.state().log.clone()
    }

    /// What all calls so far would cost.
    #[must_use]
    pub fn total_ns(&self, prices: &CallPrices) -> u64 {
        prices.total_ns(&self.counts())
    }

    /// Enters a call; its `error` is taken from the outcome.
    pub(super) fn enter(&self, record: &CallRecord, error: Option<&BackendError>) {
        let mut state = self.state();
        let at = record.call.index();
        let counts = &mut state.counts;
        counts.calls[at] += 1;
        if error.is_some() {
            counts.failed[at] += 1;
        } else {
            counts.handles[at] += record.handles;
            counts.bytes[at] = counts.bytes[at].saturating_add(record.bytes);
        }
        if state.log.keep > 0 {
            state.log.push(CallRecord { error: error.map(ToString::to_string), ..record.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(call: Call, handles: u64, bytes: u64) -> CallRecord {
        CallRecord { call, reservation: 1, offset_bytes: 0, bytes, handles, error: None }
    }

    #[test]
    fn prices_go_by_the_page_and_failures_are_free() {
        let recorder = CallRecorder::default();
        recorder.enter(&record(Call::SetAccess, 4, 8 << 20), None);
        let before = recorder.counts();
        recorder.enter(&record(Call::Submit, 0, 2 << 20), None);
        let error = BackendError::NotMapped { call: "set_access", offset_bytes: 0 };
        recorder.enter(&record(Call::SetAccess, 9, 9), Some(&error));
        let prices = CallPrices::cuda();
        assert_eq!(prices.total_ns(&before), 4 * 30_000);
        assert_eq!(prices.total_ns(&recorder.counts().since(&before)), 2_700 + 2 * 19_000);
        assert_eq!(
            (recorder.counts().calls(Call::SetAccess), recorder.counts().failed(Call::SetAccess)),
            (2, 1)
        );
        let huge =
            CallPrices::FREE.with(Call::Submit, CallPrice { mebibyte_ns: u64::MAX, ..CallPrice::default() });
        assert_eq!(recorder.total_ns(&huge), u64::MAX);
    }

    #[test]
    fn the_log_keeps_the_latest() {
        let recorder = CallRecorder::default();
        recorder.enter(&record(Call::Create, 1, 1), None);
        recorder.keep_log(2);
        for call in [Call::Map, Call::SetAccess, Call::Unmap] {
            recorder.enter(&record(call, 1, 1), None);
        }
        assert_eq!(recorder.log().kinds(), [Call::SetAccess, Call::Unmap]);
        assert_eq!(recorder.log().dropped(), 1);
    }
}
