//! Owns [`Tables`]: where the chunks of each page are, read when a page is first looked into, and kept under a bound. Knows nothing of what is in them.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::file::TiffFile;
use super::layout::Layout;
use super::tags;
use crate::error::SourceError;

/// Bytes of tables that are kept; one is kept however large it is.
const KEPT_BYTES: usize = 16 << 20;

/// Where the chunks of a page are.
#[derive(Debug)]
pub(super) struct Table {
    offsets: Vec<u64>,
    /// Empty where the chunks are not compressed.
    bytes: Vec<u64>,
    /// The page's quantization and Huffman tables, where JPEG has them apart.
    pub(super) jpeg: Vec<u8>,
    /// Whether all strips of a sample follow each other without a gap.
    pub(super) contiguous: bool,
}

impl Table {
    /// Where a chunk is. One of 0 bytes at 0 is missing, as GDAL writes them.
    pub(super) fn chunk(&self, index: usize) -> (u64, u64) {
        (self.offsets.get(index).copied().unwrap_or(0), self.bytes.get(index).copied().unwrap_or(0))
    }

    /// Of the page whose directory is at `page`, which has to be as `layout` says.
    fn read(tiff: &TiffFile, layout: &Layout, page: u64) -> Result<Self, SourceError> {
        let directory = tiff.directory(page)?;
        if Layout::of(tiff, &directory)? != *layout {
            return Err(tiff.bad(
                "directory",
                page.to_string(),
                "the page has changed since the file was opened",
            ));
        }
        let (offsets_tag, bytes_tag) = if layout.tiled {
            (tags::TILE_OFFSETS, tags::TILE_BYTES)
        } else {
            (tags::STRIP_OFFSETS, tags::STRIP_BYTES)
        };
        let count = layout.chunk_count();
        let list = |tag: tags::Tag| {
            let list = tiff.list(&directory, tag, count)?.unwrap_or_default();
            if list.len() as u64 == count {
                return Ok(list);
            }
            Err(tiff.bad(tag.name, format!("{} values", list.len()), "must be one for each strip or tile"))
        };
        let mut table =
            Self { offsets: list(offsets_tag)?, bytes: Vec::new(), jpeg: Vec::new(), contiguous: false };
        if layout.is_compressed() {
            table.bytes = list(bytes_tag)?;
            table.jpeg = tiff.text(&directory, tags::JPEG_TABLES, 64 << 10)?;
            for (offset, bytes) in table.offsets.iter().zip(&table.bytes) {
                tiff.check_inside(*offset, *bytes)?;
            }
        } else {
            let chunk_bytes = layout.chunk_bytes().unwrap_or(u64::MAX);
            let row_bytes = chunk_bytes / layout.chunk_height;
            let down = usize::try_from(layout.chunks()[1]).unwrap_or(usize::MAX);
            for (index, offset) in table.offsets.iter().enumerate().filter(|(_, offset)| **offset > 0) {
                let rows =
                    if layout.tiled { layout.chunk_height } else { layout.rows_of((index % down) as u64) };
                tiff.check_inside(*offset, rows.saturating_mul(row_bytes))?;
            }
            table.contiguous = !layout.tiled
                && table.offsets.chunks(down).all(|sample| {
                    sample
                        .windows(2)
                        .all(|pair| pair[0] > 0 && pair[0].checked_add(chunk_bytes) == Some(pair[1]))
                });
        }
        Ok(table)
    }

    fn kept_bytes(&self) -> usize {
        (self.offsets.len() + self.bytes.len()) * size_of::<u64>() + self.jpeg.len() + 256
    }
}

/// The tables of an image's pages.
#[derive(Debug)]
pub(super) struct Tables {
    tiff: Arc<TiffFile>,
    layout: Layout,
    kept: Mutex<(LruCache<u64, Arc<Table>>, usize)>,
}

impl Tables {
    pub(super) fn new(tiff: Arc<TiffFile>, layout: Layout) -> Self {
        Self { tiff, layout, kept: Mutex::new((LruCache::unbounded(), 0)) }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn tiff(&self) -> &TiffFile {
        &self.tiff
    }

    /// Of the page whose directory is at `page`. Two threads that need it for the first time both read it.
    pub(super) fn of(&self, page: u64) -> Result<Arc<Table>, SourceError> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = lock().0.get(&page) {
            return Ok(table.clone());
        }
        let table = Arc::new(Table::read(&self.tiff, &self.layout, page)?);
        let (kept, used_bytes) = &mut *lock();
        *used_bytes += table.kept_bytes();
        if let Some(other) = kept.put(page, table.clone()) {
            *used_bytes -= other.kept_bytes();
        }
        while *used_bytes > KEPT_BYTES && kept.len() > 1 {
            let Some((_, oldest)) = kept.pop_lru() else { break };
            *used_bytes -= oldest.kept_bytes();
        }
        Ok(table)
    }
}
