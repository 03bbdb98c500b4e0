//! Owns what kernels see of arrays: [`DeviceFrame`], within which a [`GridView`] of an array is valid, and the mirror of its bits on the device.
//!
//! | file | owns |
//! | --- | --- |
//! | `frame` | when kernels may read: from a view until the work on its stream is done |
//! | `mirror` | the copy of an array's bits on the device |
//! | `grid_view` | what a kernel is given, by value |
//! | `block` | the layout of the mirror's blocks, to which it points |
//!
//! The other half is `assets/kernels/vastgrid.cuh`, also as [`crate::cuda::kernels::VASTGRID_CUH`]: the same struct in C, and the functions that read an array through it.
//!
//! # The protocol
//!
//! ```text
//! array.request(&tiles)?;                    what the kernel needs (or pin it, where others ask for other tiles meanwhile)
//! let frame = pool.device_frame();           nothing that is resident from here on goes
//! let view = frame.view(&array, &stream)?;   the mirror is brought up to date, in the stream's order
//! launch(.., view, ..)                       on that stream
//! drop(frame);                               memory stays until the stream has come so far; nobody waits here
//! ```
//!
//! Kernels that write get tiles to write to ahead, and say which they wrote; the same steps on the host are `examples/06_moving_band.rs`:
//!
//! ```text
//! let pins = next.prepare_overwrite(&band)?;   memory for them, and the fill value in it (prepare_write: what they hold)
//! launch(.., frame.view(&next, &stream)?, ..)  vg_tile_to_write and one vg_mark_dirty a tile, or stores that mark by themselves
//! let wrote = frame.end_and_wait()?;           or `end`, and `compute::written(&next)` later
//! drop(pins);
//! next.prune(&band)?;                          tiles that hold one value after all need no memory
//! ```
//!
//! A request while the same thread has a frame open can take no memory from others: it is refused where it would have to, as on the host.

use crate::backend::CudaBackend;
use crate::pool::Pool;

pub mod block;
mod frame;
mod grid_view;
mod mirror;

pub use frame::{DeviceFrame, KernelWrites};
pub use grid_view::{GridAxis, GridView};

impl Pool<CudaBackend> {
    /// Opens a frame for kernels: until it is dropped, and the work is done that was put on the streams of its views, memory that they may read is not unmapped.
    ///
    /// **Cost**: tens of nanoseconds.
    pub fn device_frame(&self) -> DeviceFrame<'_> {
        DeviceFrame::new(self)
    }
}
