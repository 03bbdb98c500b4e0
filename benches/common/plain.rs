//! The loop to compare with: a plain reservation and a bit test, for just this one shape, with no crate in between.
#![allow(
    clippy::cast_ptr_alignment,
    clippy::multiple_unsafe_ops_per_block,
    reason = "as plain as can be, and aligned to 2 MiB"
)]
#![allow(unsafe_code, reason = "the ceiling is written as one would without a library")]

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vastgrid::Coord;

use super::G1024;

/// 1024^3 f32 in tiles of 64^3, 4 GiB of address space, one bit per tile.
pub(crate) struct Plain {
    map: *mut u8,
    base: *mut f32,
    bits: [u64; 64],
}

const BYTES: usize = 4 << 30;
const ALIGN: usize = 2 << 20;

impl Plain {
    pub(crate) fn new(workload: &G1024) -> Self {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a fresh mapping.
        let map = unsafe { mmap_anonymous(std::ptr::null_mut(), BYTES + ALIGN, access, flags) }
            .unwrap()
            .cast::<u8>();
        let base = map.wrapping_add(map.align_offset(ALIGN)).cast::<f32>();
        let mut plain = Self { map, base, bits: [0; 64] };
        for &tile in &workload.tiles {
            plain.bits[tile as usize >> 6] |= 1 << (tile & 63);
            let first = G1024::origin(tile);
            for i in 0..1 << 18 {
                let c = Coord::new(first.x + (i & 63), first.y + (i >> 6 & 63), first.z + (i >> 12));
                // SAFETY: inside the mapping.
                unsafe { base.add((tile as usize) << 18 | i as usize).write(G1024::value(c)) };
            }
        }
        plain
    }

    #[inline(always)]
    pub(crate) fn get(&self, x: u32, y: u32, z: u32) -> f32 {
        let tile = (x >> 6 | (y >> 6) << 4 | (z >> 6) << 8) as usize;
        if self.bits[tile >> 6] >> (tile & 63) & 1 == 0 {
            return 0.0;
        }
        let within = (x & 63 | (y & 63) << 6 | (z & 63) << 12) as usize;
        // SAFETY: inside the mapping, as every coordinate of the workload is.
        unsafe { *self.base.add(tile << 18 | within) }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped.
        unsafe { munmap(self.map.cast(), BYTES + ALIGN) }.unwrap();
    }
}
