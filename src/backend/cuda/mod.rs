//! Owns the boundary to CUDA.

mod nvrtc;
mod ptx;

pub use nvrtc::compile;

/// The kernels that ship with the crate, as PTX that drivers for CUDA 12.4 and later load on any device of compute capability 7.5 or later, and the header that users' kernels include.
pub mod kernels {
    pub use super::ptx::{CHECK, MIRROR, REDUCE, SAMPLE, VASTGRID_CUH};
}
