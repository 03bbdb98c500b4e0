//! Tests of the gather, over chunks that are computed, counted, held up and broken.
#![allow(clippy::cast_possible_truncation, reason = "a few voxels")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar, Mutex};
use std::time::Duration;

use super::*;
use crate::geometry::Coord;
use proptest::prelude::*;

/// A volume whose voxels say where they are. Chunks for which `(x + y + z) % missing_every == 0` are missing.
struct Numbers {
    extent: Extent,
    chunk: Extent,
    missing_every: u64,
    decodes: Mutex<HashMap<ChunkCoord, usize>>,
    announced: Mutex<Vec<ChunkCoord>>,
    /// What a decode does first.
    first: Box<dyn Fn(ChunkCoord) -> Result<(), SourceError> + Send + Sync>,
}

const FILL: u32 = 77;

fn number(c: Coord) -> u32 {
    (c.x + 1000 * c.y + 1_000_000 * c.z) as u32
}

impl Numbers {
    fn new(extent: impl Into<Extent>, chunk: impl Into<Extent>) -> Self {
        Self {
            extent: extent.into(),
            chunk: chunk.into(),
            missing_every: u64::MAX,
            decodes: Mutex::default(),
            announced: Mutex::default(),
            first: Box::new(|_| Ok(())),
        }
    }

    fn first(
        mut self,
        first: impl Fn(ChunkCoord) -> Result<(), SourceError> + Send + Sync + 'static,
    ) -> Self {
        self.first = Box::new(first);
        self
    }

    fn is_missing(&self, c: ChunkCoord) -> bool {
        self.missing_every < u64::MAX && (c.x + c.y + c.z).is_multiple_of(self.missing_every)
    }

    fn expected(&self, region: Region) -> Vec<u32> {
        let (mut all, end) = (Vec::new(), region.end().unwrap());
        for z in region.start.z..end.z {
            for y in region.start.y..end.y {
                for x in region.start.x..end.x {
                    let chunk = ChunkCoord::new(x / self.chunk.x, y / self.chunk.y, z / self.chunk.z);
                    all.push(if self.is_missing(chunk) { FILL } else { number(Coord::new(x, y, z)) });
                }
            }
        }
        all
    }

    fn most_decodes(&self) -> usize {
        self.decodes.lock().unwrap().values().copied().max().unwrap_or(0)
    }
}

impl ChunkReader<u32> for Numbers {
    fn extent(&self) -> Extent {
        self.extent
    }
    fn chunk_shape(&self) -> Extent {
        self.chunk
    }
    fn fill_value(&self) -> u32 {
        FILL
    }
    fn location(&self) -> String {
        "numbers".into()
    }
    fn missing(&self, chunk: ChunkCoord) -> bool {
        self.is_missing(chunk)
    }
    fn will_read(&self, chunks: &[ChunkCoord]) {
        self.announced.lock().unwrap().extend(chunks);
    }
    fn decode(&self, chunk: ChunkCoord, out: &mut [u32]) -> Result<Found, SourceError> {
        *self.decodes.lock().unwrap().entry(chunk).or_default() += 1;
        (self.first)(chunk)?;
        assert_eq!(out.len() as u64, self.chunk.checked_volume().unwrap());
        // Leftovers that must not be seen.
        out.fill(0xDEAD);
        if self.is_missing(chunk) {
            return Ok(Found::Missing);
        }
        for (i, out) in (0..).zip(out) {
            let within = Coord::new(
                i % self.chunk.x,
                i / self.chunk.x % self.chunk.y,
                i / self.chunk.x / self.chunk.y,
            );
            let at = Coord::new(
                chunk.x * self.chunk.x + within.x,
                chunk.y * self.chunk.y + within.y,
                chunk.z * self.chunk.z + within.z,
            );
            if self.extent.contains(at) {
                *out = number(at);
            }
        }
        Ok(Found::Voxels)
    }
}

fn read(source: &Chunked<u32, Numbers>, region: Region) -> Result<Vec<u32>, SourceError> {
    let mut out = vec![0xBEEF; index(region.extent.checked_volume().unwrap())];
    source.read(region, &mut out).map(|()| out)
}

/// All tiles of that shape, clipped to the extent, x fastest.
fn tiles(extent: Extent, tile: impl Into<Extent>) -> Vec<Region> {
    let tile = tile.into();
    let grid = Grid::new(extent, tile);
    let tile_at = |c: ChunkCoord| {
        Region::new(Coord::new(c.x * tile.x, c.y * tile.y, c.z * tile.z), tile).clipped_to(extent)
    };
    grid.chunks_of(Region::whole(extent)).map(tile_at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_region_has_its_voxels_whatever_the_chunks(
        extent in prop::array::uniform3(1u64..24),
        chunk in prop::array::uniform3(1u64..30),
        missing_every in prop::option::of(1u64..5),
        kept_bytes in prop::sample::select(vec![0, 2000, 1 << 20]),
        corners in prop::collection::vec((prop::array::uniform3(0u64..24), prop::array::uniform3(1u64..24)), 1..6),
    ) {
        let mut numbers = Numbers::new(extent, chunk);
        numbers.missing_every = missing_every.unwrap_or(u64::MAX);
        let source = Chunked::new(numbers).unwrap().with_kept_bytes(kept_bytes);
        for (start, size) in corners {
            let start = [0, 1, 2].map(|a| start[a] % extent[a]);
            let size = [0, 1, 2].map(|a| size[a].min(extent[a] - start[a]));
            let region = Region::new(start.into(), size.into());
            let expected = source.reader().expected(region);
            prop_assert_eq!(&read(&source, region).unwrap(), &expected, "{}", region);
            let uniform = source.uniform(region);
            prop_assert!(uniform.is_none() || expected.iter().all(|v| Some(*v) == uniform));
        }
        let chunk_bytes = 4 * chunk.iter().product::<u64>();
        prop_assert!(source.kept.used_bytes() <= kept_bytes.max(chunk_bytes));
    }
}

#[test]
fn a_small_chunk_that_is_missing_is_reckoned_as_no_more_than_one_that_is_there() {
    let mut numbers = Numbers::new([1, 1, 2], [1, 1, 2]);
    numbers.missing_every = 1;
    let source = Chunked::new(numbers).unwrap().with_kept_bytes(0);
    read(&source, Region::new(Coord::new(0, 0, 1), Extent::cube(1))).unwrap();
    assert!(source.kept.used_bytes() <= 8);
}

#[test]
fn a_batch_decodes_each_chunk_once_whatever_its_tiles() {
    let extent = Extent::new(50, 40, 30);
    for (chunk, tile) in [
        ([50, 40, 1], [16, 16, 16]),
        ([7, 11, 13], [8, 8, 8]),
        ([64, 64, 64], [16, 8, 4]),
        ([4, 4, 4], [16, 16, 16]),
        ([16, 16, 16], [16, 16, 16]),
    ] {
        let source = Chunked::new(Numbers::new(extent, chunk)).unwrap();
        let tiles = tiles(extent, tile);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    while let Some(&tile) = tiles.get(next.fetch_add(1, Ordering::Relaxed)) {
                        assert_eq!(read(&source, tile).unwrap(), source.reader().expected(tile));
                    }
                });
            }
        });
        let chunks = Grid::new(extent, chunk.into()).count_of(Region::whole(extent));
        let decodes = source.reader().decodes.lock().unwrap();
        assert_eq!(decodes.len() as u64, chunks);
        drop(decodes);
        assert_eq!(source.reader().most_decodes(), 1, "chunks {chunk:?}, tiles {tile:?}");
    }
}

#[test]
fn chunks_of_one_tile_are_not_kept() {
    for (chunk, tile) in [([16, 16, 16], [16, 16, 16]), ([4, 4, 4], [16, 16, 16]), ([48, 48, 1], [48, 48, 4])]
    {
        let extent = Extent::cube(48);
        let source = Chunked::new(Numbers::new(extent, chunk)).unwrap();
        for tile in tiles(extent, tile) {
            assert_eq!(read(&source, tile).unwrap(), source.reader().expected(tile));
        }
        assert_eq!((source.kept.used_bytes(), source.reader().most_decodes()), (0, 1), "chunks {chunk:?}");
    }
}

#[test]
fn a_bound_that_is_lowered_holds_at_once_and_is_not_raised_again() {
    let extent = Extent::new(80, 1, 1);
    let source = Chunked::new(Numbers::new(extent, [10, 1, 1])).unwrap().with_kept_bytes(400);
    assert_eq!((source.chunk(), source.kept_bytes()), (Some(Extent::new(10, 1, 1)), 400));
    for tile in tiles(extent, [5, 1, 1]) {
        read(&source, tile).unwrap();
    }
    assert_eq!(source.kept.used_bytes(), 8 * 40);
    source.keep_at_most(100);
    assert_eq!((source.kept.used_bytes(), source.kept_bytes()), (2 * 40, 100));
    source.keep_at_most(1000);
    assert_eq!(source.kept_bytes(), 100);
}

#[test]
fn the_least_recently_used_chunk_goes_first() {
    let extent = Extent::new(80, 1, 1);
    let source = Chunked::new(Numbers::new(extent, [10, 1, 1])).unwrap().with_kept_bytes(3 * 40);
    let half = |chunk: u64| {
        read(&source, Region::new(Coord::new(chunk * 10, 0, 0), Extent::new(5, 1, 1))).unwrap();
    };
    let decodes = |chunk| source.reader().decodes.lock().unwrap()[&ChunkCoord::new(chunk, 0, 0)];
    [0, 1, 2, 0, 3].into_iter().for_each(half);
    assert_eq!(source.kept.used_bytes(), 120);
    [0, 2, 3, 1].into_iter().for_each(half);
    assert_eq!([0, 1, 2, 3].map(decodes), [1, 2, 1, 1]);
}

#[test]
fn whoever_waits_shares_the_failure_and_whoever_comes_later_tries_again() {
    let (began, waiting) = (Barrier::new(2), Mutex::new(false));
    let (began, waiting) = (std::sync::Arc::new(began), std::sync::Arc::new((waiting, Condvar::new())));
    let tries = AtomicUsize::new(0);
    let (b, w) = (began.clone(), waiting.clone());
    let numbers = Numbers::new([20, 1, 1], [20, 1, 1]).first(move |_| {
        if tries.fetch_add(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        b.wait();
        let (flag, changed) = &*w;
        drop(changed.wait_while(flag.lock().unwrap(), |go| !*go).unwrap());
        Err(SourceError::Other("broken".into()))
    });
    let source = Chunked::new(numbers).unwrap();
    let part = |x| Region::new(Coord::new(x, 0, 0), Extent::new(10, 1, 1));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| read(&source, part(0)));
        began.wait();
        let second = scope.spawn(|| read(&source, part(10)));
        // Nothing tells that the second one waits; if it came too late it would succeed, and the test would fail.
        std::thread::sleep(Duration::from_millis(200));
        *waiting.0.lock().unwrap() = true;
        waiting.1.notify_all();
        for result in [first.join().unwrap(), second.join().unwrap()] {
            let error = result.unwrap_err();
            assert!(matches!(error, SourceError::Shared(_)), "{error:?}");
            assert_eq!(error.to_string(), "broken");
        }
    });
    assert_eq!(source.kept.used_bytes(), 0);
    assert_eq!(read(&source, part(10)).unwrap(), source.reader().expected(part(10)));
}

#[test]
fn a_panic_in_a_decode_is_an_error_of_those_who_need_it() {
    let numbers = Numbers::new([20, 20, 1], [10, 20, 1]).first(|chunk| {
        assert!(chunk.x == 0, "no such thing");
        Ok(())
    });
    let source = Chunked::new(numbers).unwrap();
    for height in [5, 20] {
        let at = |x| Region::new(Coord::new(x, 0, 0), Extent::new(10, height, 1));
        let error = read(&source, at(10)).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
        read(&source, at(0)).unwrap();
    }
}

#[test]
fn neighbours_decode_different_chunks_at_the_same_time() {
    // Each decode waits for another to be under way: two threads that went through the same chunks in step would wait for ever.
    let under_way = std::sync::Arc::new((Mutex::new(0), Condvar::new()));
    let watched = under_way.clone();
    let numbers = Numbers::new([20, 10, 2], [20, 10, 1]).first(move |_| {
        let (count, changed) = &*watched;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let (_count, timeout) =
            changed.wait_timeout_while(count, Duration::from_secs(20), |count| *count < 2).unwrap();
        assert!(!timeout.timed_out(), "alone for 20 s");
        Ok(())
    });
    let source = Chunked::new(numbers).unwrap();
    std::thread::scope(|scope| {
        for x in [0, 10] {
            let region = Region::new(Coord::new(x, 0, 0), Extent::new(10, 10, 2));
            let source = &source;
            scope.spawn(move || assert_eq!(read(source, region).unwrap(), source.reader().expected(region)));
        }
    });
    assert_eq!(source.reader().most_decodes(), 1);
}

#[test]
fn a_read_from_inside_a_decode_never_waits() {
    use std::sync::{Arc, OnceLock};
    // As where a decode's own threads steal work: chunk 0 is being decoded by the very thread that asks for it.
    let itself: Arc<OnceLock<Arc<Chunked<u32, Numbers>>>> = Arc::default();
    let inner = itself.clone();
    let depth = AtomicUsize::new(0);
    let numbers = Numbers::new([20, 1, 1], [20, 1, 1]).first(move |_| {
        if depth.fetch_add(1, Ordering::Relaxed) == 0 {
            let source = inner.get().unwrap();
            let region = Region::new(Coord::new(10, 0, 0), Extent::new(5, 1, 1));
            assert_eq!(read(source, region).unwrap(), source.reader().expected(region));
        }
        Ok(())
    });
    let source = Arc::new(Chunked::new(numbers).unwrap());
    assert!(itself.set(source.clone()).is_ok());
    let region = Region::new(Coord::new(0, 0, 0), Extent::new(5, 1, 1));
    assert_eq!(read(&source, region).unwrap(), source.reader().expected(region));
}

#[test]
fn only_chunks_that_are_not_here_are_announced_and_each_once() {
    let extent = Extent::new(40, 10, 1);
    let source = Chunked::new(Numbers::new(extent, [10, 10, 1])).unwrap();
    read(&source, Region::new(Coord::new(10, 0, 0), Extent::new(5, 5, 1))).unwrap();
    source.will_read(&tiles(extent, [8, 8, 8]));
    let announced = source.reader().announced.lock().unwrap();
    assert_eq!(*announced, [0, 2, 3].map(|x| ChunkCoord::new(x, 0, 0)));
}

#[test]
fn regions_of_missing_chunks_alone_are_uniform() {
    let mut numbers = Numbers::new([40, 40, 1], [10, 10, 1]);
    numbers.missing_every = 2;
    let source = Chunked::new(numbers).unwrap();
    let at = |x, y, side| Region::new(Coord::new(x, y, 0), Extent::new(side, side, 1));
    assert_eq!(source.uniform(at(2, 2, 5)), Some(FILL));
    assert_eq!(source.uniform(at(10, 10, 10)), Some(FILL));
    assert_eq!(source.uniform(at(10, 0, 10)), None);
    assert_eq!(source.uniform(at(5, 5, 10)), None, "some are there");
    assert_eq!(source.uniform(at(0, 0, 0)), None);
    assert_eq!(source.reader().most_decodes(), 0);
}

#[test]
fn what_cannot_be_is_refused_with_its_values() {
    let refuse = |extent: [u64; 3], chunk: [u64; 3]| Chunked::new(Numbers::new(extent, chunk)).unwrap_err();
    for (extent, chunk) in [
        ([0, 1, 1], [1, 1, 1]),
        ([1, 1, 1], [1, 0, 1]),
        ([1 << 40, 1 << 40, 1], [1, 1, 1]),
        ([1, 1, 1], [u64::MAX, 2, 1]),
    ] {
        let error = refuse(extent, chunk);
        assert!(matches!(error, SourceError::Shape { .. }), "{error}");
    }
    let error = refuse([1 << 14; 3], [1024, 1024, 257]).to_string();
    assert!(error.contains("numbers") && error.contains("1024 x 1024 x 257: 1077936128 bytes"), "{error}");
}
