//! Owns the example `convert` as tests run it: the binary that `cargo test` builds beside them, volumes for it, and what is read back of what it wrote.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::cast_possible_truncation, reason = "a hash keeps its low bits")]

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use vastgrid::pyramid::{DeriveOptions, Downsample};
use vastgrid::source::{Procedural, RawFile, RawSpec, Zarr, ZarrSelection};
use vastgrid::{Coord, Extent, PyramidSource, Region, TileSource};

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

/// The binary.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples/convert");
    assert!(built.is_file(), "{} is not there: cargo build --example convert", built.display());
    // Nor is it another one: `cargo test --test` of a single test builds no example.
    assert!(
        newest(Path::new("examples/convert")) <= modified(&built),
        "{} is older than its source: cargo build --example convert",
        built.display()
    );
    built
}

pub(crate) fn convert(args: &[&str]) -> Output {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().unwrap()
}

/// What it said, if it succeeded.
pub(crate) fn succeeds(args: &[&str]) -> String {
    let output = convert(args);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// What it complained of, if it failed as programs should: with a message, not by a panic.
pub(crate) fn fails(args: &[&str]) -> String {
    let output = convert(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(output.status.code().is_some() && !said.contains("panicked"), "{args:?}: {said}");
    said
}

/// splitmix64, from a seed that is new each time and printed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("VASTGRID_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("VASTGRID_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A volume in a raw file: waves with some noise, and nothing in a corner.
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    pub(crate) extent: Extent,
    seed: u64,
}

impl Volume {
    pub(crate) fn write(folder: &Path, extent: Extent, seed: u64) -> Self {
        let volume = Self { path: folder.join("volume.raw"), extent, seed };
        let whole = Region::whole(extent);
        let mut voxels = vec![0u16; extent.checked_volume().unwrap() as usize];
        volume.source().read(whole, &mut voxels).unwrap();
        let bytes: Vec<u8> = voxels.into_iter().flat_map(u16::to_le_bytes).collect();
        fs::write(&volume.path, bytes).unwrap();
        volume
    }

    pub(crate) fn source(&self) -> Procedural<u16> {
        let (seed, extent) = (self.seed, self.extent);
        Procedural::new(extent, move |c: Coord| {
            if c.x < extent.x / 2 && c.y < extent.y / 2 && c.z < extent.z / 2 {
                return 0;
            }
            let mix = (c.x | c.y << 20 | c.z << 40).wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((c.x * 7 + c.y * 5 + c.z * 3) % 4096) as u16 + (mix >> 60) as u16
        })
    }

    /// How `convert` is told of it.
    pub(crate) fn args(&self) -> Vec<String> {
        let Extent { x, y, z } = self.extent;
        let shape = format!("--shape={x}x{y}x{z}");
        vec![self.path.display().to_string(), shape, "--type=u16".into(), "--quiet".into()]
    }

    /// Whether an image is what it becomes by the mean, in all its levels.
    pub(crate) fn check(&self, image: &Path) {
        let options = DeriveOptions::default();
        let expected = PyramidSource::derive(self.source(), Downsample::Mean, options).unwrap();
        let found = Zarr::open(image).unwrap();
        let found = &found.images()[0];
        assert_eq!(found.levels().len(), expected.levels());
        for level in 0..expected.levels() {
            let found = found.level(level, &ZarrSelection::default()).unwrap().into_source::<u16>();
            let expected = expected.source(level).unwrap();
            assert_eq!(found.extent(), expected.extent(), "level {level}");
            assert!(all(&found) == all(expected), "level {level} of {}", image.display());
        }
    }
}

/// All voxels of a source.
pub(crate) fn all(source: &dyn TileSource<u16>) -> Vec<u16> {
    let whole = Region::whole(source.extent());
    let mut out = vec![0; whole.extent.checked_volume().unwrap() as usize];
    source.read(whole, &mut out).unwrap();
    out
}

/// All voxels of a raw file.
pub(crate) fn raw(path: &Path, extent: Extent) -> Vec<u16> {
    all(&RawFile::<u16>::open(path, RawSpec::new(extent)).unwrap())
}

/// What is in a folder, hidden or not.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
