//! Owns pictures as bytes: JPEG while something moves, PNG at rest. Knows nothing of how they came about.

use vastgrid::render::Image;

use crate::Failure;

/// Red, green and blue, over whatever the picture's background was.
fn rgb(image: &Image) -> Vec<u8> {
    image.to_rgba8().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
}

/// Small and quick, a little blurred.
pub(crate) fn jpeg(image: &Image) -> Result<Vec<u8>, Failure> {
    const QUALITY: u8 = 80;
    let mut out = Vec::new();
    let (width, height) = (u16::try_from(image.width())?, u16::try_from(image.height())?);
    jpeg_encoder::Encoder::new(&mut out, QUALITY).encode(
        &rgb(image),
        width,
        height,
        jpeg_encoder::ColorType::Rgb,
    )?;
    Ok(out)
}

/// Every pixel as it is.
pub(crate) fn png(image: &Image, compression: png::Compression) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(compression);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb(image))?;
    writer.finish()?;
    Ok(out)
}
