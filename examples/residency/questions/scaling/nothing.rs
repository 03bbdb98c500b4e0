//! Owns [`Nothing`]: a backend without memory, whose calls do nothing at all. What a request takes on it is what deciding and the machinery of loading take; with [`Marks`] the two are told apart.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vastgrid::backend::{Access, Backend, BackendCaps, Refused, ReserveSpec, Staging};
use vastgrid::{BackendError, Extent, MAX_RESERVED_BYTES, Region, SourceError, TileSource};

/// Size of a tile and of a page.
pub(super) const PAGE_BYTES: u64 = PAGE as u64;
const PAGE: usize = 64;

/// When the loading of a request's tiles began, and when the last of them was in place.
#[derive(Debug)]
pub(super) struct Marks {
    origin: Instant,
    /// Tiles that are not in place yet.
    left: AtomicU64,
    began_ns: AtomicU64,
    ended_ns: AtomicU64,
}

impl Marks {
    pub(super) fn new() -> Self {
        let [left, began_ns, ended_ns] = [const { AtomicU64::new(0) }; 3];
        Self { origin: Instant::now(), left, began_ns, ended_ns }
    }

    /// So many tiles are about to be asked for that have to be loaded, in one batch.
    pub(super) fn expect(&self, tiles: usize) {
        self.left.store(tiles as u64, Ordering::Relaxed);
    }

    /// What loading took, the hand-over to other threads included.
    pub(super) fn loading_ns(&self) -> u64 {
        self.ended_ns.load(Ordering::Relaxed).saturating_sub(self.began_ns.load(Ordering::Relaxed))
    }

    fn mark(&self, at: &AtomicU64) {
        at.store(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A source that is asked, once a batch, whether it only copies: that is when loading begins.
#[derive(Debug)]
pub(super) struct Timed<S> {
    source: S,
    marks: Arc<Marks>,
    only_copies: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(source: S, marks: &Arc<Marks>, only_copies: bool) -> Self {
        Self { source, marks: Arc::clone(marks), only_copies }
    }
}

impl<S: TileSource<u8>> TileSource<u8> for Timed<S> {
    fn extent(&self) -> Extent {
        self.source.extent()
    }

    fn only_copies(&self) -> bool {
        self.marks.mark(&self.marks.began_ns);
        self.only_copies
    }

    fn read(&self, region: Region, out: &mut [u8]) -> Result<(), SourceError> {
        self.source.read(region, out)
    }
}

#[derive(Debug, Default)]
pub(super) struct Nothing {
    marks: Option<Arc<Marks>>,
}

impl Nothing {
    /// One that marks when the last tile of a batch is in place.
    pub(super) fn marking(marks: &Arc<Marks>) -> Self {
        Self { marks: Some(Arc::clone(marks)) }
    }
}

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
        if let Some(marks) = &self.marks
            && marks.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            marks.mark(&marks.ended_ns);
        }
        Ok(())
    }

    fn read(&self, _reservation: &(), _offset_bytes: u64, out: &mut [u8]) -> Result<(), BackendError> {
        out.fill(0);
        Ok(())
    }
}
