//! Owns [`CastParameters`], the struct that a ray caster's kernel gets by value, and the sizes of what lies at the addresses in it. Knows nothing of devices: addresses are numbers.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::device::GridView;

/// The most levels of a pyramid.
pub const MAX_LEVELS: usize = 16;

/// One level: `vg_cast_level` in C.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct LevelParameters {
    pub(super) grid: GridView,
    pub(super) factor: [u32; 3],
    /// How far along a ray it is wanted, at the least.
    pub(super) begin: f32,
    /// How many samples of the finest level one of its samples stands for.
    pub(super) stride: u32,
    /// The first of its colours.
    pub(super) shade: u32,
    pub(super) boxes: BoxParameters,
}

/// Boxes of a level's tiles, and its steps from tile to tile: the rest of `vg_cast_level`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct BoxParameters {
    /// Addresses of a word for each box; zero where there are none.
    pub(super) small: u64,
    pub(super) large: u64,
    /// In voxels, from one tile of a page to the next along each axis, beyond where the tile's rows would go on.
    pub(super) tile_jump: [u32; 3],
    /// From one page to the next, beyond where its tiles would go on.
    pub(super) page_jump: [u32; 3],
    /// Edges of tiles and pages in voxels, and from one voxel to the next in a tile.
    pub(super) tile_log2: [u32; 3],
    pub(super) page_log2: [u32; 3],
    pub(super) row_log2: [u32; 3],
    /// Edges of boxes in voxels.
    pub(super) small_log2: [u8; 3],
    pub(super) large_log2: [u8; 3],
    /// Axes along which it is too far from page to page: 1, 2, 4.
    pub(super) closed: u8,
    pub(super) pad: [u8; 5],
}

/// What a kernel of `cast_*.cu` is given, by value: `vg_cast` in `cast.cuh`. A [`CastPlan`](super::CastPlan) makes it.
///
/// It holds addresses, not memory: see [`GridView`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[doc(alias = "vg_cast")]
pub struct CastParameters {
    pub(super) eye: [f64; 3],
    pub(super) right: [f64; 3],
    pub(super) up: [f64; 3],
    pub(super) forward: [f64; 3],
    pub(super) half_height: f64,
    pub(super) low: [f64; 3],
    pub(super) high: [f64; 3],
    pub(super) per_world: [f64; 3],
    pub(super) step: f64,
    pub(super) colours: u64,
    pub(super) seen: u64,
    pub(super) highlight: u64,
    pub(super) image: u64,
    pub(super) counts: u64,
    pub(super) wants: u64,
    pub(super) ends: u64,
    pub(super) met: u64,
    pub(super) rays: u64,
    pub(super) before: u64,
    pub(super) table_low: f32,
    pub(super) per_value: f32,
    pub(super) table_last: f32,
    pub(super) table_top: f32,
    pub(super) background: [f32; 4],
    pub(super) hint: [f32; 4],
    pub(super) colour: [f32; 3],
    pub(super) iso: f32,
    pub(super) weights: [f32; 3],
    pub(super) stop_at_alpha: f32,
    pub(super) ambient: f32,
    pub(super) diffuse: f32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) levels: u32,
    pub(super) flags: u32,
    pub(super) wants_log2: u32,
    pub(super) met_log2: u32,
    pub(super) level: [LevelParameters; MAX_LEVELS],
}

/// Flags of [`CastParameters`].
pub(super) const PARALLEL: u32 = 1;
pub(super) const SKIP_EMPTY: u32 = 2;
pub(super) const HINT: u32 = 4;
pub(super) const LIT: u32 = 8;
/// Where the mode begins in them: 0 for DVR, 1 for MIP, 2 for an isosurface.
pub(super) const MODE: u32 = 4;

/// Steps of the table of highlights.
pub(super) const HIGHLIGHTS: usize = 1024;

/// Bytes of `vg_counts`: seven counts, and samples by level wanted and shown.
pub(super) const COUNTS_BYTES: usize = (7 + MAX_LEVELS * (MAX_LEVELS + 1)) * 8;
/// Bytes of `vg_want`, and of `vg_met`.
pub(super) const WANT_BYTES: usize = 16;
/// Bytes of `vg_turn`.
pub(super) const RAY_BYTES: usize = 32;
/// log2 of the missing tiles that one picture can tell.
pub(super) const WANTS_LOG2: u32 = 16;
/// How a tile was met or lacked, in a `vg_met`: at the level that was wanted, or at a coarser one.
pub(super) const MET_WANTED: u32 = 1;
pub(super) const LACKED_WANTED: u32 = 4;
pub(super) const LACKED_BEYOND: u32 = 8;
/// Where the level is in the key of a `vg_want`.
pub(super) const WANT_LEVEL: u32 = 56;

const _: () = {
    assert!(size_of::<LevelParameters>() == 200);
    assert!(offset_of!(LevelParameters, boxes) == 112 && offset_of!(BoxParameters, small_log2) == 76);
    assert!(size_of::<CastParameters>() == 3576 && align_of::<CastParameters>() == 8);
    assert!(offset_of!(CastParameters, colours) == 184);
    assert!(offset_of!(CastParameters, table_low) == 264);
    assert!(offset_of!(CastParameters, width) == 352);
    assert!(offset_of!(CastParameters, level) == 376);
};
