//! Owns looking at volumes of several resolutions while they load: [`Explorer`] makes pictures of what is there, says what they lack, has that loaded in the background, and says how true
//! each picture is. It never waits for a source.
//!
//! ```
//! use std::time::Duration;
//! use vastgrid::render::{Camera, Options, Preset};
//! use vastgrid::{Explorer, Extent, HostBackend, Pool, Pyramid3D, PyramidSource, StreamOptions};
//!
//! let source = PyramidSource::procedural(Extent::cube(512), |[x, y, z]| ((x * y / 7.0 + z) % 251.0) as u8)?;
//! let pool = Pool::new(HostBackend::new(), 16 << 20)?;
//! let pyramid = Pyramid3D::builder(&pool, source).tile([32, 32, 32]).build()?;
//! let mut explorer = Explorer::new(pyramid, StreamOptions::default())?;
//!
//! let camera = Camera::fit(Extent::cube(512), [1.0; 3]);
//! let transfer = Preset::GreyRamp.transfer_function((0.0, 250.0))?;
//! let options = Options { width: 64, height: 64, ..Options::default() };
//! loop {
//!     let picture = explorer.picture(&camera, &transfer, &options)?;
//!     println!("{}", picture.fidelity);
//!     if picture.fidelity.is_converged() {
//!         break;
//!     }
//!     explorer.wait_idle(Duration::from_millis(20)); // a viewer would show the picture instead
//! }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! In a device's memory the same, with pictures made there:
//!
//! ```no_run
//! use vastgrid::render::cuda::CudaCaster;
//! use vastgrid::{CudaBackend, Explorer, Pool, Pyramid3D, PyramidSource, StreamOptions};
//!
//! # fn f(source: PyramidSource<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(CudaBackend::open(0)?, 8 << 30)?;
//! let caster = CudaCaster::new(pool.backend().device())?;
//! let pyramid = Pyramid3D::builder(&pool, source).build()?;
//! let mut explorer = Explorer::with_renderer(pyramid, caster, StreamOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! | file | owns |
//! | --- | --- |
//! | `explorer` | [`Explorer`]: one picture, and what is wanted after it |
//! | `renderer` | [`LevelRenderer`]: who makes the pictures |
//! | `control` | freezing what is there, and beginning anew |
//! | `tiles` | [`ExploredTile`]: which tiles a picture is made of, and what state each is in |
//! | `bias` | how much coarser pictures are where the budget does not hold what they would need |
//! | `needs` | what a picture's report asks for |
//! | `ghosts`, `rereads` | what was evicted of late, and how much of it is read again |
//! | `progress` | whether loading gets anywhere, and how fast |
//! | `scene` | what tells one thing that is looked at from another |
//! | `fidelity` | [`Fidelity`] |

mod bias;
mod control;
mod explorer;
mod fidelity;
mod ghosts;
mod needs;
mod progress;
mod renderer;
mod rereads;
mod scene;
mod tiles;

pub use explorer::{Explored, Explorer};
pub use fidelity::{Fidelity, FidelityLimit};
pub use renderer::{HostRenderer, LevelRenderer, LevelScene};
pub use tiles::{ExploredTile, TileState};
