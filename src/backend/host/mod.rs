//! Owns [`HostBackend`]: reservations of this process' own address space. Knows bytes and pages, never tiles.
//!
//! | file | owns |
//! | --- | --- |
//! | `reservation` | what is handed out, and who writes or reads what |
//! | `memory` | where the memory of each page lies, and moving it |
//! | `mappings` | how many memory mappings there may be |
//! | `sys` | the system calls |
//!
//! # Two ways to give a page memory
//!
//! **Pooled**, for pages of 64 KiB and more: memory is touched once and then moved, by `mremap`, from the address of a victim straight to that of the page
//! that replaces it, without a fault. **Demand-zero**, for smaller pages, or more pages than there may be memory mappings: the whole reservation is writable,
//! memory comes with the first touch and goes by `MADV_DONTNEED`, and no mapping is ever split. Which one a reservation gets is decided when it is made.
//!
//! A backend that can share memory ([`HostConfig::shareable`]) pools pages of every size, in memory that can be mapped at several places at once.
//!
//! Access is a matter of the books: `stage` and `read` obey it, while the protection of the memory itself is not changed page by page (that would cost
//! a call and, in a demand-zero reservation, memory mappings).

use std::ops::Range;
use std::sync::Arc;

use self::mappings::Mappings;
use self::memory::{MAPPINGS_PER_PAGE, Memory, Mode};
use self::reservation::{Held, Inner};
use super::books::{check_create, check_reserve};
use super::{Access, Backend, BackendCaps, HostAddressable, Refused, ReserveSpec};
use crate::error::BackendError;
use crate::layout::MAX_RESERVED_BYTES;

pub(super) mod mappings;
#[expect(unsafe_code, reason = "moves memory that nobody uses")]
mod memory;
#[expect(unsafe_code, reason = "hands out mapped memory as slices")]
mod reservation;
#[expect(unsafe_code, reason = "maps memory anew that nobody uses")]
mod slots;
#[expect(unsafe_code, reason = "the boundary to the system")]
pub(super) mod sys;

pub use reservation::{HostPage, HostReservation, HostStaging};

/// What may be chosen of a [`HostBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Pages of this size and more are pooled, smaller ones demand-zero. Default 64 KiB, below which moving costs more than faulting;
    /// `u64::MAX` to pool none.
    pub pooled_from_bytes: u64,
    /// The most memory mappings that this backend holds. Default: what the headroom leaves.
    pub max_mappings: Option<u64>,
    /// Memory mappings, of the `vm.max_map_count` that the system allows the process, that all host backends together leave to the rest of the process.
    /// Default: half.
    pub headroom_mappings: Option<u64>,
    /// Whether pages can be mapped at several places at once, so that forks of arrays ([`SparseArray3D::fork`](crate::SparseArray3D::fork)) share what is resident. Pages of every size are pooled then, as far
    /// as there may be memory mappings for them (of arrays with more pages nothing is shared), and lie in shared memory: in ordinary pages unless the system has huge ones for that
    /// (`/sys/kernel/mm/transparent_hugepage/shmem_enabled`), and counted once for each mapping in the process' resident set (`RSS`), once in all in its proportional one (`Pss`). Default `false`.
    pub shareable: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { pooled_from_bytes: 64 << 10, max_mappings: None, headroom_mappings: None, shareable: false }
    }
}

/// Memory of this process, at addresses of this process.
///
/// **Cost**: reserving takes a system call or two whatever the size. Mapping a recycled page that is pooled takes one `mremap` and one `mmap`, about 15 us for
/// up to 2 MiB, unmapping none; mapping and unmapping demand-zero pages takes none at all, and the first touch 0.25 to 1 us per 4 KiB.
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

    /// Whether the pages of a reservation are pooled (or else demand-zero).
    #[must_use]
    pub fn is_pooled(&self, reservation: &HostReservation) -> bool {
        reservation.inner.mode == Mode::Pooled
    }

    fn mode_for(&self, spec: ReserveSpec) -> Mode {
        let needed = spec.expected_pages.saturating_mul(MAPPINGS_PER_PAGE).saturating_add(2);
        let from_bytes = if self.config.shareable { 0 } else { self.config.pooled_from_bytes };
        let pooled = spec.page_bytes >= from_bytes.max(sys::os_page_bytes() as u64)
            && needed <= self.memory.mappings.room()
            && sys::can_move(self.config.shareable);
        if !pooled {
            return Mode::DemandZero;
        }
        self.memory.expect(needed);
        Mode::Pooled
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
        let inner = Inner::new(spec, self.mode_for(spec), Arc::clone(&self.memory))?;
        Ok(HostReservation { inner: Arc::new(inner) })
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

// SAFETY: a page that is mapped lies at its offset, in memory that is readable (demand-zero ranges are as a whole, pooled pages are moved there before `map`
// returns), is moved away only by calls that follow `unmap`, and is written only through the one `HostStaging` that the books grant for a range.
// A page that is replaced is so by one call of the system, and both have the same bytes by then. `Inner::new` aligns the base to the page size, and the range never moves. The exception is memory that follows late to a page mapped elsewhere: it is written
// before the first `stage` or `read` of that page returns, when by the trait's terms there is nothing in it to be read yet.
#[expect(unsafe_code, reason = "the marker is an unsafe trait")]
unsafe impl HostAddressable for HostBackend {}
