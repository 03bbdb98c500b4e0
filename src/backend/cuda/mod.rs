//! Owns what is CUDA: the driver, loaded when it is first asked for, and one type for each of its resources, which gives it back when dropped.
//!
//! | file | owns |
//! | --- | --- |
//! | `sys` | the binary interface |
//! | `driver`, `calls` | the loaded library; one checked function per call |
//! | `device`, `stream`, `module` | [`Device`], [`Stream`] and [`Event`], [`Module`] and [`Function`] |
//! | `buffers` | [`DeviceBuffer`], [`PinnedBuffer`] |
//! | `memory` | addresses, physical memory, and mappings |
//! | `kept` | mappings that are left in place for pages that come back |
//! | `block_table` | words that the host changes and kernels read |
//! | `launcher` | kernels that get a block of bytes and give one back, several under way |
//! | `ptx`, `nvrtc` | the kernels that ship with the crate; the run-time compiler, where there is one |
//! | `backend` | [`CudaBackend`] |
//! | `reservation` | what that hands out, and who writes or reads what |
//! | `pattern`, `one_value` | memory that gets one value, and memory that is found to hold one |
//! | `staging`, `flight`, `copies` | page-locked memory for tiles on their way; copies that go together; all of them, and when they are done |
//!
//! Everything builds and starts without a driver; then [`Device::open`] says so.
//!
//! ```
//! use vastgrid::{BackendError, cuda::Device};
//!
//! match Device::open(0) {
//!     Ok(device) => println!("{device}: {} of {} bytes free", device.memory()?.0, device.memory()?.1),
//!     Err(BackendError::NoDriver { .. } | BackendError::NoDevice { .. }) => println!("no CUDA here"),
//!     Err(other) => return Err(other),
//! }
//! # Ok::<_, BackendError>(())
//! ```
//!
//! # Sharing with others
//!
//! [`Device::open`] takes the primary context, so that addresses, streams and events are good for the CUDA runtime, `PyTorch` and the like in the same process.
//! [`Device::from_raw_context`] and [`Stream::from_raw`] take those of others; `as_raw` methods hand ours out.

mod backend;
#[expect(unsafe_code, reason = "launches kernels on memory that it owns")]
mod block_table;
#[expect(unsafe_code, reason = "owns memory that the driver gave")]
mod buffers;
#[expect(unsafe_code, reason = "calls the driver")]
mod calls;
mod copies;
#[expect(unsafe_code, reason = "takes handles of others")]
mod device;
#[expect(unsafe_code, reason = "loads the driver")]
mod driver;
#[expect(unsafe_code, reason = "copies from memory that it holds")]
mod flight;
mod kept;
#[cfg(feature = "render")]
#[expect(unsafe_code, reason = "launches kernels on memory that it owns")]
mod launcher;
pub(in crate::backend) mod memory;
#[expect(unsafe_code, reason = "launches kernels")]
mod module;
mod nvrtc;
#[expect(unsafe_code, reason = "launches a kernel on memory that it holds")]
mod one_value;
mod pattern;
mod ptx;
mod reservation;
#[expect(unsafe_code, reason = "hands out page-locked memory piece by piece")]
mod staging;
#[expect(unsafe_code, reason = "copies from and to host memory")]
mod stream;
#[expect(unsafe_code, reason = "the boundary to the driver")]
mod sys;

pub use backend::{CudaBackend, CudaConfig};
pub use buffers::{DeviceBuffer, PinnedBuffer, PinnedPart};
pub use device::Device;
pub use module::{Arg, Function, Module};
pub use nvrtc::compile;
pub use reservation::{CudaPage, CudaReservation, CudaStaging, CudaTicket};
pub use stream::{Event, Stream};

pub(crate) use block_table::{BlockTable, Collected, Store};
#[cfg(feature = "render")]
pub(crate) use launcher::{Flight, Launch, Launcher, Step};

/// The kernels that ship with the crate, as PTX that drivers for CUDA 12.4 and later load on any device of compute capability 7.5 or later, and the header that users' kernels include.
pub mod kernels {
    pub use super::ptx::{CAST_F32, CAST_I16, CAST_U8, CAST_U16, MIRROR, ONE_VALUE, REDUCE, VASTGRID_CUH};
}
