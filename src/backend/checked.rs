//! Owns [`Checked`]: a decorator that holds any backend's callers to the rules of the CUDA driver, whatever the backend itself accepts, and records the calls.
//!
//! ```
//! use vastgrid::backend::{Access, Backend, Call, CallPrices, Checked, ModelBackend, ReserveSpec};
//!
//! let checked = Checked::new(ModelBackend::default());
//! let recorder = checked.recorder(); // keeps working while a pool owns the backend
//! let r = checked.reserve(ReserveSpec { bytes: 1 << 30, page_bytes: 4096, expected_pages: 4 }).unwrap();
//! for offset in [0, 8192] {
//!     checked.map(&r, offset, checked.create(4096).unwrap()).unwrap();
//! }
//! assert!(checked.set_access(&r, 0..12288, Access::ReadWrite).is_err(), "there is a hole");
//! assert_eq!(recorder.counts().handles(Call::Map), 2);
//! assert!(recorder.total_ns(&CallPrices::cuda()) >= 22_000);
//! ```

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::books::{Books, check_create, check_reserve};
use super::calls::{CallRecord, CallRecorder};
use super::notes::{Note, OnItsWay, Shared, Writing, lock};
use super::{Access, Backend, BackendCaps, Call, HostAddressable, Refused, ReserveSpec, Staging};
use crate::error::BackendError;

/// Any backend, with its callers held to the strictest rules and its calls recorded.
///
/// Refused, whatever the backend inside says: sizes that are no multiple of the granularity; mapping twice; a hole in `set_access`, or a range that cuts a
/// page; staging or reading before access was set; staging what is staged or on its way; unmapping or reading what is; reading what nobody ever
/// submitted, or what was staged over since (a page that was staged into at a new place has lost what it held at the old one); releasing while pages are mapped;
/// two threads that map, unmap or set access at once; and staging into memory that several pages share. A ticket dropped before it was done leaves its range on its way for good.
#[derive(Debug)]
pub struct Checked<B> {
    inner: B,
    recorder: CallRecorder,
    last_reservation: AtomicU64,
    changing: AtomicBool,
}

/// A reservation of a [`Checked`] backend.
#[derive(Debug)]
pub struct CheckedReservation<B: Backend> {
    inner: B::Reservation,
    number: u64,
    books: Shared,
}

/// A page of a [`Checked`] backend.
#[derive(Debug)]
pub struct CheckedPage<B: Backend> {
    inner: B::Page,
    note: Note,
}

/// Staging memory of a [`Checked`] backend.
#[derive(Debug)]
pub struct CheckedStaging<B: Backend> {
    inner: B::Staging,
    writing: Writing,
}

/// Stands for a submitted tile of a [`Checked`] backend.
#[derive(Debug)]
pub struct CheckedTicket<B: Backend> {
    inner: B::Ticket,
    on_its_way: OnItsWay,
}

impl<B: Backend> Staging for CheckedStaging<B> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.inner.bytes_mut()
    }
}

/// Held while mappings change.
struct Changing<'a>(&'a AtomicBool);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<B: Backend> Checked<B> {
    /// Around a backend.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            recorder: CallRecorder::default(),
            last_reservation: AtomicU64::new(0),
            changing: AtomicBool::new(false),
        }
    }

    /// What reads the calls that are recorded.
    #[must_use]
    pub fn recorder(&self) -> CallRecorder {
        self.recorder.clone()
    }

    /// The backend inside.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn changing(&self, call: &'static str) -> Result<Changing<'_>, BackendError> {
        if self.changing.swap(true, Ordering::Acquire) {
            return Err(BackendError::WrongOwner { call, what: "another thread is changing mappings" });
        }
        Ok(Changing(&self.changing))
    }

    /// Enters a call and hands its outcome on.
    fn record<T>(
        &self,
        call: Call,
        about: (u64, Range<u64>, u64),
        outcome: Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let (reservation, range, handles) = about;
        let bytes = range.end.saturating_sub(range.start);
        let record = CallRecord { call, reservation, offset_bytes: range.start, bytes, handles, error: None };
        self.recorder.enter(&record, outcome.as_ref().err());
        outcome
    }

    fn stage_checked(
        &self,
        reservation: &CheckedReservation<B>,
        range: Range<u64>,
    ) -> Result<CheckedStaging<B>, BackendError> {
        lock(&reservation.books).begin_write(&range)?;
        if lock(&reservation.books).page_at(range.start).is_some_and(|note| note.is_shared()) {
            lock(&reservation.books).end_use(&range, true);
            return Err(BackendError::NoAccess { call: "stage", offset_bytes: range.start });
        }
        // From here on dropping it ends the use.
        let writing = Writing { books: Arc::clone(&reservation.books), range: range.clone() };
        let inner = self.inner.stage(&reservation.inner, range.clone())?;
        if let Some((note, at)) = lock(&reservation.books).page_and_position(range.start) {
            let at = at as u64;
            let place = Some((reservation.number, range.start - at));
            if note.staged_at != place {
                note.staged_at = place;
                note.written.clear();
            }
            note.remove(&(at..at + (range.end - range.start)));
        }
        Ok(CheckedStaging { inner, writing })
    }

    fn submit_checked(
        &self,
        reservation: &CheckedReservation<B>,
        staging: CheckedStaging<B>,
    ) -> Result<CheckedTicket<B>, BackendError> {
        let CheckedStaging { inner, writing } = staging;
        if !Arc::ptr_eq(&writing.books, &reservation.books) {
            let what = "the staging memory is of another reservation";
            return Err(BackendError::WrongOwner { call: "submit", what });
        }
        let inner = self.inner.submit(&reservation.inner, inner)?;
        let writing = if self.inner.caps().asynchronous {
            Some(writing)
        } else {
            writing.arrive();
            None
        };
        Ok(CheckedTicket { inner, on_its_way: OnItsWay(Mutex::new(writing)) })
    }

    fn read_checked(
        &self,
        reservation: &CheckedReservation<B>,
        range: &Range<u64>,
        out: &mut [u8],
    ) -> Result<(), BackendError> {
        let mut books = lock(&reservation.books);
        books.begin_read(range)?;
        let unwritten = books.pieces(range).into_iter().find(|piece| {
            let length = piece.end - piece.start;
            let inside = |(note, at): (&mut Note, usize)| note.holds(&(at as u64..at as u64 + length));
            !books.page_and_position(piece.start).is_some_and(inside)
        });
        drop(books);
        let outcome = match unwritten {
            Some(piece) => Err(BackendError::NotWritten { call: "read", offset_bytes: piece.start }),
            None => self.inner.read(&reservation.inner, range.start, out),
        };
        lock(&reservation.books).end_use(range, false);
        outcome
    }
}

impl<B: Backend> Backend for Checked<B> {
    type Reservation = CheckedReservation<B>;
    type Page = CheckedPage<B>;
    type Staging = CheckedStaging<B>;
    type Ticket = CheckedTicket<B>;

    fn caps(&self) -> BackendCaps {
        self.inner.caps()
    }

    fn reserve(&self, spec: ReserveSpec) -> Result<CheckedReservation<B>, BackendError> {
        let number = self.last_reservation.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = check_reserve(&self.inner.caps(), spec).and_then(|()| self.inner.reserve(spec));
        let inner = self.record(Call::Reserve, (number, 0..spec.bytes, 0), outcome)?;
        Ok(CheckedReservation { inner, number, books: Arc::new(Mutex::new(Books::new(spec))) })
    }

    fn release(&self, reservation: CheckedReservation<B>) -> Result<(), BackendError> {
        let CheckedReservation { inner, number, books } = reservation;
        let outcome = if lock(&books).is_empty() {
            self.inner.release(inner)
        } else {
            Err(BackendError::WrongOwner {
                call: "release",
                what: "a page is still mapped in the reservation",
            })
        };
        self.record(Call::Release, (number, 0..0, 0), outcome)
    }

    fn base_address(&self, reservation: &CheckedReservation<B>) -> u64 {
        self.inner.base_address(&reservation.inner)
    }

    fn create(&self, bytes: u64) -> Result<CheckedPage<B>, BackendError> {
        let outcome = check_create(&self.inner.caps(), bytes).and_then(|()| self.inner.create(bytes));
        let inner = self.record(Call::Create, (0, 0..bytes, 1), outcome)?;
        Ok(CheckedPage { inner, note: Note::new(bytes) })
    }

    fn destroy(&self, page: CheckedPage<B>) -> Result<(), BackendError> {
        let bytes = page.note.bytes;
        self.record(Call::Destroy, (0, 0..bytes, 1), self.inner.destroy(page.inner))
    }

    fn map(
        &self,
        reservation: &CheckedReservation<B>,
        offset_bytes: u64,
        page: CheckedPage<B>,
    ) -> Result<(), Refused<CheckedPage<B>>> {
        let CheckedPage { inner, mut note } = page;
        let about = (reservation.number, offset_bytes..offset_bytes.saturating_add(note.bytes), 1);
        let checked = self
            .changing("map")
            .and_then(|held| lock(&reservation.books).check_map(offset_bytes, note.bytes).map(|()| held));
        let outcome = match checked {
            Ok(_held) => self.inner.map(&reservation.inner, offset_bytes, inner),
            Err(error) => Err(Refused { error, page: inner }),
        };
        match outcome {
            Ok(()) => {
                note.mapped_at((reservation.number, offset_bytes));
                lock(&reservation.books).map(offset_bytes, note);
                // The outcome is a success: there is nothing to hand on.
                let _ = self.record(Call::Map, about, Ok(()));
                Ok(())
            }
            Err(Refused { error, page: inner }) => {
                let page = CheckedPage { inner, note };
                self.record(Call::Map, about, Err(error)).map_err(|error| Refused { error, page })
            }
        }
    }

    fn set_access(
        &self,
        reservation: &CheckedReservation<B>,
        range: Range<u64>,
        access: Access,
    ) -> Result<(), BackendError> {
        let change = || {
            let _held = self.changing("set_access")?;
            lock(&reservation.books).check_set_access(&range)?;
            self.inner.set_access(&reservation.inner, range.clone(), access)?;
            lock(&reservation.books).set_access(&range, access)
        };
        let outcome = change();
        let handles = outcome.as_ref().copied().unwrap_or(0);
        self.record(Call::SetAccess, (reservation.number, range, handles), outcome).map(|_| ())
    }

    fn unmap(
        &self,
        reservation: &CheckedReservation<B>,
        offset_bytes: u64,
    ) -> Result<CheckedPage<B>, BackendError> {
        let change = || {
            let _held = self.changing("unmap")?;
            lock(&reservation.books).check_unmap(offset_bytes)?;
            let inner = self.inner.unmap(&reservation.inner, offset_bytes)?;
            let note = lock(&reservation.books).unmap(offset_bytes)?;
            Ok(CheckedPage { inner, note })
        };
        let outcome = change();
        let bytes = outcome.as_ref().map_or(0, |page| page.note.bytes);
        let range = offset_bytes..offset_bytes.saturating_add(bytes);
        self.record(Call::Unmap, (reservation.number, range, 1), outcome)
    }

    fn share(
        &self,
        reservation: &CheckedReservation<B>,
        offset_bytes: u64,
    ) -> Result<CheckedPage<B>, BackendError> {
        let share = || {
            let _held = self.changing("share")?;
            lock(&reservation.books).check_still("share", offset_bytes)?;
            let inner = self.inner.share(&reservation.inner, offset_bytes)?;
            let note = lock(&reservation.books).page_at(offset_bytes).map(|note| note.share());
            let note = note.ok_or(BackendError::NotMapped { call: "share", offset_bytes })?;
            Ok(CheckedPage { inner, note })
        };
        let outcome = share();
        let bytes = outcome.as_ref().map_or(0, |page| page.note.bytes);
        let range = offset_bytes..offset_bytes.saturating_add(bytes);
        self.record(Call::Share, (reservation.number, range, 1), outcome)
    }

    fn replace(
        &self,
        reservation: &CheckedReservation<B>,
        offset_bytes: u64,
        page: CheckedPage<B>,
    ) -> Result<CheckedPage<B>, Refused<CheckedPage<B>>> {
        let CheckedPage { inner, mut note } = page;
        let about = (reservation.number, offset_bytes..offset_bytes.saturating_add(note.bytes), 1);
        let checked = self
            .changing("replace")
            .and_then(|held| lock(&reservation.books).check_replace(offset_bytes, note.bytes).map(|()| held));
        let outcome = match checked {
            Ok(_held) => self.inner.replace(&reservation.inner, offset_bytes, inner),
            Err(error) => Err(Refused { error, page: inner }),
        };
        match outcome {
            Ok(inner) => {
                let mut books = lock(&reservation.books);
                note.staged_at = Some((reservation.number, offset_bytes));
                note.written = books.page_at(offset_bytes).map_or(Vec::new(), |old| old.written.clone());
                let bytes = note.bytes;
                let note = books.replace(offset_bytes, note).unwrap_or_else(|| Note::new(bytes));
                drop(books);
                // The outcome is a success: there is nothing to hand on.
                let _ = self.record(Call::Replace, about, Ok(()));
                Ok(CheckedPage { inner, note })
            }
            Err(Refused { error, page: inner }) => {
                let refused = self.record::<()>(Call::Replace, about, Err(error));
                let error =
                    refused.err().unwrap_or(BackendError::CannotShare { call: "replace", offset_bytes });
                Err(Refused { error, page: CheckedPage { inner, note } })
            }
        }
    }

    fn shows(&self, reservation: &CheckedReservation<B>, offset_bytes: u64) -> Option<u64> {
        self.inner.shows(&reservation.inner, offset_bytes)
    }

    fn page_number(&self, page: &CheckedPage<B>) -> Option<u64> {
        self.inner.page_number(&page.inner)
    }

    fn stage(
        &self,
        reservation: &CheckedReservation<B>,
        range: Range<u64>,
    ) -> Result<CheckedStaging<B>, BackendError> {
        let outcome = self.stage_checked(reservation, range.clone());
        self.record(Call::Stage, (reservation.number, range, 0), outcome)
    }

    fn submit(
        &self,
        reservation: &CheckedReservation<B>,
        staging: CheckedStaging<B>,
    ) -> Result<CheckedTicket<B>, BackendError> {
        let range = staging.writing.range.clone();
        let outcome = self.submit_checked(reservation, staging);
        self.record(Call::Submit, (reservation.number, range, 0), outcome)
    }

    fn flush(&self) -> Result<(), BackendError> {
        self.inner.flush()
    }

    fn available_bytes(&self) -> Result<Option<u64>, BackendError> {
        self.inner.available_bytes()
    }

    fn poll(&self, ticket: &CheckedTicket<B>) -> Result<bool, BackendError> {
        let done = self.record(Call::Poll, (0, 0..0, 0), self.inner.poll(&ticket.inner))?;
        if done {
            ticket.on_its_way.arrive();
        }
        Ok(done)
    }

    fn wait(&self, ticket: CheckedTicket<B>) -> Result<(), BackendError> {
        let CheckedTicket { inner, on_its_way } = ticket;
        let outcome = self.inner.wait(inner).inspect(|()| on_its_way.arrive());
        self.record(Call::Wait, (0, 0..0, 0), outcome)
    }

    fn read(
        &self,
        reservation: &CheckedReservation<B>,
        offset_bytes: u64,
        out: &mut [u8],
    ) -> Result<(), BackendError> {
        let range = offset_bytes..offset_bytes.saturating_add(out.len() as u64);
        let outcome = self.read_checked(reservation, &range, out);
        self.record(Call::Read, (reservation.number, range, 0), outcome)
    }
}

// SAFETY: its reservations and pages are those of the backend inside, and a call either reaches that backend as it is or changes nothing.
#[expect(unsafe_code, reason = "the marker is an unsafe trait")]
unsafe impl<B: HostAddressable> HostAddressable for Checked<B> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{ModelBackend, ModelConfig};

    type Model = Checked<ModelBackend>;

    fn mapped(config: ModelConfig) -> (Model, CheckedReservation<ModelBackend>) {
        let checked = Checked::new(ModelBackend::new(config));
        let r =
            checked.reserve(ReserveSpec { bytes: 8 * 4096, page_bytes: 4096, expected_pages: 2 }).unwrap();
        let page = checked.create(4096).unwrap();
        checked.map(&r, 0, page).unwrap();
        checked.set_access(&r, 0..4096, Access::ReadWrite).unwrap();
        (checked, r)
    }

    fn submit(
        b: &Model,
        r: &CheckedReservation<ModelBackend>,
        range: Range<u64>,
    ) -> CheckedTicket<ModelBackend> {
        let staging = b.stage(r, range).unwrap();
        b.submit(r, staging).unwrap()
    }

    #[test]
    fn only_what_was_submitted_may_be_read() {
        let (b, r) = mapped(ModelConfig::default());
        let read = |at, n: usize| b.read(&r, at, &mut vec![0; n]);
        assert!(matches!(read(0, 8), Err(BackendError::NotWritten { offset_bytes: 0, .. })));
        submit(&b, &r, 0..100);
        submit(&b, &r, 200..300);
        assert!(matches!(read(0, 300), Err(BackendError::NotWritten { .. })));
        submit(&b, &r, 100..200);
        read(0, 300).unwrap();
        drop(b.stage(&r, 50..60).unwrap());
        read(0, 50).unwrap();
        read(60, 240).unwrap();
        assert!(matches!(read(40, 30), Err(BackendError::NotWritten { .. })));
    }

    #[test]
    fn staging_at_a_new_place_gives_up_what_the_page_held() {
        let (b, r) = mapped(ModelConfig::default());
        submit(&b, &r, 0..200);
        for place in [4096, 0] {
            let page = b.unmap(&r, 4096 - place).unwrap();
            b.map(&r, place, page).unwrap();
            b.set_access(&r, place..place + 4096, Access::ReadWrite).unwrap();
            b.read(&r, place, &mut [0; 200]).unwrap();
        }
        let page = b.unmap(&r, 0).unwrap();
        b.map(&r, 4096, page).unwrap();
        b.set_access(&r, 4096..8192, Access::ReadWrite).unwrap();
        submit(&b, &r, 4096..4196);
        b.read(&r, 4096, &mut [0; 100]).unwrap();
        assert!(matches!(b.read(&r, 4196, &mut [0; 100]), Err(BackendError::NotWritten { .. })));
    }

    #[test]
    fn what_is_on_its_way_is_busy_until_its_ticket_says_otherwise() {
        let (b, r) = mapped(ModelConfig { asynchronous: true, ..ModelConfig::default() });
        let ticket = submit(&b, &r, 0..100);
        b.inner().complete(1);
        assert!(matches!(b.read(&r, 0, &mut [0; 8]), Err(BackendError::Busy { .. })), "nobody asked yet");
        assert!(b.poll(&ticket).unwrap());
        b.read(&r, 0, &mut [0; 8]).unwrap();
        drop(ticket);
        b.wait(submit(&b, &r, 100..200)).unwrap();
        b.read(&r, 0, &mut [0; 200]).unwrap();
        drop(submit(&b, &r, 200..300));
        b.inner().complete(1);
        assert!(matches!(b.unmap(&r, 0), Err(BackendError::Busy { .. })), "nobody can know that it arrived");
    }

    #[test]
    fn calls_are_counted_by_kind_page_and_outcome() {
        let (b, r) = mapped(ModelConfig::default());
        let recorder = b.recorder();
        recorder.keep_log(2);
        let page = b.create(4096).unwrap();
        let refused = b.map(&r, 0, page).unwrap_err();
        b.map(&r, 4096, refused.page).unwrap();
        b.set_access(&r, 0..8192, Access::Read).unwrap();
        let counts = recorder.counts();
        assert_eq!((counts.calls(Call::Map), counts.failed(Call::Map), counts.handles(Call::Map)), (3, 1, 2));
        assert_eq!((counts.calls(Call::SetAccess), counts.handles(Call::SetAccess)), (2, 3));
        assert_eq!(recorder.log().kinds(), [Call::Map, Call::SetAccess]);
        assert_eq!(recorder.log().dropped(), 2);
    }

    #[test]
    fn two_threads_may_not_change_mappings_at_once() {
        let (b, r) = mapped(ModelConfig::default());
        let held = b.changing("map").unwrap();
        let error = b.unmap(&r, 0).unwrap_err();
        assert!(matches!(error, BackendError::WrongOwner { call: "unmap", .. }), "{error}");
        drop(held);
        b.unmap(&r, 0).unwrap();
    }
}
