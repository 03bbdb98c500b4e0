//! Owns what a kernel is given of an array: [`GridView`] by value, and the layout of the blocks that it points to. Knows nothing of who fills them, or when.
//!
//! The other half is `assets/kernels/vastgrid.cuh`, also as [`crate::cuda::kernels::VASTGRID_CUH`]: the same struct in C, and the functions that read an array through it.

pub mod block;
mod grid_view;

pub use grid_view::{GridAxis, GridView};
