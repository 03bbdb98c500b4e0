//! Owns CPU ray casting: cameras, transfer functions, and pictures of volumes in bricks of which some may be missing. Knows nothing of memory,
//! sources or budgets: it reads a [`Volume`], and says which tiles it lacked.

mod camera;
mod error;
mod image;
mod options;
mod presets;
mod transfer;
mod transfer_text;
mod volume;

pub use camera::{Camera, Orbit, Projection, Ray};
pub use error::RenderError;
pub use image::{Image, MAX_SIDE};
pub use options::{ClipBox, Mode, Options, Shading};
pub use presets::Preset;
pub use transfer::{MAX_POINTS, TransferFunction};
pub use volume::{Brick, DenseVolume, Volume};
