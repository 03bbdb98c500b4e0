//! How soon is there something to look at, and what does a derived level cost against a plain loop over a dense array?
//!
//! The first coarse level: from the call that builds a pyramid of 2048^3 `u16` to 128^3 voxels resident and pinned. The levels: 256^3 voxels in memory to 128^3, read in tiles of 32^3
//! through `Downsampled`, against eight loads and an average by index; one thread each.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::{SplitMix, median, paired, rounds};
use vastgrid::pyramid::Downsampled;
use vastgrid::source::Procedural;
use vastgrid::{
    Coord, DeriveOptions, Downsample, Extent, HostBackend, Pool, Pyramid3D, PyramidSource, Region, Scalar,
    SourceError, TileSource,
};

const SIDE: usize = 256;
const HALF: usize = SIDE / 2;

/// A volume in memory.
struct Dense<T>(Arc<Vec<T>>);

impl<T: Scalar> TileSource<T> for Dense<T> {
    fn extent(&self) -> Extent {
        Extent::cube(SIDE as u64)
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        let [x, y, z] = region.start.to_array().map(|v| v as usize);
        let [w, h, _] = region.extent.to_array().map(|v| v as usize);
        for (nth, row) in out.chunks_exact_mut(w).enumerate() {
            let at = x + SIDE * (y + nth % h + SIDE * (z + nth / h));
            row.copy_from_slice(&self.0[at..at + w]);
        }
        Ok(())
    }
}

/// The plain loop: the eight voxels below each, by index.
fn plain<T: Scalar>(fine: &[T], coarse: &mut [T], reduce: impl Fn([T; 8]) -> T) {
    for z in 0..HALF {
        for y in 0..HALF {
            for x in 0..HALF {
                let at = 2 * (x + SIDE * (y + SIDE * z));
                let eight = [0, 1, SIDE, SIDE + 1].map(|d| [fine[at + d], fine[at + d + SIDE * SIDE]]);
                let [[a, b], [c, d], [e, f], [g, h]] = eight;
                coarse[x + HALF * (y + HALF * z)] = reduce([a, b, c, d, e, f, g, h]);
            }
        }
    }
}

fn level<T: Scalar>(label: &str, method: Downsample, fine: Vec<T>, reduce: impl Fn([T; 8]) -> T) {
    let fine = Arc::new(fine);
    let source = Downsampled::new(Dense(fine.clone()), [2, 2, 2], method).unwrap();
    let mut tile = vec![T::zeroed(); 1 << 15];
    let mut coarse = vec![T::zeroed(); HALF * HALF * HALF];
    let ours = || {
        let mut sum = 0.0;
        for nth in 0..64 {
            let start = Coord::new(nth % 4 * 32, nth / 4 % 4 * 32, nth / 16 * 32);
            source.read(Region::new(start, Extent::cube(32)), &mut tile).unwrap();
            sum += tile.iter().step_by(61).map(|v| v.to_f64()).sum::<f64>();
        }
        // Only so that both have done it: the plain loop's sum is over other voxels.
        f64::from(u8::from(sum.is_finite()))
    };
    paired(label, (HALF * HALF * HALF) as f64, 15, 3.0, ours, || {
        plain(&fine, &mut coarse, &reduce);
        let sum = coarse.iter().step_by(61).map(|v| v.to_f64()).sum::<f64>();
        f64::from(u8::from(sum.is_finite()))
    });
}

fn first(label: &str, source: impl Fn() -> PyramidSource<u16>) {
    let mut times: Vec<_> = (0..rounds(15))
        .map(|_| {
            let pool = Pool::new(HostBackend::new(), 256 << 20).unwrap();
            let source = source();
            let start = Instant::now();
            let pyramid = Pyramid3D::builder(&pool, source).build().unwrap();
            let took = start.elapsed().as_secs_f64();
            assert!(pyramid.coarsest_failures().is_empty());
            took
        })
        .collect();
    let middle = median(&mut times) * 1e3;
    let verdict = if middle <= 100.0 { "within" } else { "ABOVE" };
    println!(
        "{label:<44} {middle:9.2} ms ({verdict} the target of 100 ms; {:.2} to {:.2})",
        times[0] * 1e3,
        times[times.len() - 1] * 1e3
    );
}

fn main() {
    let whole = Extent::cube(2048);
    let distance = |x: f64, y: f64, z: f64| {
        let [x, y, z] = [x - 1024.0, y - 1024.0, z - 1024.0];
        (x * x + y * y + z * z).sqrt() as u16
    };
    first("first coarse level, by formula", || {
        PyramidSource::procedural(whole, move |[x, y, z]| distance(x, y, z)).unwrap()
    });
    first("first coarse level, single voxels stand in", || {
        let volume = Procedural::new(whole, move |c| distance(c.x as f64, c.y as f64, c.z as f64));
        PyramidSource::derive(volume, Downsample::Mean, DeriveOptions::default()).unwrap()
    });

    let mut random = SplitMix(9);
    let mut words: Vec<u64> = Vec::new();
    words.resize_with(SIDE.pow(3), || random.next());
    let u16s: Vec<u16> = words.iter().map(|&w| w as u16).collect();
    let f32s: Vec<f32> = words.iter().map(|&w| (w >> 40) as f32).collect();
    let labels: Vec<u8> = words.iter().map(|&w| u8::from(w % 16 == 0)).collect();
    level("mean of u16", Downsample::Mean, u16s.clone(), |v| {
        ((v.iter().map(|&v| u32::from(v)).sum::<u32>() + 4) / 8) as u16
    });
    level("max of u16", Downsample::Max, u16s, |v| v.into_iter().fold(0, u16::max));
    level("mean of f32", Downsample::Mean, f32s, |v| v.iter().sum::<f32>() / 8.0);
    level("mode of u8", Downsample::Mode, labels, |mut v| {
        v.sort_unstable();
        let count = |value: u8| v.iter().map(|&w| usize::from(w == value)).sum::<usize>();
        v.iter()
            .copied()
            .fold((0, 0), |best, value| {
                let times = count(value);
                if times > best.1 { (value, times) } else { best }
            })
            .0
    });
}
