//! A process that is killed while it writes: what it was told is durable is there.

mod convert_support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use convert_support::{Random, names};
use vastgrid::source::{Zarr, ZarrSlice};
use vastgrid::store::{RawStore, TileStore, ZarrOptions, ZarrStore};
use vastgrid::{Coord, Extent, Region, TileSource};

const EXTENT: Extent = Extent::new(24, 20, 12);
const CHUNK: u64 = 4;
const FOLDER: &str = "VASTGRID_TEST_FOLDER";

fn options(round: u64, resume: bool) -> ZarrOptions {
    // Shards of several chunks, or none.
    let shard = (!round.is_multiple_of(3)).then_some(Extent::new(8, 12, 4));
    ZarrOptions { chunk: Extent::cube(CHUNK), shard, resume, ..ZarrOptions::default() }
}

/// The chunk that step `step` writes, and whether everything is flushed after it.
fn step(random: &mut Random) -> (Region, bool) {
    let count = |side: u64| side.div_ceil(CHUNK);
    let at = [EXTENT.x, EXTENT.y, EXTENT.z].map(|side| random.below(count(side)) * CHUNK);
    (Region::new(Coord::from(at), Extent::cube(CHUNK)).clipped_to(EXTENT), random.below(6) == 0)
}

/// What is killed: no test by itself.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (round, mut random) = (number("VASTGRID_TEST_ROUND"), Random(number("VASTGRID_TEST_SEED")));
    let store =
        ZarrStore::create(Path::new(&folder).join("a.zarr"), EXTENT, 0u32, &options(round, true)).unwrap();
    for nth in 1..100_000u32 {
        let (chunk, flush) = step(&mut random);
        let voxels = vec![nth; usize::try_from(chunk.extent.checked_volume().unwrap()).unwrap()];
        store.write(chunk, &voxels).unwrap();
        if flush {
            store.flush().unwrap();
            println!("\ndurable {nth}");
        }
    }
}

#[test]
fn nothing_that_was_flushed_is_missing_after_a_kill() {
    let mut seeds = Random::new();
    for round in 0..24 {
        let folder = tempfile::tempdir().unwrap();
        let seed = seeds.next();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .env("VASTGRID_TEST_ROUND", round.to_string())
            .env("VASTGRID_TEST_SEED", seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let kill_after = 1 + seeds.below(12);
        let mut durable = 0;
        let mut said = 0;
        for line in output.lines().map_while(Result::ok) {
            if let Some(nth) = line.strip_prefix("durable ") {
                durable = nth.parse().unwrap();
                said += 1;
                if said == kill_after {
                    std::thread::sleep(Duration::from_micros(seeds.below(4000)));
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(said >= kill_after, "round {round} ended by itself");
        let root = folder.path().join("a.zarr");
        assert!(!root.exists());
        // Whoever goes on and saves at once has it.
        ZarrStore::create(&root, EXTENT, 0u32, &options(round, true)).unwrap().save().unwrap();
        let found = Zarr::open(&root).unwrap().arrays()[0].source::<u32>(&ZarrSlice::last(3)).unwrap();
        let mut random = Random(seed);
        let mut written: HashMap<Region, Vec<u32>> = HashMap::new();
        for nth in 1..durable + 2000 {
            written.entry(step(&mut random).0).or_default().push(nth);
        }
        for (chunk, steps) in &written {
            let mut voxels = vec![0; usize::try_from(chunk.extent.checked_volume().unwrap()).unwrap()];
            found.read(*chunk, &mut voxels).unwrap();
            let value = voxels[0];
            assert!(voxels.iter().all(|v| *v == value), "{chunk} is torn");
            let least = steps.iter().copied().filter(|nth| *nth <= durable).max().unwrap_or(0);
            assert!(
                value >= least && (value == 0 || steps.contains(&value)),
                "{chunk}: {value}, {least} was durable"
            );
        }
        assert_eq!(names(folder.path()), ["a.zarr"]);
    }
}

#[test]
fn a_raw_file_is_whole_or_not_there() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // What is killed.
        let path = Path::new(&folder).join("a.raw");
        for nth in 0..u8::MAX {
            let store = RawStore::<u8>::replace(&path, Extent::cube(100)).unwrap();
            store.write_uniform(Region::whole(Extent::cube(100)), nth).unwrap();
            store.save().unwrap();
            println!("\nsaved {nth}");
        }
        return;
    }
    let mut random = Random::new();
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_raw_file_is_whole_or_not_there", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let kill_after = random.below(4);
        let mut saved = None;
        for line in output.lines().map_while(Result::ok) {
            saved = line.strip_prefix("saved ").map(|nth| nth.parse::<u8>().unwrap()).or(saved);
            if saved.is_some_and(|nth| u64::from(nth) >= kill_after) {
                std::thread::sleep(Duration::from_micros(random.below(4000)));
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        let bytes = std::fs::read(folder.path().join("a.raw")).unwrap();
        assert!(bytes.len() == 1_000_000 && bytes.iter().all(|b| *b == bytes[0]));
        assert!(Some(bytes[0]) >= saved);
    }
}
