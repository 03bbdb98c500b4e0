//! Owns the boundary to memory: the [`Backend`] trait and its written obligations. Backends know bytes, never tiles.
//!
//! ```text
//! reserve ──> create ──> map ──> set_access ──> stage ─(fill)─> submit ─(poll)─> readable ──> unmap ──> destroy ──> release
//! ```
//!
//! | backend | memory | for |
//! | --- | --- | --- |
//! | [`HostBackend`] | the process' own address space | real work |
//! | [`CudaBackend`] | a CUDA device's, in its virtual memory | real work |
//! | [`ModelBackend`] | the heap, read through the trait | tests of policy and of failure |
//! | [`Checked`] | any other, enforcing the rules of the CUDA driver | tests, logs, call prices |
//! | [`Faulty`] | any other, failing or delaying the nth call | tests of failure |

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::error::BackendError;
use crate::prepared::Prepared;

mod books;
mod calls;
mod checked;
pub mod cuda;
mod faulty;
mod host;
mod model;
mod notes;
mod pieces;
pub mod vmm;
mod zeroed;

pub use calls::{CallCounts, CallLog, CallPrice, CallPrices, CallRecord, CallRecorder};
pub use checked::{Checked, CheckedPage, CheckedReservation, CheckedStaging, CheckedTicket};
pub use cuda::{CudaBackend, CudaConfig};
pub use faulty::{Call, Fault, Faults, Faulty};
pub use host::{HostBackend, HostConfig, HostMoves, HostPage, HostReservation, HostStaging};
pub use model::{ModelBackend, ModelConfig, ModelPage, ModelReservation, ModelStaging, ModelTicket};
pub(crate) use zeroed::ZeroedWords;

use pieces::fill_staged;

/// What a backend is and can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendCaps {
    /// Its name, such as `host`.
    pub name: &'static str,
    /// The smallest mappable size; offsets, pages and reservations are multiples of it. A power of two.
    pub granularity_bytes: u64,
    /// The most that a tile takes where its shape is not given.
    pub default_tile_bytes: u64,
    /// What a page takes where neither its shape nor its size is given, as far as the budget allows: one tile, if that is larger.
    pub default_page_bytes: u64,
    /// The most that one reservation may take.
    pub max_reserved_bytes: u64,
    /// Whether submitted tiles become readable later than [`Backend::submit`] returns.
    pub asynchronous: bool,
    /// The most bytes of pages that a request has mapped and filled at a time, where copies go on by themselves: while one batch is on its way the next is mapped.
    /// `u64::MAX`: all at once.
    pub batch_bytes: u64,
    /// Whether memory can be mapped at several places at once: [`Backend::share`]. Forks of arrays share what is resident then.
    pub shares: bool,
}

/// What may be done with mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// What to reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveSpec {
    /// Size of the range: a multiple of `page_bytes`.
    pub bytes: u64,
    /// Size of every page that will be mapped into it: a power of two, a multiple of the granularity.
    pub page_bytes: u64,
    /// The most pages that will be mapped at once, as far as is known: lets a backend choose how it maps.
    pub expected_pages: u64,
}

/// A call that failed and hands back the page that it did not take.
#[derive(Debug)]
pub struct Refused<P> {
    /// Why.
    pub error: BackendError,
    /// The page, as it was.
    pub page: P,
}

/// Memory in which one tile is prepared: either where it will live, or a buffer that [`Backend::submit`] copies from.
pub trait Staging: Send + Debug {
    /// The bytes to fill. Their contents before that are unspecified.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// Memory that can be reserved as address space and backed page by page.
///
/// # Obligations of an implementation
/// * A call that fails changes nothing: what was mapped stays mapped, what was not is not. An error names the call and its values.
/// * No call panics on anything that the system, the driver or the caller gives.
/// * A page keeps its contents when it is unmapped, until it is destroyed or staged into at another place: mapped again where it was, it shows them; mapped
///   elsewhere, [`Backend::read`] shows them. They may follow to another place late (only when `read` asks for them there, or never, when something is staged
///   there first): what the *addresses* show of a page that was mapped elsewhere and neither staged into nor read there is unspecified. That is
///   enough for a batch to be undone before anything was staged, and lets a backend recycle a page without copying what nobody wants.
/// * `unmap` does not wait for readers: that they are gone is the caller's business. Nothing else in the process may ever be given an address inside
///   a live reservation, mapped or not.
/// * Several handles to one memory ([`Backend::share`]) show the same bytes wherever they are mapped, at once and at the addresses too. The memory is given back with the last of them.
/// * Dropping a page or a reservation gives its memory back, as `destroy` and `release` do, without the chance to report.
/// * Every method may be called from any thread. Calls that map, unmap or set access are made by one thread at a time.
///
/// # Obligations of a caller
/// * Offsets are multiples of the reservation's page size; a page is mapped at most once; memory is staged into only while it is mapped with
///   [`Access::ReadWrite`], and read only after the ticket of what was written is done.
/// * Memory that several handles stand for is not staged into.
/// * A reservation is released, and its pages unmapped, through the backend that made it.
pub trait Backend: Send + Sync + Debug + Sized + 'static {
    /// A range of addresses.
    type Reservation: Send + Sync + Debug;
    /// Physical memory of one page, mapped or not. Never `Clone`: it has one owner, or as many as were asked for with [`Backend::share`].
    type Page: Send + Debug;
    /// Where one tile is prepared.
    type Staging: Staging;
    /// Stands for a submitted tile until it is readable.
    type Ticket: Send + Debug;

    /// What the backend is and can do. Constant.
    fn caps(&self) -> BackendCaps;

    /// Reserves a range of addresses, aligned to its page size, without memory.
    ///
    /// # Errors
    /// [`BackendError::ReserveSize`], [`BackendError::Misaligned`], or the system's refusal.
    fn reserve(&self, spec: ReserveSpec) -> Result<Self::Reservation, BackendError>;

    /// Gives the addresses back.
    ///
    /// # Errors
    /// [`BackendError::WrongOwner`] while a page is mapped, or the system's refusal.
    fn release(&self, reservation: Self::Reservation) -> Result<(), BackendError>;

    /// First address of the range; 0 where it has none.
    fn base_address(&self, reservation: &Self::Reservation) -> u64;

    /// Makes a physical page.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`], [`BackendError::Misaligned`], or the system's refusal.
    fn create(&self, bytes: u64) -> Result<Self::Page, BackendError>;

    /// Gives a page's memory back to the system. The page is not mapped.
    ///
    /// # Errors
    /// The system's refusal.
    fn destroy(&self, page: Self::Page) -> Result<(), BackendError>;

    /// Puts a page at an offset. It may be used once [`Backend::set_access`] covered it.
    ///
    /// # Errors
    /// [`Refused`], with the page: misaligned, out of range, mapped already, too many mappings, out of memory.
    fn map(
        &self,
        reservation: &Self::Reservation,
        offset_bytes: u64,
        page: Self::Page,
    ) -> Result<(), Refused<Self::Page>>;

    /// Sets what may be done with a range of mapped pages. Every page in the range is mapped: a hole is an error.
    ///
    /// # Errors
    /// [`BackendError::NotMapped`] for a hole, [`BackendError::CutsMapping`], out of memory (which some drivers report here).
    fn set_access(
        &self,
        reservation: &Self::Reservation,
        range: Range<u64>,
        access: Access,
    ) -> Result<(), BackendError>;

    /// Takes the page away from an offset and hands it back, contents and all.
    ///
    /// # Errors
    /// [`BackendError::NotMapped`], [`BackendError::Busy`] while it is staged into, or the system's refusal.
    fn unmap(&self, reservation: &Self::Reservation, offset_bytes: u64) -> Result<Self::Page, BackendError>;

    /// A second handle to the memory of the page that is mapped at an offset, to be mapped somewhere else as well. Nobody writes to that page meanwhile.
    ///
    /// # Errors
    /// [`BackendError::CannotShare`], which is what a backend says that shares nothing; [`BackendError::NotMapped`], [`BackendError::Busy`] while it is staged into, or the system's refusal.
    fn share(&self, reservation: &Self::Reservation, offset_bytes: u64) -> Result<Self::Page, BackendError> {
        let _ = reservation;
        Err(BackendError::CannotShare { call: "share", offset_bytes })
    }

    /// Gives the page at an offset other memory with the same contents: copies them to `page`, which is mapped nowhere, puts that in place, and hands back what was there. Whoever reads the
    /// addresses meanwhile finds the same bytes throughout. What may be done there stays as it was.
    ///
    /// # Errors
    /// [`Refused`], with the page: [`BackendError::CannotShare`] where [`Backend::share`] would say so; not mapped, of another size, staged into, or the system's refusal.
    fn replace(
        &self,
        reservation: &Self::Reservation,
        offset_bytes: u64,
        page: Self::Page,
    ) -> Result<Self::Page, Refused<Self::Page>> {
        let _ = reservation;
        Err(Refused { error: BackendError::CannotShare { call: "replace", offset_bytes }, page })
    }

    /// Number of the memory that an offset shows: of the page that is mapped there; or of the one that was mapped there last, where the backend leaves it in place, so that mapping that page there
    /// again costs next to nothing. `None`: unknown, or nothing.
    fn shows(&self, reservation: &Self::Reservation, offset_bytes: u64) -> Option<u64> {
        let _ = (reservation, offset_bytes);
        None
    }

    /// The number by which [`Backend::shows`] speaks of a page. `None`: the backend leaves nothing in place.
    fn page_number(&self, page: &Self::Page) -> Option<u64> {
        let _ = page;
        None
    }

    /// Memory to prepare `range` (a part of one mapped page) in. Dropping it unsubmitted leaves the range's contents unspecified.
    ///
    /// # Errors
    /// [`BackendError::NotMapped`], [`BackendError::NoAccess`], [`BackendError::Busy`] where the range is staged already.
    fn stage(
        &self,
        reservation: &Self::Reservation,
        range: Range<u64>,
    ) -> Result<Self::Staging, BackendError>;

    /// Sends what was prepared to its place. On the host it is there already. A backend may gather several before it begins: see [`Backend::flush`].
    ///
    /// # Errors
    /// The driver's refusal.
    fn submit(
        &self,
        reservation: &Self::Reservation,
        staging: Self::Staging,
    ) -> Result<Self::Ticket, BackendError>;

    /// Sends bytes that are ready in memory to `range`, a part of one mapped page of their length. A backend that copies by itself copies from where they are.
    ///
    /// # Errors
    /// As [`Backend::stage`] and [`Backend::submit`]; [`BackendError::CutsMapping`] where the lengths differ.
    fn submit_prepared(
        &self,
        reservation: &Self::Reservation,
        range: Range<u64>,
        bytes: Arc<dyn Prepared>,
    ) -> Result<Self::Ticket, BackendError> {
        let (offset_bytes, length) = (range.start, bytes.bytes().len() as u64);
        if length != range.end.saturating_sub(range.start) {
            return Err(BackendError::CutsMapping { call: "submit_prepared", offset_bytes, bytes: length });
        }
        let mut staging = self.stage(reservation, range)?;
        staging.bytes_mut().copy_from_slice(bytes.bytes());
        self.submit(reservation, staging)
    }

    /// Has `range`, a part of one mapped page, hold `value` again and again. A backend that can have that done where the memory is copies nothing.
    ///
    /// # Errors
    /// As [`Backend::stage`] and [`Backend::submit`]; [`BackendError::CutsMapping`] where the range is no whole number of values.
    fn fill(
        &self,
        reservation: &Self::Reservation,
        range: Range<u64>,
        value: &[u8],
    ) -> Result<Self::Ticket, BackendError> {
        fill_staged(self, reservation, range, value)
    }

    /// Of pieces of mapped memory of `bytes` each, which hold one value of `value_bytes` throughout, bit for bit, and which value. Both are powers of two, and a piece lies in one page.
    ///
    /// # Errors
    /// As [`Backend::read`]; [`BackendError::CutsMapping`] where a piece is no whole number of values.
    fn one_values(
        &self,
        reservation: &Self::Reservation,
        offsets_bytes: &[u64],
        bytes: u64,
        value_bytes: u64,
    ) -> Result<Vec<Option<Box<[u8]>>>, BackendError> {
        pieces::one_values(self, reservation, offsets_bytes, bytes, value_bytes)
    }

    /// Begins whatever [`Backend::submit`] put off to do together. Waiting for a ticket does the same for what it stands for.
    ///
    /// # Errors
    /// The driver's refusal; the tickets concerned fail too.
    fn flush(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Bytes of physical pages that could be made now, where the backend can tell.
    ///
    /// # Errors
    /// The driver's refusal.
    fn available_bytes(&self) -> Result<Option<u64>, BackendError> {
        Ok(None)
    }

    /// Whether what was submitted is readable.
    ///
    /// # Errors
    /// The driver's report that it never will be.
    fn poll(&self, ticket: &Self::Ticket) -> Result<bool, BackendError>;

    /// Waits until what was submitted is readable.
    ///
    /// # Errors
    /// The driver's report that it never will be.
    fn wait(&self, ticket: Self::Ticket) -> Result<(), BackendError>;

    /// Copies mapped memory out.
    ///
    /// # Errors
    /// [`BackendError::NotMapped`], [`BackendError::NoAccess`], [`BackendError::OutOfRange`], [`BackendError::Busy`] while it is being written.
    fn read(
        &self,
        reservation: &Self::Reservation,
        offset_bytes: u64,
        out: &mut [u8],
    ) -> Result<(), BackendError>;
}

/// A backend whose reservations are addresses of this process.
///
/// # Safety
/// * A reservation's base address is aligned to its page size, never changes, and its provenance is exposed; live reservations do not overlap.
/// * While a page is mapped at an offset with [`Access::Read`] or [`Access::ReadWrite`], `base_address + offset` up to the page's end is readable, initialised memory of this
///   process. A call that fails leaves that as it was.
/// * Nothing writes there but a [`Staging`] of the same range, of which there is one at a time, and all its writes happen before [`Backend::poll`] returns `true` or
///   [`Backend::wait`] returns for its ticket, or before it is dropped.
#[expect(unsafe_code, reason = "what typed reads of resident memory rely on")]
pub unsafe trait HostAddressable: Backend {}
