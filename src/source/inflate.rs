//! Owns the one-time decompression of gzip or zlib data into a scratch file, within fixed memory. Knows nothing of headers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::magic::GZIP_MAGIC;
use super::peek::Positioned;
use super::scratch::Scratch;
use crate::error::SourceError;

const CHUNK_BYTES: usize = 256 << 10;

/// What to decompress.
pub(super) struct Compressed<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    /// Where the compressed data begins.
    pub(super) offset_bytes: u64,
    /// Whether it may be a zlib stream as well, told apart by its first byte.
    pub(super) or_zlib: bool,
    /// Decompressed bytes to drop before the voxels.
    pub(super) skip_bytes: u64,
    /// Decompressed bytes to keep: what the header promises. No more is ever written.
    pub(super) keep_bytes: u64,
}

/// Decompresses all members of the gzip data in order (or the one stream of zlib data), as far as the promised bytes go. What ends there has its checksum verified.
pub(super) fn inflate(
    from: &Compressed<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<File, SourceError> {
    let mut sink =
        Sink { scratch: Scratch::new(from.keep_bytes)?, skip: from.skip_bytes, left: from.keep_bytes };
    let position = Positioned { file: from.file, at: from.offset_bytes };
    let mut compressed = BufReader::with_capacity(CHUNK_BYTES, position);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut members = 0;
    while sink.left > 0 {
        let next = compressed.fill_buf().map(|bytes| bytes.first().copied());
        let is_gzip = match next {
            Ok(None) => break,
            Ok(Some(first)) => first == GZIP_MAGIC[0],
            Err(source) => return Err(from.failed(compressed.get_ref().at, source)),
        };
        // Whatever follows the members and is none itself is ignored, as gzip does. What begins with something else is no gzip data at all.
        if !is_gzip && members > 0 {
            break;
        }
        members += 1;
        let outcome = if !is_gzip && from.or_zlib {
            from.drain(ZlibDecoder::new(&mut compressed), (&mut sink, &mut chunk), progress)
        } else {
            from.drain(GzDecoder::new(&mut compressed), (&mut sink, &mut chunk), progress)
        };
        outcome.map_err(|e| match e {
            Drain::Damaged(source) => from.failed(compressed.get_ref().at, source),
            Drain::Failed(error) => error,
        })?;
    }
    if sink.left > 0 { Err(from.truncated(&sink)) } else { Ok(sink.scratch.into_file()) }
}

/// What ends the decompression of a member.
enum Drain {
    /// The compressed data cannot be read, or is damaged.
    Damaged(io::Error),
    Failed(SourceError),
}

impl Compressed<'_> {
    /// Reads one member to its end, or until more than the promised bytes have come.
    fn drain(
        &self,
        mut member: impl Read,
        (sink, chunk): (&mut Sink, &mut [u8]),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Drain> {
        loop {
            match member.read(chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    let more_than_promised = sink.take(&chunk[..read]).map_err(Drain::Failed)?;
                    progress(self.keep_bytes - sink.left, self.keep_bytes);
                    if more_than_promised {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && sink.left > 0 => {
                    return Err(Drain::Failed(self.truncated(sink)));
                }
                Err(source) => return Err(Drain::Damaged(source)),
            }
        }
    }

    /// Counted in decompressed bytes.
    fn truncated(&self, sink: &Sink) -> SourceError {
        let expected_bytes = self.skip_bytes.saturating_add(self.keep_bytes);
        let actual_bytes = expected_bytes.saturating_sub(sink.skip.saturating_add(sink.left));
        SourceError::Truncated { path: self.path.to_owned(), expected_bytes, actual_bytes }
    }

    /// Counted in compressed bytes.
    fn failed(&self, at: u64, source: io::Error) -> SourceError {
        let offset_bytes = self.offset_bytes;
        let bytes = at.saturating_sub(offset_bytes);
        SourceError::Read { path: self.path.to_owned(), offset_bytes, bytes, source }
    }
}

/// Where decompressed bytes go.
struct Sink {
    scratch: Scratch,
    /// Bytes still to drop.
    skip: u64,
    /// Bytes still to keep.
    left: u64,
}

impl Sink {
    /// Takes bytes in, and tells whether there were more than the header promises.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, SourceError> {
        let dropped = shorter(bytes.len(), self.skip);
        let kept = shorter(bytes.len() - dropped, self.left);
        self.scratch.append(&bytes[dropped..dropped + kept])?;
        self.skip -= dropped as u64;
        self.left -= kept as u64;
        Ok(dropped + kept < bytes.len())
    }
}

fn shorter(len: usize, most: u64) -> usize {
    usize::try_from(most).map_or(len, |most| len.min(most))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_bomb_is_written_and_even_decompressed_no_further_than_promised() {
        // 64 MiB of zeros in 64 KiB.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            encoder.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let mut bomb = encoder.finish().unwrap();
        // Whoever went on to the end would find it damaged.
        let len = bomb.len();
        bomb[len / 2..].fill(0xff);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bomb).unwrap();
        for keep_bytes in [1, 6, CHUNK_BYTES as u64, CHUNK_BYTES as u64 + 1] {
            let from = Compressed {
                file: &file,
                path: Path::new("bomb"),
                offset_bytes: 0,
                or_zlib: false,
                skip_bytes: 3,
                keep_bytes,
            };
            let mut last = (0, 0);
            let inflated = inflate(&from, &mut |done, all| last = (done, all)).unwrap();
            assert_eq!(inflated.metadata().unwrap().len(), keep_bytes);
            assert_eq!(last, (keep_bytes, keep_bytes));
        }
        let whole = Compressed {
            file: &file,
            path: Path::new("bomb"),
            offset_bytes: 0,
            or_zlib: false,
            skip_bytes: 0,
            keep_bytes: 64 << 20,
        };
        assert!(inflate(&whole, &mut |_, _| {}).is_err(), "the damage is there");
    }
}
