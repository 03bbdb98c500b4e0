//! Owns [`Nothing`]: a backend without memory, whose calls do nothing at all. What a request takes on it is what deciding takes.

use std::ops::Range;

use vastgrid::backend::{Access, Backend, BackendCaps, Refused, ReserveSpec, Staging};
use vastgrid::{BackendError, MAX_RESERVED_BYTES};

/// Size of a tile and of a page.
pub(super) const PAGE_BYTES: u64 = PAGE as u64;
const PAGE: usize = 64;

#[derive(Debug)]
pub(super) struct Nothing;

/// Where a tile's bytes go, and are forgotten.
#[derive(Debug)]
pub(super) struct Sink([u8; PAGE]);

impl Staging for Sink {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Backend for Nothing {
    type Reservation = ();
    type Page = ();
    type Staging = Sink;
    type Ticket = ();

    fn caps(&self) -> BackendCaps {
        BackendCaps {
            name: "nothing",
            granularity_bytes: PAGE_BYTES,
            default_tile_bytes: PAGE_BYTES,
            default_page_bytes: 0,
            max_reserved_bytes: MAX_RESERVED_BYTES,
            asynchronous: false,
            batch_bytes: u64::MAX,
            shares: false,
        }
    }

    fn reserve(&self, _spec: ReserveSpec) -> Result<(), BackendError> {
        Ok(())
    }

    fn release(&self, _reservation: ()) -> Result<(), BackendError> {
        Ok(())
    }

    fn base_address(&self, _reservation: &()) -> u64 {
        0
    }

    fn create(&self, _bytes: u64) -> Result<(), BackendError> {
        Ok(())
    }

    fn destroy(&self, _page: ()) -> Result<(), BackendError> {
        Ok(())
    }

    fn map(&self, _reservation: &(), _offset_bytes: u64, _page: ()) -> Result<(), Refused<()>> {
        Ok(())
    }

    fn set_access(&self, _reservation: &(), _range: Range<u64>, _access: Access) -> Result<(), BackendError> {
        Ok(())
    }

    fn unmap(&self, _reservation: &(), _offset_bytes: u64) -> Result<(), BackendError> {
        Ok(())
    }

    fn stage(&self, _reservation: &(), _range: Range<u64>) -> Result<Sink, BackendError> {
        Ok(Sink([0; PAGE]))
    }

    fn submit(&self, _reservation: &(), _staging: Sink) -> Result<(), BackendError> {
        Ok(())
    }

    fn poll(&self, _ticket: &()) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn wait(&self, _ticket: ()) -> Result<(), BackendError> {
        Ok(())
    }

    fn read(&self, _reservation: &(), _offset_bytes: u64, out: &mut [u8]) -> Result<(), BackendError> {
        out.fill(0);
        Ok(())
    }
}
