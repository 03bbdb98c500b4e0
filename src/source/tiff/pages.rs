//! Owns [`Pages`]: which page of the file each plane of a volume is, and [`RawPages`], which reads those without compression in place. Knows nothing of compression.

use std::sync::Arc;

use super::layout::Layout;
use super::table::{Table, Tables};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::source::buffer::with_buffer;
use crate::source::call::{check_call_of, index};
use crate::source::runs::{FileBox, Place, read_box};
use crate::source::{Endian, TileSource};
use crate::voxel::Scalar;

/// Bytes that rows of several samples a pixel are read through at once, or one row where that has more.
const ROWS_BYTES: u64 = 256 << 10;

/// The planes of a volume, and which sample of their pixels is its voxel.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) tables: Arc<Tables>,
    /// Where the directory of each plane's page is; or its first sample, where the pages have no directories.
    pub(super) planes: Vec<u64>,
    pub(super) without_directories: bool,
    pub(super) sample: u64,
}

impl Pages {
    pub(super) fn extent(&self) -> Extent {
        Extent::new(self.layout().width, self.layout().height, self.planes.len() as u64)
    }

    pub(super) fn layout(&self) -> &Layout {
        self.tables.layout()
    }

    fn plane(&self, z: u64) -> u64 {
        self.planes.get(index(z)).copied().unwrap_or(0)
    }

    /// The chunks of a plane's page.
    pub(super) fn table(&self, z: u64) -> Result<Arc<Table>, SourceError> {
        self.tables.of(self.plane(z))
    }

    /// The number of a chunk of the sample chosen within its page.
    pub(super) fn chunk_index(&self, across: u64, down: u64) -> usize {
        let chunks = self.layout().chunks();
        let before = if self.layout().planar { self.sample * chunks[0] * chunks[1] } else { 0 };
        index(before + down * chunks[0] + across)
    }

    /// Which of the samples that lie together is the one chosen.
    pub(super) fn sample_together(&self) -> u64 {
        if self.layout().planar { 0 } else { self.sample }
    }
}

/// A volume of pages without compression.
///
/// **Cost**: a positioned read for each stretch that is contiguous in the file and in the region; rows that are short, and samples that lie between others, are read many at a time through a buffer.
#[derive(Debug)]
pub(super) struct RawPages {
    pages: Pages,
}

/// A dense box of a page in the file.
#[derive(Clone, Copy)]
struct Block {
    offset_bytes: u64,
    x: u64,
    y: u64,
    width: u64,
    height: u64,
}

impl RawPages {
    pub(super) fn new(pages: Pages) -> Self {
        Self { pages }
    }

    /// Reads one plane of a region, whose first voxel goes to `first`.
    fn read_plane<T: Scalar>(&self, region: &Region, z: u64, out: &mut [T]) -> Result<(), SourceError> {
        let (pages, layout) = (&self.pages, self.pages.layout());
        let page =
            |offset_bytes| Block { offset_bytes, x: 0, y: 0, width: layout.width, height: layout.height };
        if pages.without_directories {
            return self.read_block(page(pages.plane(z)), region, out);
        }
        let table = pages.table(z)?;
        if table.contiguous {
            return self.read_block(page(table.chunk(pages.chunk_index(0, 0)).0), region, out);
        }
        let touched = |start: u64, size: u64, chunk: u64| start / chunk..=(start + size - 1) / chunk;
        for down in touched(region.start.y, region.extent.y, layout.chunk_height) {
            for across in touched(region.start.x, region.extent.x, layout.chunk_width) {
                let block = Block {
                    offset_bytes: table.chunk(pages.chunk_index(across, down)).0,
                    x: across * layout.chunk_width,
                    y: down * layout.chunk_height,
                    width: layout.chunk_width,
                    height: layout.rows_of(down),
                };
                self.read_block(block, region, out)?;
            }
        }
        Ok(())
    }

    /// Reads what a block and one plane of a region have in common.
    fn read_block<T: Scalar>(&self, block: Block, region: &Region, out: &mut [T]) -> Result<(), SourceError> {
        let (start, size) = (region.start, region.extent);
        let (x, y) = (start.x.max(block.x), start.y.max(block.y));
        let width = (start.x + size.x).min(block.x + block.width) - x;
        let height = (start.y + size.y).min(block.y + block.height) - y;
        let first = (x - start.x) + (y - start.y) * size.x;
        if block.offset_bytes == 0 {
            // No such chunk, as GDAL writes those of zeros.
            for row in 0..height {
                out[index(first + row * size.x)..][..index(width)].fill(T::zeroed());
            }
            return Ok(());
        }
        let together = self.pages.layout().samples_together();
        let part = |row: u64, rows: u64| FileBox {
            offset_bytes: block.offset_bytes,
            shape: [block.width * together, block.height, 1],
            start: [(x - block.x) * together, y - block.y + row, 0],
            size: [width * together, rows, 1],
        };
        if together == 1 {
            return self.read_box(&part(0, height), first, size.x, out);
        }
        let row_voxels = width * together;
        let rows_at_once = (ROWS_BYTES / (row_voxels * size_of::<T>() as u64)).clamp(1, height);
        let sample = index(self.pages.sample_together());
        for row in (0..height).step_by(index(rows_at_once)) {
            let rows = rows_at_once.min(height - row);
            with_buffer(index(row_voxels * rows), |buffer: &mut [T]| {
                self.read_box(&part(row, rows), 0, row_voxels, buffer)?;
                for (from, to) in buffer.chunks(index(row_voxels)).zip(row..) {
                    let to = &mut out[index(first + to * size.x)..][..index(width)];
                    to.iter_mut()
                        .zip(from[sample..].iter().step_by(index(together)))
                        .for_each(|(to, from)| *to = *from);
                }
                Ok::<_, SourceError>(())
            })?;
        }
        Ok(())
    }

    fn read_box<T: Scalar>(
        &self,
        part: &FileBox,
        first: u64,
        row: u64,
        out: &mut [T],
    ) -> Result<(), SourceError> {
        let tiff = self.pages.tables.tiff();
        let place = Place { first, strides: [1, row, row * part.size[1]] };
        read_box(&tiff.file, part, &place, out)
            .map_err(|failed| failed.in_file(tiff.file.through_cache(), &tiff.path))
    }
}

impl<T: Scalar> TileSource<T> for RawPages {
    fn extent(&self) -> Extent {
        self.pages.extent()
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        let location = || self.pages.tables.tiff().path.display().to_string();
        check_call_of(location, self.pages.extent(), region, out.len())?;
        if region.is_empty() {
            return Ok(());
        }
        let plane_voxels = index(region.extent.x * region.extent.y);
        for (z, plane) in (region.start.z..).zip(out.chunks_mut(plane_voxels)) {
            self.read_plane(&region, z, plane)?;
        }
        if self.pages.tables.tiff().endian != Endian::NATIVE {
            for voxel in out {
                *voxel = voxel.swap_bytes();
            }
        }
        Ok(())
    }
}
