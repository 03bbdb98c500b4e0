//! Arrays on a real CUDA device, as kernels see them: contents, states, writes, and memory that stays while a kernel reads. Skipped where there is no device, by a line that says
//! so; `VASTGRID_REQUIRE_CUDA=1` makes that a failure.

#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes, and low bits of numbers")]

mod common;

use std::collections::HashSet;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Random;
use common::cuda::{alone, device_or_skip};
use vastgrid::cuda::{Arg, Device, DeviceBuffer, Function, Module, Stream};
use vastgrid::source::{Instrumented, Procedural};
use vastgrid::{
    BackendError, Coord, CudaBackend, Error, Extent, GridView, Pool, PoolConfig, Region, ResidencyError,
    SparseArray3D, TileCoord, TileId,
};

const EXTENT: Extent = Extent::new(200, 170, 150);
const TILE: [u64; 3] = [32, 32, 16];
const PAGE: u64 = 2 << 20;

/// The device, for one test at a time: some look at its free memory.
fn device() -> Option<(Device, RwLockWriteGuard<'static, ()>)> {
    device_or_skip().map(|device| (device, alone()))
}

/// What a voxel holds: the low half of `vg_hash` in check.cu.
fn hash(c: Coord, seed: u32) -> u32 {
    let [x, y, z] = c.to_array().map(|v| v as u32);
    let mut h = x.wrapping_mul(0x9e37_79b1)
        ^ y.wrapping_mul(0x85eb_ca77)
        ^ z.wrapping_mul(0xc2b2_ae3d)
        ^ seed.wrapping_mul(0x27d4_eb2f);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2c1b_3c6d);
    h ^ h >> 12
}

/// A seed that no earlier run had.
fn fresh_seed() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = now.as_nanos() as u32 | 1;
    println!("seed {seed}");
    seed
}

/// Tiles that are known to hold one value: every seventh along x.
fn uniform(region: Region) -> Option<u32> {
    (region.start.x / TILE[0] % 7 == 3).then_some(77)
}

fn at(c: Coord, seed: u32) -> u32 {
    let tile = Region::new(Coord::new(c.x / TILE[0] * TILE[0], 0, 0), Extent::cube(1));
    uniform(tile).unwrap_or_else(|| hash(c, seed))
}

type Array = SparseArray3D<u32, CudaBackend>;

fn pool(device: &Device, pages: u64) -> Pool<CudaBackend> {
    let backend = CudaBackend::on(device.clone(), vastgrid::cuda::CudaConfig::default()).unwrap();
    Pool::with_config(
        backend,
        PoolConfig {
            budget_bytes: pages * PAGE,
            threads: 4,
            patience: Duration::from_secs(20),
            ..PoolConfig::default()
        },
    )
    .unwrap()
}

fn array(pool: &Pool<CudaBackend>, extent: Extent, seed: u32, writable: bool) -> Array {
    let source = Procedural::new(extent, move |c| at(c, seed)).with_uniform(uniform);
    let builder = SparseArray3D::builder(pool, source).tile(TILE).page_bytes(PAGE);
    if writable { builder.writable() } else { builder }.build().unwrap()
}

/// The kernels of check.ptx.
struct Kernels {
    stream: Stream,
    module: Module,
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
        let narrow = |v: [u64; 3]| v.map(|v| u32::try_from(v).unwrap());
        Self { first: narrow(region.start.to_array()), size: narrow(region.extent.to_array()) }
    }
}

impl Kernels {
    fn new(device: &Device) -> Self {
        let ptx = include_str!("../assets/kernels/check.ptx");
        Self { stream: Stream::new(device).unwrap(), module: Module::load(device, ptx).unwrap() }
    }

    fn function(&self, name: &str) -> Function {
        self.module.function(name).unwrap()
    }

    fn buffer(&self, bytes: usize) -> DeviceBuffer {
        let buffer = DeviceBuffer::new(self.stream.device(), bytes.max(8) as u64).unwrap();
        // What nobody writes does not look like a result.
        buffer.fill(&self.stream, 0xA5).unwrap();
        buffer
    }

    fn launch(&self, name: &str, args: &[Arg<'_>]) -> Result<(), BackendError> {
        #[expect(unsafe_code, reason = "kernels are launched on trust")]
        // SAFETY: every caller below gives the kernel's own arguments, keeps the buffers until it has waited, and the frame is open or ends with the stream.
        unsafe {
            self.function(name).launch(&self.stream, [64, 1, 1], [256, 1, 1], 0, args)
        }
    }

    fn words<T: bytemuck::Pod>(&self, buffer: &DeviceBuffer, count: usize) -> Vec<T> {
        let mut out = vec![T::zeroed(); count];
        buffer.copy_to_host(&self.stream, bytemuck::cast_slice_mut(&mut out)).unwrap();
        out
    }

    /// A region as a kernel reads it: the voxels, and which it says are there.
    fn read(&self, view: GridView, region: Region, mode: u32) -> (Vec<u32>, Vec<u8>) {
        let count = usize::try_from(region.extent.checked_volume().unwrap()).unwrap();
        let (out, there) = (self.buffer(count * 4), self.buffer(count));
        let (region, out_at, there_at) = (Box6::of(region), out.address(), there.address());
        let args =
            [Arg::new(&view), Arg::new(&region), Arg::new(&mode), Arg::new(&out_at), Arg::new(&there_at)];
        self.launch("vg_read_u32", &args).unwrap();
        (self.words(&out, count), self.words(&there, count))
    }

    fn write(&self, view: GridView, region: Region, mode: u32, seed: u32) -> u64 {
        let refused = self.buffer(8);
        refused.fill(&self.stream, 0).unwrap();
        let (region, refused_at) = (Box6::of(region), refused.address());
        let args =
            [Arg::new(&view), Arg::new(&region), Arg::new(&mode), Arg::new(&seed), Arg::new(&refused_at)];
        self.launch("vg_write_u32", &args).unwrap();
        self.words::<u64>(&refused, 1)[0]
    }

    /// The states of all tiles: 0 missing, 1 resident, 2 uniform.
    fn states(&self, view: GridView, tiles: &[TileId]) -> Vec<u8> {
        let ids: Vec<u64> = tiles.iter().map(|t| t.0).collect();
        let list = self.buffer(ids.len() * 8);
        list.copy_from_host(&self.stream, bytemuck::cast_slice(&ids)).unwrap();
        let (states, ranges) = (self.buffer(ids.len()), self.buffer(ids.len() * 8));
        let count = u32::try_from(ids.len()).unwrap();
        let (l, s, r) = (list.address(), states.address(), ranges.address());
        let args = [Arg::new(&view), Arg::new(&l), Arg::new(&count), Arg::new(&s), Arg::new(&r)];
        self.launch("vg_tiles", &args).unwrap();
        self.words(&states, ids.len())
    }
}

fn voxels(region: Region) -> impl Iterator<Item = Coord> {
    let (s, e) = (region.start, region.extent);
    (0..e.z).flat_map(move |z| {
        (0..e.y).flat_map(move |y| (0..e.x).map(move |x| Coord::new(s.x + x, s.y + y, s.z + z)))
    })
}

#[test]
fn a_kernel_sees_the_struct_that_rust_made() {
    let Some((device, _alone)) = device() else { return };
    let (pool, kernels) = (pool(&device, 8), Kernels::new(&device));
    let array = array(&pool, EXTENT, 1, true);
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    let fields = view.fields();
    let out = kernels.buffer((fields.len() + 1) * 8);
    let out_at = out.address();
    #[expect(unsafe_code, reason = "kernels are launched on trust")]
    // SAFETY: the arguments are the kernel's, and the buffer lives until it was read.
    unsafe {
        let echo = kernels.function("vg_echo");
        echo.launch(&kernels.stream, [1; 3], [1; 3], 0, &[Arg::new(&view), Arg::new(&out_at)])
    }
    .unwrap();
    let seen: Vec<u64> = kernels.words(&out, fields.len() + 1);
    assert_eq!(seen[..fields.len()], fields);
    assert_eq!(seen[fields.len()], size_of::<GridView>() as u64);
    assert_eq!(view.base(), array.base_address());
}

#[test]
fn a_kernel_reads_what_the_source_gave_and_nothing_else() {
    let Some((device, _alone)) = device() else { return };
    let (pool, kernels, seed) = (pool(&device, 40), Kernels::new(&device), fresh_seed());
    let array = array(&pool, EXTENT, seed, false);
    let mut random = Random::new(u64::from(seed));
    let part = Region::new(Coord::new(11, 23, 5), Extent::new(140, 101, 88));
    let _ = array.request_region(part).unwrap().complete().unwrap();
    for tile in common::all_tiles(&array) {
        if random.below(4) == 0 {
            let _ = array.request(&[tile]).unwrap().complete().unwrap();
        }
    }
    let whole = Region::whole(EXTENT);
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    for mode in [1, 2] {
        let (got, there) = kernels.read(view, whole, mode);
        for (i, c) in voxels(whole).enumerate() {
            let tile = array.layout().tile_of(c);
            let known = array.is_resident(tile) || uniform(array.layout().tile_region(tile)).is_some();
            let looked_at = array.is_resident(tile) || there[i] == 1;
            assert!(there[i] == u8::from(known) || !looked_at, "mode {mode}, {c}: {}", there[i]);
            if there[i] == 1 {
                assert_eq!(got[i], at(c, seed), "mode {mode}, {c}");
            }
        }
        assert!(there.contains(&1) && there.contains(&0));
    }
    // Without a test, where everything is there.
    let inside = array.layout().tile_region(array.layout().tile_of(part.start));
    let (got, _) = kernels.read(view, inside, 0);
    assert!(got == voxels(inside).map(|c| at(c, seed)).collect::<Vec<_>>());
    // And on the host.
    assert!(array.to_vec(part).unwrap() == voxels(part).map(|c| at(c, seed)).collect::<Vec<_>>());
}

#[test]
fn the_mirror_follows_every_request_and_eviction() {
    let Some((device, _alone)) = device() else { return };
    let (pool, kernels, seed) = (pool(&device, 6), Kernels::new(&device), fresh_seed());
    let array = array(&pool, EXTENT, seed, false);
    let (mut random, tiles) = (Random::new(u64::from(seed)), common::all_tiles(&array));
    let ids: Vec<_> = tiles.iter().map(|&t| array.layout().tile_id(t).unwrap()).collect();
    for round in 0..60 {
        if round % 7 == 6 {
            let tile = tiles[random.below(tiles.len() as u64) as usize];
            array.evict(array.layout().tile_region(tile)).unwrap();
        } else {
            let pick: Vec<_> = (0..4).map(|_| tiles[random.below(tiles.len() as u64) as usize]).collect();
            let _ = array.request(&pick).unwrap().complete().unwrap();
        }
        let frame = pool.device_frame();
        let view = frame.view(&array, &kernels.stream).unwrap();
        let states = kernels.states(view, &ids);
        for (&tile, state) in tiles.iter().zip(states) {
            let expected = u8::from(array.is_resident(tile));
            let uniform = uniform(array.layout().tile_region(tile)).is_some();
            assert!(state == expected || uniform && state == 2, "round {round}, {tile}: {state}");
        }
    }
}

#[test]
fn what_a_kernel_writes_outlives_its_memory_until_it_is_given_up() {
    let Some((device, _alone)) = device() else { return };
    let (pool, kernels, seed) = (pool(&device, 12), Kernels::new(&device), fresh_seed());
    let array = array(&pool, EXTENT, seed, true);
    let part = Region::new(Coord::new(3, 5, 7), Extent::new(60, 41, 30));
    let mut written = HashSet::new();
    for mode in [0, 1] {
        let frame = pool.device_frame();
        let _ = array.request_region(part).unwrap().complete().unwrap();
        let view = frame.view(&array, &kernels.stream).unwrap();
        assert_eq!(kernels.write(view, part, mode, seed + 1 + mode), 0);
        frame.end().unwrap();
        let expected: Vec<_> = voxels(part).map(|c| hash(c, seed + 1 + mode)).collect();
        assert!(array.to_vec(part).unwrap() == expected, "mode {mode}");
    }
    written.extend(array.layout().tiles_in(part));
    let stats = pool.stats();
    assert_eq!(stats.dirty_tiles, written.len() as u64, "{stats:?}");
    // Other tiles take their memory; what was written goes to the scratch file, and comes back.
    for tile in common::all_tiles(&array) {
        let _ = array.request(&[tile]).unwrap().complete().unwrap();
    }
    assert!(!written.iter().all(|&t| array.is_resident(t)) && pool.stats().written_back > 0);
    let mut noted = array.written_tiles();
    assert!(noted.iter().all(|tile| written.contains(tile)));
    noted.dedup();
    assert_eq!(noted.len(), written.len());
    assert!(array.to_vec(part).unwrap() == voxels(part).map(|c| hash(c, seed + 2)).collect::<Vec<_>>());
    // A tile that is not resident cannot be written, and neither can an array that was not built for it.
    let far = Region::new(Coord::new(190, 160, 140), Extent::cube(4));
    array.evict(far).unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    assert_eq!(kernels.write(view, far, 0, 1), 64);
    frame.end().unwrap();
    let tiles: Vec<_> = written.into_iter().collect();
    array.discard_written(&tiles).unwrap();
    assert_eq!(pool.stats().dirty_tiles, 0);
    array.evict(part).unwrap();
    assert!(array.to_vec(part).unwrap() == voxels(part).map(|c| at(c, seed)).collect::<Vec<_>>());
    drop(array);
    let read_only = self::array(&pool, EXTENT, seed, false);
    assert!(matches!(read_only.note_written(&[]), Err(Error::Residency(ResidencyError::ReadOnly))));
    let _ = read_only.request_region(part).unwrap().complete().unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&read_only, &kernels.stream).unwrap();
    assert_eq!(kernels.write(view, part, 0, 1), part.extent.checked_volume().unwrap());
}

#[test]
fn more_written_tiles_than_one_look_brings_back_are_all_noted() {
    let Some((device, _alone)) = device() else { return };
    let (pool, kernels) = (pool(&device, 300), Kernels::new(&device));
    // 8 x 8 x 8 tiles of 1 KiB: many groups of 64.
    let extent = Extent::new(1024, 1024, 512);
    let source = Procedural::new(extent, |c: Coord| c.x as u32);
    let array =
        SparseArray3D::builder(&pool, source).tile([8, 8, 4]).page_bytes(PAGE).writable().build().unwrap();
    let part = Region::new(Coord::new(0, 0, 0), Extent::new(1024, 512, 256));
    let _ = array.request_region(part).unwrap().complete().unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    assert_eq!(kernels.write(view, part, 0, 5), 0);
    frame.end().unwrap();
    let tiles = array.layout().tiles_in(part).count() as u64;
    assert!(tiles / 64 > 4096);
    let _ = array.to_vec(Region::new(Coord::new(0, 0, 0), Extent::cube(1))).unwrap();
    assert_eq!(pool.stats().dirty_tiles, tiles);
}

/// Sums, counts and extremes of all tiles of an array by the kernels that ship, at faces and in uniform tiles too.
#[test]
fn tiles_are_summed_as_on_the_host() {
    let Some((device, _alone)) = device() else { return };
    let (pool, stream, seed) = (pool(&device, 64), Stream::new(&device).unwrap(), fresh_seed());
    let module = Module::load(&device, vastgrid::cuda::kernels::REDUCE).unwrap();
    let extent = Extent::new(130, 70, 37);
    let word = move |c: Coord| if c.x / TILE[0] == 3 { 7 } else { at(c, seed) as u16 };
    let uniform_word = |region: Region| (region.start.x / TILE[0] == 3).then_some(7);
    let source = Procedural::new(extent, word).with_uniform(uniform_word);
    let array = SparseArray3D::builder(&pool, source).tile(TILE).page_bytes(PAGE).build().unwrap();
    let whole = Region::whole(extent);
    let _ = array.request_region(whole).unwrap().complete().unwrap();
    let ids: Vec<u64> =
        common::all_tiles(&array).iter().map(|&t| array.layout().tile_id(t).unwrap().0).collect();
    let list = DeviceBuffer::new(&device, ids.len() as u64 * 8).unwrap();
    list.copy_from_host(&stream, bytemuck::cast_slice(&ids)).unwrap();
    let out = DeviceBuffer::new(&device, (ids.len() as u64 + 1) * 32).unwrap();
    out.fill(&stream, 0xA5).unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&array, &stream).unwrap();
    let (l, n, parts) = (list.address(), ids.len() as u32, out.address());
    let total = parts + u64::from(n) * 32;
    let (reduce, fold) = (module.function("vg_reduce_u16").unwrap(), module.function("vg_fold_u64").unwrap());
    let args = [Arg::new(&view), Arg::new(&l), Arg::new(&n), Arg::new(&parts)];
    #[expect(unsafe_code, reason = "kernels are launched on trust")]
    // SAFETY: the arguments are the kernel's; the frame is open and the buffers live until they were read.
    unsafe { reduce.launch(&stream, [7, 1, 1], [256, 1, 1], 0, &args) }.unwrap();
    let args = [Arg::new(&parts), Arg::new(&n), Arg::new(&total)];
    #[expect(unsafe_code, reason = "kernels are launched on trust")]
    // SAFETY: as above.
    unsafe { fold.launch(&stream, [1; 3], [256, 1, 1], 0, &args) }.unwrap();
    let mut result = [0u64; 4];
    out.copy_to_host_at(&stream, u64::from(n) * 32, bytemuck::cast_slice_mut(&mut result)).unwrap();
    let all: Vec<u16> = voxels(whole).map(word).collect();
    let sum: u64 = all.iter().map(|&v| u64::from(v)).sum();
    assert_eq!(result[..2], [sum, all.len() as u64]);
    let ends = [all.iter().min(), all.iter().max()].map(|v| f64::from(*v.unwrap()));
    assert_eq!([f64::from_bits(result[2]), f64::from_bits(result[3])], ends);
}

/// Random eviction while kernels read: `VASTGRID_SOAK` seconds, else two.
#[test]
fn nothing_goes_that_a_running_kernel_reads() {
    let Some((device, _alone)) = device() else { return };
    let (pool, seed) = (pool(&device, 64), fresh_seed());
    let extent = Extent::new(1024, 1024, 512);
    let source = Procedural::new(extent, move |c| hash(c, seed));
    let array = SparseArray3D::builder(&pool, source).tile(TILE).page_bytes(PAGE).build().unwrap();
    let seconds = std::env::var("VASTGRID_SOAK").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let (end, stop) = (Instant::now() + Duration::from_secs(seconds), AtomicBool::new(false));
    let tiles = common::all_tiles(&array);
    let counts = std::thread::scope(|s| {
        let readers: Vec<_> = (0..2u32)
            .map(|reader| {
                let (pool, array, tiles, stop, device) = (&pool, &array, &tiles, &stop, &device);
                s.spawn(move || {
                    let kernels = Kernels::new(device);
                    let counters = kernels.buffer(32);
                    counters.fill(&kernels.stream, 0).unwrap();
                    let list = kernels.buffer(tiles.len() * 8);
                    let ids: Vec<u64> = tiles.iter().map(|&t| array.layout().tile_id(t).unwrap().0).collect();
                    list.copy_from_host(&kernels.stream, bytemuck::cast_slice(&ids)).unwrap();
                    let mut frames = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        let frame = pool.device_frame();
                        let view = frame.view(array, &kernels.stream).unwrap();
                        let (l, n, ns) =
                            (list.address(), ids.len() as u32, 2_000_000u64 + u64::from(reader) * 900_000);
                        let c = counters.address();
                        let args = [
                            Arg::new(&view),
                            Arg::new(&l),
                            Arg::new(&n),
                            Arg::new(&seed),
                            Arg::new(&ns),
                            Arg::new(&c),
                        ];
                        kernels.launch("vg_verify_u32", &args).unwrap();
                        frame.end().unwrap();
                        frames += 1;
                        // A few kernels ahead, so that frames overlap.
                        if frames.is_multiple_of(4) {
                            kernels.stream.synchronize().unwrap();
                        }
                    }
                    kernels.stream.synchronize().unwrap();
                    (frames, kernels.words::<u64>(&counters, 4))
                })
            })
            .collect();
        let writers: Vec<_> = (0..2u64)
            .map(|writer| {
                let (array, tiles) = (&array, &tiles);
                s.spawn(move || {
                    let (mut random, mut loaded) = (Random::new(u64::from(seed) + writer), 0);
                    while Instant::now() < end {
                        let pick: Vec<_> =
                            (0..8).map(|_| tiles[random.below(tiles.len() as u64) as usize]).collect();
                        loaded += array.request(&pick).unwrap().complete().unwrap().loaded;
                        if random.below(50) == 0 {
                            let tile = pick[0];
                            let _ = array.evict(array.layout().tile_region(tile)).unwrap();
                        }
                    }
                    loaded
                })
            })
            .collect();
        let loaded: u64 = writers.into_iter().map(|w| w.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<_> = readers.into_iter().map(|r| r.join().unwrap()).collect();
        println!("{seconds} s: {loaded} tiles loaded, {} evictions", pool.stats().evictions);
        counts
    });
    for (frames, counters) in counts {
        let [compared, different, read, missing] = counters[..] else { panic!("four counters") };
        println!(
            "{frames} frames: {compared} voxels compared, {different} differ, {read} tiles read, {missing} not resident"
        );
        assert!(compared > 0 && missing > 0, "the kernels saw nothing come and go");
        assert_eq!(different, 0);
    }
}

#[test]
fn dropping_waits_for_kernels_and_copies_and_leaves_nothing_behind() {
    let Some((device, _alone)) = device() else { return };
    let kernels = Kernels::new(&device);
    let free = || {
        kernels.stream.synchronize().unwrap();
        device.memory().unwrap().0
    };
    let round = |seed: u32| {
        let pool = pool(&device, 16);
        let array = array(&pool, EXTENT, seed, true);
        let part = Region::new(Coord::new(0, 0, 0), Extent::new(96, 96, 64));
        let _ = array.request_region(part).unwrap().complete().unwrap();
        let frame = pool.device_frame();
        let view = frame.view(&array, &kernels.stream).unwrap();
        let counters = kernels.buffer(32);
        let ids: Vec<u64> =
            common::all_tiles(&array).iter().map(|&t| array.layout().tile_id(t).unwrap().0).collect();
        let list = kernels.buffer(ids.len() * 8);
        list.copy_from_host(&kernels.stream, bytemuck::cast_slice(&ids)).unwrap();
        let (l, n, ns, c) = (list.address(), ids.len() as u32, 20_000_000u64, counters.address());
        let args =
            [Arg::new(&view), Arg::new(&l), Arg::new(&n), Arg::new(&seed), Arg::new(&ns), Arg::new(&c)];
        kernels.launch("vg_verify_u32", &args).unwrap();
        frame.end().unwrap();
        // The kernel runs on for 20 ms.
        drop(array);
        drop(pool);
        kernels.stream.synchronize().unwrap();
    };
    round(1);
    let before = free();
    for seed in 2..12 {
        round(seed);
    }
    assert_eq!(free(), before, "free device memory");
}

#[test]
fn a_budget_beyond_the_card_is_refused_or_clamped_and_shrinking_gives_memory_back() {
    let Some((device, _alone)) = device() else { return };
    let (free, total) = device.memory().unwrap();
    let open = || CudaBackend::on(device.clone(), vastgrid::cuda::CudaConfig::default()).unwrap();
    let refused = Pool::new(open(), total * 2).unwrap_err();
    assert!(matches!(refused, Error::Residency(ResidencyError::BudgetBeyondMemory { .. })), "{refused}");
    let config = PoolConfig {
        budget_bytes: total * 2,
        beyond_memory: vastgrid::BeyondMemory::Clamp,
        ..PoolConfig::default()
    };
    let clamped = Pool::with_config(open(), config).unwrap();
    assert!(clamped.stats().budget_bytes <= free);
    let grown = clamped.set_budget(total * 2).unwrap_err();
    assert!(matches!(grown, Error::Residency(ResidencyError::BudgetBeyondMemory { .. })), "{grown}");
    let pool = pool(&device, 64);
    assert_eq!(pool.preallocate(PAGE, 1000).unwrap(), 64);
    assert_eq!(pool.stats().used_bytes, 64 * PAGE);
    let with = device.memory().unwrap().0;
    pool.set_budget(4 * PAGE).unwrap();
    let without = device.memory().unwrap().0;
    assert!(without >= with + 60 * PAGE, "{with} bytes free before shrinking, {without} after");
    let array = array(&pool, EXTENT, 1, false);
    let _ = array.request_region(Region::new(Coord::new(0, 0, 0), Extent::cube(40))).unwrap().complete();
    assert!(pool.stats().used_bytes <= 4 * PAGE);
}

#[test]
fn a_source_that_fails_in_the_middle_fails_its_tiles_alone() {
    let Some((device, _alone)) = device() else { return };
    let pool = pool(&device, 64);
    let source = Instrumented::new(Procedural::new(EXTENT, |c: Coord| hash(c, 3)));
    let watch = source.instruments();
    let array = SparseArray3D::builder(&pool, source).tile(TILE).page_bytes(PAGE).build().unwrap();
    let bad = Region::new(Coord::new(64, 64, 32), Extent::cube(1));
    watch.fail_region(bad);
    let tiles = common::all_tiles(&array);
    let report = array.request(&tiles).unwrap();
    assert_eq!((report.failed.len(), report.loaded), (1, tiles.len() as u64 - 1));
    assert!(!array.is_resident(TileCoord::new(2, 2, 2)));
    let fine = Region::new(Coord::new(0, 0, 0), Extent::cube(60));
    assert!(array.to_vec(fine).unwrap() == voxels(fine).map(|c| hash(c, 3)).collect::<Vec<_>>());
}

/// A kernel that reads memory that is not there ends the context for the whole process, so this is a process of its own.
#[test]
fn a_lost_device_is_one_clear_error_and_no_panic() {
    const CHILD: &str = "VASTGRID_TEST_LOSE_DEVICE";
    if std::env::var_os(CHILD).is_some() {
        return lose_the_device();
    }
    let Some(_device) = device() else { return };
    let name = "a_lost_device_is_one_clear_error_and_no_panic";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    println!("{text}");
    assert!(
        child.status.success() && text.contains("poisoned:") && !text.contains("panicked"),
        "{}",
        child.status
    );
}

fn lose_the_device() {
    let device = Device::open(0).unwrap();
    let (pool, kernels) = (pool(&device, 16), Kernels::new(&device));
    let array = array(&pool, EXTENT, 1, false);
    let other = self::array(&pool, EXTENT, 2, false);
    let part = Region::new(Coord::new(0, 0, 0), Extent::cube(20));
    let _ = array.request_region(part).unwrap().complete().unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    // Without a test, where nothing is.
    let (region, mode, none, out) = (
        Box6::of(Region::whole(EXTENT)),
        0u32,
        0u64,
        kernels.buffer(EXTENT.checked_volume().unwrap() as usize * 4),
    );
    let out_at = out.address();
    let args = [Arg::new(&view), Arg::new(&region), Arg::new(&mode), Arg::new(&out_at), Arg::new(&none)];
    kernels.launch("vg_read_u32", &args).unwrap();
    let lost = kernels.stream.synchronize().unwrap_err();
    assert!(lost.is_fatal(), "{lost}");
    let _ = frame.end();
    let far = [TileCoord::new(4, 4, 4)];
    for array in [&array, &other] {
        let first = array.request(&far).map(|report| report.complete().map(drop));
        println!("first: {first:?}");
        let error = array.request(&far).unwrap_err();
        println!("poisoned: {error}");
        assert!(matches!(error, Error::Residency(ResidencyError::Poisoned { .. })), "{error}");
        assert!(array.to_vec(part).is_err());
    }
    drop((array, other, pool));
    println!("dropped without a panic");
}

#[test]
fn a_kernel_of_another_voxel_type_finds_every_tile_missing() {
    let Some((device, _alone)) = device() else { return };
    let (pool, kernels) = (pool(&device, 40), Kernels::new(&device));
    let array = array(&pool, EXTENT, 1, true);
    let part = Region::new(Coord::new(0, 0, 0), Extent::cube(40));
    let _ = array.request_region(part).unwrap().complete().unwrap();
    let frame = pool.device_frame();
    let view = frame.view(&array, &kernels.stream).unwrap();
    let count = part.extent.checked_volume().unwrap() as usize;
    for name in ["vg_read_u16", "vg_read_u64"] {
        let (out, there) = (kernels.buffer(count * 8), kernels.buffer(count));
        for mode in [1u32, 2] {
            let (region, out_at, there_at) = (Box6::of(part), out.address(), there.address());
            let args =
                [Arg::new(&view), Arg::new(&region), Arg::new(&mode), Arg::new(&out_at), Arg::new(&there_at)];
            kernels.launch(name, &args).unwrap();
            assert!(
                kernels.words::<u8>(&there, count).iter().all(|&there| there == 0),
                "{name}, mode {mode}"
            );
        }
    }
    frame.end().unwrap();
    assert!(array.to_vec(part).unwrap() == voxels(part).map(|c| at(c, 1)).collect::<Vec<_>>());
    assert_eq!(pool.stats().dirty_tiles, 0);
}

#[test]
fn frames_refuse_what_is_not_theirs() {
    let Some((device, _alone)) = device() else { return };
    let (a, b) = (pool(&device, 8), pool(&device, 8));
    let array = array(&b, EXTENT, 1, false);
    let stream = Stream::new(&device).unwrap();
    let frame = a.device_frame();
    let error = frame.view(&array, &stream).unwrap_err();
    assert!(matches!(error, Error::Residency(ResidencyError::ForeignArray)), "{error}");
    let long = SparseArray3D::builder(&a, Procedural::new(Extent::new(1 << 32, 2, 2), |_: Coord| 0u8));
    let long = long.page_bytes(PAGE).build().unwrap();
    let frame = a.device_frame();
    let error = frame.view(&long, &stream).unwrap_err();
    assert!(matches!(error, Error::Layout(_)), "{error}");
}
