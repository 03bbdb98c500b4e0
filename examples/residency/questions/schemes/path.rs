//! Owns the camera's path: which tiles each frame wants, and where it takes samples of them.

use super::sampling::{FRACTION, Point, Ray};
use super::volume::Shape;
use crate::measure::SplitMix;

/// From 0 up to 1.
fn fraction(random: &mut SplitMix) -> f64 {
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number below `n`; 0 where there is none.
#[expect(clippy::cast_possible_truncation, reason = "less than 32 bits")]
fn below(random: &mut SplitMix, n: u32) -> u32 {
    random.below(n.into()) as u32
}

/// A box of tiles, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiles {
    pub(crate) first: [u32; 3],
    pub(crate) size: [u32; 3],
}

impl Tiles {
    /// The largest of a shape's boxes with that many tiles or fewer that comes of halving the longest axis again and again.
    pub(crate) fn halved(shape: Shape, tiles: u32) -> Self {
        let mut size = shape.tiles();
        while size.iter().product::<u32>() > tiles.max(1) {
            // Of equally long ones the last, so that slices along x stay many.
            if let Some(longest) = size.iter_mut().max() {
                *longest /= 2;
            }
        }
        Self { first: [0; 3], size }
    }

    pub(crate) fn count(self) -> u32 {
        self.size.iter().product()
    }

    /// Adds the numbers of its tiles.
    pub(crate) fn list(self, shape: Shape, out: &mut Vec<u32>) {
        let [x, y, z] = self.first;
        for c in z..z + self.size[2] {
            for b in y..y + self.size[1] {
                out.extend((x..x + self.size[0]).map(|a| shape.index([a, b, c])));
            }
        }
    }

    /// Where samples may lie, half-open: their eight voxels are all in the box.
    fn bounds(self, shape: Shape) -> [Point; 2] {
        let end = shape.first_voxel(std::array::from_fn(|k| self.first[k] + self.size[k]));
        [shape.first_voxel(self.first).map(|v| v << FRACTION), end.map(|v| (v - 1) << FRACTION)]
    }
}

/// How wanted tiles move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A box that moves on by a tile along one axis, mostly the one it moved along before.
    Flight,
    /// A slice of one tile's thickness, forth and back along x.
    Slices,
    /// Tiles anywhere, other ones each frame.
    Probes,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Flight, Self::Slices, Self::Probes];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flight => "flight",
            Self::Slices => "slices",
            Self::Probes => "probes",
        }
    }
}

/// What one frame asks for.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) tiles: Vec<u32>,
    pub(crate) work: Work,
}

/// Samples to be taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    pub(crate) rays: Vec<Ray>,
    /// Samples of all rays together.
    pub(crate) along: u64,
    pub(crate) points: Vec<Point>,
}

impl Work {
    /// About `along` samples along parallel oblique rays that fill the boxes evenly, neighbours after each other, and `points` samples anywhere in them.
    pub(crate) fn in_boxes(
        shape: Shape,
        boxes: &[Tiles],
        (along, points): (u32, u32),
        random: &mut SplitMix,
    ) -> Self {
        let mut work = Self::default();
        for &one in boxes {
            // Oblique: at least a fifth of the way along every axis.
            let direction = std::array::from_fn(|_| 0.25 + fraction(random));
            work.add_rays(one.bounds(shape), direction, f64::from(along) / boxes.len() as f64);
        }
        for _ in 0..points {
            let [first, end] =
                boxes[below(random, u32::try_from(boxes.len()).unwrap_or(1)) as usize].bounds(shape);
            work.points.push(std::array::from_fn(|k| first[k] + below(random, end[k] - first[k])));
        }
        work
    }

    /// Rays alone, in another direction than oblique: of which no part may be negative, and those along x or y not both the whole of it.
    pub(crate) fn along(shape: Shape, one: Tiles, direction: [f64; 3], samples: u32) -> Self {
        let mut work = Self::default();
        work.add_rays(one.bounds(shape), direction, samples.into());
        work
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the box")]
    fn add_rays(&mut self, [first, end]: [Point; 2], direction: [f64; 3], samples: f64) {
        const STEP: f64 = 0.8;
        let one_voxel = f64::from(1 << FRACTION);
        let (low, high) = (first.map(|v| f64::from(v) / one_voxel), end.map(|v| f64::from(v) / one_voxel));
        let unit = |v: [f64; 3]| {
            let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            v.map(|v| v / length)
        };
        let cross = |a: [f64; 3], b: [f64; 3]| {
            [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
        };
        let along = unit(direction);
        let right = unit(cross(along, [0.0, 0.0, 1.0]));
        let up = cross(right, along);
        let step = along.map(|v| ((v * STEP * one_voxel) as u32).max(1));
        let centre: [f64; 3] = std::array::from_fn(|k| f64::midpoint(low[k], high[k]));
        let size: [f64; 3] = std::array::from_fn(|k| high[k] - low[k]);
        let apart = (size.iter().product::<f64>() / (samples * STEP)).sqrt();
        let radius = size.iter().map(|v| v * v).sum::<f64>().sqrt() / 2.0;
        let across = (radius / apart).ceil() as i32;
        for j in -across..=across {
            for i in -across..=across {
                let through: [f64; 3] = std::array::from_fn(|k| {
                    centre[k] + apart * (f64::from(i) * right[k] + f64::from(j) * up[k])
                });
                let enters =
                    (0..3).map(|k| (low[k] - through[k]) / along[k]).fold(f64::NEG_INFINITY, f64::max);
                let leaves = (0..3).map(|k| (high[k] - through[k]) / along[k]).fold(f64::INFINITY, f64::min);
                if enters >= leaves {
                    continue;
                }
                let start: Point = std::array::from_fn(|k| {
                    let at = (through[k] + enters * along[k]) * one_voxel;
                    (at as u32).clamp(first[k], end[k] - 1)
                });
                let steps = |k: usize| (end[k] - 1 - start[k]) / step[k] + 1;
                let samples = steps(0).min(steps(1)).min(steps(2));
                self.along += u64::from(samples);
                self.rays.push(Ray { first: start, step, samples });
            }
        }
    }
}

/// What a path is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Of how many tiles the whole path is.
    pub(crate) set_tiles: u32,
    /// The most that one frame wants.
    pub(crate) frame_tiles: u32,
    pub(crate) frames: usize,
    /// Samples of a frame along rays, and at points.
    pub(crate) samples: (u32, u32),
}

impl Plan {
    /// The tiles that the path moves in.
    pub(crate) fn set(self) -> Tiles {
        Tiles::halved(self.shape, self.set_tiles)
    }

    pub(crate) fn frames(self, random: &mut SplitMix) -> Vec<Frame> {
        let set = self.set();
        let mut mover = Mover::new(self, random);
        (0..self.frames)
            .map(|number| {
                let boxes = mover.boxes(number, set, random);
                let mut tiles = Vec::new();
                for one in &boxes {
                    one.list(self.shape, &mut tiles);
                }
                tiles.sort_unstable();
                tiles.dedup();
                Frame { tiles, work: Work::in_boxes(self.shape, &boxes, self.samples, random) }
            })
            .collect()
    }
}

/// Where the wanted tiles are, and where they go next.
struct Mover {
    kind: Kind,
    wanted: Tiles,
    frame_tiles: u32,
    axis: usize,
    forward: [bool; 3],
}

impl Mover {
    fn new(plan: Plan, random: &mut SplitMix) -> Self {
        let set = plan.set();
        // Half the set at most, so that there is somewhere to go.
        let mut wanted = Tiles::halved(plan.shape, plan.frame_tiles.min(set.count() / 2));
        for k in 0..3 {
            wanted.size[k] = wanted.size[k].min(set.size[k]);
            wanted.first[k] = below(random, set.size[k] - wanted.size[k] + 1);
        }
        Self { kind: plan.kind, wanted, frame_tiles: plan.frame_tiles, axis: 0, forward: [true; 3] }
    }

    fn boxes(&mut self, number: usize, set: Tiles, random: &mut SplitMix) -> Vec<Tiles> {
        match self.kind {
            Kind::Flight => {
                self.fly(set, random);
                vec![self.wanted]
            }
            Kind::Slices => {
                let last = set.size[0] - 1;
                let at = u32::try_from(number).unwrap_or(0) % (2 * last).max(1);
                let (x, size) = (at.min(2 * last - at), [1, set.size[1], set.size[2]]);
                vec![Tiles { first: [x, 0, 0], size }]
            }
            Kind::Probes => (0..(self.frame_tiles / 2).min(set.count() / 2).max(1))
                .map(|_| Tiles { first: set.size.map(|size| below(random, size)), size: [1; 3] })
                .collect(),
        }
    }

    fn fly(&mut self, set: Tiles, random: &mut SplitMix) {
        let room = |k: usize, wanted: &Tiles| set.size[k] - wanted.size[k];
        if below(random, 4) == 0 || room(self.axis, &self.wanted) == 0 {
            let turned = below(random, 3) as usize;
            let axes = (0..3).map(|k| (turned + k) % 3);
            self.axis = axes.into_iter().find(|&k| room(k, &self.wanted) > 0).unwrap_or(0);
        }
        let (k, room) = (self.axis, room(self.axis, &self.wanted));
        if room == 0 {
            return;
        }
        let at = self.wanted.first[k];
        if at == if self.forward[k] { room } else { 0 } {
            self.forward[k] = !self.forward[k];
        }
        self.wanted.first[k] = if self.forward[k] { at + 1 } else { at - 1 };
    }
}
