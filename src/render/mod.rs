//! Owns CPU ray casting: cameras, transfer functions, and pictures of volumes in bricks of which some may be missing. Knows nothing of memory,
//! sources or budgets: it reads a [`Volume`], and says which tiles it lacked.
//!
//! | to get | use |
//! | --- | --- |
//! | a picture of what is there now, and what it lacks | [`render`], [`render_with`] |
//! | a picture of a volume of several resolutions, whichever of them is there | [`render_levels`] |
//! | the picture in which nothing is missing | [`render_exact`], or in turns [`ExactRender`] |
//! | a picture made by a CUDA device | [`cuda`] |
//!
//! ```
//! use vastgrid::Extent;
//! use vastgrid::render::{Camera, DenseVolume, Options, Preset, render};
//!
//! let voxels: Vec<u8> = (0..32 * 32 * 32).map(|i| if i % 32 > 16 { 200 } else { 0 }).collect();
//! let volume = DenseVolume::new(&voxels, Extent::cube(32))?;
//! let transfer = Preset::GreyRamp.transfer_function(volume.range())?;
//! let camera = Camera::fit(Extent::cube(32), [1.0; 3]).azimuth(30.0);
//! let options = Options { width: 64, height: 64, ..Options::default() };
//! let picture = render(&volume, &camera, &transfer, &options)?;
//! assert!(picture.report.wanted.is_empty(), "everything is there");
//! assert_eq!(picture.image.to_rgba8().len(), 64 * 64 * 4);
//! # Ok::<(), vastgrid::render::RenderError>(())
//! ```

mod arrays;
mod beam;
mod camera;
pub mod cuda;
mod dvr;
mod error;
mod exact;
mod fine;
mod grid;
mod held;
mod image;
mod interactive;
mod iso;
mod levels;
mod light;
mod look_up;
mod march;
mod met;
mod mip;
mod occupancy;
mod options;
mod path;
mod prepare;
mod presets;
mod table;
mod tally;
mod transfer;
mod transfer_text;
mod volume;

pub use arrays::render_exact;
pub use camera::{Camera, Orbit, Projection, Ray};
pub use error::RenderError;
pub use exact::{ExactRender, Progress, TileGroup};
pub use image::{Image, MAX_SIDE};
pub use interactive::{Rendered, Report, render, render_with};
pub use levels::{
    LackedTile, LevelCaches, LevelsReport, MAX_LEVELS, MetTile, RenderLevel, RenderedLevels, render_levels,
    render_levels_unless,
};
pub use occupancy::SkipCache;
pub use options::{ClipBox, Mode, Options, Shading};
pub use presets::Preset;
pub use tally::WantedTile;
pub use transfer::{MAX_POINTS, TransferFunction};
pub use volume::{Brick, DenseVolume, Volume};
