//! The CUDA device that benches run on, where there is one, and host memory for it to copy from.

use rayon::prelude::*;
use vastgrid::BackendError;
use vastgrid::cuda::{Device, PinnedBuffer};

use super::SplitMix;

/// Device 0; `None` where there is none, and the reason on the screen.
pub(crate) fn device_or_skip() -> Option<Device> {
    Device::open(0).inspect_err(|error| println!("skipped: no CUDA device ({error})")).ok()
}

/// Page-locked memory full of random words, each with the bits of `mask` only.
pub(crate) fn random_pinned(device: &Device, bytes: usize, mask: u64) -> Result<PinnedBuffer, BackendError> {
    let mut pinned = PinnedBuffer::new(device, bytes)?;
    let words: &mut [u64] = bytemuck::cast_slice_mut(&mut pinned);
    words.par_chunks_mut(1 << 16).enumerate().for_each(|(i, words)| {
        let mut random = SplitMix(i as u64);
        words.fill_with(|| random.next() & mask);
    });
    Ok(pinned)
}
