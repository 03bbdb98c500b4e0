//! How fast do tiles stream through a budget of device memory, against plain copies of the same bytes into a dense buffer?
//!
//! A volume of 256 GiB, a budget of 4 GiB that is full: every tile asked for takes the memory of another, in random order. *Prepared*: tiles lie in page-locked memory. *Copied* and
//! *inflated*: the source copies them from ordinary memory, or decompresses them, with all cores, against the slower of the same work without an array and the bus. *Soak*: random
//! eviction for `VASTGRID_SOAK` seconds, in pages of `VASTGRID_SOAK_PAGE_MIB` (8); the last part against the first.
//!
//! Pages below 16 MiB keep their mappings (`CudaConfig::kept_mappings`), so their rows begin once every page was there, and so does that of ordinary memory; what was before that is given by itself.
//!
//! Needs a CUDA device; says so where there is none.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures of a known size")]

mod common;

use std::collections::{HashSet, VecDeque};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::device::{device_or_skip, random_pinned};
use common::{SplitMix, is_test, median, rounds, size, variable};
use rayon::prelude::*;
use vastgrid::backend::{Access, Backend, ReserveSpec};
use vastgrid::cuda::{CudaConfig, CudaReservation, Device, DeviceBuffer, PinnedBuffer, Stream};
use vastgrid::{
    CudaBackend, Error, Extent, Layout, PageId, Pool, PoolConfig, Prepared, Region, SourceError,
    SparseArray3D, TileCoord, TileId, TileSource,
};

const BUDGET: u64 = 4 << 30;
/// 256 GiB of u16.
const EXTENT: Extent = Extent::new(8192, 4096, 4096);
/// 64 GiB: as many pages of 2 MiB as mappings are left in place.
const MIDDLE_EXTENT: Extent = Extent::new(4096, 4096, 2048);
/// A sixteenth of the budget's pages, in a hundredth of the addresses: what mapping costs grows with both.
const SMALL_BUDGET: u64 = 128 << 20;
const SMALL_EXTENT: Extent = Extent::new(1024, 1024, 1024);
const POOL_BYTES: u64 = 1 << 30;

/// Tiles of one memory pool, whichever is asked for.
#[derive(Clone, Debug)]
enum Tiles {
    Prepared(Arc<PinnedBuffer>),
    Copied(Arc<Vec<u8>>),
    Inflated(Arc<Vec<Vec<u8>>>),
}

/// A source over them: which part of the pool a tile gets depends on where it lies.
#[derive(Clone, Debug)]
struct Source {
    extent: Extent,
    tiles: Tiles,
    tile_bytes: usize,
}

impl Source {
    fn slot(&self, region: Region) -> usize {
        let s = region.start;
        let key = SplitMix(s.x ^ s.y << 20 ^ s.z << 40).next() as usize;
        match &self.tiles {
            Tiles::Prepared(pool) => key % (pool.len() / self.tile_bytes),
            Tiles::Copied(pool) => key % (pool.len() / self.tile_bytes),
            Tiles::Inflated(streams) => key % streams.len(),
        }
    }

    fn fill(&self, slot: usize, out: &mut [u8]) {
        match &self.tiles {
            Tiles::Prepared(pool) => out.copy_from_slice(&pool[slot * self.tile_bytes..][..self.tile_bytes]),
            Tiles::Copied(pool) => out.copy_from_slice(&pool[slot * self.tile_bytes..][..self.tile_bytes]),
            Tiles::Inflated(streams) => {
                flate2::read::DeflateDecoder::new(&streams[slot][..]).read_exact(out).unwrap();
            }
        }
    }
}

impl TileSource<u16> for Source {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn only_copies(&self) -> bool {
        matches!(self.tiles, Tiles::Copied(_))
    }

    fn prepared(&self, region: Region) -> Result<Option<Arc<dyn Prepared>>, SourceError> {
        let Tiles::Prepared(buffer) = &self.tiles else { return Ok(None) };
        let start = self.slot(region) * self.tile_bytes;
        Ok(buffer.part(start..start + self.tile_bytes).map(|part| Arc::new(part) as Arc<dyn Prepared>))
    }

    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        self.fill(self.slot(region), bytemuck::cast_slice_mut(out));
        Ok(())
    }
}

fn tile_shape(bytes: u64) -> [u64; 3] {
    let voxels = (bytes / 2).ilog2();
    [voxels.div_ceil(3), (voxels + 1) / 3, voxels / 3].map(|log2| 1 << log2)
}

/// An array whose budget is full, and tiles in random order.
struct Streamer {
    _pool: Pool<CudaBackend>,
    array: SparseArray3D<u16, CudaBackend>,
    budget: u64,
    random: SplitMix,
    recent: VecDeque<u64>,
}

impl Streamer {
    fn new(source: &Source, page_bytes: Option<u64>, budget: u64) -> Result<Self, Error> {
        let backend = CudaBackend::open(0)?;
        let config = PoolConfig { budget_bytes: budget, ..PoolConfig::default() };
        let pool = Pool::with_config(backend, config)?;
        let mut builder =
            SparseArray3D::builder(&pool, source.clone()).tile(tile_shape(source.tile_bytes as u64));
        if let Some(bytes) = page_bytes {
            builder = builder.page_bytes(bytes);
        }
        let mut this = Self {
            array: builder.build()?,
            _pool: pool,
            budget,
            random: SplitMix(5),
            recent: VecDeque::new(),
        };
        this.stream(budget)?;
        this.stream(budget / 4)?;
        Ok(this)
    }

    fn layout(&self) -> &Layout {
        self.array.layout()
    }

    /// Streams every page once, in random order.
    fn stream_all(&mut self) -> Result<(), Error> {
        let layout = self.array.layout();
        let pages = self.random.shuffled(u32::try_from(layout.page_count()).unwrap_or(u32::MAX));
        for some in pages.chunks((self.budget / 4 / layout.page_bytes()) as usize) {
            let ids = some.iter().flat_map(|&page| layout.tiles_of_page(PageId(page.into())));
            let tiles: Vec<_> = ids.filter_map(|id| layout.tile_coord(TileId(id))).collect();
            let _ = self.array.request(&tiles)?.complete()?;
        }
        Ok(())
    }

    /// Streams random pages of so many bytes together, in requests of a gibibyte or three quarters of the budget, and returns the seconds that took: or would have, for as many
    /// bytes, had none of them been there already.
    fn stream(&mut self, bytes: u64) -> Result<f64, Error> {
        let layout = self.array.layout();
        let (page_bytes, per_page) = (layout.page_bytes(), layout.tiles_per_page());
        let start = Instant::now();
        let (mut left, mut requested, mut loaded) = (bytes, 0, 0);
        while left > 0 {
            let step = left.min(1 << 30).min(self.budget / 4 * 3);
            let mut tiles = Vec::new();
            for _ in 0..step / page_bytes {
                let page = loop {
                    let page = self.random.next() % layout.page_count();
                    if !self.recent.contains(&page) {
                        break page;
                    }
                };
                self.recent.push_back(page);
                if self.recent.len() as u64 > self.budget / page_bytes + 1 {
                    self.recent.pop_front();
                }
                let ids = page * per_page..(page + 1) * per_page;
                tiles.extend(ids.filter_map(|id| layout.tile_coord(TileId(id))));
            }
            let report = self.array.request(&tiles)?.complete()?;
            assert_eq!(report.hits + report.loaded, tiles.len() as u64);
            requested += tiles.len();
            loaded += report.loaded;
            left -= step;
        }
        Ok(start.elapsed().as_secs_f64() * requested as f64 / loaded as f64)
    }

    /// The same by two callers, each with half of the pages and half of the budget: while the requests of one end and begin, those of the other go on.
    fn stream_by_two(&mut self, bytes: u64) -> Result<f64, Error> {
        let seeds = [self.random.next(), self.random.next()];
        let this = &*self;
        let (layout, array) = (this.array.layout(), &this.array);
        let (page_bytes, per_page) = (layout.page_bytes(), layout.tiles_per_page());
        let start = Instant::now();
        let (requested, loaded) = std::thread::scope(|scope| {
            let callers = [0u64, 1].map(|caller| {
                scope.spawn(move || -> Result<(u64, u64), Error> {
                    let mut random = SplitMix(seeds[caller as usize]);
                    let (mut recent, mut left, mut counts) = (VecDeque::new(), bytes / 2, (0, 0));
                    while left > 0 {
                        let step = left.min(this.budget / 8 * 3).min(1 << 29);
                        let mut tiles = Vec::new();
                        for _ in 0..step / page_bytes {
                            let page = loop {
                                let page = random.next() % (layout.page_count() / 2) * 2 + caller;
                                if !recent.contains(&page) {
                                    break page;
                                }
                            };
                            recent.push_back(page);
                            if recent.len() as u64 > this.budget / page_bytes {
                                recent.pop_front();
                            }
                            let ids = page * per_page..(page + 1) * per_page;
                            tiles.extend(ids.filter_map(|id| layout.tile_coord(TileId(id))));
                        }
                        let report = array.request(&tiles)?.complete()?;
                        assert_eq!(report.hits + report.loaded, tiles.len() as u64);
                        counts.0 += tiles.len() as u64;
                        counts.1 += report.loaded;
                        left -= step;
                    }
                    Ok(counts)
                })
            });
            let mut sum = (0, 0);
            for caller in callers {
                let counts = caller.join().map_err(|_| SourceError::Other("a caller panicked".into()))??;
                sum = (sum.0 + counts.0, sum.1 + counts.1);
            }
            Ok::<_, Error>(sum)
        })?;
        Ok(start.elapsed().as_secs_f64() * requested as f64 / loaded as f64)
    }

    /// Compares some of what was loaded last with what the source says.
    fn verify(&self, source: &Source) -> Result<(), Error> {
        let mut expected = vec![0u8; source.tile_bytes];
        for &page in self.recent.iter().rev().take(8) {
            let tile = self.layout().tile_coord(TileId(page * self.layout().tiles_per_page()));
            let region = self.layout().tile_region(tile.unwrap_or(TileCoord::new(0, 0, 0)));
            source.fill(source.slot(region), &mut expected);
            let got = self.array.to_vec(region)?;
            assert!(bytemuck::cast_slice::<u16, u8>(&got) == expected, "{region} differs");
        }
        Ok(())
    }
}

/// Plain copies of pieces of the pool into a dense buffer of the budget's size, in random order; seconds.
struct Plain {
    stream: Stream,
    pinned: Arc<PinnedBuffer>,
    dense: DeviceBuffer,
    random: SplitMix,
}

impl Plain {
    fn copy(&mut self, bytes: u64, piece: u64) -> Result<f64, Error> {
        let start = Instant::now();
        for _ in 0..bytes / piece {
            let to = self.random.next() % (BUDGET / piece) * piece;
            let from = (self.random.next() % (POOL_BYTES / piece) * piece) as usize;
            let range = from..from + piece as usize;
            #[expect(unsafe_code, reason = "the ceiling is what the driver does by itself")]
            // SAFETY: the pool lives as long as this, which waits below, and nobody writes to it.
            unsafe { self.dense.begin_copy_from_pinned(&self.stream, to, &self.pinned, range) }?;
        }
        self.stream.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn print(label: &str, ours: &mut [f64], theirs: &mut [f64], bytes: u64, target: Option<f64>) {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs.iter()).map(|(a, b)| b / a).collect();
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let ratio = median(&mut ratios);
    let verdict = target.map_or(String::new(), |target| {
        format!("{} the target of {target:.2}; ", if ratio >= target { "within" } else { "BELOW" })
    });
    println!(
        "{label:<58} ours {:6.2} GB/s, theirs {:6.2} GB/s, ratio {ratio:.3} ({verdict}{:.3} to {:.3})",
        rate(median(ours)),
        rate(median(theirs)),
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

fn prepared(device: &Device, pinned: &Arc<PinnedBuffer>) -> Result<(), Error> {
    let mut plain = Plain {
        stream: Stream::new(device)?,
        pinned: pinned.clone(),
        dense: DeviceBuffer::new(device, BUDGET)?,
        random: SplitMix(9),
    };
    let bytes = size(8 << 30, 1 << 30);
    for (tile, page, (budget, extent), target) in [
        (8 << 20, None, (BUDGET, EXTENT), Some(0.95)),
        (1 << 20, None, (BUDGET, EXTENT), Some(0.95)),
        (256 << 10, None, (BUDGET, EXTENT), None),
        (2 << 20, Some(2 << 20), (SMALL_BUDGET, SMALL_EXTENT), Some(0.73)),
        (2 << 20, Some(2 << 20), (BUDGET, MIDDLE_EXTENT), Some(0.73)),
        (2 << 20, Some(2 << 20), (BUDGET, EXTENT), Some(0.73)),
        (4 << 20, Some(4 << 20), (BUDGET, MIDDLE_EXTENT), None),
        (16 << 20, Some(16 << 20), (BUDGET, EXTENT), None),
    ] {
        let source = Source { extent, tiles: Tiles::Prepared(pinned.clone()), tile_bytes: tile };
        let mut array = Streamer::new(&source, page, budget)?;
        let page_bytes = array.layout().page_bytes();
        if page_bytes < 16 << 20 {
            first(&mut array, bytes, |bytes| plain.copy(bytes, page_bytes))?;
        }
        let (mut ours, mut theirs, mut loops) = (Vec::new(), Vec::new(), Vec::new());
        let mut by_two = Vec::new();
        let mut bare = page.map(|page| Bare::new(device, pinned, page, budget, extent)).transpose()?;
        for _ in 0..rounds(5) {
            ours.push(array.stream(bytes)?);
            theirs.push(plain.copy(bytes, page_bytes)?);
            if let Some(bare) = &mut bare {
                loops.push(bare.stream(bytes)?);
                by_two.push(array.stream_by_two(bytes)?);
            }
        }
        array.verify(&source)?;
        let label = format!(
            "{} MiB pages{}, {} KiB tiles, {} pages in {} GiB",
            page_bytes >> 20,
            if page.is_none() { " (default)" } else { "" },
            tile >> 10,
            budget / page_bytes,
            array.layout().reserved_bytes() >> 30
        );
        print(&label, &mut ours, &mut theirs, bytes, target);
        if !loops.is_empty() {
            print("    two callers", &mut by_two, &mut theirs, bytes, target);
            print(
                "    against the bare loop that unmaps and maps every page",
                &mut ours,
                &mut loops,
                bytes,
                None,
            );
        }
    }
    Ok(())
}

/// Streams until all of the volume was there once, and as many pages more as the policy learns from; says what the first of them took, against what takes `peer` so many seconds.
fn first(
    array: &mut Streamer,
    bytes: u64,
    mut peer: impl FnMut(u64) -> Result<f64, Error>,
) -> Result<(), Error> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds(3) {
        ours.push(array.stream(bytes / 2)?);
        theirs.push(peer(bytes / 2)?);
    }
    print("    while pages are new", &mut ours, &mut theirs, bytes / 2, None);
    // All of it takes a while: it is of interest only where it is measured what was learnt from it.
    if !is_test() {
        array.stream_all()?;
        array.stream(4 * array.budget)?;
    }
    Ok(())
}

/// The bare loop: unmap, map, set access, begin the copy, page after page, and wait at the end. What the calls themselves allow.
struct Bare {
    backend: CudaBackend,
    reservation: CudaReservation,
    pinned: Arc<PinnedBuffer>,
    page_bytes: u64,
    pages: u64,
    mapped: Vec<u64>,
    random: SplitMix,
}

impl Bare {
    fn new(
        device: &Device,
        pinned: &Arc<PinnedBuffer>,
        page_bytes: u64,
        budget: u64,
        extent: Extent,
    ) -> Result<Self, Error> {
        let backend =
            CudaBackend::on(device.clone(), CudaConfig { kept_mappings: 0, ..CudaConfig::default() })?;
        let bytes = extent.checked_volume().unwrap_or(0) * 2;
        let spec = ReserveSpec { bytes, page_bytes, expected_pages: budget / page_bytes };
        let reservation = backend.reserve(spec)?;
        let mut mapped = Vec::new();
        for page in 0..budget / page_bytes {
            let memory = backend.create(page_bytes)?;
            backend.map(&reservation, page * page_bytes, memory).map_err(|refused| refused.error)?;
            backend.set_access(
                &reservation,
                page * page_bytes..(page + 1) * page_bytes,
                Access::ReadWrite,
            )?;
            mapped.push(page);
        }
        let (pinned, pages, random) = (pinned.clone(), bytes / page_bytes, SplitMix(6));
        Ok(Self { backend, reservation, pinned, page_bytes, pages, mapped, random })
    }

    fn stream(&mut self, bytes: u64) -> Result<f64, Error> {
        let start = Instant::now();
        let (mut tickets, size) = (Vec::new(), self.page_bytes);
        let mut held: HashSet<u64> = self.mapped.iter().copied().collect();
        for i in 0..bytes / size {
            // The oldest gives way, as in the array.
            let victim = (i % self.mapped.len() as u64) as usize;
            let page = loop {
                let page = self.random.next() % self.pages;
                if held.insert(page) {
                    break page;
                }
            };
            held.remove(&self.mapped[victim]);
            let memory = self.backend.unmap(&self.reservation, self.mapped[victim] * size)?;
            self.backend.map(&self.reservation, page * size, memory).map_err(|refused| refused.error)?;
            self.backend.set_access(&self.reservation, page * size..(page + 1) * size, Access::ReadWrite)?;
            let from = (self.random.next() % (POOL_BYTES / size) * size) as usize;
            let part = self
                .pinned
                .part(from..from + size as usize)
                .ok_or(SourceError::Other("no such part".into()))?;
            let range = page * size..(page + 1) * size;
            tickets.push(self.backend.submit_prepared(&self.reservation, range, Arc::new(part))?);
            self.mapped[victim] = page;
            if tickets.len() * 2 > self.mapped.len() {
                for ticket in tickets.drain(..tickets.len() / 2) {
                    self.backend.wait(ticket)?;
                }
            }
        }
        for ticket in tickets {
            self.backend.wait(ticket)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// The same work without an array: every core fills parts of as much page-locked memory as the backend stages in, from which a device could copy.
fn decode(source: &Source, staging: &mut PinnedBuffer, bytes: u64) -> f64 {
    let slots = match &source.tiles {
        Tiles::Prepared(pool) => pool.len() / source.tile_bytes,
        Tiles::Copied(pool) => pool.len() / source.tile_bytes,
        Tiles::Inflated(streams) => streams.len(),
    };
    let start = Instant::now();
    for round in 0..bytes as usize / staging.len() {
        staging.par_chunks_mut(source.tile_bytes).enumerate().for_each(|(i, buffer)| {
            source.fill(SplitMix((round << 20 | i) as u64).next() as usize % slots, buffer);
        });
    }
    start.elapsed().as_secs_f64()
}

fn decoded(device: &Device, pinned: &Arc<PinnedBuffer>) -> Result<(), Error> {
    let tile_bytes = 1 << 20;
    let mut plain = Plain {
        stream: Stream::new(device)?,
        pinned: pinned.clone(),
        dense: DeviceBuffer::new(device, BUDGET)?,
        random: SplitMix(9),
    };
    let streams: Vec<Vec<u8>> = (0..64u64)
        .into_par_iter()
        .map(|seed| {
            let mut random = SplitMix(seed);
            let smooth =
                |i: usize, noise: u64| ((i / 64) as u16 & 0xfff0 | (noise & 15) as u16).to_le_bytes();
            let voxels: Vec<u8> = (0..tile_bytes / 2).flat_map(|i| smooth(i, random.next())).collect();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&voxels).unwrap();
            encoder.finish().unwrap()
        })
        .collect();
    let kinds = [
        (
            "copied from ordinary memory",
            Tiles::Copied(Arc::new(pinned[..].to_vec())),
            size(8u64 << 30, 1 << 30),
        ),
        ("inflated", Tiles::Inflated(Arc::new(streams)), size(2 << 30, 1 << 30)),
    ];
    let mut staging = PinnedBuffer::new(device, 256 << 20)?;
    for (name, tiles, bytes) in kinds {
        let source = Source { extent: EXTENT, tiles, tile_bytes };
        let mut array = Streamer::new(&source, None, BUDGET)?;
        let page_bytes = array.layout().page_bytes();
        if matches!(source.tiles, Tiles::Copied(_)) {
            first(&mut array, bytes, |bytes| {
                Ok(decode(&source, &mut staging, bytes).max(plain.copy(bytes, page_bytes)?))
            })?;
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut decoding, mut copying, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds(5) {
            ours.push(array.stream(bytes)?);
            decoding.push(decode(&source, &mut staging, bytes));
            copying.push(plain.copy(bytes, page_bytes)?);
            theirs.push(decoding[decoding.len() - 1].max(copying[copying.len() - 1]));
            let together = Instant::now();
            std::thread::scope(|scope| {
                let copies = scope.spawn(|| plain.copy(bytes, page_bytes));
                let _ = decode(&source, &mut staging, bytes);
                copies.join().map_err(|_| SourceError::Other("the copying thread panicked".into()))?
            })?;
            both.push(together.elapsed().as_secs_f64());
        }
        array.verify(&source)?;
        let rate = |seconds: &mut Vec<f64>| bytes as f64 / median(seconds) / 1e9;
        println!(
            "{name}: all cores alone {:.2} GB/s, bus {:.2} GB/s",
            rate(&mut decoding),
            rate(&mut copying)
        );
        print(&format!("{name}, tiles of 1 MiB, default pages"), &mut ours, &mut theirs, bytes, Some(0.85));
        print("    against both at once, neither waiting for the other", &mut ours, &mut both, bytes, None);
    }
    Ok(())
}

/// How full pages are when single tiles are asked for at random: what a larger page costs.
fn fullness(pinned: &Arc<PinnedBuffer>) -> Result<(), Error> {
    let source = Source { extent: EXTENT, tiles: Tiles::Prepared(pinned.clone()), tile_bytes: 1 << 20 };
    for page_bytes in [2u64 << 20, 4 << 20, 8 << 20, 16 << 20] {
        let pool = Pool::new(CudaBackend::open(0)?, BUDGET)?;
        let array = SparseArray3D::builder(&pool, source.clone())
            .tile(tile_shape(1 << 20))
            .page_bytes(page_bytes)
            .build()?;
        // A wandering box of 4 x 4 x 4 tiles, as a viewer's, and single tiles anywhere.
        let tiles = array.layout().tiles();
        let mut random = SplitMix(11);
        let mut at = [tiles.x / 2, tiles.y / 2, tiles.z / 2];
        for step in 0..size(4000u64, 200) {
            let mut wanted = Vec::new();
            if step % 4 == 3 {
                let any = |random: &mut SplitMix, n| random.next() % n;
                wanted.push(TileCoord::new(
                    any(&mut random, tiles.x),
                    any(&mut random, tiles.y),
                    any(&mut random, tiles.z),
                ));
            } else {
                for (axis, limit) in [tiles.x, tiles.y, tiles.z].into_iter().enumerate() {
                    at[axis] = (at[axis] + random.next() % 3).saturating_sub(1).min(limit - 4);
                }
                let near = |i: u64| TileCoord::new(at[0] + i % 4, at[1] + i / 4 % 4, at[2] + i / 16);
                wanted.extend((0..64).map(near));
            }
            let _ = array.request(&wanted)?.complete()?;
        }
        let stats = pool.stats();
        println!(
            "pages of {:2} MiB: {:.1} % of the mapped memory holds tiles; {} tiles loaded",
            page_bytes >> 20,
            stats.resident_tiles as f64 * 1_048_576.0 / (stats.mapped_pages * page_bytes) as f64 * 100.0,
            stats.loads
        );
    }
    Ok(())
}

fn soak(pinned: &Arc<PinnedBuffer>, seconds: u64, page_bytes: u64) -> Result<(), Error> {
    let tile_bytes = usize::try_from(page_bytes).unwrap_or(usize::MAX);
    let source = Source { extent: EXTENT, tiles: Tiles::Prepared(pinned.clone()), tile_bytes };
    let mut array = Streamer::new(&source, Some(page_bytes), BUDGET)?;
    array.stream_all()?;
    let (begin, part) = (Instant::now(), Duration::from_secs(seconds) / 5);
    let mut rates = Vec::new();
    for i in 1..=5 {
        let (mut bytes, start) = (0u64, Instant::now());
        while begin.elapsed() < part * i {
            array.stream(2 << 30)?;
            bytes += 2 << 30;
        }
        rates.push(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
        println!("soak, part {i} of 5: {:.2} GB/s", rates[rates.len() - 1]);
    }
    array.verify(&source)?;
    let ratio = rates[4] / rates[0];
    println!(
        "soak of {seconds} s, pages of {} MiB: last part against the first {ratio:.3} (target 0.97)",
        page_bytes >> 20
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let Some(device) = device_or_skip() else { return Ok(()) };
    let before = device.memory()?.0;
    let pinned = Arc::new(random_pinned(&device, POOL_BYTES as usize, u64::MAX)?);
    println!("{}", device.name());
    if let Some(seconds) = variable("VASTGRID_SOAK").and_then(|s| s.parse().ok()) {
        let mib = variable("VASTGRID_SOAK_PAGE_MIB").and_then(|s| s.parse().ok()).unwrap_or(8);
        soak(&pinned, seconds, mib << 20)?;
    } else {
        fullness(&pinned)?;
        prepared(&device, &pinned)?;
        decoded(&device, &pinned)?;
    }
    drop(pinned);
    println!("free device memory: {before} bytes before, {} after", device.memory()?.0);
    Ok(())
}
