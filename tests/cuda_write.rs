//! Arrays that kernels write on a real CUDA device: random programs with memory ahead, stores, evictions, pruning and reading back against a plain map; what was written, read back; and that nothing stays
//! behind. Skipped where there is no device, by a line that says so; `VASTGRID_REQUIRE_CUDA=1` makes that a failure. `VASTGRID_ROUNDS` and `VASTGRID_STEPS` say how many programs of how many steps.

#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes, and low bits of numbers")]

mod common;
mod prepare_support;

use std::sync::RwLockWriteGuard;
use std::time::Duration;

use common::cuda::{alone, device_or_skip};
use common::{all_tiles, t};
use prepare_support::{Array, Base, FILL, Hand, Ink, Program, seed};
use vastgrid::cuda::{Arg, CudaConfig, Device, DeviceBuffer, Module, Stream};
use vastgrid::source::{Fill, Instrumented, Procedural};
use vastgrid::{
    Coord, CudaBackend, Error, Extent, GridView, Pool, PoolConfig, Region, ResidencyError, SparseArray3D,
    TileCoord,
};

const PAGE: u64 = 2 << 20;
const BASE: Base = Base { extent: Extent::new(200, 170, 150), tile: Extent::new(32, 32, 16) };

fn device() -> Option<(Device, RwLockWriteGuard<'static, ()>)> {
    device_or_skip().map(|device| (device, alone()))
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn pool(device: &Device, pages: u64) -> Pool<CudaBackend> {
    let backend =
        CudaBackend::on(device.clone(), CudaConfig { staging_bytes: 16 << 20, ..CudaConfig::default() });
    let (budget_bytes, patience) = (pages * PAGE, Duration::from_secs(5));
    let config = PoolConfig { budget_bytes, threads: 4, patience, ..PoolConfig::default() };
    Pool::with_config(backend.unwrap(), config).unwrap()
}

/// A box of voxels, as the kernels take it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Box6 {
    first: [u32; 3],
    size: [u32; 3],
}

impl Box6 {
    fn of(region: Region) -> Self {
        let narrow = |v: [u64; 3]| v.map(|v| v as u32);
        Self { first: narrow(region.start.to_array()), size: narrow(region.extent.to_array()) }
    }
}

/// Writes by the kernels of check.ptx.
struct Kernels {
    pool: Pool<CudaBackend>,
    stream: Stream,
    module: Module,
    refused: DeviceBuffer,
    buffer: DeviceBuffer,
}

impl Kernels {
    fn new(pool: &Pool<CudaBackend>) -> Self {
        let device = pool.backend().device();
        let module = Module::load(device, include_str!("../assets/kernels/check.ptx")).unwrap();
        let (stream, refused) = (Stream::new(device).unwrap(), DeviceBuffer::new(device, 8).unwrap());
        let buffer = DeviceBuffer::new(device, 5 << 20).unwrap();
        refused.fill(&stream, 0).unwrap();
        Self { pool: pool.clone(), stream, module, refused, buffer }
    }

    fn launch(&self, name: &str, args: &[Arg<'_>]) {
        let kernel = self.module.function(name).unwrap();
        #[expect(unsafe_code, reason = "kernels are launched on trust")]
        // SAFETY: every caller below gives the kernel's own arguments, keeps the buffers until it has waited, and the frame is open.
        unsafe { kernel.launch(&self.stream, [16, 1, 1], [256, 1, 1], 0, args) }.unwrap();
    }

    fn store(&self, view: GridView, region: Region, ink: Ink, way: u32) {
        let (mode, seed) = match ink {
            Ink::Same(value) => (2, value),
            Ink::Hash(seed) => (way % 2, seed),
        };
        let (region, refused) = (Box6::of(region), self.refused.address());
        let args = [Arg::new(&view), Arg::new(&region), Arg::new(&mode), Arg::new(&seed), Arg::new(&refused)];
        self.launch("vg_write_u32", &args);
    }

    fn refused(&self) -> u64 {
        let mut count = [0u64];
        self.refused.copy_to_host(&self.stream, bytemuck::cast_slice_mut(&mut count)).unwrap();
        count[0]
    }
}

impl Hand<CudaBackend> for Kernels {
    const WRITES: bool = true;

    fn write(&mut self, array: &mut Array<CudaBackend>, tiles: &[TileCoord], ink: Ink) -> Result<(), Error> {
        let seed = match ink {
            Ink::Same(seed) | Ink::Hash(seed) => seed,
        };
        // With their contents, or blank: all of it is written.
        let pins =
            if seed % 3 == 0 { array.prepare_overwrite(tiles)? } else { array.prepare_write(tiles)? };
        let frame = self.pool.device_frame();
        let view = frame.view(array, &self.stream)?;
        for &tile in tiles {
            self.store(view, array.layout().tile_region(tile), ink, seed / 2);
        }
        if seed % 2 == 0 {
            // Nobody waits: the marks are found when somebody has to know.
            frame.end()?;
        } else {
            let mut sorted = tiles.to_vec();
            sorted.sort_by_key(|&tile| array.layout().tile_id(tile));
            assert_eq!(frame.end_and_wait()?.tiles(array), sorted);
        }
        drop(pins);
        assert_eq!(self.refused(), 0);
        Ok(())
    }

    fn look(&mut self, array: &Array<CudaBackend>, region: Region) -> Option<Vec<Option<u32>>> {
        let count = region.extent.checked_volume()? as usize;
        let frame = self.pool.device_frame();
        let view = frame.view(array, &self.stream).unwrap();
        let (region, mode, out) = (Box6::of(region), 2u32, self.buffer.address());
        let there = out + 4 * count as u64;
        let args = [Arg::new(&view), Arg::new(&region), Arg::new(&mode), Arg::new(&out), Arg::new(&there)];
        self.launch("vg_read_u32", &args);
        frame.end().unwrap();
        let (mut voxels, mut known) = (vec![0u32; count], vec![0u8; count]);
        self.buffer.copy_to_host(&self.stream, bytemuck::cast_slice_mut(&mut voxels)).unwrap();
        self.buffer.copy_to_host_at(&self.stream, 4 * count as u64, &mut known).unwrap();
        Some(voxels.into_iter().zip(known).map(|(voxel, known)| (known == 1).then_some(voxel)).collect())
    }
}

#[test]
fn random_programs_of_kernels_agree_with_a_map() {
    let Some((device, _alone)) = device() else { return };
    let (seed, steps) = (seed("kernels"), number("VASTGRID_STEPS", 300));
    for round in 0..number("VASTGRID_ROUNDS", 4) {
        let pool = pool(&device, 6);
        let kernels = Kernels::new(&pool);
        Program::new(pool, BASE, kernels, PAGE, 12, seed.wrapping_add(round)).run(steps);
    }
}

fn blank(pool: &Pool<CudaBackend>, writable: bool) -> Array<CudaBackend> {
    let builder = SparseArray3D::builder(pool, Fill::new(Extent::cube(1 << 12), FILL)).tile([32, 32, 16]);
    let builder = builder.page_bytes(PAGE);
    if writable { builder.writable() } else { builder }.build().unwrap()
}

#[test]
fn misuse_is_named() {
    let Some((device, _alone)) = device() else { return };
    let pool = pool(&device, 3);
    let mut array = blank(&pool, true);
    // One tile of each of five pages.
    let far = common::one_tile_per_page(&array)[..5].to_vec();
    for error in [array.prepare_write(&far).unwrap_err(), array.prepare_overwrite(&far).unwrap_err()] {
        assert!(matches!(error, Error::Residency(ResidencyError::OverBudget { .. })), "{error}");
    }
    let held = array.prepare_write(&far[..2]).unwrap();
    let error = array.prepare_write(&far[2..4]).unwrap_err();
    assert!(matches!(error, Error::Residency(ResidencyError::NothingToEvict { .. })), "{error}");
    drop(held);
    let error = array.prepare_write(&[t(1 << 20, 0, 0)]).unwrap_err();
    assert!(matches!(error, Error::Residency(ResidencyError::OutOfBounds { .. })), "{error}");
    let mut read_only = blank(&pool, false);
    for error in [
        read_only.prepare_write(&far).unwrap_err(),
        read_only.prepare_overwrite(&far).unwrap_err(),
        read_only.prune(&far).unwrap_err(),
        read_only.reset(&far).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Residency(ResidencyError::ReadOnly)), "{error}");
    }
}

#[test]
fn tiles_of_one_value_are_set_and_never_copied() {
    let Some((device, _alone)) = device() else { return };
    let pool = pool(&device, 40);
    let source = Instrumented::new(
        Procedural::new(Extent::cube(256), |_| 0x0102_0304u32).with_uniform(|_| Some(0x0102_0304)),
    );
    let watch = source.instruments();
    let builder = SparseArray3D::builder(&pool, source).tile([32, 32, 16]).page_bytes(PAGE);
    let mut array = builder.writable().build().unwrap();
    let tiles = all_tiles(&array);
    let pins = array.prepare_write(&tiles).unwrap();
    assert_eq!((watch.reads(), pool.backend().staging_bytes()), (0, 0));
    assert!(array.to_vec(Region::whole(array.extent())).unwrap().iter().all(|&v| v == 0x0102_0304));
    drop(pins);
    let pins = array.prepare_overwrite(&tiles).unwrap();
    assert!(array.to_vec(Region::whole(array.extent())).unwrap().iter().all(|&v| v == 0));
    assert_eq!((watch.reads(), pool.backend().staging_bytes()), (0, 0));
    drop(pins);
    assert_eq!(array.prune(&tiles).unwrap().len(), tiles.len());
    assert_eq!(array.written_tiles().len(), tiles.len(), "not what the source says");
    assert!(array.resident_tiles().is_empty());
}

#[test]
fn a_tile_of_one_voxel_that_differs_is_not_pruned() {
    let Some((device, _alone)) = device() else { return };
    let (pool, seed) = (pool(&device, 40), seed("one voxel"));
    let mut kernels = Kernels::new(&pool);
    let mut array = blank(&pool, true);
    let mut random = common::Random::new(seed);
    let tiles: Vec<_> = array.layout().tiles_in(Region::whole(Extent::new(512, 256, 64))).collect();
    kernels.write(&mut array, &tiles, Ink::Same(FILL)).unwrap();
    let pins = array.prepare_write(&tiles).unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    let mut odd = Vec::new();
    for &tile in &tiles {
        if random.below(2) == 0 {
            let c = array.layout().tile_region(tile).start;
            let c = Coord::new(c.x + random.below(32), c.y + random.below(32), c.z + random.below(16));
            kernels.store(view, Region::new(c, Extent::cube(1)), Ink::Same(FILL ^ 1 << random.below(32)), 0);
            odd.push(tile);
        }
    }
    frame.end().unwrap();
    drop(pins);
    let pruned = array.prune(&tiles).unwrap();
    assert_eq!(pruned.len(), tiles.len() - odd.len());
    odd.sort_by_key(|&tile| array.layout().tile_id(tile));
    assert_eq!((array.resident_tiles(), array.written_tiles()), (odd.clone(), odd));
}

#[test]
fn nothing_stays_behind() {
    let Some((device, _alone)) = device() else { return };
    let round = |seed: u64| {
        let pool = pool(&device, 6);
        let kernels = Kernels::new(&pool);
        Program::new(pool, BASE, kernels, PAGE, 12, seed).run(60);
    };
    let rounds = || (1..6).for_each(round);
    // What the driver takes for itself, the first time that something is asked of it, it keeps.
    rounds();
    let free = || device.memory().unwrap().0;
    let before = free();
    rounds();
    assert_eq!(free(), before, "free device memory");
}

#[test]
fn what_is_prepared_is_loaded() {
    let Some((device, _alone)) = device() else { return };
    let pool = pool(&device, 40);
    let source = Procedural::new(Extent::cube(128), |c: Coord| (c.x * 7 + c.y * 1000 + c.z * 100_000) as u32);
    let array =
        SparseArray3D::builder(&pool, source).tile([32, 32, 16]).page_bytes(PAGE).writable().build().unwrap();
    let tiles = all_tiles(&array);
    let pins = array.prepare_write(&tiles).unwrap();
    let whole = Region::whole(array.extent());
    let expected = common::expected_by(whole, |c| (c.x * 7 + c.y * 1000 + c.z * 100_000) as u32);
    assert!(array.to_vec(whole).unwrap() == expected);
    assert!(array.written_tiles().is_empty(), "nobody wrote");
    drop(pins);
}
