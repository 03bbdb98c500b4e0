//! Do pages along a space-filling curve read faster than in row-major order?
//!
//! 128^3 pages of 4 KiB (8 GiB of address space), of which those on a spherical shell have memory: the narrow band of a level set, where neighbours in space are far
//! apart in memory. Two walks: block by block (a sweep), and along rays through the shell (a caster). Each visit tests the bits of the page and its six neighbours and
//! reads one voxel of the page.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

mod common;

use common::{SplitMix, paired};

const SIDE: usize = 128;
const PAGE: usize = 4096;

fn row_major([x, y, z]: [usize; 3]) -> usize {
    x + SIDE * (y + SIDE * z)
}

fn spread(v: usize) -> usize {
    (0..7).map(|bit| (v >> bit & 1) << (3 * bit)).sum()
}

/// One axis of the curve by table, as a library would.
struct Curve([usize; SIDE]);

impl Curve {
    fn at(&self, [x, y, z]: [usize; 3]) -> usize {
        self.0[x] | self.0[y] << 1 | self.0[z] << 2
    }
}

/// Memory and bits in one order.
struct Pages<F> {
    memory: Vec<u8>,
    bits: Vec<u64>,
    order: F,
}

impl<F: Fn([usize; 3]) -> usize> Pages<F> {
    fn new(shell: &[[usize; 3]], order: F) -> Self {
        // Zeroed memory of this size comes page by page, as it is written.
        let mut pages = Self { memory: vec![0; SIDE.pow(3) * PAGE], bits: vec![0; SIDE.pow(3) / 64], order };
        for &p in shell {
            let at = (pages.order)(p);
            pages.memory[at * PAGE] = (p[0] ^ p[1] ^ p[2]) as u8;
            pages.bits[at >> 6] |= 1 << (at & 63);
        }
        pages
    }

    fn visit(&self, p: [usize; 3]) -> u64 {
        let bit = |p: [usize; 3]| {
            let at = (self.order)(p);
            self.bits[at >> 6] >> (at & 63) & 1
        };
        let mut near = 0;
        for axis in 0..3 {
            for step in [0, 2] {
                let mut q = p;
                q[axis] = (q[axis] + step).saturating_sub(1).min(SIDE - 1);
                near += bit(q);
            }
        }
        if bit(p) == 1 { near + u64::from(self.memory[(self.order)(p) * PAGE]) } else { near }
    }

    fn walk(&self, visits: &[[usize; 3]]) -> f64 {
        visits.iter().map(|&p| self.visit(p)).sum::<u64>() as f64
    }
}

fn main() {
    let centre = SIDE as f64 / 2.0;
    let all = || (0..SIDE.pow(3)).map(|i| [i % SIDE, i / SIDE % SIDE, i / SIDE / SIDE]);
    let radius = |p: &[usize; 3]| p.iter().map(|&v| (v as f64 + 0.5 - centre).powi(2)).sum::<f64>().sqrt();
    let shell: Vec<_> = all().filter(|p| (radius(p) - 50.0).abs() < 0.9).collect();
    let mut sweep = shell.clone();
    sweep.sort_by_key(|p| (p[2] / 8, p[1] / 8, p[0] / 8, p[2], p[1], p[0]));
    let mut random = SplitMix(7);
    let mut unit = || random.next() as f64 / u64::MAX as f64 * SIDE as f64;
    let mut rays = Vec::new();
    for _ in 0..4000 {
        let (from, to) = ([unit(), unit(), 0.0], [unit(), unit(), SIDE as f64]);
        rays.extend((0..SIDE).map(|step| {
            let t = (step as f64 + 0.5) / SIDE as f64;
            std::array::from_fn(|i| ((from[i] + (to[i] - from[i]) * t) as usize).min(SIDE - 1))
        }));
    }
    println!("{} pages of {} have memory", shell.len(), SIDE.pow(3));

    let rows = Pages::new(&shell, row_major);
    let table: [usize; SIDE] = std::array::from_fn(spread);
    let curve = Curve(table);
    let curved = Pages::new(&shell, move |p| curve.at(p));
    for (name, walk) in [("sweep", &sweep), ("rays", &rays)] {
        let label = format!("row-major against Morton order, {name}");
        paired(&label, walk.len() as f64, 15, 1.0, || rows.walk(walk), || curved.walk(walk));
    }
}
