//! Owns what is asked for: [`Asked`], pictures of pages. Those that are made by seed are here, those that were recorded in [`recorded`](super::recorded).
//!
//! | family | what its pictures want |
//! | --- | --- |
//! | flights | what a camera sees of a volume in levels of detail, nearest first: along a winding path, and around something |
//! | slices | planes of a volume, while somebody goes to and fro through them |
//! | probes | pages at random: all alike, or most of them out of a tenth |
//! | scans | a volume from end to end, beside a small part that is looked at again and again |
//! | loops | the same pages in the same order, round after round: at a budget just below them the worst case of LRU |
//! | time steps | a part of a volume, at one time after the other, to and fro |

use std::collections::HashMap;
use std::f64::consts::{PI, TAU};

use vastgrid::trace::Trace;

use super::random::Random;

/// Of pages that are made by seed: what a tile takes where nothing is said about its shape.
const PAGE_BYTES: u64 = 64 << 10;

/// What budgets are parts of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// All pages that are ever wanted.
    Distinct,
    /// What the picture wants that wants most.
    LargestPicture,
}

/// Pictures, one after the other, and which pages each wants.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) family: &'static str,
    pub(super) name: String,
    /// Most urgent first, none twice in a picture. Pages are numbers below `distinct`, in the order in which they are wanted first.
    pub(super) pictures: Vec<Vec<u32>>,
    pub(super) distinct: usize,
    pub(super) page_bytes: u64,
    /// What it was made of, if it was recorded.
    pub(super) recorded: Option<Trace>,
}

impl Asked {
    /// Numbers pages anew.
    pub(super) fn new<P: Copy + Eq + std::hash::Hash>(
        family: &'static str,
        name: &str,
        pictures: Vec<Vec<P>>,
    ) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |page: P| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(page).or_insert(next)
        };
        let pictures = pictures.into_iter().map(|p| p.into_iter().map(&mut number).collect()).collect();
        let (name, distinct) = (name.to_owned(), numbers.len());
        Self { family, name, pictures, distinct, page_bytes: PAGE_BYTES, recorded: None }
    }

    /// Whether a camera made its pictures.
    pub(super) fn is_flight(&self) -> bool {
        self.family == FLIGHTS || self.recorded.is_some()
    }

    pub(super) fn whole(&self) -> Whole {
        if self.is_flight() { Whole::LargestPicture } else { Whole::Distinct }
    }

    /// So many 16ths of the whole, in pages; at least one.
    pub(super) fn pages(&self, sixteenths: usize) -> usize {
        let whole = match self.whole() {
            Whole::Distinct => self.distinct,
            Whole::LargestPicture => self.pictures.iter().map(Vec::len).max().unwrap_or(0),
        };
        (whole * sixteenths / 16).max(1)
    }

    /// Of each picture what so many pages hold: nobody can do more for it.
    pub(super) fn within(&self, pages: usize) -> Vec<&[u32]> {
        self.pictures.iter().map(|picture| &picture[..picture.len().min(pages)]).collect()
    }
}

const FLIGHTS: &str = "flights";

/// All that are made by seed, each of about so many pictures.
pub(super) fn synthetic(seed: u64, pictures: u32) -> Vec<Asked> {
    let mut seeds = Random::new(seed);
    let mut random = || Random::new(seeds.next());
    vec![
        path(&mut random(), pictures),
        orbit(&mut random(), pictures),
        slices(&mut random(), pictures),
        probes(&mut random(), pictures),
        hot_probes(&mut random(), pictures),
        scans(&mut random(), pictures),
        loops(&mut random(), pictures),
        time_steps(&mut random(), pictures),
    ]
}

/// Tiles along each side of the finest level.
const SIDE: f64 = 64.0;
const LEVELS: u32 = 4;
/// As far as that the finest level is wanted, twice as far the next one.
const NEAR: f64 = 10.0;

/// What a camera sees, of each level between two distances, nearest first. In tiles of the finest level.
fn seen(eye: [f64; 3], towards: [f64; 3]) -> Vec<u64> {
    let length = norm(towards).max(1e-9);
    let mut seen = Vec::new();
    for level in 0..LEVELS {
        let (width, last) = (f64::from(1 << level), level + 1 == LEVELS);
        let least = if level == 0 { 0.0 } else { NEAR * width / 2.0 };
        let most = if last { f64::INFINITY } else { NEAR * width };
        let side = SIDE / width;
        let reach = |a: usize, sign: f64| (eye[a] + sign * most) / width;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the grid")]
        let range = |a: usize| {
            (reach(a, -1.0).floor().clamp(0.0, side) as u64)..(reach(a, 1.0).ceil().clamp(0.0, side) as u64)
        };
        for z in range(2) {
            for y in range(1) {
                for x in range(0) {
                    let apart: [f64; 3] =
                        std::array::from_fn(|a| ([x, y, z][a] as f64 + 0.5) * width - eye[a]);
                    let distance = norm(apart);
                    let along = (0..3).map(|a| apart[a] * towards[a]).sum::<f64>() / length;
                    // A cone of 35 degrees to each side, and as much as a tile reaches out of it.
                    let is_in_sight = along >= 0.82 * distance - 0.87 * width;
                    if (least..most).contains(&distance) && is_in_sight {
                        seen.push((distance, u64::from(level) << 48 | z << 32 | y << 16 | x));
                    }
                }
            }
        }
    }
    seen.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    seen.into_iter().map(|(_, tile)| tile).collect()
}

fn norm(v: [f64; 3]) -> f64 {
    v.iter().map(|c| c * c).sum::<f64>().sqrt()
}

/// Time goes on picture by picture, but for some of them at rest every now and then.
fn moments(random: &mut Random, pictures: u32) -> Vec<f64> {
    let (mut now, mut rest) = (0, 0);
    let mut all = Vec::new();
    for _ in 0..pictures {
        all.push(f64::from(now) / f64::from(pictures.max(1)));
        if rest > 0 {
            rest -= 1;
        } else if random.below(40) == 0 {
            rest = random.below(8);
        } else {
            now += 1;
        }
    }
    all
}

/// Along a winding path through the volume, looking ahead.
fn path(random: &mut Random, pictures: u32) -> Asked {
    let turns: [[f64; 2]; 3] = std::array::from_fn(|_| [0.5 + random.unit(), TAU * random.unit()]);
    let at = |t: f64| turns.map(|[turns, phase]| SIDE * (0.5 + 0.4 * (TAU * turns * t + phase).sin()));
    let view = |t: f64| {
        let (eye, ahead) = (at(t), at(t + 0.02));
        seen(eye, std::array::from_fn(|a| ahead[a] - eye[a]))
    };
    let pictures = moments(random, pictures).into_iter().map(view).collect();
    Asked::new(FLIGHTS, "path", pictures)
}

/// Around something, nearer and farther, and back.
fn orbit(random: &mut Random, pictures: u32) -> Asked {
    let target: [f64; 3] = std::array::from_fn(|_| SIDE * (0.4 + 0.2 * random.unit()));
    let (from, span, tilt) = (TAU * random.unit(), 1.0 + random.unit(), random.unit() - 0.5);
    let view = |t: f64| {
        let angle = from + PI * span * (PI * t).sin();
        let distance = SIDE * (0.35 + 0.1 * (TAU * t).cos());
        let out = [angle.cos() * tilt.cos(), angle.sin() * tilt.cos(), tilt.sin()];
        seen(std::array::from_fn(|a| target[a] + distance * out[a]), out.map(|c| -c))
    };
    let pictures = moments(random, pictures).into_iter().map(view).collect();
    Asked::new(FLIGHTS, "orbit", pictures)
}

/// Planes of a volume of 32^3 tiles. Somebody drags one along, to and fro, and takes another axis now and then.
fn slices(random: &mut Random, pictures: u32) -> Asked {
    const TILES: u32 = 32;
    let (mut axis, mut speed) = (0, 0.3);
    let mut at: [f64; 3] = std::array::from_fn(|_| f64::from(TILES) * random.unit());
    let mut planes = Vec::new();
    for _ in 0..pictures {
        match random.below(60) {
            0 => axis = random.below(3) as usize,
            1..=4 => speed = 1.6 * random.unit() - 0.8,
            _ => {}
        }
        let most = f64::from(TILES) - 0.5;
        if !(0.0..=most).contains(&(at[axis] + speed)) {
            speed = -speed;
        }
        at[axis] = (at[axis] + speed).clamp(0.0, most);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the grid")]
        let plane = at[axis] as u32;
        let tile = |i: u32| {
            let mut tile = [plane; 3];
            (tile[(axis + 1) % 3], tile[(axis + 2) % 3]) = (i % TILES, i / TILES);
            tile
        };
        planes.push((0..TILES * TILES).map(tile).collect());
    }
    Asked::new("slices", "slices", planes)
}

/// 64 pages of 4096 at random.
fn probes(random: &mut Random, pictures: u32) -> Asked {
    let pictures = (0..pictures).map(|_| random.some_below(4096, 64)).collect();
    Asked::new("probes", "probes, all alike", pictures)
}

/// 64 pages of 4096, nine in ten of them of the first tenth.
fn hot_probes(random: &mut Random, pictures: u32) -> Asked {
    let mut picture = || {
        let hot = random.some_below(409, 58);
        hot.into_iter().chain(random.some_below(3687, 6).into_iter().map(|page| 409 + page)).collect()
    };
    let pictures = (0..pictures).map(|_| picture()).collect();
    Asked::new("probes", "probes, most of a tenth", pictures)
}

/// From end to end of 4096 pages, 48 a picture, beside 16 of 256 others.
fn scans(random: &mut Random, pictures: u32) -> Asked {
    let mut picture = |nth: u32| {
        let looked_at = random.some_below(256, 16).into_iter();
        looked_at.chain((0..48).map(|i| 256 + (48 * nth + i) % 4096)).collect()
    };
    let pictures = (0..pictures).map(&mut picture).collect();
    Asked::new("scans", "scans beside a hot part", pictures)
}

/// 1024 pages in the same order, 32 a picture.
fn loops(random: &mut Random, pictures: u32) -> Asked {
    let order = random.some_below(1024, 1024);
    let of = |nth: u32| (0..32).map(|i| order[((32 * nth + i) % 1024) as usize]).collect();
    Asked::new("loops", "loops", (0..pictures).map(of).collect())
}

/// A box of 8^3 tiles at one of 24 times: played, and gone back in; the box moves a little.
fn time_steps(random: &mut Random, pictures: u32) -> Asked {
    const TIMES: u32 = 24;
    let (mut time, mut forwards, mut corner) = (0, true, [20_u32; 3]);
    let mut all = Vec::new();
    for _ in 0..pictures {
        match random.below(30) {
            0 => forwards = !forwards,
            1 => time = random.below(TIMES),
            2 | 3 => {
                let axis = random.below(3) as usize;
                corner[axis] = (corner[axis] + 2 * random.below(2)).saturating_sub(1).min(40);
            }
            _ => {}
        }
        time = (time + if forwards { 1 } else { TIMES - 1 }) % TIMES;
        let tile = |i: u32| [time, corner[0] + i % 8, corner[1] + i / 8 % 8, corner[2] + i / 64];
        all.push((0..512).map(tile).collect());
    }
    Asked::new("time steps", "time steps", all)
}
