//! Tiles that are kept on disk: whatever happens to the folder or to a process, the voxels that are read are the right ones, and there are never many more files than the bound allows.
#![expect(clippy::cast_possible_truncation, reason = "hashes keep their low bits, and the volumes are small")]

mod common;

use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use common::{Random, expected_by, salted};
use vastgrid::source::{
    ContentKey, Instrumented, Instruments, KeptTiles, Procedural, RangeIndex, TileCache, TileCacheOptions,
};
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SourceError, SparseArray3D, TileSource};

const EXTENT: Extent = Extent::new(70, 50, 41);

/// Noise, and parts of one value; another volume for each version.
fn voxel(c: Coord, version: u64) -> u16 {
    if (c.x / 24 + c.y / 24 + c.z / 24).is_multiple_of(3) {
        version as u16
    } else {
        salted(c, version) as u16
    }
}

type Source = Instrumented<Procedural<u16>>;

fn volume(version: u64) -> (Source, Instruments) {
    let source = Instrumented::new(Procedural::new(EXTENT, move |c| voxel(c, version)));
    let reads = source.instruments();
    (source, reads)
}

fn key(version: u64) -> ContentKey {
    ContentKey::new("https://example.org/volume").with("version", version)
}

fn open(folder: &Path, most_bytes: u64) -> TileCache {
    TileCache::open(folder, TileCacheOptions { most_bytes }).unwrap()
}

fn seed() -> u64 {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    seed
}

fn any_region(random: &mut Random) -> Region {
    let mut along = |side: u64| {
        let start = random.below(side);
        (start, 1 + random.below(side - start))
    };
    let ((x, w), (y, h), (z, d)) = (along(EXTENT.x), along(EXTENT.y), along(EXTENT.z));
    Region::new(Coord::new(x, y, z), Extent::new(w, h, d))
}

/// Reads a region and compares it with what the volume holds there.
fn check(source: &KeptTiles<u16, Source>, region: Region, version: u64) {
    let mut out = vec![9; usize::try_from(region.extent.checked_volume().unwrap()).unwrap()];
    source.read(region, &mut out).unwrap();
    assert!(out == expected_by(region, |c| voxel(c, version)), "{region} of version {version}");
    if let Some(value) = source.uniform(region) {
        assert!(out.iter().all(|&v| v == value), "{region} is not uniform");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let all = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    all(folder).flat_map(|volume| all(&volume).collect::<Vec<_>>()).collect()
}

/// What the files take, in blocks.
fn bytes(folder: &Path) -> u64 {
    files(folder)
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|m| m.len().div_ceil(4096) * 4096)
        .sum()
}

/// What a file of another process may hold when it was killed, or a disk went bad.
fn damage(path: &Path, random: &mut Random) {
    let Ok(mut bytes) = fs::read(path) else { return };
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        2 => bytes.rotate_left(at),
        _ => bytes[at] ^= 1 << random.below(8),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn whatever_is_read_evicted_damaged_or_reopened_the_voxels_are_right() {
    let mut random = Random::new(seed());
    for round in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let tile = Extent::new(1 + random.below(40), 1 + random.below(40), 1 + random.below(80));
        let most_bytes = random.below(40) * 4096;
        let mut cache = open(folder.path(), most_bytes);
        let mut sources: Vec<_> =
            (0..2).map(|version| cache.source(volume(version).0, &key(version), tile).unwrap()).collect();
        for _ in 0..60 {
            let version = random.below(2);
            check(&sources[version as usize], any_region(&mut random), version);
            assert!(
                bytes(folder.path()) <= most_bytes,
                "round {round}: {} of {most_bytes}",
                bytes(folder.path())
            );
            let there = files(folder.path());
            if !there.is_empty() && random.below(3) == 0 {
                damage(&there[random.below(there.len() as u64) as usize], &mut random);
            }
            if random.below(8) == 0 {
                cache = open(folder.path(), most_bytes);
                sources = (0..2).map(|v| cache.source(volume(v).0, &key(v), tile).unwrap()).collect();
            }
        }
        assert!(cache.is_keeping());
    }
}

#[test]
fn a_second_process_reads_nothing_from_the_source() {
    let folder = tempfile::tempdir().unwrap();
    for nth in 0..2 {
        let cache = open(folder.path(), 1 << 30);
        let (source, reads) = volume(3);
        let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
        let kept = cache.source(source, &key(3), Extent::cube(16)).unwrap();
        let array = SparseArray3D::builder(&pool, kept).tile([16; 3]).build().unwrap();
        let whole = Region::whole(EXTENT);
        assert!(array.to_vec(whole).unwrap() == expected_by(whole, |c| voxel(c, 3)));
        let tiles = 5 * 4 * 3;
        assert_eq!(reads.reads(), if nth == 0 { tiles } else { 0 });
        if nth == 1 {
            assert!(pool.stats().loads < tiles, "tiles of one value are known, not loaded");
            assert_eq!(cache.stats().missed, 0);
        }
    }
}

#[test]
fn no_flipped_byte_of_any_file_is_ever_read_as_a_voxel() {
    let folder = tempfile::tempdir().unwrap();
    let extent = Extent::new(12, 6, 4);
    let value = |c: Coord| if c.x < 4 { 77 } else { salted(c, 5) as u8 };
    let source = || Procedural::new(extent, value);
    let read = || {
        let cache = open(folder.path(), 1 << 30);
        let kept = cache.source(source(), &key(0), Extent::new(4, 6, 4)).unwrap();
        let mut out = vec![0; 288];
        kept.read(Region::whole(extent), &mut out).unwrap();
        assert!(out == expected_by(Region::whole(extent), value));
        cache.stats()
    };
    read();
    let all = files(folder.path());
    assert_eq!(all.len(), 3, "two tiles, and a log: {all:?}");
    for path in &all {
        let good = fs::read(path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(path, &bad).unwrap();
            assert_eq!(read().missed, 1, "byte {at} of {}", path.display());
            fs::write(path, &good).unwrap();
            assert_eq!(read().missed, 0);
        }
    }
    // Files of other tiles, and of other volumes, under this one's name.
    let tiles: Vec<_> = all.iter().filter(|path| path.extension().is_some()).collect();
    fs::copy(tiles[0], tiles[1]).unwrap();
    assert_eq!((read().damaged, read().damaged), (1, 0));
}

#[test]
fn another_version_shape_or_type_is_another_volume() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 1 << 30);
    let whole = Region::whole(EXTENT);
    for version in [1, 2, 1] {
        let source = cache.source(volume(version).0, &key(version), Extent::cube(32)).unwrap();
        check(&source, whole, version);
    }
    let before = cache.stats();
    assert_eq!(before.missed, 2 * 3 * 2 * 2, "the first version is there still");
    for tile in [Extent::cube(16), Extent::new(32, 32, 16)] {
        check(&cache.source(volume(1).0, &key(1), tile).unwrap(), whole, 1);
    }
    let narrow = Procedural::new(EXTENT, |c| i16::from_le_bytes(voxel(c, 1).to_le_bytes()) / 2);
    let source = cache.source(narrow, &key(1), Extent::cube(32)).unwrap();
    let mut out = vec![0; usize::try_from(EXTENT.checked_volume().unwrap()).unwrap()];
    source.read(whole, &mut out).unwrap();
    assert!(out == expected_by(whole, |c| i16::from_le_bytes(voxel(c, 1).to_le_bytes()) / 2));
    let smaller = Procedural::new(Extent::new(69, 50, 41), |c| voxel(c, 1));
    assert_eq!(
        cache.source(smaller, &key(1), Extent::cube(32)).unwrap().uniform(Region::whole(Extent::cube(1))),
        None
    );
}

#[test]
fn threads_that_want_the_same_tile_read_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 1 << 30);
    let (source, reads) = volume(1);
    reads.set_delay(Duration::from_millis(50));
    let source = cache.source(source, &key(1), Extent::cube(32)).unwrap();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for x in 0..8 {
            let (source, barrier) = (&source, &barrier);
            scope.spawn(move || {
                barrier.wait();
                check(source, Region::new(Coord::new(32 + x, 3, 5), Extent::new(9, 2, 2)), 1);
            });
        }
    });
    assert!(reads.reads_by_region().iter().all(|(_, times)| *times == 1), "{:?}", reads.reads_by_region());
}

/// Tells what it was told, and fails where it is asked to.
struct Told(Mutex<Vec<Region>>, Mutex<HashSet<Region>>);

impl TileSource<u16> for Told {
    fn extent(&self) -> Extent {
        EXTENT
    }
    fn will_read(&self, regions: &[Region]) {
        self.0.lock().unwrap().extend(regions);
    }
    fn read(&self, region: Region, out: &mut [u16]) -> Result<(), SourceError> {
        if self.1.lock().unwrap().remove(&region) {
            return Err(SourceError::Other("not now".into()));
        }
        out.copy_from_slice(&expected_by(region, |c| voxel(c, 1)));
        Ok(())
    }
}

#[test]
fn sources_are_told_of_what_is_not_kept_and_what_fails_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 1 << 30);
    let source = cache.source(Told(Mutex::default(), Mutex::default()), &key(1), Extent::cube(32)).unwrap();
    let tile = |x: u64| Region::new(Coord::new(32 * x, 0, 0), Extent::cube(32)).clipped_to(EXTENT);
    let mut out = vec![0; 1 << 15];
    source.source().1.lock().unwrap().insert(tile(1));
    assert!(source.read(tile(1), &mut out).is_err());
    source.read(tile(0), &mut out).unwrap();
    source.will_read(&[tile(0), tile(1), tile(2)]);
    assert_eq!(*source.source().0.lock().unwrap(), [tile(1), tile(2)]);
    source.read(tile(1), &mut out).unwrap();
    source.will_read(&[tile(0), tile(1)]);
    assert_eq!(source.source().0.lock().unwrap().len(), 2);
}

#[test]
fn bad_tiles_folders_and_calls_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 1 << 30);
    for tile in [Extent::new(0, 1, 1), Extent::new(1, 1, 0)] {
        assert!(matches!(cache.source(volume(1).0, &key(1), tile), Err(SourceError::Shape { .. })));
    }
    let source = cache.source(volume(1).0, &key(1), Extent::cube(u64::MAX)).unwrap();
    assert_eq!(source.tile(), EXTENT, "no larger than the volume");
    let outside = Region::new(Coord::new(69, 0, 0), Extent::new(2, 1, 1));
    assert!(matches!(source.read(outside, &mut [0; 2]), Err(SourceError::BadCall { .. })));
    source.read(Region::default(), &mut []).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let error = TileCache::open(&file, TileCacheOptions::default()).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn ranges_are_kept_beside_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 1 << 20);
    let index = RangeIndex::from_parts(EXTENT, Extent::cube(64), vec![1u16, 2], vec![3, 4]).unwrap();
    assert_eq!(cache.load_ranges::<u16>(&key(1)), None);
    cache.save_ranges(&key(1), &index);
    assert_eq!(cache.load_ranges(&key(1)), Some(index));
    assert_eq!(cache.load_ranges::<u16>(&key(2)), None);
    assert!(cache.is_keeping());
}

#[test]
fn a_folder_that_cannot_be_written_turns_keeping_off_and_the_source_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), 1 << 30);
    let source = cache.source(volume(1).0, &key(1), Extent::cube(32)).unwrap();
    // The name of the volume's own folder is taken.
    check(&source, Region::whole(EXTENT), 1);
    let name = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&name).unwrap();
    fs::write(&name, "taken").unwrap();
    let source = cache.source(volume(1).0, &key(1), Extent::cube(32)).unwrap();
    check(&source, Region::whole(EXTENT), 1);
    assert!(!cache.is_keeping());
    check(&source, Region::whole(EXTENT), 1);
}

// ---------------------------------------------------------------- other processes

const FOLDER: &str = "VASTGRID_TEST_CACHE_FOLDER";
const SECONDS: &str = "VASTGRID_TEST_CACHE_SECONDS";
const MOST: &str = "VASTGRID_TEST_CACHE_MOST";

/// This program again, as [`child`], on that folder.
fn spawn(folder: &Path, most_bytes: u64, seconds: f64, limit: Option<&str>) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match limit {
        // What the shell ignores, the program that takes its place ignores too.
        Some(limit) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("trap '' XFSZ; {limit}; exec \"$0\" \"$@\"")]).arg(program);
            shell
        }
        None => Command::new(program),
    };
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(MOST, most_bytes.to_string()).env(SECONDS, seconds.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads what it likes through a cache for a while, with two threads, and compares. Says at the end whether it still kept tiles.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let (Ok(folder), Ok(seconds), Ok(most)) =
        (std::env::var(FOLDER), std::env::var(SECONDS), std::env::var(MOST))
    else {
        println!("skipped: only other tests run this one");
        return;
    };
    let cache = open(Path::new(&folder), most.parse().unwrap());
    let sources: Vec<_> = (0..3)
        .map(|version| cache.source(volume(version).0, &key(version), Extent::new(16, 20, 24)).unwrap())
        .collect();
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (sources, seed) = (&sources, RandomState::new().hash_one(thread));
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while Instant::now() < until {
                    let version = random.below(3);
                    check(&sources[version as usize], any_region(&mut random), version);
                }
            });
        }
    });
    println!("keeping: {}, {:?}", cache.is_keeping(), cache.stats());
}

/// What a child said, which has to have ended well.
fn ended_well(child: std::process::Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn a_process_that_is_killed_anywhere_leaves_nothing_wrong_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(seed());
    let most_bytes = 60 * 4096 * 4;
    let mut written = 0;
    for round in 0..25 {
        let mut child = spawn(folder.path(), most_bytes, 60.0, None).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + random.below(130)));
        child.kill().unwrap();
        child.wait().unwrap();
        written += files(folder.path()).len();
        // What was being written when it was killed, by two threads each time, goes after a while.
        let unfinished = files(folder.path())
            .iter()
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".unfinished"))
            .count();
        assert!(unfinished <= 2 * (round + 1));
        let cache = open(folder.path(), most_bytes);
        for version in 0..3 {
            let source = cache.source(volume(version).0, &key(version), Extent::new(16, 20, 24)).unwrap();
            check(&source, Region::whole(EXTENT), version);
        }
        assert_eq!(cache.stats().damaged, 0, "nothing is ever half there");
        assert!(bytes(folder.path()) <= most_bytes);
        if round % 3 == 0 {
            // From the beginning, so that there is something to write.
            fs::remove_dir_all(folder.path()).unwrap();
        }
    }
    assert!(written > 100, "they were killed at work: {written} files");
}

#[test]
fn two_processes_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    // Not enough for one of the three volumes.
    let most_bytes = 24 * 16384;
    let mut children: Vec<_> =
        (0..2).map(|_| spawn(folder.path(), most_bytes, 3.0, None).spawn().unwrap()).collect();
    let mut most = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        most = most.max(bytes(folder.path()));
        std::thread::sleep(Duration::from_millis(5));
    }
    for child in children {
        let said = ended_well(child);
        assert!(said.contains("keeping: true"), "{said}");
        assert!(!said.contains("removed: 0"), "{said}");
        println!("{said}");
    }
    println!("at most {most} bytes of {most_bytes}");
    assert!(most > most_bytes / 2 && most <= most_bytes + 2 * (most_bytes / 16 + 16384), "{most}");
}

#[test]
fn a_full_disk_turns_keeping_off_and_the_source_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // No file may be longer than 8 blocks of 512 bytes, and a tile is: the system refuses as where a disk is full.
    let said = ended_well(spawn(folder.path(), 1 << 30, 0.5, Some("ulimit -f 8")).spawn().unwrap());
    assert!(said.contains("keeping: false"), "{said}");
    assert!(files(folder.path()).iter().all(|path| path.ends_with("uniform")), "{:?}", files(folder.path()));
    let said = ended_well(spawn(folder.path(), 1 << 30, 0.5, Some("ulimit -f 8000")).spawn().unwrap());
    assert!(said.contains("keeping: true"), "{said}");
    assert!(files(folder.path()).len() > 10);
}

#[test]
fn a_folder_of_somebody_else_is_read_but_not_written() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let all = |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    all(folder.path()).unwrap();
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let tiles = folder.path().join("tiles");
    let cache = open(&tiles, 1 << 30);
    let source = cache.source(volume(1).0, &key(1), Extent::new(16, 20, 24)).unwrap();
    check(&source, Region::whole(EXTENT), 1);
    let before = files(&tiles).len();
    let mut command = Command::new(&program);
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, &tiles).env(MOST, "1000000000").env(SECONDS, "0.5").uid(65534).gid(65534);
    command.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = ended_well(command.spawn().unwrap());
    assert!(said.contains("keeping: false") && !said.contains("found: 0"), "{said}");
    assert_eq!(files(&tiles).len(), before);
}
