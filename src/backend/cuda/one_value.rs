//! Owns [`OneValue`]: which pieces of the device's memory hold one value throughout, told by a kernel. Knows addresses, not whose they are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Arg, Device, Function, Module, PinnedBuffer, Stream, kernels};
use crate::error::BackendError;

/// Pieces that are looked at together.
const PIECES: usize = 4096;

/// What the kernel tells of a piece: its beginning, up to the longest voxel, and a word that is not 0 where all of it repeats that. `vg_told` in `one_value.cuh`.
const TOLD_BYTES: usize = 80;
const FIRST_BYTES: usize = 64;

/// The least that the kernel reads at a time.
const VECTOR_BYTES: u64 = 16;

/// The kernel and its memory, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct OneValue {
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    stream: Stream,
    kernel: Function,
    /// Addresses, and what is told.
    asked: PinnedBuffer,
    told: PinnedBuffer,
}

impl Made {
    fn new(device: &Device) -> Result<Self, BackendError> {
        Ok(Self {
            stream: Stream::new(device)?,
            kernel: Module::load(device, kernels::ONE_VALUE)?.function("vg_one_value")?,
            asked: PinnedBuffer::new(device, PIECES * 8)?,
            told: PinnedBuffer::new(device, PIECES * TOLD_BYTES)?,
        })
    }

    /// Has the kernel look at so many pieces at most, and waits for it.
    fn look(&mut self, addresses: &[u64], bytes: u64, period_bytes: u64) -> Result<(), BackendError> {
        let list: &[u8] = bytemuck::cast_slice(addresses);
        self.asked[..list.len()].copy_from_slice(list);
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let vectors = bytes / VECTOR_BYTES;
        let period = u32::try_from(period_bytes / VECTOR_BYTES).unwrap_or(u32::MAX);
        let (asked, told) = (self.asked.device_address(), self.told.device_address());
        let args = [Arg::new(&asked), Arg::new(&vectors), Arg::new(&period), Arg::new(&told)];
        // SAFETY: the arguments are the kernel's. It reads the pieces, which whoever calls keeps mapped, and the list, and writes what is told of each; both buffers live as long as this and
        // are looked at by nobody else, and by nobody at all until the stream is done, or the device is lost.
        let launched = unsafe { self.kernel.launch(&self.stream, [count, 1, 1], [256, 1, 1], 0, &args) };
        launched.and_then(|()| self.stream.synchronize())
    }
}

impl OneValue {
    /// Whether it can look at such pieces: powers of two that are read in vectors of 16 bytes.
    pub(super) fn takes(bytes: u64, value_bytes: u64) -> bool {
        let sizes = bytes.is_power_of_two() && value_bytes.is_power_of_two();
        sizes && bytes >= value_bytes.max(VECTOR_BYTES) && value_bytes <= FIRST_BYTES as u64
    }

    /// The value that each piece holds throughout, if it does. The pieces begin at multiples of their size, and stay mapped and unwritten meanwhile.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(super) fn look(
        &self,
        device: &Device,
        addresses: &[u64],
        bytes: u64,
        value_bytes: u64,
    ) -> Result<Vec<Option<Box<[u8]>>>, BackendError> {
        let mut made = self.lock();
        let made = match &mut *made {
            Some(made) => made,
            none => none.insert(Made::new(device)?),
        };
        let value = usize::try_from(value_bytes).unwrap_or(FIRST_BYTES);
        let mut values = Vec::with_capacity(addresses.len());
        for some in addresses.chunks(PIECES) {
            made.look(some, bytes, value_bytes.max(VECTOR_BYTES))?;
            values.extend(made.told.chunks_exact(TOLD_BYTES).take(some.len()).map(|told| {
                let (first, repeats) = told.split_at(FIRST_BYTES);
                // Of values shorter than a vector, those in the first one are compared here.
                let first = &first[..value.max(16)];
                let same = first.chunks_exact(value).all(|next| next == &first[..value]);
                (repeats[0] != 0 && same).then(|| first[..value].into())
            }));
        }
        Ok(values)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
