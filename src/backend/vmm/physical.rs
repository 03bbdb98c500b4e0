//! Owns [`PhysicalMemory`]: memory without an address, kept alive by its owner and by every mapping of it. Knows nothing of where it is mapped.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::cuda::memory::Physical as CudaMemory;
use super::host::HostMemory;

/// Tells physical memory apart, in this process: no two ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalId(u64);

impl fmt::Display for PhysicalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {}", self.0)
    }
}

/// Memory that has no address of its own and can be mapped at any number of them, all of which show the same bytes. Made by [`super::Space::create`].
///
/// Dropping it gives the memory back, as soon as it is mapped nowhere: until then the mappings keep it, contents and all.
#[derive(Debug)]
pub struct PhysicalMemory {
    pub(super) inner: Arc<Physical>,
}

impl PhysicalMemory {
    pub(super) fn new(bytes: u64, place: Place) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = PhysicalId(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        Self { inner: Arc::new(Physical { id, bytes, place, copies: RwLock::new(()) }) }
    }

    /// What mapping records call it.
    #[must_use]
    pub fn id(&self) -> PhysicalId {
        self.inner.id
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    /// The number of the CUDA device whose memory it is; `None` where it is the host's.
    #[must_use]
    pub fn device(&self) -> Option<i32> {
        self.inner.place.device()
    }
}

impl fmt::Display for PhysicalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Physical { id, bytes, .. } = *self.inner;
        match self.device() {
            None => write!(f, "{id}: {bytes} bytes of the host"),
            Some(ordinal) => write!(f, "{id}: {bytes} bytes of CUDA device {ordinal}"),
        }
    }
}

/// Whose memory it is.
#[derive(Debug)]
pub(super) enum Place {
    Host(HostMemory),
    /// Shared with the driver's mappings of it.
    Cuda(Arc<CudaMemory>),
}

impl Place {
    fn device(&self) -> Option<i32> {
        match self {
            Self::Host(_) => None,
            Self::Cuda(memory) => Some(memory.device().ordinal()),
        }
    }
}

/// What owner and mappings share.
#[derive(Debug)]
pub(super) struct Physical {
    id: PhysicalId,
    bytes: u64,
    pub(super) place: Place,
    /// Orders copies into and out of this memory, whatever address they go through.
    copies: RwLock<()>,
}

impl Physical {
    pub(super) fn id(&self) -> PhysicalId {
        self.id
    }

    pub(super) fn device(&self) -> Option<i32> {
        self.place.device()
    }

    /// Nothing writes to the memory through [`super::AddressRange::write`] while the guard lives.
    pub(super) fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.copies.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing reads or writes the memory through an [`super::AddressRange`]'s copies while the guard lives.
    pub(super) fn writing(&self) -> RwLockWriteGuard<'_, ()> {
        self.copies.write().unwrap_or_else(PoisonError::into_inner)
    }
}
