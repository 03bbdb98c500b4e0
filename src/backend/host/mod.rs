//! Owns [`HostBackend`]: reservations of this process' own address space. Knows bytes and pages, never tiles.
//!
//! | file | owns |
//! | --- | --- |
//! | `reservation` | what is handed out, and who writes or reads what |
//! | `memory` | the pages, and the lock around them |
//! | `places` | where the memory of each page lies, and moving it |
//! | `slots` | where memory is taken, and put out of the way |
//! | `reserved` | which reservations there are, and giving back page tables that memory left in them |
//! | `tables` | which tables those are |
//! | `mappings` | how many memory mappings there may be |
//! | `sys`, `userfault` | the system calls |
//!
//! # Three ways to give a page memory
//!
//! **Moved pages** ([`HostMoves::Pages`]): memory is touched once and then moved, OS page by OS page in one call of `userfaultfd`, from the address of a victim straight to that of the page that replaces it,
//! without a fault. The reservation is one memory mapping whatever is in it.
//!
//! **Moved mappings** ([`HostMoves::Mappings`]): the same by `mremap`, which takes as long for an OS page as for a thousand, and two memory mappings a page.
//!
//! **Demand-zero** ([`HostMoves::Nothing`]): where the system can do neither, or there may not be as many mappings: the whole reservation is writable,
//! memory comes with the first touch and goes by `MADV_DONTNEED`, and no mapping is ever split. Which one a reservation gets is decided when it is made.
//!
//! A backend that can share memory ([`HostConfig::shareable`]) moves mappings, of memory that can be mapped at several places at once.
//!
//! Access is a matter of the books: `stage` and `read` obey it, while the protection of the memory itself is not changed page by page (that would cost
//! a call, and memory mappings). Reading at an address where there is nothing is a signal (`SIGBUS`, `SIGSEGV`) where memory is moved.

use std::ops::Range;
use std::sync::Arc;

use self::mappings::Mappings;
use self::memory::{MAPPINGS_PER_PAGE, Memory, Mode};
use self::reservation::{Held, Inner};
use self::userfault::{has_huge_pages, userfault};
use super::books::{check_create, check_reserve};
use super::{Access, Backend, BackendCaps, HostAddressable, Refused, ReserveSpec};
use crate::error::BackendError;
use crate::layout::MAX_RESERVED_BYTES;

pub(super) mod mappings;
mod memory;
#[expect(unsafe_code, reason = "moves memory that nobody uses")]
mod places;
#[cfg(test)]
#[expect(unsafe_code, reason = "splits a huge page")]
mod places_tests;
#[expect(unsafe_code, reason = "hands out mapped memory as slices")]
mod reservation;
#[expect(unsafe_code, reason = "maps memory anew that nobody uses")]
mod reserved;
#[expect(unsafe_code, reason = "maps memory anew that nobody uses")]
mod slots;
#[expect(unsafe_code, reason = "the boundary to the system")]
pub(super) mod sys;
mod tables;
#[expect(unsafe_code, reason = "another boundary to the system")]
mod userfault;

pub use reservation::{HostPage, HostReservation, HostStaging};

/// From this size on moving a mapping takes less than moving its OS pages, unless they are huge. Measured: 256 KiB 12 us and 6, 1 MiB 16 and 22.
const MAPPINGS_FROM_BYTES: u64 = 512 << 10;
/// From this size on moving a mapping takes less than a first touch.
const FASTER_THAN_FAULTS_BYTES: u64 = 64 << 10;

/// How memory comes to the pages of a host reservation. Each falls back to the next one where the system cannot, or may not have as many memory mappings.
///
/// What a page of 64 KiB / 1 MiB / 2 MiB costs that takes the place of another, before it is filled, on the machine of `benches/results/2026-12-01-residency-host`: pages 3 / 22 / 1.4 us, mappings 11 / 16 / 12 us, and nothing
/// 34 / 490 / 207 us, of which filling it then takes 5 / 80 / 140 us less, since it is in the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostMoves {
    /// What is fastest for pages of this size: OS pages for those smaller than 512 KiB, and of 2 MiB and more where the system has huge pages; mappings otherwise, but from 64 KiB up.
    #[default]
    Fastest,
    /// OS pages are moved, by `userfaultfd` (Linux 6.14; containers often forbid it). One memory mapping for a whole reservation.
    Pages,
    /// Memory mappings are moved, by `mremap` (Linux 5.7). Two memory mappings a page.
    Mappings,
    /// Nothing: memory comes with the first touch, and is given back to the system.
    Nothing,
}

/// What may be chosen of a [`HostBackend`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// How memory comes to its pages.
    pub moves: HostMoves,
    /// The most memory mappings that this backend holds. Default: what the headroom leaves.
    pub max_mappings: Option<u64>,
    /// Memory mappings, of the `vm.max_map_count` that the system allows the process, that all host backends together leave to the rest of the process.
    /// Default: half.
    pub headroom_mappings: Option<u64>,
    /// Whether pages can be mapped at several places at once, so that forks of arrays ([`SparseArray3D::fork`](crate::SparseArray3D::fork)) share what is resident. Mappings of pages of every size are moved then, as far
    /// as there may be as many (of arrays with more pages nothing is shared, or moved), and they lie in shared memory: in ordinary pages unless the system has huge ones for that
    /// (`/sys/kernel/mm/transparent_hugepage/shmem_enabled`), and counted once for each mapping in the process' resident set (`RSS`), once in all in its proportional one (`Pss`). Default `false`.
    pub shareable: bool,
}

/// Memory of this process, at addresses of this process.
///
/// **Cost**: reserving takes a few system calls whatever the size. Mapping a recycled page takes one ([`HostMoves::Pages`]) or two ([`HostMoves::Mappings`]), 2 to 20 us,
/// unmapping none (one or two more where memory of another page lingers, or page tables go); mapping and unmapping demand-zero pages takes none at all, and the first touch 0.25 to 2 us per 4 KiB. Page tables
/// come on top of the memory: 4 KiB for each 2 MiB of addresses in which a page is, 8 MiB at most for those in which one was, and 4 KiB for each GiB in which one ever was.
#[derive(Debug)]
pub struct HostBackend {
    config: HostConfig,
    memory: Arc<Memory>,
}

impl Default for HostBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl HostBackend {
    /// With the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(HostConfig::default())
    }

    /// With other choices.
    #[must_use]
    pub fn with_config(config: HostConfig) -> Self {
        let mappings = Mappings::new(config.max_mappings, config.headroom_mappings);
        Self { config, memory: Arc::new(Memory::new(mappings, config.shareable)) }
    }

    /// With pages that forks can share: see [`HostConfig::shareable`].
    #[must_use]
    pub fn shareable() -> Self {
        Self::with_config(HostConfig { shareable: true, ..HostConfig::default() })
    }

    /// Memory mappings that this backend holds, counted as the most that it may come to.
    #[must_use]
    pub fn mappings(&self) -> u64 {
        self.memory.mappings.held()
    }

    /// How memory comes to the pages of a reservation: never [`HostMoves::Fastest`].
    #[must_use]
    pub fn moves(&self, reservation: &HostReservation) -> HostMoves {
        match reservation.inner.mode {
            Mode::MovedPages => HostMoves::Pages,
            Mode::MovedMappings => HostMoves::Mappings,
            Mode::DemandZero => HostMoves::Nothing,
        }
    }

    /// How pages of a reservation may get memory, the best first.
    fn modes(&self, spec: ReserveSpec) -> impl Iterator<Item = Mode> {
        let shareable = self.config.shareable;
        let moves = if shareable { HostMoves::Mappings } else { self.config.moves };
        let with_pages =
            !shareable && matches!(moves, HostMoves::Fastest | HostMoves::Pages) && userfault().is_some();
        let mappings = mappings_for(spec) <= self.memory.mappings.room() && sys::can_move(shareable);
        let bytes = spec.page_bytes;
        let pages_are_fast =
            bytes < MAPPINGS_FROM_BYTES || bytes >= sys::HUGE_BYTES as u64 && has_huge_pages();
        let candidates = match moves {
            HostMoves::Fastest if pages_are_fast => {
                let mappings = mappings && bytes >= FASTER_THAN_FAULTS_BYTES;
                [(Mode::MovedPages, with_pages), (Mode::MovedMappings, mappings)]
            }
            HostMoves::Fastest => [(Mode::MovedMappings, mappings), (Mode::MovedPages, with_pages)],
            HostMoves::Pages => [(Mode::MovedPages, with_pages), (Mode::MovedMappings, mappings)],
            HostMoves::Mappings => [(Mode::MovedMappings, mappings), (Mode::DemandZero, false)],
            HostMoves::Nothing => [(Mode::DemandZero, false); 2],
        };
        let possible = candidates.into_iter().filter_map(|(mode, can)| can.then_some(mode));
        possible.chain(std::iter::once(Mode::DemandZero))
    }

    fn check_owner(&self, call: &'static str, reservation: &HostReservation) -> Result<(), BackendError> {
        if Arc::ptr_eq(&reservation.inner.memory, &self.memory) {
            Ok(())
        } else {
            Err(BackendError::WrongOwner { call, what: "the reservation is another backend's" })
        }
    }

    fn check_map(
        &self,
        reservation: &HostReservation,
        offset_bytes: u64,
        page: &HostPage,
    ) -> Result<(), BackendError> {
        self.check_owner("map", reservation)?;
        if !page.is_of(&self.memory) {
            return Err(BackendError::WrongOwner { call: "map", what: "the page is another backend's" });
        }
        reservation.inner.books().check_map(offset_bytes, page.bytes())
    }
}

/// Memory mappings that a reservation takes whose pages' mappings are moved.
fn mappings_for(spec: ReserveSpec) -> u64 {
    spec.expected_pages.saturating_mul(MAPPINGS_PER_PAGE).saturating_add(2)
}

impl Backend for HostBackend {
    type Reservation = HostReservation;
    type Page = HostPage;
    type Staging = HostStaging;
    type Ticket = ();

    fn caps(&self) -> BackendCaps {
        BackendCaps {
            name: "host",
            granularity_bytes: sys::os_page_bytes() as u64,
            default_tile_bytes: 64 << 10,
            default_page_bytes: 0,
            max_reserved_bytes: MAX_RESERVED_BYTES,
            asynchronous: false,
            batch_bytes: u64::MAX,
            shares: self.config.shareable,
        }
    }

    fn reserve(&self, spec: ReserveSpec) -> Result<HostReservation, BackendError> {
        check_reserve(&self.caps(), spec)?;
        let mut refused = None;
        for mode in self.modes(spec) {
            match Inner::new(spec, mode, Arc::clone(&self.memory)) {
                Ok(inner) => {
                    if mode == Mode::MovedMappings {
                        self.memory.expect(mappings_for(spec));
                    }
                    return Ok(HostReservation { inner: Arc::new(inner) });
                }
                // The first is what was meant.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(BackendError::OutOfMemory { call: "reserve", bytes: spec.bytes }))
    }

    fn release(&self, reservation: HostReservation) -> Result<(), BackendError> {
        self.check_owner("release", &reservation)?;
        if !reservation.inner.books().is_empty() {
            return Err(BackendError::WrongOwner {
                call: "release",
                what: "a page is still mapped in the reservation",
            });
        }
        reservation.inner.evacuate()
    }

    fn base_address(&self, reservation: &HostReservation) -> u64 {
        reservation.inner.addresses().start as u64
    }

    fn create(&self, bytes: u64) -> Result<HostPage, BackendError> {
        check_create(&self.caps(), bytes)?;
        let size = usize::try_from(bytes).map_err(|_| BackendError::OutOfMemory { call: "create", bytes })?;
        let id = self.memory.create(size)?;
        Ok(HostPage::new(id, bytes, Arc::clone(&self.memory)))
    }

    fn destroy(&self, page: HostPage) -> Result<(), BackendError> {
        if !page.is_of(&self.memory) {
            return Err(BackendError::WrongOwner { call: "destroy", what: "the page is another backend's" });
        }
        page.destroy(0..0)
    }

    fn map(
        &self,
        reservation: &HostReservation,
        offset_bytes: u64,
        page: HostPage,
    ) -> Result<(), Refused<HostPage>> {
        let _mapping = reservation.inner.mapping();
        if let Err(error) = self.check_map(reservation, offset_bytes, &page) {
            return Err(Refused { error, page });
        }
        let inner = &reservation.inner;
        match self.memory.map(page.id(), inner.address(offset_bytes), inner.mode) {
            Ok(settled) => {
                inner.books().map(offset_bytes, Held { page, settled });
                Ok(())
            }
            Err(error) => Err(Refused { error, page }),
        }
    }

    fn set_access(
        &self,
        reservation: &HostReservation,
        range: Range<u64>,
        access: Access,
    ) -> Result<(), BackendError> {
        self.check_owner("set_access", reservation)?;
        reservation.inner.books().set_access(&range, access).map(|_| ())
    }

    fn unmap(&self, reservation: &HostReservation, offset_bytes: u64) -> Result<HostPage, BackendError> {
        self.check_owner("unmap", reservation)?;
        let _mapping = reservation.inner.mapping();
        let held = reservation.inner.books().unmap(offset_bytes)?;
        if !held.settled {
            self.memory.unmap(held.page.id());
        }
        Ok(held.page)
    }

    fn share(&self, reservation: &HostReservation, offset_bytes: u64) -> Result<HostPage, BackendError> {
        let call = "share";
        self.check_owner(call, reservation)?;
        let _mapping = reservation.inner.mapping();
        let mut books = reservation.inner.books();
        books.check_still(call, offset_bytes)?;
        let there = books.page_at(offset_bytes).map(|held| (held.page.id(), held.page.bytes()));
        drop(books);
        let (id, bytes) = there.ok_or(BackendError::NotMapped { call, offset_bytes })?;
        let second = self.memory.share(id)?.ok_or(BackendError::CannotShare { call, offset_bytes })?;
        Ok(HostPage::new(second, bytes, Arc::clone(&self.memory)))
    }

    fn replace(
        &self,
        reservation: &HostReservation,
        offset_bytes: u64,
        page: HostPage,
    ) -> Result<HostPage, Refused<HostPage>> {
        let call = "replace";
        let _mapping = reservation.inner.mapping();
        let mut owned = self.check_owner(call, reservation);
        if !page.is_of(&self.memory) {
            owned = Err(BackendError::WrongOwner { call, what: "the page is another backend's" });
        }
        match owned {
            Ok(()) => reservation.inner.replace(offset_bytes, page),
            Err(error) => Err(Refused { error, page }),
        }
    }

    fn stage(&self, reservation: &HostReservation, range: Range<u64>) -> Result<HostStaging, BackendError> {
        self.check_owner("stage", reservation)?;
        reservation.inner.stage(range)
    }

    fn submit(&self, reservation: &HostReservation, staging: HostStaging) -> Result<(), BackendError> {
        if !staging.is_in(&reservation.inner) {
            return Err(BackendError::WrongOwner {
                call: "submit",
                what: "the staging memory is of another reservation",
            });
        }
        Ok(())
    }

    fn poll(&self, _ticket: &()) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn wait(&self, _ticket: ()) -> Result<(), BackendError> {
        Ok(())
    }

    fn read(
        &self,
        reservation: &HostReservation,
        offset_bytes: u64,
        out: &mut [u8],
    ) -> Result<(), BackendError> {
        self.check_owner("read", reservation)?;
        reservation.inner.read(offset_bytes, out)
    }
}

// SAFETY: a page that is mapped lies at its offset, in memory that is readable (demand-zero ranges are as a whole, what is moved is there before `map`
// returns), is moved away only by calls that follow `unmap`, and is written only through the one `HostStaging` that the books grant for a range.
// A page that is replaced is so by one call of the system, and both have the same bytes by then. `Inner::new` aligns the base to the page size, and the range never moves. The exception is memory that follows late to a page mapped elsewhere: it is written
// before the first `stage` or `read` of that page returns, when by the trait's terms there is nothing in it to be read yet.
#[expect(unsafe_code, reason = "the marker is an unsafe trait")]
unsafe impl HostAddressable for HostBackend {}
