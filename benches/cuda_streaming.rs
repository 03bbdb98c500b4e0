//! How fast do tiles stream through a budget of device memory, against plain copies of the same bytes into a dense buffer?
//!
//! A volume of 256 GiB, a budget of 4 GiB that is full: every tile asked for takes the memory of another, in random order. *Prepared*: tiles lie in page-locked memory. *Copied* and
//! *inflated*: the source copies them from ordinary memory, or decompresses them, with all cores, against the slower of the same work without an array and the bus. *Soak*: random
//! eviction for `VASTGRID_SOAK` seconds, while a kernel reads; the last part against the first.
//!
//! Needs a CUDA device; says so where there is none.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures of a known size")]

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{SplitMix, median};
use rayon::prelude::*;
use vastgrid::cuda::{Device, DeviceBuffer, PinnedBuffer, Stream};
use vastgrid::{
    CudaBackend, Error, Extent, Layout, Pool, PoolConfig, Prepared, Region, SourceError, SparseArray3D,
    TileCoord, TileSource,
};

const BUDGET: u64 = 4 << 30;
const EXTENT: Extent = Extent::new(8192, 4096, 4096);
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
        EXTENT
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
struct Stream1 {
    _pool: Pool<CudaBackend>,
    array: SparseArray3D<u16, CudaBackend>,
    random: SplitMix,
    recent: VecDeque<u64>,
}

impl Stream1 {
    fn new(source: &Source, page_bytes: Option<u64>) -> Result<Self, Error> {
        let config = PoolConfig { budget_bytes: BUDGET, ..PoolConfig::default() };
        let pool = Pool::with_config(CudaBackend::open(0)?, config)?;
        let mut builder =
            SparseArray3D::builder(&pool, source.clone()).tile(tile_shape(source.tile_bytes as u64));
        if let Some(bytes) = page_bytes {
            builder = builder.page_bytes(bytes);
        }
        let mut this =
            Self { array: builder.build()?, _pool: pool, random: SplitMix(5), recent: VecDeque::new() };
        this.stream(BUDGET)?;
        this.stream(BUDGET / 4)?;
        Ok(this)
    }

    fn layout(&self) -> &Layout {
        self.array.layout()
    }

    /// Streams random pages of so many bytes together, in requests of 512 MiB, and returns the seconds that took.
    fn stream(&mut self, bytes: u64) -> Result<f64, Error> {
        let page_bytes = self.layout().page_bytes();
        let start = Instant::now();
        let mut left = bytes;
        while left > 0 {
            let step = left.min(512 << 20);
            let mut tiles = Vec::new();
            for _ in 0..step / page_bytes {
                let page = loop {
                    let page = self.random.next() % self.layout().page_count();
                    if !self.recent.contains(&page) {
                        break page;
                    }
                };
                self.recent.push_back(page);
                if self.recent.len() as u64 > BUDGET / page_bytes + 1 {
                    self.recent.pop_front();
                }
                let per_page = self.layout().tiles_per_page();
                let ids = page * per_page..(page + 1) * per_page;
                tiles.extend(ids.filter_map(|id| self.layout().tile_coord(vastgrid::TileId(id))));
            }
            let report = self.array.request(&tiles)?.complete()?;
            assert_eq!(report.hits + report.loaded, tiles.len() as u64);
            left -= step;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Compares some of what was loaded last with what the source says.
    fn verify(&self, source: &Source) -> Result<(), Error> {
        let mut expected = vec![0u8; source.tile_bytes];
        for &page in self.recent.iter().rev().take(8) {
            let tile = self.layout().tile_coord(vastgrid::TileId(page * self.layout().tiles_per_page()));
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

fn print(label: &str, ours: &mut [f64], theirs: &mut [f64], bytes: u64, target: f64) {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs.iter()).map(|(a, b)| b / a).collect();
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let ratio = median(&mut ratios);
    let verdict = if ratio >= target { "within" } else { "BELOW" };
    println!(
        "{label:<58} ours {:6.2} GB/s, ceiling {:6.2} GB/s, ratio {ratio:.3} ({verdict} the target of {target:.2}; {:.3} to {:.3})",
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
    let bytes = 8 << 30;
    for (tile, page, target) in [
        (8 << 20, None, 0.95),
        (1 << 20, None, 0.95),
        (256 << 10, None, 0.0),
        (2 << 20, Some(2 << 20), 0.73),
        (4 << 20, Some(4 << 20), 0.0),
        (16 << 20, Some(16 << 20), 0.0),
    ] {
        let source = Source { tiles: Tiles::Prepared(pinned.clone()), tile_bytes: tile };
        let mut array = Stream1::new(&source, page)?;
        let page_bytes = array.layout().page_bytes();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            ours.push(array.stream(bytes)?);
            theirs.push(plain.copy(bytes, page_bytes)?);
        }
        array.verify(&source)?;
        let label = format!(
            "prepared, pages of {} MiB{}, tiles of {} KiB",
            page_bytes >> 20,
            if page.is_none() { " (default)" } else { "" },
            tile >> 10
        );
        print(&label, &mut ours, &mut theirs, bytes, target);
    }
    Ok(())
}

/// The same work without an array: every core fills buffers of its own.
fn decode(source: &Source, bytes: u64) -> f64 {
    let tiles = bytes as usize / source.tile_bytes;
    let start = Instant::now();
    (0..tiles).into_par_iter().for_each_init(
        || (vec![0u8; source.tile_bytes], SplitMix(3)),
        |(buffer, random), _| {
            let slots = match &source.tiles {
                Tiles::Prepared(pool) => pool.len() / source.tile_bytes,
                Tiles::Copied(pool) => pool.len() / source.tile_bytes,
                Tiles::Inflated(streams) => streams.len(),
            };
            source.fill(random.next() as usize % slots, buffer);
            std::hint::black_box(&buffer);
        },
    );
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
        ("copied from ordinary memory", Tiles::Copied(Arc::new(pinned[..].to_vec())), 8u64 << 30),
        ("inflated", Tiles::Inflated(Arc::new(streams)), 2 << 30),
    ];
    for (name, tiles, bytes) in kinds {
        let source = Source { tiles, tile_bytes };
        let mut array = Stream1::new(&source, None)?;
        let page_bytes = array.layout().page_bytes();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut decoding, mut copying) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            ours.push(array.stream(bytes)?);
            decoding.push(decode(&source, bytes));
            copying.push(plain.copy(bytes, page_bytes)?);
            theirs.push(decoding[decoding.len() - 1].max(copying[copying.len() - 1]));
        }
        array.verify(&source)?;
        let rate = |seconds: &mut Vec<f64>| bytes as f64 / median(seconds) / 1e9;
        println!(
            "{name}: all cores alone {:.2} GB/s, bus {:.2} GB/s",
            rate(&mut decoding),
            rate(&mut copying)
        );
        print(&format!("{name}, tiles of 1 MiB, default pages"), &mut ours, &mut theirs, bytes, 0.85);
    }
    Ok(())
}

/// How full pages are when single tiles are asked for at random: what a larger page costs.
fn fullness(pinned: &Arc<PinnedBuffer>) -> Result<(), Error> {
    let source = Source { tiles: Tiles::Prepared(pinned.clone()), tile_bytes: 1 << 20 };
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
        for step in 0..4000u64 {
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

fn soak(pinned: &Arc<PinnedBuffer>, seconds: u64) -> Result<(), Error> {
    let source = Source { tiles: Tiles::Prepared(pinned.clone()), tile_bytes: 8 << 20 };
    let mut array = Stream1::new(&source, None)?;
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
    println!("soak of {seconds} s: last part against the first {ratio:.3} (target 0.97)");
    Ok(())
}

fn main() -> Result<(), Error> {
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(error) => {
            println!("skipped: no CUDA device ({error})");
            return Ok(());
        }
    };
    let before = device.memory()?.0;
    let mut pinned = PinnedBuffer::new(&device, POOL_BYTES as usize)?;
    let words: &mut [u64] = bytemuck::cast_slice_mut(&mut pinned);
    words.par_chunks_mut(1 << 16).enumerate().for_each(|(i, words)| {
        let mut random = SplitMix(i as u64);
        words.fill_with(|| random.next());
    });
    let pinned = Arc::new(pinned);
    println!("{}", device.name());
    if let Some(seconds) = std::env::var("VASTGRID_SOAK").ok().and_then(|s| s.parse().ok()) {
        soak(&pinned, seconds)?;
    } else {
        fullness(&pinned)?;
        prepared(&device, &pinned)?;
        decoded(&device, &pinned)?;
    }
    drop(pinned);
    println!("free device memory: {before} bytes before, {} after", device.memory()?.0);
    Ok(())
}
