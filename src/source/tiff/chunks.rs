//! Owns [`TiffChunks`]: compressed chunks, decoded by the crate `tiff`. Knows nothing of tiles.
//!
//! That crate reads directories without bounds on what they say, and finds pages only by walking the chain. So it is not shown the file, but for each chunk a small one of one page:
//!
//! ```text
//! head, directory of one strip        the file's own bytes of the chunk, and no others
//! <--------- in memory ----------><------------------ read in place ------------------>
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use tiff::decoder::{Decoder, Limits};

use super::jpeg;
use super::layout::Layout;
use super::pages::Pages;
use super::table::Table;
use super::tags;
use crate::error::SourceError;
use crate::geometry::Extent;
use crate::source::Endian;
use crate::source::buffer::with_buffer;
use crate::source::call::index;
use crate::source::chunked::{ChunkCoord, ChunkReader, Found};
use crate::voxel::Scalar;

/// Bytes of the file that are read at once.
const READ_BYTES: usize = 64 << 10;

/// The most chunks whose bytes the system is told of at once.
const MOST_ANNOUNCED: usize = 256;

/// The chunks of a volume of compressed pages.
#[derive(Debug)]
pub(super) struct TiffChunks {
    pages: Pages,
}

impl TiffChunks {
    pub(super) fn new(pages: Pages) -> Self {
        Self { pages }
    }

    fn place(&self, table: &Table, chunk: ChunkCoord) -> (u64, u64) {
        table.chunk(self.pages.chunk_index(chunk.x, chunk.y))
    }

    /// Decodes all samples that lie together.
    fn decode_all<T: Scalar>(
        &self,
        table: &Table,
        chunk: ChunkCoord,
        out: &mut [T],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (tiff, layout) = (self.pages.tables.tiff(), self.pages.layout());
        let (offset, bytes) = self.place(table, chunk);
        let rows = layout.rows_of(chunk.y);
        if layout.compression == 7 {
            let read =
                |at: u64, out: &mut [u8]| tiff.file.through_cache().read_at(out, offset.saturating_add(at));
            jpeg::check(read, bytes, (layout.chunk_width, rows), &table.jpeg)?;
        }
        let head = head(layout, tiff.endian, rows, bytes, &table.jpeg)?;
        let view = OneChunk { head: &head, file: tiff.file.through_cache(), offset, bytes, at: 0 };
        let mut limits = Limits::default();
        // There is only what is shown, and `out` is there already.
        limits.intermediate_buffer_size = usize::MAX;
        let mut decoder = Decoder::new(io::BufReader::with_capacity(READ_BYTES, view))?.with_limits(limits);
        decoder.read_chunk_bytes(0, bytemuck::cast_slice_mut(out))?;
        Ok(())
    }
}

impl<T: Scalar> ChunkReader<T> for TiffChunks {
    fn extent(&self) -> Extent {
        self.pages.extent()
    }

    fn chunk_shape(&self) -> Extent {
        Extent::new(self.pages.layout().chunk_width, self.pages.layout().chunk_height, 1)
    }

    fn location(&self) -> String {
        self.pages.tables.tiff().path.display().to_string()
    }

    /// Has the system read their bytes ahead.
    fn will_read(&self, chunks: &[ChunkCoord]) {
        for &chunk in chunks.iter().take(MOST_ANNOUNCED) {
            let Ok(table) = self.pages.table(chunk.z) else { return };
            let (offset, bytes) = self.place(&table, chunk);
            let file = self.pages.tables.tiff().file.through_cache();
            // Only a hint: what goes wrong here goes wrong, and is reported, in the read.
            let _ = rustix::fs::fadvise(file, offset, bytes.try_into().ok(), rustix::fs::Advice::WillNeed);
        }
    }

    fn decode(&self, chunk: ChunkCoord, out: &mut [T]) -> Result<Found, SourceError> {
        let table = self.pages.table(chunk.z)?;
        if self.place(&table, chunk).1 == 0 {
            return Ok(Found::Missing);
        }
        let layout = self.pages.layout();
        let pixels = index(layout.chunk_width * layout.rows_of(chunk.y));
        let together = index(layout.samples_together());
        let failed = |source| {
            let location = <Self as ChunkReader<T>>::location(self);
            SourceError::Chunk { location, chunk: vec![chunk.z, chunk.y, chunk.x], source }
        };
        let out = &mut out[..pixels];
        if together == 1 {
            self.decode_all(&table, chunk, out).map_err(failed)?;
        } else {
            with_buffer(pixels * together, |all: &mut [T]| {
                self.decode_all(&table, chunk, all)?;
                let sample = index(self.pages.sample_together());
                out.iter_mut().zip(all[sample..].iter().step_by(together)).for_each(|(to, from)| *to = *from);
                Ok(())
            })
            .map_err(failed)?;
        }
        Ok(Found::Voxels)
    }
}

/// Head and directory of a file of one page of one strip, whose bytes come right after.
fn head(
    layout: &Layout,
    endian: Endian,
    rows: u64,
    bytes: u64,
    jpeg_tables: &[u8],
) -> Result<Vec<u8>, String> {
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const UNDEFINED: u16 = 7;
    // Format 4 is "undefined", which that crate does not take for whole numbers.
    let format = if layout.format == 4 { 1 } else { layout.format };
    let mut entries = vec![
        (tags::WIDTH, LONG, layout.chunk_width),
        (tags::LENGTH, LONG, rows),
        (tags::BITS, SHORT, layout.bits),
        (tags::COMPRESSION, SHORT, layout.compression),
        // "Black is zero": samples as they are, whatever colours they stand for.
        (tags::PHOTOMETRIC, SHORT, 1),
        (tags::STRIP_OFFSETS, LONG, 0),
        (tags::SAMPLES, SHORT, layout.samples_together()),
        (tags::ROWS_PER_STRIP, LONG, rows),
        (tags::STRIP_BYTES, LONG, bytes),
        (tags::PREDICTOR, SHORT, layout.predictor),
        (tags::SAMPLE_FORMAT, SHORT, format),
    ];
    if !jpeg_tables.is_empty() {
        entries.push((tags::JPEG_TABLES, UNDEFINED, 0));
    }
    let tables_at = 8 + 2 + 12 * entries.len() + 4;
    let mut head = Vec::with_capacity(tables_at + jpeg_tables.len());
    let put = |head: &mut Vec<u8>, number: u64, bytes: usize| {
        let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
        head.extend_from_slice(if endian == Endian::Little { &little[..bytes] } else { &big[8 - bytes..] });
    };
    head.extend_from_slice(if endian == Endian::Little { b"II" } else { b"MM" });
    put(&mut head, 42, 2);
    put(&mut head, 8, 4);
    put(&mut head, entries.len() as u64, 2);
    for (tag, kind, value) in entries {
        let (count, value) = match tag.id {
            id if id == tags::STRIP_OFFSETS.id => (1, (tables_at + jpeg_tables.len()) as u64),
            id if id == tags::JPEG_TABLES.id => (jpeg_tables.len() as u64, tables_at as u64),
            _ => (1, within(tag, value, u32::MAX.into())?),
        };
        put(&mut head, tag.id.into(), 2);
        put(&mut head, kind.into(), 2);
        put(&mut head, count, 4);
        if kind == SHORT {
            put(&mut head, within(tag, value, u16::MAX.into())?, 2);
            put(&mut head, 0, 2);
        } else {
            put(&mut head, value, 4);
        }
    }
    put(&mut head, 0, 4);
    head.extend_from_slice(jpeg_tables);
    Ok(head)
}

/// Refuses a value that the small file has no room for.
fn within(tag: tags::Tag, value: u64, most: u64) -> Result<u64, String> {
    if value <= most { Ok(value) } else { Err(format!("{} is {value}, of at most {most}", tag.name)) }
}

/// A head in memory and one chunk of a file after it, as a file.
#[derive(Debug)]
struct OneChunk<'a> {
    head: &'a [u8],
    file: &'a File,
    offset: u64,
    bytes: u64,
    at: u64,
}

impl Read for OneChunk<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let head_bytes = self.head.len() as u64;
        let read = if self.at < head_bytes {
            (&self.head[index(self.at)..]).read(out)?
        } else {
            let done = self.at - head_bytes;
            let left = usize::try_from(self.bytes.saturating_sub(done)).unwrap_or(usize::MAX).min(out.len());
            self.file.read_at(&mut out[..left], self.offset.saturating_add(done))?
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for OneChunk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => ((self.head.len() as u64).saturating_add(self.bytes), by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "before the beginning");
        self.at = from.checked_add_signed(by).ok_or_else(before)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_what_is_decoded_are_told_by_tag() {
        assert_eq!(within(tags::PREDICTOR, 65_535, 65_535), Ok(65_535));
        let error = within(tags::STRIP_BYTES, 1 << 32, u32::MAX.into()).unwrap_err();
        assert_eq!(error, "StripByteCounts is 4294967296, of at most 4294967295");
    }
}
