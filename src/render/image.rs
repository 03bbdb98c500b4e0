//! Owns a finished picture: [`Image`]. Knows nothing of how it came about, nor of file formats.

use super::error::RenderError;

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 1 << 15;

/// A picture of `f32` colours, premultiplied by their opacity.
///
/// **Shape**: row by row, the top row first; each pixel is red, green, blue, alpha.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: u32,
    height: u32,
    pixels: Vec<[f32; 4]>,
}

impl Image {
    /// A picture of one colour, premultiplied.
    ///
    /// # Errors
    /// [`RenderError::ImageSize`] where a side is zero or longer than [`MAX_SIDE`].
    pub fn new(width: u32, height: u32, colour: [f32; 4]) -> Result<Self, RenderError> {
        let fits = 1..=MAX_SIDE;
        if !fits.contains(&width) || !fits.contains(&height) {
            return Err(RenderError::ImageSize { width, height, max: MAX_SIDE });
        }
        Ok(Self { width, height, pixels: vec![colour; width as usize * height as usize] })
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All pixels, row by row from the top.
    #[must_use]
    pub fn pixels(&self) -> &[[f32; 4]] {
        &self.pixels
    }

    pub(crate) fn pixels_mut(&mut self) -> &mut [[f32; 4]] {
        &mut self.pixels
    }

    /// One pixel, or `None` outside the picture.
    #[must_use]
    pub fn pixel(&self, x: u32, y: u32) -> Option<[f32; 4]> {
        let inside = x < self.width && y < self.height;
        inside.then(|| self.pixels.get(y as usize * self.width as usize + x as usize).copied()).flatten()
    }

    /// Four bytes a pixel with straight alpha, as PNG files and browsers want them.
    #[must_use]
    pub fn to_rgba8(&self) -> Vec<u8> {
        self.pixels.iter().flat_map(|&p| straight_bytes(p)).collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255; `as` saturates"
)]
fn straight_bytes([r, g, b, a]: [f32; 4]) -> [u8; 4] {
    let byte = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
    let scale = if a > 0.0 { 1.0 / a } else { 0.0 };
    [byte(r * scale), byte(g * scale), byte(b * scale), byte(a)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_straight_and_clamped() {
        let image = Image::new(1, 1, [0.25, 0.5, 0.75, 0.5]).unwrap();
        assert_eq!(image.to_rgba8(), [128, 255, 255, 128]);
        assert_eq!(straight_bytes([f32::NAN, 0.0, 0.0, 0.0]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_picture_without_pixels_is_refused() {
        for (w, h) in [(0, 1), (1, 0), (MAX_SIDE + 1, 1)] {
            assert!(matches!(Image::new(w, h, [0.0; 4]), Err(RenderError::ImageSize { .. })));
        }
    }

    #[test]
    fn pixels_outside_are_none() {
        let image = Image::new(2, 3, [0.0; 4]).unwrap();
        assert!(image.pixel(1, 2).is_some());
        assert!(image.pixel(2, 0).is_none() && image.pixel(0, 3).is_none());
    }
}
