//! Sparse 3-D arrays far larger than memory.
//!
//! An array is *reserved* in full: every voxel has an address, and none has memory. *Tiles* that are asked for are loaded in parallel into *physical pages*,
//! which a byte budget limits; when others need them, the least recently used go. What is resident is read as flat memory, at the speed of memory.
//!
//! # The tour
//!
//! A [`Pool`] is a budget; an array takes its tiles from a [`TileSource`]:
//!
//! ```
//! use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, source::Procedural};
//!
//! let pool = Pool::new(HostBackend::new(), 16 << 20)?;
//! let source = Procedural::new(Extent::new(1 << 15, 1 << 15, 1 << 14), |c: Coord| (c.x % 251) as u16);
//! let array = SparseArray3D::builder(&pool, source).build()?;
//! assert_eq!(array.layout().reserved_bytes(), 1 << 45); // 32 TiB of addresses; no memory yet
//! assert_eq!(pool.stats().used_bytes, 0);
//!
//! // Any box, through the budget, into a dense buffer.
//! let corner = Region::new(Coord::new(1000, 2000, 3000), Extent::new(200, 100, 50));
//! assert_eq!(array.to_vec(corner)?[7], 1007 % 251);
//! assert!(pool.stats().used_bytes <= 16 << 20);
//! # Ok::<_, vastgrid::Error>(())
//! ```
//!
//! **Ask, then read within a frame.** A request makes tiles resident and says what became of each. A [`Frame`] is a span of reading: no memory that it may read goes
//! away before it ends. Within it an array is a [`View`]:
//!
//! ```
//! # use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, Tile, TileCoord, source::Procedural};
//! # let pool = Pool::new(HostBackend::new(), 16 << 20)?;
//! # let source = Procedural::new(Extent::cube(1 << 12), |c: Coord| (c.x + c.y + c.z) as f32);
//! # let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).build()?;
//! let report = array.request_region(Region::whole(Extent::cube(64)))?.complete()?;
//! assert_eq!(report.loaded, 8);
//!
//! let view = array.frame();
//! assert_eq!(view.get([1, 2, 3]), Some(6.0));                  // one voxel
//! let mut near = view.accessor();
//! let sum: f32 = near.neighbourhood([31, 31, 31]).unwrap().iter().sum(); // 27, across tiles
//! assert_eq!(sum, 27.0 * 93.0);
//! if let Tile::Resident(voxels) = view.tile(TileCoord::new(1, 0, 0)) { // a tile as a slice
//!     assert_eq!(voxels[0], 32.0);
//! }
//! assert_eq!(view.get([4000, 0, 0]), None);                    // nobody asked for it
//! # Ok::<_, vastgrid::Error>(())
//! ```
//!
//! **Keep tiles with pins, and change the budget live.**
//!
//! ```
//! # use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D, TileCoord, source::Procedural};
//! # let pool = Pool::new(HostBackend::new(), 16 << 20)?;
//! # let source = Procedural::new(Extent::cube(1 << 12), |c: Coord| c.x as u8);
//! # let array = SparseArray3D::builder(&pool, source).build()?;
//! let pins = array.pin(&[TileCoord::new(0, 0, 0)])?.complete()?;
//! pool.set_budget(1 << 20)?; // memory goes back to the system before this returns
//! let _ = array.to_vec(Region::new(Coord::new(500, 0, 0), Extent::cube(300)))?;
//! assert!(array.is_resident(TileCoord::new(0, 0, 0)));
//! drop(pins);
//! # Ok::<_, vastgrid::Error>(())
//! ```
//!
//! **Bring your own tiles**: implement [`TileSource`] (see [`source`]), or open a file, whatever it is, with `open` (formats are features), a raw one with [`source::RawFile`]. A tile that fails
//! to load is reported; the others of the request are there.
//!
//! **Do something with a file**:
//!
//! | to | use |
//! | --- | --- |
//! | open a file, a folder or an address | `vastgrid::open(path)`; a feature for each format, and without any of them (`nrrd`, `nifti`, `tiff`, `zarr`) `vastgrid::open` does not exist |
//! | list what is in it, and what could not be read | `volume.entries()`, `volume.skipped()` |
//! | choose volume, time, channel, further axes, level | `open::Selection`, for `volume.dataset(&selection)`, or `volume.pyramid::<u16>(&selection)` for all levels |
//! | know where voxels lie | `entry.position(voxel)`; spacing and origin say it where `!entry.is_turned()` |
//! | stream it while something is drawn | [`Streamer`], or `Explorer` for pictures |
//! | convert it to OME-Zarr | `convert::Conversion::new(source, options)?.run(folder)`; to go on after an interruption, with `store::ZarrOptions { resume: true, input, .. }` |
//! | export a box to NRRD or raw | [`store::RawStore::create_nrrd`] or [`create`](store::RawStore::create), [`convert::copy_region`], [`save`](store::RawStore::save) |
//! | read S3, with or without credentials | `open::open_with(address, &open::OpenOptions { remote })` with `source::RemoteOptions`, feature `cloud` |
//! | keep tiles of slow sources on disk | [`source::TileCache`] |
//!
//! The README has one program of most of these.
//!
//! **Compute on a sparse grid**: an array over [`source::Fill`] that is built [`writable`](ArrayBuilder::writable) takes memory where it is written to.
//!
//! | to | use |
//! | --- | --- |
//! | write voxels, boxes, whole tiles, in parallel | [`array.writer()`](SparseArray3D::writer), a [`Writer`]; what the budget does not hold goes to a scratch file and comes back by itself |
//! | know where anything is | [`array.written_tiles()`](SparseArray3D::written_tiles), or [`compute::written`] as a set; sets are of tiles, not of voxels: "active" means that a tile was written to |
//! | grow, shrink and combine such sets | [`compute::TileSet`]: `dilate`, `erode`, and, or |
//! | sum, find extremes, map, see neighbours | [`compute`], in parallel and within the budget; over `written` sets, since [`compute::all`] visits every tile of the extent |
//! | give memory back | [`prune`](SparseArray3D::prune): tiles of one value, to be called now and then where something moves; [`discard_written`](SparseArray3D::discard_written): what was written to some tiles; [`reset`](SparseArray3D::reset): all that was; [`evict`](SparseArray3D::evict): memory alone |
//! | take a snapshot, or try something out | [`array.fork()`](SparseArray3D::fork) |
//! | save | [`write_to`](SparseArray3D::write_to) what was written, or [`write_all_to`](SparseArray3D::write_all_to) the source's voxels too, then `save()` of the [`store`]; several arrays as one in a [`store::SaveFolder`] |
//! | go on from a save | open it as the source of a writable array; [`compute::written`] has then what is written from there on |
//! | write from CUDA kernels | [`prepare_write`](SparseArray3D::prepare_write), `vg_tile_to_write` (see [`device`]) |
//!
//! **Look at it from afar**: a [`Pyramid3D`] has a volume in several resolutions, from files that have them or computed where they are read (see [`pyramid`]).
//!
//! **Use a GPU**: [`CudaBackend`] stands where [`HostBackend`] stood; kernels read through a [`GridView`] within a [`DeviceFrame`] (see [`device`]). Loading, pins, budgets and
//! `read_region` are the same.
//!
//! **Look at it**: [`render`] casts rays through what is resident and says what it lacked, or through everything, under any budget.
//!
//! **Build something else of the same parts**: [`vmm`] reserves addresses, makes memory and maps one into the other, and has a buffer that grows in place.
//!
//! # Words
//!
//! | word | meaning | others call it |
//! | --- | --- | --- |
//! | voxel | one element of type `T` at integer (x, y, z); x varies fastest in memory | |
//! | tile | box of voxels, contiguous in memory; the unit of loading and of residency | chunk, brick, leaf |
//! | page | box of tiles, contiguous in memory, a multiple of the backend's granularity; the unit of mapping, budget and eviction | sparse block, handle, heap tile |
//! | OS page | the operating system's 4 KiB page | |
//! | granularity | the smallest mappable size that a backend offers | |
//! | reservation | address range without memory | sparse resource |
//! | physical page | memory that can be mapped at an address; recycled ones wait in the pool | allocation handle |
//! | map, unmap, set access | what a backend does | bind |
//! | commit, decommit | map + set access, and the reverse | |
//! | resident | a tile's contents are valid and may be read | |
//! | fill value | what a tile that does not exist holds | background |
//! | uniform tile | a tile known to hold one value: never needs memory | constant tile |
//! | evict | the policy picks a victim, and its page is decommitted | |
//! | pin | forbids eviction, as a guard | fix |
//! | written, dirty | a tile that was written to; one whose contents are not in its scratch store yet | active; modified |
//! | scratch store | where an array's written tiles go while the budget does not hold them; nobody else's | swap |
//! | frame | a span of reading during which no page that it may touch is unmapped | epoch |
//! | level | one resolution of a pyramid, 0 = full | mip, scale, LOD |
//!
//! # Features
//!
//! | feature | default | brings |
//! | --- | --- | --- |
//! | `render` | yes | CPU ray casting |
//! | `nrrd` | no | NRRD and `MetaImage` files |
//! | `nifti` | no | NIfTI files |
//! | `tiff` | no | TIFF stacks |
//! | `zarr` | no | Zarr and OME-Zarr, read and written |
//! | `cloud` | no | Zarr at addresses: S3, HTTP, Google, Azure |
//! | `f16` | no | `half::f16` as a voxel type |
//! | `ndarray` | no | tiles as views of `ndarray` |
//! | `dlpack` | no | tiles, and whole reservations, as `DLPack` tensors |
//!
//! # Limits
//!
//! Linux on 64-bit processors. Arrays are written to by one [`Writer`] at a time on the host, and by kernels; nobody reads them on the host meanwhile. One array takes at most 2^46 bytes of addresses, and all arrays of a process share the 2^47 that it has; the planes that
//! an array is looked up in take addresses too (8 bytes a tile for uniform values, 8 a page, 8 a cell where ranges are tracked). On the host, memory is moved by OS pages
//! where the system can (`userfaultfd` of Linux 6.14, which containers often forbid): then nothing limits how many there are. Elsewhere, and for pages of 512 KiB and 1 MiB, a page takes two memory mappings, of
//! which the system allows 65 530 by default (`vm.max_map_count`); what does not fit into half of that is slower to recycle ([`backend::HostMoves`]).

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("vastgrid needs Linux on a 64-bit processor");

/// The README's own example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod array;
pub mod backend;
pub mod compute;
pub mod convert;
pub mod device;
mod engine;
mod error;
#[cfg(feature = "render")]
pub mod explore;
mod geometry;
mod layout;
mod offsets;
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
pub mod open;
mod page_table;
mod planes;
mod pool;
mod prepared;
pub mod pyramid;
mod recall;
#[cfg(feature = "render")]
pub mod render;
mod residency;
pub mod source;
mod stats;
pub mod store;
pub mod stream;
mod sync;
#[cfg(feature = "render")]
pub mod trace;
mod view;
mod voxel;

pub use array::{ArrayBuilder, Pins, SparseArray3D, Writer};
pub use backend::{Backend, BackendCaps, CudaBackend, HostAddressable, HostBackend, ModelBackend, cuda, vmm};
pub use device::{DeviceFrame, GridView};
pub use engine::{Loaded, Report, TileFailure};
#[cfg(feature = "cloud")]
pub use error::RemoteError;
pub use error::{BackendError, Error, LayoutError, PyramidError, ResidencyError, SourceError, StoreError};
#[cfg(feature = "render")]
pub use explore::{
    Explored, ExploredTile, Explorer, Fidelity, FidelityLimit, HostRenderer, LevelRenderer, LevelScene,
    TileState,
};
pub use geometry::{Coord, Extent, Region};
pub use layout::{Layout, LayoutSpec, MAX_RESERVED_BYTES, PageId, TileCoord, TileId};
#[cfg(any(feature = "nifti", feature = "nrrd", feature = "tiff", feature = "zarr"))]
pub use open::{Opened, open};
pub use pool::{BeyondMemory, Frame, Pool, PoolConfig};
pub use prepared::Prepared;
pub use pyramid::{
    DeriveOptions, Downsample, LevelGeometry, Pyramid3D, PyramidBuilder, PyramidSource, PyramidSourceBuilder,
};
pub use source::TileSource;
pub use stats::Stats;
pub use store::TileStore;
pub use stream::{
    Enrolled, Priority, StreamFailure, StreamFailures, StreamLimit, StreamOptions, StreamStatus, Streamer,
    Urgency, Want,
};
#[cfg(feature = "dlpack")]
pub use view::dlpack;
pub use view::{Accessor, ArrayFrame, Tile, View};
pub use voxel::{Scalar, ScalarType, Voxel};
