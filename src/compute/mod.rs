//! Computing on the tiles of arrays: which ([`TileSet`]), what comes of all their voxels ([`sum`], [`fold`]), of each and those around it ([`stencil27`], [`for_each_halo`]), and of several arrays
//! together ([`zip`]). Everything keeps to the budget, however large the arrays are, and uses all threads of rayon's current pool.
//!
//! | to | use |
//! | --- | --- |
//! | say which tiles | [`all`], [`resident`], [`written`], [`TileSet::from_region`]; [`and`](TileSet::and), [`or`](TileSet::or), [`dilate`](TileSet::dilate), [`erode`](TileSet::erode) |
//! | get a few numbers | [`sum`], [`min_max`], [`histogram`], [`fold`] |
//! | compute with the voxels around each | [`stencil27_into`]; of one tile [`stencil27`]; wider ones [`for_each_halo`], [`Halo`] |
//! | write voxel by voxel | [`map`]; from other arrays [`zip`] |
//!
//! Closures that are given here run while tiles are held. One that asks for tiles itself may find no room, and one that waits for another thread that does may wait in vain.
//!
//! ```
//! use vastgrid::{Coord, Extent, HostBackend, Pool, SparseArray3D, compute, source::Procedural};
//!
//! // 2 GiB in a budget of 8 MiB.
//! let pool = Pool::new(HostBackend::new(), 8 << 20)?;
//! let source = Procedural::new(Extent::new(1 << 10, 1 << 10, 1 << 11), |c: Coord| c.x as u8).with_uniform(|part| (part.start.z >= 32).then_some(1));
//! let array = SparseArray3D::builder(&pool, source).build()?;
//! let (low, high) = compute::min_max(&array, &compute::all(&array))?.unwrap();
//! assert_eq!((low, high), (0, 255));
//! # Ok::<_, vastgrid::Error>(())
//! ```

mod around;
mod grow;
mod halo;
mod inputs;
mod lists;
mod map;
mod reduce;
mod set;
mod stencil;
mod steps;

pub use around::Boundary;
pub use grow::{Beyond, Neighbours};
pub use halo::{Block, Halo, for_each_halo};
pub use inputs::Inputs;
pub use lists::{all, resident, written};
pub use map::{map, zip};
pub use reduce::{Bins, Histogram, Run, fold, histogram, min_max, sum};
pub use set::TileSet;
pub use stencil::{stencil27, stencil27_into};
