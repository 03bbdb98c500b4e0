//! Owns `--demo huge`: a porous planet of 32 768 voxels a side, computed where and when it is looked at, each level by itself. Knows nothing of how it is shown.
//!
//! ```text
//!   a ball, out of which three-periodic labyrinths are cut: tunnels of 7 000 voxels, in their walls tunnels of 1 100, in whose walls ... down to pores of 26
//!   value    0 outside, 140 to 250 inside, by strata and depth; the surface is as sharp as a level's voxels allow
//! ```
//!
//! A labyrinth is a sum of products of one function along each axis, so a box of voxels takes tables along its edges and a few multiplications for each voxel.

use vastgrid::source::{BoxedSource, Procedural};
use vastgrid::{Extent, LevelGeometry, PyramidSource, Region};

use crate::Failure;

/// Voxels along each side of level 0.
pub(crate) const SIDE: u32 = 1 << 15;
/// The coarsest level has 64 voxels a side: it is computed before the first picture.
const LEVELS: u8 = 10;

const RADIUS: f64 = 15_400.0;

/// A labyrinth: the material where its wave is above a threshold stays.
struct Labyrinth {
    /// Voxels of level 0 in a period, along each axis.
    period: [f64; 3],
    phase: [f64; 3],
    /// From -1.5, nothing is cut, to 1.5, all of it; but for the first more of it in some strata than in others.
    threshold: f64,
}

/// No two periods are in simple proportion, so no place looks like another.
const LABYRINTHS: [Labyrinth; 5] = [
    Labyrinth { period: [7130.0, 7610.0, 6890.0], phase: [0.4, 1.9, 5.1], threshold: 0.25 },
    Labyrinth { period: [1170.0, 1090.0, 1230.0], phase: [2.1, 0.3, 4.4], threshold: -0.85 },
    Labyrinth { period: [283.0, 307.0, 271.0], phase: [1.2, 3.3, 0.8], threshold: -0.9 },
    Labyrinth { period: [79.0, 73.0, 83.0], phase: [5.0, 2.2, 1.1], threshold: -0.95 },
    Labyrinth { period: [26.0, 27.5, 25.0], phase: [0.9, 4.1, 2.7], threshold: -1.0 },
];

/// How far a threshold is moved by the stratum one size larger.
const VARIED: f64 = 0.6;

/// Strata: waves of the value along bent planes; wave numbers in periods of level 0, and how much of the value they are.
const STRATA: [([f64; 3], f64); 4] = [
    ([11_000.0, 13_000.0, 9_000.0], 0.42),
    ([2_300.0, 1_900.0, 2_900.0], 0.30),
    ([410.0, 530.0, 310.0], 0.16),
    ([61.0, 83.0, 47.0], 0.12),
];

/// The levels of the planet, each computed from the formula at the size of its own voxels, and read through what `through` makes of it.
pub(crate) fn huge(
    through: impl Fn(Procedural<u8>) -> BoxedSource<u8>,
) -> Result<PyramidSource<u8>, Failure> {
    let full = Extent::cube(SIDE.into());
    let mut builder = PyramidSource::builder();
    for level in 0..LEVELS {
        let factor = f64::from(1u32 << level);
        let geometry = LevelGeometry::new(full, [factor; 3]);
        let source = Procedural::by_region(geometry.extent(), move |region, out| fill(factor, region, out))
            .with_uniform(move |region| is_empty(factor, region).then_some(0));
        builder = builder.level([factor; 3], through(source));
    }
    Ok(builder.build()?)
}

/// Sine and cosine of a wave along one axis of a box.
type Waves = Vec<(f32, f32)>;

/// Waves of one kind along the three axes.
struct Axes([Waves; 3]);

impl Axes {
    fn new(period: [f64; 3], phase: [f64; 3], centres: &[Vec<f64>; 3]) -> Self {
        Self([0, 1, 2].map(|axis| {
            let turn = std::f64::consts::TAU / period[axis];
            let wave = |&at: &f64| {
                // The period itself varies, slowly.
                let bent = at + 0.31 * period[axis] * (at * turn * 0.23 + phase[axis]).sin();
                let (sin, cos) = (bent * turn + phase[axis]).sin_cos();
                #[expect(clippy::cast_possible_truncation, reason = "from -1 to 1")]
                let narrow = (sin as f32, cos as f32);
                narrow
            };
            centres[axis].iter().map(wave).collect()
        }))
    }

    /// The gyroid: from -1.5 to 1.5.
    #[inline]
    fn gyroid(&self, [x, y, z]: [usize; 3]) -> f32 {
        let [(sx, cx), (sy, cy), (sz, cz)] = [self.0[0][x], self.0[1][y], self.0[2][z]];
        sx * cy + sy * cz + sz * cx
    }
}

/// A labyrinth at one level.
struct Cut {
    axes: Axes,
    threshold: f32,
    /// Voxels of level 0 for a unit of the wave, about.
    scale: f32,
    /// How much of it the level's voxels can show, from 0 to 1.
    shown: f32,
}

fn centres(factor: f64, region: Region) -> [Vec<f64>; 3] {
    let (start, extent) = (region.start.to_array(), region.extent.to_array());
    let centre = |at: u64| (at as f64 + 0.5) * factor;
    [0, 1, 2].map(|axis| (start[axis]..start[axis] + extent[axis]).map(centre).collect())
}

/// How much of a wave can be shown by voxels of that size: nothing below five in a period, all from fourteen on.
#[expect(clippy::cast_possible_truncation, reason = "from 0 to 1")]
fn shown(period: [f64; 3], factor: f64) -> f32 {
    let voxels = period.into_iter().fold(f64::INFINITY, f64::min) / factor;
    ((voxels - 5.0) / 9.0).clamp(0.0, 1.0) as f32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 250")]
fn fill(factor: f64, region: Region, out: &mut [u8]) {
    let centres = centres(factor, region);
    let middle = f64::from(SIDE) / 2.0;
    let squares = [0, 1, 2].map(|a| centres[a].iter().map(|at| (at - middle).powi(2)).collect::<Vec<_>>());
    let cuts: Vec<_> = LABYRINTHS
        .iter()
        .map(|Labyrinth { period, phase, threshold }| Cut {
            axes: Axes::new(*period, *phase, &centres),
            threshold: *threshold as f32,
            scale: (0.75 * period[0] / std::f64::consts::TAU) as f32,
            shown: shown(*period, factor),
        })
        .filter(|cut| cut.shown > 0.0)
        .collect();
    let strata: Vec<_> = STRATA
        .iter()
        .map(|(period, part)| {
            (Axes::new(*period, [0.7, 2.9, 1.3], &centres), *part as f32 * shown(*period, factor))
        })
        .collect();
    // The surface takes a voxel and a half, whatever its size.
    let sharpness = (1.0 / (1.5 * factor)) as f32;
    let mut voxels = out.iter_mut();
    for z in 0..centres[2].len() {
        for y in 0..centres[1].len() {
            for x in 0..centres[0].len() {
                let Some(out) = voxels.next() else { return };
                let far = (squares[0][x] + squares[1][y] + squares[2][z]).sqrt();
                let mut inside = (RADIUS - far) as f32;
                let (mut material, mut varied) = (0.0, 0.0);
                for (i, cut) in cuts.iter().enumerate() {
                    if inside * sharpness < -0.5 {
                        break;
                    }
                    let depth = (cut.axes.gyroid([x, y, z]) - cut.threshold - varied) * cut.scale;
                    if let Some((axes, part)) = strata.get(i) {
                        let stratum = axes.gyroid([x, y, z]);
                        material += part * stratum;
                        varied = VARIED as f32 * stratum;
                    }
                    // What cannot be shown sharp fades into the whole.
                    let depth = depth + (1.0 - cut.shown) * 2.0 * cut.scale;
                    inside = inside.min(depth);
                }
                let share = (0.5 + inside * sharpness).clamp(0.0, 1.0);
                if share <= 0.0 {
                    *out = 0;
                    continue;
                }
                // The crust is cold, the core warm.
                let warmth = (1.0 - (far / RADIUS) as f32).max(0.0).sqrt();
                *out = (share * (148.0 + 70.0 * warmth + 48.0 * material).clamp(140.0, 250.0)) as u8;
            }
        }
    }
}

/// Whether a box of a level is known to hold nothing: it lies outside the ball, or in a tunnel.
fn is_empty(factor: f64, region: Region) -> bool {
    let (start, extent) = (region.start.to_array(), region.extent.to_array());
    let low = start.map(|at| at as f64 * factor);
    let high = [0, 1, 2].map(|a| (start[a] + extent[a]) as f64 * factor);
    let middle = f64::from(SIDE) / 2.0;
    let margin = 2.0 * factor;
    let nearest = [0, 1, 2].map(|a| (low[a] - middle).max(middle - high[a]).max(0.0).powi(2));
    if nearest.iter().sum::<f64>().sqrt() > RADIUS + margin {
        return true;
    }
    let half = [0, 1, 2].map(|a| (high[a] - low[a]) / 2.0);
    let half_diagonal = half.iter().map(|h| h * h).sum::<f64>().sqrt() + margin;
    let at_middle = [0, 1, 2].map(|a| vec![low[a] + half[a]]);
    LABYRINTHS.iter().enumerate().any(|(i, Labyrinth { period, phase, threshold })| {
        let threshold = if i == 0 { *threshold } else { threshold - 1.5 * VARIED };
        let least = period.iter().copied().fold(f64::INFINITY, f64::min);
        // No wave rises faster than this, its bending included.
        let rise = 3.0f64.sqrt() * 1.45 * std::f64::consts::TAU / least * half_diagonal;
        let faded = (1.0 - f64::from(shown(*period, factor))) * 2.0;
        rise < 1.5 && {
            let wave = f64::from(Axes::new(*period, *phase, &at_middle).gyroid([0; 3]));
            wave + rise + faded < threshold - margin / (0.75 * period[0] / std::f64::consts::TAU)
        }
    })
}
