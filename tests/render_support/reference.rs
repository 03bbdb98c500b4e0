//! A ray caster as plain as can be, in double precision: no bricks, no skipping, no tables.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "small volumes"
)]

use vastgrid::render::{Camera, Mode, Options, Shading, TransferFunction};
use vastgrid::{Extent, Scalar};

/// A dense volume that is sampled at any place.
pub(crate) struct Field {
    voxels: Vec<f64>,
    size: [i64; 3],
}

impl Field {
    pub(crate) fn new<T: Scalar>(voxels: &[T], extent: Extent) -> Self {
        let size = extent.to_array().map(|n| n as i64);
        Self { voxels: voxels.iter().map(|v| f64::from(v.to_f32())).collect(), size }
    }

    fn voxel(&self, p: [i64; 3]) -> f64 {
        let [x, y, z] = [0, 1, 2].map(|a| p[a].clamp(0, self.size[a] - 1));
        self.voxels[(x + self.size[0] * (y + self.size[1] * z)) as usize]
    }

    /// Trilinear, `p` in voxels from the first voxel's centre.
    fn value(&self, p: [f64; 3], of: impl Fn([i64; 3]) -> f64) -> f64 {
        let p: [f64; 3] = std::array::from_fn(|a| p[a].clamp(0.0, (self.size[a] - 1) as f64));
        let (base, f) = (p.map(|v| v.floor() as i64), p.map(|v| v - v.floor()));
        let mut sum = 0.0;
        for corner in 0..8 {
            let on = |a: usize| corner >> a & 1;
            let weight: f64 = (0..3).map(|a| if on(a) == 1 { f[a] } else { 1.0 - f[a] }).product();
            sum += weight * of([base[0] + on(0), base[1] + on(1), base[2] + on(2)]);
        }
        sum
    }

    fn sample(&self, p: [f64; 3]) -> f64 {
        self.value(p, |v| self.voxel(v))
    }

    fn gradient(&self, p: [f64; 3], spacing: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|a| {
            let difference = |v: [i64; 3]| {
                let (mut low, mut high) = (v, v);
                low[a] -= 1;
                high[a] += 1;
                self.voxel(high) - self.voxel(low)
            };
            self.value(p, difference) / (2.0 * spacing[a])
        })
    }
}

fn evaluate(transfer: &TransferFunction, v: f64) -> [f64; 4] {
    fn along<const N: usize>(points: &[(f32, [f32; N])], v: f64) -> [f64; N] {
        let wide = |c: [f32; N]| c.map(f64::from);
        let mut result = wide(points[0].1);
        for pair in points.windows(2) {
            let (a, b) = (f64::from(pair[0].0), f64::from(pair[1].0));
            if v >= a {
                let f = if b > a { ((v - a) / (b - a)).min(1.0) } else { 1.0 };
                let (p, q) = (wide(pair[0].1), wide(pair[1].1));
                result = std::array::from_fn(|i| p[i] + (q[i] - p[i]) * f);
            }
        }
        result
    }
    let opacity: Vec<_> = transfer.opacity().iter().map(|&(v, a)| (v, [a])).collect();
    let [r, g, b] = along(transfer.colour(), v);
    [r, g, b, along(&opacity, v)[0]]
}

fn shaded(rgb: [f64; 3], gradient: [f64; 3], direction: [f64; 3], s: Shading) -> [f64; 3] {
    let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    if length == 0.0 {
        return rgb;
    }
    let cos = (0..3).map(|a| gradient[a] * direction[a]).sum::<f64>().abs() / length;
    let white = f64::from(s.specular) * cos.powf(f64::from(s.power));
    rgb.map(|c| c * (f64::from(s.ambient) + f64::from(s.diffuse) * cos) + white)
}

/// The picture, premultiplied, row by row.
pub(crate) fn reference_picture(
    field: &Field,
    camera: &Camera,
    transfer: &TransferFunction,
    options: &Options,
) -> Vec<[f64; 4]> {
    let mut pixels = Vec::new();
    for y in 0..options.height {
        for x in 0..options.width {
            let (px, py) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            let ray = camera.ray(px, py, options.width, options.height).unwrap();
            let [r, g, b, a] = cast(field, ray.origin, ray.direction, transfer, options);
            let back = options.background.map(f64::from);
            let rest = (1.0 - a) * back[3];
            pixels.push([r + rest * back[0], g + rest * back[1], b + rest * back[2], a + rest]);
        }
    }
    pixels
}

fn cast(
    field: &Field,
    origin: [f64; 3],
    direction: [f64; 3],
    transfer: &TransferFunction,
    options: &Options,
) -> [f64; 4] {
    let spacing = options.spacing;
    let (mut t0, mut t1) = (0.0f64, f64::INFINITY);
    for a in 0..3 {
        let (low, high) = options.clip.map_or((0.0, field.size[a] as f64), |c| (c.low[a], c.high[a]));
        let (p, q) =
            ((low * spacing[a] - origin[a]) / direction[a], (high * spacing[a] - origin[a]) / direction[a]);
        t0 = t0.max(p.min(q));
        t1 = t1.min(p.max(q));
    }
    let step = options.step_voxels * spacing.iter().copied().fold(f64::INFINITY, f64::min);
    let place = |t: f64| std::array::from_fn(|a| (origin[a] + t * direction[a]) / spacing[a] - 0.5);
    let mut colour = [0.0; 4];
    let mut greatest = f64::NEG_INFINITY;
    let mut t = t0 + 0.5 * step;
    while t < t1 {
        let value = field.sample(place(t));
        match options.mode {
            Mode::Dvr { shading } => {
                let [r, g, b, alpha] = evaluate(transfer, value);
                let alpha = 1.0 - (1.0 - alpha).powf(step / f64::from(transfer.unit_distance()));
                let rgb = match shading {
                    Some(s) => shaded([r, g, b], field.gradient(place(t), spacing), direction, s),
                    None => [r, g, b],
                };
                let share = (1.0 - colour[3]) * alpha;
                colour = [0, 1, 2, 3].map(|i| colour[i] + share * if i < 3 { rgb[i] } else { 1.0 });
            }
            Mode::Mip => greatest = greatest.max(value),
            Mode::Iso { value: iso, colour: rgb, shading } if value >= f64::from(iso) => {
                let (mut below, mut above) = (t - step, t);
                if t - step < t0 {
                    below = t;
                }
                for _ in 0..40 {
                    let middle = 0.5 * (below + above);
                    let hit = field.sample(place(middle)) >= f64::from(iso);
                    (below, above) = if hit { (below, middle) } else { (middle, above) };
                }
                let [r, g, b] =
                    shaded(rgb.map(f64::from), field.gradient(place(above), spacing), direction, shading);
                return [r, g, b, 1.0];
            }
            _ => {}
        }
        t += step;
    }
    if options.mode == Mode::Mip && greatest.is_finite() {
        let [r, g, b, a] = evaluate(transfer, greatest);
        return [r * a, g * a, b * a, a];
    }
    colour
}
