//! Owns traces: what an [`Explorer`](crate::Explorer) was asked to show, picture by picture, which tiles it wanted for that, and what became of them. A trace is a small text file; it is
//! replayed without the volume, on [`ModelBackend`](crate::ModelBackend): who stays and who goes can then be looked at again and again, the same each time.
//!
//! ```
//! use vastgrid::render::{Camera, Options, Preset};
//! use vastgrid::trace::{ReplayOptions, Trace};
//! use vastgrid::{Explorer, Extent, HostBackend, Pool, Pyramid3D, PyramidSource, StreamOptions};
//!
//! let extent = Extent::cube(256);
//! let source = PyramidSource::procedural(extent, |[x, y, z]| ((x * y / 7.0 + z) % 251.0) as u8)?;
//! let pool = Pool::new(HostBackend::new(), 2 << 20)?;
//! let pyramid = Pyramid3D::builder(&pool, source).tile([32, 32, 32]).build()?;
//! // Without threads of its own nothing is loaded but where it is told to: a recording is the same each time.
//! let mut explorer = Explorer::new(pyramid, StreamOptions { threads: 0, batch_tiles: 1, ..StreamOptions::default() })?;
//!
//! explorer.record();
//! let transfer = Preset::GreyRamp.transfer_function((0.0, 250.0))?;
//! let options = Options { width: 32, height: 32, ..Options::default() };
//! for step in 0..5 {
//!     let camera = Camera::fit(extent, [1.0; 3]).azimuth(10.0 * f64::from(step));
//!     explorer.picture(&camera, &transfer, &options)?;
//!     (0..8).for_each(|_| drop(explorer.streamer().step()));
//! }
//! let trace = explorer.take_trace().expect("it was recording");
//!
//! let text = trace.to_string(); // what `Trace::write` puts into a file
//! let again = Trace::parse(&text)?;
//! assert_eq!(again, trace);
//! let outcomes = again.replay(&ReplayOptions::default())?;
//! assert!(trace.frames.iter().map(|frame| &frame.outcome).eq(&outcomes));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # The file
//!
//! Lines of words, `#` begins a comment. The first line is `vastgrid-trace 1`. Then, once, what the volume is:
//!
//! | line | says |
//! | --- | --- |
//! | `voxel B` | bytes of a voxel: 1, 2, 4 or 8 |
//! | `batch N` | tiles of one request, as [`StreamOptions::batch_tiles`](crate::StreamOptions::batch_tiles) |
//! | `level X Y Z by F F F tile X Y Z page X Y Z` | a level, finest first: its extent in voxels, its factors, the shapes of a tile in voxels and of a page in tiles; `absent` at the end where it cannot be read |
//!
//! And for each picture `frame`, followed by what is not as for the picture before (which at the beginning is nothing at all):
//!
//! | line | says |
//! | --- | --- |
//! | `camera` *eye target up* `perspective D` or `orthographic H` | from where; ten numbers, the last one degrees or height |
//! | `spacing X Y Z` | of level-0 voxels |
//! | `budget B` | the pool's, in bytes |
//! | `bias L` | how much coarser than its pixels the picture was, in levels |
//! | `order level` or `order near` | whether coarse tiles are loaded before fine ones, or near ones before far ones whatever their level |
//! | `want L T ...` | tiles of level L that the picture shows or lacks |
//! | `stand L T ...` | tiles that stand in for finer ones |
//! | `ahead L T ...` | tiles that no picture lacks yet |
//! | `drop L T ...` | tiles that are wanted no more |
//!
//! and by what became of it, up to the next picture: `missing N` and `hits N` (tiles that it lacked; wanted tiles that were there), `load L T ...` (in that order), `uniform L T ...` (found to hold one value),
//! `fail L T ...`, `evict L T ...` (in that order).
//!
//! A tile `T` is its number in its level, x + nx (y + ny z) with n the level's size in tiles; `T*N` stands for N of them, T the first.
//!
//! | file | owns |
//! | --- | --- |
//! | `trace` | [`Trace`] and what it is made of |
//! | `write`, `read` | the file |
//! | `recorder` | how a trace comes about |
//! | `replay` | the same wants again, on the model |
//! | `error` | what is wrong with a file |

mod error;
mod read;
mod recorder;
mod replay;
#[expect(clippy::module_inception, reason = "named for the type it holds")]
mod trace;
mod write;

pub use error::TraceError;
pub(crate) use recorder::{Asked, Recorder};
pub use replay::{ReplayOptions, ReplaySteps};
pub use trace::{Trace, TraceFrame, TraceLevel, TraceOutcome, TraceRequests, TraceTile, TraceUse};
