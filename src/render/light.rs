//! Owns how a gradient becomes brightness: [`Light`], Blinn-Phong with the light at the eye. Knows nothing of rays.

use super::options::Shading;
use crate::view::kernels::{Batch, LANES};

/// A light that comes from where the ray does, so that half-way vector, light and eye are one direction.
#[derive(Clone, Debug)]
pub(crate) struct Light {
    pub(crate) shading: Shading,
    /// cos^power, over equal steps of cos from 0 to 1.
    pub(crate) highlight: Vec<f32>,
    /// What a difference along each axis is worth.
    pub(crate) per_voxel: [f32; 3],
}

const STEPS: u16 = 1024;

impl Light {
    #[expect(clippy::cast_possible_truncation, reason = "spacings relative to the finest, at most 1e6 apart")]
    pub(crate) fn new(shading: Shading, spacing: [f64; 3]) -> Self {
        let finest = spacing.into_iter().fold(f64::INFINITY, f64::min);
        let highlight = (0..=STEPS)
            .map(|i| shading.specular * (f32::from(i) / f32::from(STEPS)).powf(shading.power))
            .collect();
        Self { shading, highlight, per_voxel: spacing.map(|s| (finest / s) as f32) }
    }

    /// What to multiply each colour by, and how much white to add. Where there is no gradient the colour is as it is.
    #[inline(always)]
    pub(crate) fn on(&self, [x, y, z]: &[Batch; 3], direction: [f32; 3]) -> (Batch, Batch) {
        let (mut share, mut white) = ([1.0; LANES], [0.0; LANES]);
        let [wx, wy, wz] = self.per_voxel;
        // Loops of a fixed length, without branches: the compiler makes vector instructions of them.
        let mut cos = [0.0; LANES];
        for i in 0..LANES {
            let g = [x[i] * wx, y[i] * wy, z[i] * wz];
            let length = (g[0] * g[0] + g[1] * g[1] + g[2] * g[2]).sqrt();
            cos[i] = ((g[0] * direction[0] + g[1] * direction[1] + g[2] * direction[2]) / length).abs();
        }
        for i in 0..LANES {
            // False also where the gradient is zero, no number, or too large for one.
            if cos[i] <= 2.0 {
                let cos = if cos[i] < 1.0 { cos[i] } else { 1.0 };
                share[i] = self.shading.ambient + self.shading.diffuse * cos;
                white[i] = self.highlight(cos);
            }
        }
        (share, white)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to STEPS")]
    fn highlight(&self, cos: f32) -> f32 {
        self.highlight.get((cos * f32::from(STEPS) + 0.5) as usize).copied().unwrap_or(0.0)
    }

    /// As [`Light::on`], for one gradient.
    pub(crate) fn on_one(&self, [x, y, z]: [f32; 3], direction: [f32; 3]) -> (f32, f32) {
        let (share, white) = self.on(&[[x; LANES], [y; LANES], [z; LANES]], direction);
        (share[0], white[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_falls_off_with_the_angle() {
        let light = Light::new(Shading::default(), [1.0, 1.0, 2.0]);
        assert_eq!(light.on_one([5.0, 0.0, 0.0], [-1.0, 0.0, 0.0]), (0.8, 0.2));
        assert_eq!(light.on_one([0.0, 5.0, 0.0], [1.0, 0.0, 0.0]), (0.1, 0.0));
        let (colour, white) = light.on_one([1.0, 0.0, 2.0], [1.0, 0.0, 0.0]);
        let cos = 0.5f32.sqrt();
        assert!((colour - (0.1 + 0.7 * cos)).abs() < 1e-6 && (white - 0.2 * cos.powi(10)).abs() < 1e-3);
    }

    #[test]
    fn without_a_gradient_the_colour_stays() {
        let light = Light::new(Shading::default(), [1.0; 3]);
        for g in [[0.0; 3], [f32::NAN; 3], [f32::INFINITY, 0.0, 0.0]] {
            assert_eq!(light.on_one(g, [0.0, 0.0, 1.0]), (1.0, 0.0));
        }
    }
}
