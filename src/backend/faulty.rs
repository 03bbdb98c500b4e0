//! Owns [`Faulty`]: a decorator that fails or delays chosen calls of any backend, so that every step of whatever is built on one can be made to fail.
//! And [`Call`], the names of the calls.
//!
//! ```
//! use vastgrid::backend::{Backend, Call, Fault, Faulty, ModelBackend};
//!
//! let faulty = Faulty::new(ModelBackend::default());
//! let faults = faulty.faults(); // keeps working while a pool owns the backend
//! faults.arm(Fault::fail(Call::Create, 2));
//! assert!(faulty.create(4096).is_ok());
//! assert!(faulty.create(4096).is_err());
//! assert!(faulty.create(4096).is_ok());
//! assert!(faults.fired());
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Access, Backend, BackendCaps, HostAddressable, Refused, ReserveSpec};
use crate::error::BackendError;

/// A call of the [`Backend`] trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Call {
    Reserve,
    Release,
    Create,
    Destroy,
    Map,
    SetAccess,
    Unmap,
    Share,
    Replace,
    Stage,
    Submit,
    Poll,
    Wait,
    Read,
}

impl Call {
    /// Every call, in the order of a page's life.
    pub const ALL: [Self; 14] = [
        Self::Reserve,
        Self::Release,
        Self::Create,
        Self::Destroy,
        Self::Map,
        Self::SetAccess,
        Self::Unmap,
        Self::Share,
        Self::Replace,
        Self::Stage,
        Self::Submit,
        Self::Poll,
        Self::Wait,
        Self::Read,
    ];

    /// The method's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::Map => "map",
            Self::SetAccess => "set_access",
            Self::Unmap => "unmap",
            Self::Share => "share",
            Self::Replace => "replace",
            Self::Stage => "stage",
            Self::Submit => "submit",
            Self::Poll => "poll",
            Self::Wait => "wait",
            Self::Read => "read",
        }
    }

    /// Its place in [`Call::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which calls fail or are late, counted from when the fault was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of call, or `None` to count calls of every kind together.
    pub call: Option<Call>,
    /// The first call that is hit, counted from 1.
    pub nth: u64,
    /// How many calls are hit from there on.
    pub times: u64,
    /// Waits so long and then makes the call; or, where `None`, fails without making it.
    pub delay: Option<Duration>,
}

impl Fault {
    /// The nth call of a kind fails.
    #[must_use]
    pub const fn fail(call: Call, nth: u64) -> Self {
        Self { call: Some(call), nth, times: 1, delay: None }
    }

    /// The nth call of any kind fails.
    #[must_use]
    pub const fn fail_any(nth: u64) -> Self {
        Self { call: None, nth, times: 1, delay: None }
    }

    /// And so does every later one.
    #[must_use]
    pub const fn and_later(self) -> Self {
        Self { times: u64::MAX, ..self }
    }

    /// Delays instead of failing.
    #[must_use]
    pub const fn delay(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }

    fn hits(&self, call: Call, counts: &[u64; Call::ALL.len()]) -> Option<u64> {
        let nth = match self.call {
            Some(mine) if mine != call => return None,
            Some(mine) => counts[mine.index()],
            None => counts.iter().sum(),
        };
        (nth >= self.nth && nth - self.nth < self.times).then_some(nth)
    }
}

/// Arms and disarms the faults of a [`Faulty`] backend. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    armed: Vec<Fault>,
    counts: [u64; Call::ALL.len()],
    hits: u64,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms one fault instead of all others, and starts to count calls from none.
    pub fn arm(&self, fault: Fault) {
        *self.state() = State { armed: vec![fault], ..State::default() };
    }

    /// Arms one more; the count goes on.
    pub fn arm_also(&self, fault: Fault) {
        self.state().armed.push(fault);
    }

    /// Lets every call pass from now on; the counts stay.
    pub fn disarm(&self) {
        self.state().armed.clear();
    }

    /// Calls since a fault was last armed, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().counts.iter().sum()
    }

    /// Calls of one kind since a fault was last armed, failed ones included.
    #[must_use]
    pub fn calls_of(&self, call: Call) -> u64 {
        self.state().counts[call.index()]
    }

    /// Whether any call was failed or delayed since a fault was last armed.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.state().hits > 0
    }

    /// Counts a call and does to it what is armed for it.
    fn pass(&self, call: Call) -> Result<(), BackendError> {
        let mut state = self.state();
        let state_now = &mut *state;
        state_now.counts[call.index()] += 1;
        let hits: Vec<_> = state_now
            .armed
            .iter()
            .filter_map(|f| Some((f.delay, f.hits(call, &state_now.counts)?)))
            .collect();
        state_now.hits += hits.len() as u64;
        drop(state);
        for (delay, nth) in hits {
            match delay {
                Some(delay) => std::thread::sleep(delay),
                None => return Err(BackendError::Injected { call: call.name(), nth }),
            }
        }
        Ok(())
    }
}

/// Any backend, with calls that fail or are late when a test says so.
///
/// A call that fails does not reach the backend inside. What was handed over by value goes the way of the trait: a page that could not be mapped comes back,
/// while a reservation, a page to destroy or staging memory is dropped.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: B,
    faults: Faults,
}

impl<B: Backend> Faulty<B> {
    /// With nothing armed.
    pub fn new(inner: B) -> Self {
        Self { inner, faults: Faults::default() }
    }

    /// The switch of its faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The backend inside.
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

impl<B: Backend> Backend for Faulty<B> {
    type Reservation = B::Reservation;
    type Page = B::Page;
    type Staging = B::Staging;
    type Ticket = B::Ticket;

    fn caps(&self) -> BackendCaps {
        self.inner.caps()
    }

    fn reserve(&self, spec: ReserveSpec) -> Result<B::Reservation, BackendError> {
        self.faults.pass(Call::Reserve)?;
        self.inner.reserve(spec)
    }

    fn release(&self, reservation: B::Reservation) -> Result<(), BackendError> {
        self.faults.pass(Call::Release)?;
        self.inner.release(reservation)
    }

    fn base_address(&self, reservation: &B::Reservation) -> u64 {
        self.inner.base_address(reservation)
    }

    fn create(&self, bytes: u64) -> Result<B::Page, BackendError> {
        self.faults.pass(Call::Create)?;
        self.inner.create(bytes)
    }

    fn destroy(&self, page: B::Page) -> Result<(), BackendError> {
        self.faults.pass(Call::Destroy)?;
        self.inner.destroy(page)
    }

    fn map(
        &self,
        reservation: &B::Reservation,
        offset_bytes: u64,
        page: B::Page,
    ) -> Result<(), Refused<B::Page>> {
        match self.faults.pass(Call::Map) {
            Ok(()) => self.inner.map(reservation, offset_bytes, page),
            Err(error) => Err(Refused { error, page }),
        }
    }

    fn set_access(
        &self,
        reservation: &B::Reservation,
        range: Range<u64>,
        access: Access,
    ) -> Result<(), BackendError> {
        self.faults.pass(Call::SetAccess)?;
        self.inner.set_access(reservation, range, access)
    }

    fn unmap(&self, reservation: &B::Reservation, offset_bytes: u64) -> Result<B::Page, BackendError> {
        self.faults.pass(Call::Unmap)?;
        self.inner.unmap(reservation, offset_bytes)
    }

    fn share(&self, reservation: &B::Reservation, offset_bytes: u64) -> Result<B::Page, BackendError> {
        self.faults.pass(Call::Share)?;
        self.inner.share(reservation, offset_bytes)
    }

    fn replace(
        &self,
        reservation: &B::Reservation,
        offset_bytes: u64,
        page: B::Page,
    ) -> Result<B::Page, Refused<B::Page>> {
        match self.faults.pass(Call::Replace) {
            Ok(()) => self.inner.replace(reservation, offset_bytes, page),
            Err(error) => Err(Refused { error, page }),
        }
    }

    fn shows(&self, reservation: &B::Reservation, offset_bytes: u64) -> Option<u64> {
        self.inner.shows(reservation, offset_bytes)
    }

    fn page_number(&self, page: &B::Page) -> Option<u64> {
        self.inner.page_number(page)
    }

    fn stage(&self, reservation: &B::Reservation, range: Range<u64>) -> Result<B::Staging, BackendError> {
        self.faults.pass(Call::Stage)?;
        self.inner.stage(reservation, range)
    }

    fn submit(&self, reservation: &B::Reservation, staging: B::Staging) -> Result<B::Ticket, BackendError> {
        self.faults.pass(Call::Submit)?;
        self.inner.submit(reservation, staging)
    }

    fn flush(&self) -> Result<(), BackendError> {
        self.inner.flush()
    }

    fn available_bytes(&self) -> Result<Option<u64>, BackendError> {
        self.inner.available_bytes()
    }

    fn poll(&self, ticket: &B::Ticket) -> Result<bool, BackendError> {
        self.faults.pass(Call::Poll)?;
        self.inner.poll(ticket)
    }

    fn wait(&self, ticket: B::Ticket) -> Result<(), BackendError> {
        self.faults.pass(Call::Wait)?;
        self.inner.wait(ticket)
    }

    fn read(
        &self,
        reservation: &B::Reservation,
        offset_bytes: u64,
        out: &mut [u8],
    ) -> Result<(), BackendError> {
        self.faults.pass(Call::Read)?;
        self.inner.read(reservation, offset_bytes, out)
    }
}

// SAFETY: its reservations and pages are those of the backend inside, and a call either reaches that backend as it is or changes nothing.
#[expect(unsafe_code, reason = "the marker is an unsafe trait")]
unsafe impl<B: HostAddressable> HostAddressable for Faulty<B> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ModelBackend;
    use std::time::Instant;

    #[test]
    fn the_nth_call_of_any_kind_fails_and_changes_nothing() {
        let model = ModelBackend::default();
        let faulty = Faulty::new(model.clone());
        let faults = faulty.faults();
        let reservation =
            faulty.reserve(ReserveSpec { bytes: 8192, page_bytes: 4096, expected_pages: 2 }).unwrap();
        faults.arm(Fault::fail_any(2));
        let page = faulty.create(4096).unwrap();
        let refused = faulty.map(&reservation, 0, page).unwrap_err();
        assert!(matches!(refused.error, BackendError::Injected { call: "map", nth: 2 }), "{}", refused.error);
        faulty.map(&reservation, 0, refused.page).unwrap();
        assert_eq!((faults.calls(), faults.calls_of(Call::Map), faults.calls_of(Call::Unmap)), (3, 2, 0));
        faults.arm(Fault::fail(Call::Unmap, 1).and_later());
        assert!(faulty.unmap(&reservation, 0).is_err() && faulty.unmap(&reservation, 0).is_err());
        faults.disarm();
        assert!(faults.fired());
        faulty.destroy(faulty.unmap(&reservation, 0).unwrap()).unwrap();
        assert_eq!(model.page_bytes(), 0);
    }

    #[test]
    fn delays_come_before_the_call() {
        let faulty = Faulty::new(ModelBackend::default());
        faulty.faults().arm(Fault::fail(Call::Create, 1).delay(Duration::from_millis(20)));
        let start = Instant::now();
        faulty.create(4096).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn calls_are_listed_in_the_order_of_their_index() {
        for (i, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call.index(), i);
        }
    }
}
