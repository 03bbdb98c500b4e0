//! What the benches share: timing two things in turn, and the fixed workload G1024.
#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

use std::hint::black_box;
use std::time::Instant;

use vastgrid::source::Procedural;
use vastgrid::{Backend, Coord, Error, Extent, HostBackend, Pool, SparseArray3D, TileCoord};

pub(crate) mod device;
pub(crate) mod field;
pub(crate) mod nanovdb;
pub(crate) mod plain;
pub(crate) mod race;
pub(crate) mod reads;

/// Whether this is only to see that everything runs: `cargo bench -- --test`, as Criterion has it. Every case is run then, once, and at the smallest size that shows something; peers, and files from elsewhere, are
/// left out.
pub(crate) fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// One of two, by whether this is a test.
pub(crate) fn size<T>(measured: T, tested: T) -> T {
    if is_test() { tested } else { measured }
}

/// So many rounds, or one.
pub(crate) fn rounds(measured: usize) -> usize {
    size(measured, 1)
}

/// What an environment variable says, such as where a peer is; nothing of that in a test.
pub(crate) fn variable(name: &str) -> Option<String> {
    if is_test() { None } else { std::env::var(name).ok() }
}

/// Times `ours` and `theirs` in turn, `rounds` times each after a warm-up, and prints both medians per item and the median of the ratios of neighbouring runs:
/// what a machine that drifts does to one it does to the other.
pub(crate) fn paired(
    label: &str,
    items: f64,
    rounds: usize,
    target: f64,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> f64 {
    let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let agree = (ours(), theirs());
    assert!(
        (agree.0 - agree.1).abs() <= 1e-6 * agree.1.abs(),
        "{label}: {} and {} must agree",
        agree.0,
        agree.1
    );
    for _ in 0..self::rounds(rounds) {
        let (x, y) = (time(&mut ours), time(&mut theirs));
        a.push(x);
        b.push(y);
        ratios.push(x / y);
    }
    let ratio = median(&mut ratios);
    let verdict = if ratio <= target { "within" } else { "ABOVE" };
    println!(
        "{label:<44} ours {:9.2} ns, theirs {:9.2} ns, ratio {ratio:.3} ({verdict} the target of {target:.2}; {:.3} to {:.3})",
        median(&mut a) * 1e9 / items,
        median(&mut b) * 1e9 / items,
        ratios[0],
        ratios[ratios.len() - 1],
    );
    ratio
}

fn time(f: &mut impl FnMut() -> f64) -> f64 {
    let start = Instant::now();
    black_box(f());
    start.elapsed().as_secs_f64()
}

/// The median; sorts.
pub(crate) fn median(v: &mut [f64]) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// The generator of the workload (splitmix64, Steele, Lea, Flood 2014).
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// The numbers below `n`, shuffled.
    pub(crate) fn shuffled(&mut self, n: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..n).collect();
        for i in (1..n as usize).rev() {
            all.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        all
    }
}

/// Workload G1024: 1024^3 f32 voxels in tiles of 64^3, of which 205 (5 %) are active, chosen at random.
pub(crate) struct G1024 {
    /// Active tiles, as x + 16 y + 256 z.
    pub(crate) tiles: Vec<u32>,
    /// Active tiles that touch no face of the domain: 16 of them, in order.
    pub(crate) inner: Vec<u32>,
    /// 2^22 voxels of active tiles, at random.
    pub(crate) active: Vec<Coord>,
    /// 2^22 voxels of the whole domain, at random: 95 % of them background.
    pub(crate) anywhere: Vec<Coord>,
    /// 2^18 voxels of active tiles that have all 26 neighbours, at random.
    pub(crate) centres: Vec<Coord>,
}

impl G1024 {
    pub(crate) fn new() -> Self {
        let tiles = SplitMix(1).shuffled(4096)[..205].to_vec();
        let mut inner = tiles.clone();
        inner.sort_unstable();
        let inside = |t: u32| (1..15).contains(&t);
        inner.retain(|t| inside(t & 15) && inside(t >> 4 & 15) && inside(t >> 8));
        inner.truncate(16);
        let pick = |g: &mut SplitMix| {
            let first = Self::origin(tiles[(g.next() % 205) as usize]);
            let q = g.next();
            Coord::new(first.x + (q & 63), first.y + (q >> 6 & 63), first.z + (q >> 12 & 63))
        };
        let mut g = SplitMix(2);
        let active = (0..1 << 22).map(|_| pick(&mut g)).collect();
        let mut g = SplitMix(4);
        let inside = |c: Coord| Coord::from(c.to_array().map(|v| v.clamp(1, 1022)));
        let centres = (0..1 << 18).map(|_| inside(pick(&mut g))).collect();
        let mut g = SplitMix(3);
        let anywhere = (0..1 << 22)
            .map(|_| {
                let q = g.next() & 0x3fff_ffff;
                Coord::new(q & 1023, q >> 10 & 1023, q >> 20)
            })
            .collect();
        Self { tiles, inner, active, anywhere, centres }
    }

    /// First voxel of a tile.
    pub(crate) fn origin(tile: u32) -> Coord {
        Coord::new(u64::from(tile & 15) * 64, u64::from(tile >> 4 & 15) * 64, u64::from(tile >> 8) * 64)
    }

    pub(crate) fn coord(tile: u32) -> TileCoord {
        TileCoord::new(u64::from(tile & 15), u64::from(tile >> 4 & 15), u64::from(tile >> 8))
    }

    /// The value of every voxel: a hash in [0, 1).
    pub(crate) fn value(c: Coord) -> f32 {
        let h = (c.x as u32).wrapping_mul(73_856_093)
            ^ (c.y as u32).wrapping_mul(19_349_663)
            ^ (c.z as u32).wrapping_mul(83_492_791);
        ((h ^ h >> 13) & 0xffff) as f32 / 65_536.0
    }

    /// The workload as an array in pages of one tile of 1 MiB each, all active tiles resident; the others are known to be background.
    pub(crate) fn array(&self) -> (Pool<HostBackend>, SparseArray3D<f32>) {
        let pool = Pool::new(HostBackend::new(), 256 << 20).unwrap();
        let array = self.array_in(&pool, 1 << 20).unwrap();
        (pool, array)
    }

    /// The same in any pool, in pages of that size.
    pub(crate) fn array_in<B: Backend>(
        &self,
        pool: &Pool<B>,
        page_bytes: u64,
    ) -> Result<SparseArray3D<f32, B>, Error> {
        let active: std::collections::HashSet<u32> = self.tiles.iter().copied().collect();
        let source = Procedural::new(Extent::cube(1024), Self::value).with_uniform(move |region| {
            let t = (region.start.x >> 6) + (region.start.y >> 6 << 4) + (region.start.z >> 6 << 8);
            (!active.contains(&(t as u32))).then_some(0.0)
        });
        let array = SparseArray3D::builder(pool, source).tile([64, 64, 64]).page_bytes(page_bytes).build()?;
        let all: Vec<_> = (0..4096).map(Self::coord).collect();
        let report = array.request(&all)?.complete()?;
        assert_eq!((report.loaded, report.uniform), (205, 4096 - 205));
        Ok(array)
    }
}
