//! Owns the look into a JPEG stream before it is decoded: decoders take memory for the size that it states. Knows nothing of what follows its frame header.

use std::io;

use thiserror::Error;

/// A stream that is not the chunk it should be.
#[derive(Debug, Error)]
pub(super) enum JpegError {
    /// Markers that do not lead to a frame.
    #[error("no JPEG frame in the chunk")]
    NoFrame,
    /// A frame of another size, or where there should be none.
    #[error("an unexpected JPEG frame of {width} x {height} and {components} component(s)")]
    Frame {
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
        /// Its components.
        components: u8,
    },
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Refuses a stream whose frame is not of that size and of one component, and tables that have a frame. `read` reads from a position in the stream of `bytes`.
pub(super) fn check(
    read: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
    bytes: u64,
    size: (u64, u64),
    tables: &[u8],
) -> Result<(), JpegError> {
    let from_tables = |at: u64, out: &mut [u8]| {
        let left = usize::try_from(at).ok().and_then(|at| tables.get(at..)).unwrap_or_default();
        io::Read::read(&mut &*left, out)
    };
    let error = |(width, height, components)| JpegError::Frame { width, height, components };
    if let Some(frame) = frame(from_tables, tables.len() as u64)? {
        return Err(error(frame));
    }
    match frame(read, bytes)? {
        None => Err(JpegError::NoFrame),
        Some(frame) if frame == (size.0, size.1, 1) => Ok(()),
        Some(frame) => Err(error(frame)),
    }
}

/// Width, height and components of the first frame of a stream, where it has one.
///
/// **Source**: ITU-T T.81, sections B.1 and B.2.
fn frame(
    read: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
    bytes: u64,
) -> Result<Option<(u64, u64, u8)>, JpegError> {
    let mut at = 2;
    // Each turn goes on by at least a byte; real streams have a few segments before the frame.
    for _ in 0..1000 {
        let mut segment = [0; 10];
        let len = usize::try_from(bytes.saturating_sub(at)).map_or(10, |left| left.min(10));
        let found = read(at, &mut segment[..len])?;
        let [0xff, marker, high, low, ..] = segment else { return Ok(None) };
        let pair = |a: u8, b: u8| u64::from(u16::from_be_bytes([a, b]));
        match marker {
            _ if found < 2 => return Ok(None),
            // Padding, and markers without a segment.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            // All but these of the group are frames.
            0xc4 | 0xc8 | 0xcc => at += 2 + pair(high, low),
            0xc0..=0xcf if found == 10 => {
                let [.., h1, h0, w1, w0, components] = segment;
                return Ok(Some((pair(w1, w0), pair(h1, h0), components)));
            }
            // The end, and the first scan.
            0xc0..=0xcf | 0xd9 | 0xda => return Ok(None),
            _ => at += 2 + pair(high, low),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_bytes(stream: &[u8], tables: &[u8]) -> Result<(), JpegError> {
        let read = |at: u64, out: &mut [u8]| {
            let left = usize::try_from(at).ok().and_then(|at| stream.get(at..)).unwrap_or_default();
            io::Read::read(&mut &*left, out)
        };
        check(read, stream.len() as u64, (5, 3), tables)
    }

    #[test]
    fn only_frames_of_the_chunks_size_pass() {
        let segment = |marker: u8, body: &[u8]| {
            let mut bytes = vec![0xff, marker, 0, u8::try_from(body.len() + 2).unwrap()];
            bytes.extend_from_slice(body);
            bytes
        };
        let stream = |frame: &[u8]| {
            [&[0xff, 0xd8][..], &segment(0xe0, &[0; 14]), &[0xff], &segment(0xdb, &[1; 65]), frame].concat()
        };
        let good = segment(0xc0, &[8, 0, 3, 0, 5, 1, 1, 0x11, 0]);
        assert!(check_bytes(&stream(&good), b"").is_ok());
        assert!(check_bytes(&stream(&good), &[0xff, 0xd8, 0xff, 0xd9]).is_ok());
        let large = segment(0xc2, &[8, 0xff, 0xff, 0xff, 0xff, 3]);
        let error = check_bytes(&stream(&large), b"").unwrap_err();
        assert!(
            matches!(error, JpegError::Frame { width: 65_535, height: 65_535, components: 3 }),
            "{error}"
        );
        assert!(matches!(check_bytes(&stream(&good), &stream(&large)), Err(JpegError::Frame { .. })));
        for broken in
            [&b""[..], b"\xff\xd8", b"\xff\xd8\xff", b"what is this", &stream(b""), &stream(&good)[..93]]
        {
            let error = check_bytes(broken, b"").unwrap_err();
            assert!(matches!(error, JpegError::NoFrame), "{error}");
        }
    }
}
