//! Owns the way a box of voxels is read out of a dense array in a file: which bytes, in how many calls, and where they go. Knows nothing of headers.
//!
//! ```text
//! file:  |row 0 ....|##run##|.....|row 1 ....|##run##|.....|     one run per row of the box, in the file's order
//!                    <------- one span, one call -------->      where the gap is cheaper than another call
//! ```

use std::fs::File;
use std::io;
use std::path::Path;

use super::buffer::with_buffer;
use super::call::index;
use super::input_file::InputFile;
use crate::error::SourceError;
use crate::voxel::Voxel;

/// Bytes that are cheaper to read and drop than to skip with another system call.
///
/// **Source**: measured on a cached file, rows of 64 to 256 bytes: a call for each row costs 370 ns, and so does one for all where they lie 4096 bytes apart.
pub(super) const CALL_WORTH_BYTES: u64 = 4096;

/// The most that one call reads into the thread's buffer.
const SPAN_BYTES: u64 = 256 << 10;

/// A box within a dense array in a file. All three axes are in the file's order, fastest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileBox {
    /// Where the array begins in the file.
    pub(super) offset_bytes: u64,
    /// Size of the array, in voxels.
    pub(super) shape: [u64; 3],
    /// First voxel of the box.
    pub(super) start: [u64; 3],
    /// Size of the box: not empty, inside the array.
    pub(super) size: [u64; 3],
}

/// Where the voxels of a box go in the caller's buffer. The axes are in the file's order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where the first voxel goes.
    pub(super) first: u64,
    /// Voxels of the buffer between neighbours along each axis.
    pub(super) strides: [u64; 3],
}

/// A failed call: where and how much.
#[derive(Debug)]
pub(super) struct ReadFailed {
    pub(super) offset_bytes: u64,
    pub(super) bytes: u64,
    pub(super) source: io::Error,
}

impl ReadFailed {
    /// What to tell of a file that was long enough when it was opened.
    pub(super) fn in_file(self, file: &File, path: &Path) -> SourceError {
        let (path, Self { offset_bytes, bytes, source }) = (path.to_owned(), self);
        if source.kind() == io::ErrorKind::UnexpectedEof
            && let Ok(metadata) = file.metadata()
        {
            let expected_bytes = offset_bytes.saturating_add(bytes);
            return SourceError::Truncated { path, expected_bytes, actual_bytes: metadata.len() };
        }
        SourceError::Read { path, offset_bytes, bytes, source }
    }
}

/// Reads a box of voxels, bytes in the file's own order, into `out` at `place`.
///
/// **Cost**: one positioned read for each stretch that is contiguous in the file and in `out`, straight into place; what is short or has to be reordered
/// goes through a buffer of at most [`SPAN_BYTES`] a call.
pub(super) fn read_box<T: Voxel>(
    file: &InputFile,
    from: &FileBox,
    place: &Place,
    out: &mut [T],
) -> Result<(), ReadFailed> {
    let rows = Rows::new::<T>(from, place);
    let mut row = 0;
    while row < rows.count() {
        let next = rows.span_from(row);
        if rows.dense && next == row + 1 {
            let first = index(rows.place_of(row));
            read_at(file, rows.byte_of(rows.voxel_of(row)), &mut out[first..first + index(rows.run)])?;
        } else if next == row + 1 {
            // Long runs that must be spread out: piece by piece.
            for done in (0..rows.run).step_by(index(rows.span_voxels)) {
                let piece = rows.span_voxels.min(rows.run - done);
                rows.read_through(file, rows.voxel_of(row) + done, piece, |voxels| {
                    rows.spread(voxels, rows.place_of(row) + done * rows.stride, out);
                })?;
            }
        } else {
            let first = rows.voxel_of(row);
            let voxels = rows.voxel_of(next - 1) + rows.run - first;
            rows.read_through(file, first, voxels, |voxels| {
                for r in row..next {
                    let at = index(rows.voxel_of(r) - first);
                    rows.spread(&voxels[at..at + index(rows.run)], rows.place_of(r), out);
                }
            })?;
        }
        row = next;
    }
    Ok(())
}

/// The box as runs, each contiguous in the file: rows, or whole planes, or the whole box, as far as they follow each other in the file and in the buffer.
struct Rows {
    offset_bytes: u64,
    voxel_bytes: u64,
    /// Voxels of a run.
    run: u64,
    /// Whether a run is contiguous in the buffer as well.
    dense: bool,
    /// Voxels of the buffer between neighbours within a run.
    stride: u64,
    counts: [u64; 2],
    file_first: u64,
    file_strides: [u64; 2],
    place_first: u64,
    place_strides: [u64; 2],
    span_voxels: u64,
}

impl Rows {
    fn new<T: Voxel>(from: &FileBox, place: &Place) -> Self {
        let FileBox { shape, start, size, .. } = *from;
        let strides = place.strides;
        let dense = strides[0] == 1 || size[0] == 1;
        let (mut run, mut counts) = (size[0], [size[1], size[2]]);
        if dense && size[0] == shape[0] && (strides[1] == size[0] || size[1] == 1) {
            run *= size[1];
            counts[0] = 1;
            if size[1] == shape[1] && (strides[2] == run || size[2] == 1) {
                run *= size[2];
                counts[1] = 1;
            }
        }
        let voxel_bytes = size_of::<T>().max(1) as u64;
        Self {
            offset_bytes: from.offset_bytes,
            voxel_bytes,
            run,
            dense,
            stride: strides[0],
            counts,
            file_first: start[0] + shape[0] * (start[1] + shape[1] * start[2]),
            file_strides: [shape[0], shape[0] * shape[1]],
            place_first: place.first,
            place_strides: [strides[1], strides[2]],
            span_voxels: SPAN_BYTES / voxel_bytes,
        }
    }

    fn count(&self) -> u64 {
        self.counts[0] * self.counts[1]
    }

    fn voxel_of(&self, row: u64) -> u64 {
        let (j, k) = (row % self.counts[0], row / self.counts[0]);
        self.file_first + j * self.file_strides[0] + k * self.file_strides[1]
    }

    fn place_of(&self, row: u64) -> u64 {
        let (j, k) = (row % self.counts[0], row / self.counts[0]);
        self.place_first + j * self.place_strides[0] + k * self.place_strides[1]
    }

    fn byte_of(&self, voxel: u64) -> u64 {
        self.offset_bytes + voxel * self.voxel_bytes
    }

    /// One past the last row that is best read in one call with `first`.
    fn span_from(&self, first: u64) -> u64 {
        let begin = self.voxel_of(first);
        let mut end = begin + self.run;
        let mut next = first + 1;
        while next < self.count() {
            let voxel = self.voxel_of(next);
            // A run that could go straight into place would be copied for nothing: that counts as well.
            let wasted = voxel - end + if self.dense { self.run } else { 0 };
            if wasted * self.voxel_bytes > CALL_WORTH_BYTES || voxel + self.run - begin > self.span_voxels {
                break;
            }
            end = voxel + self.run;
            next += 1;
        }
        next
    }

    fn read_through<T: Voxel>(
        &self,
        file: &InputFile,
        first_voxel: u64,
        voxels: u64,
        then: impl FnOnce(&[T]),
    ) -> Result<(), ReadFailed> {
        with_buffer(index(voxels), |buffer: &mut [T]| {
            read_at(file, self.byte_of(first_voxel), buffer)?;
            then(buffer);
            Ok(())
        })
    }

    /// Puts a run, or a piece of one, where it belongs.
    fn spread<T: Voxel>(&self, run: &[T], place: u64, out: &mut [T]) {
        if self.dense {
            out[index(place)..][..run.len()].copy_from_slice(run);
        } else {
            for (to, &voxel) in out[index(place)..].iter_mut().step_by(index(self.stride)).zip(run) {
                *to = voxel;
            }
        }
    }
}

fn read_at<T: Voxel>(file: &InputFile, offset_bytes: u64, out: &mut [T]) -> Result<(), ReadFailed> {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
    let len = bytes.len() as u64;
    file.read_exact_at(bytes, offset_bytes).map_err(|source| ReadFailed { offset_bytes, bytes: len, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(shape: [u64; 3], size: [u64; 3], strides: [u64; 3]) -> Rows {
        let from = FileBox { offset_bytes: 0, shape, start: [0; 3], size };
        Rows::new::<u8>(&from, &Place { first: 0, strides })
    }

    fn calls(rows: &Rows) -> u64 {
        let (mut row, mut calls) = (0, 0);
        while row < rows.count() {
            row = rows.span_from(row);
            calls += 1;
        }
        calls
    }

    #[test]
    fn what_is_contiguous_on_both_sides_is_one_run() {
        let whole = rows([64, 64, 64], [64, 64, 64], [1, 64, 4096]);
        assert_eq!((whole.count(), whole.run), (1, 64 * 64 * 64));
        let planes = rows([64, 64, 64], [64, 8, 64], [1, 64, 512]);
        assert_eq!((planes.count(), planes.run), (64, 512));
        let spread_out = rows([64, 64, 64], [64, 64, 64], [1, 128, 8192]);
        assert_eq!(spread_out.count(), 4096, "the buffer is not dense");
        let transposed = rows([64, 64, 64], [64, 64, 64], [4096, 64, 1]);
        assert_eq!((transposed.count(), transposed.dense), (4096, false));
    }

    #[test]
    fn short_rows_share_calls_and_long_ones_do_not() {
        let short = rows([1024, 1024, 64], [64, 64, 64], [1, 64, 4096]);
        assert_eq!(calls(&short), 64, "a plane's rows in one call");
        let long = rows([1 << 20, 64, 2], [1 << 19, 64, 2], [1, 1 << 19, 1 << 25]);
        assert_eq!(calls(&long), 128, "a call each, straight into place");
        let far = rows([1 << 20, 64, 2], [16, 64, 2], [1, 16, 1024]);
        assert_eq!(calls(&far), 128, "too far apart");
        let small_file = rows([45, 37, 29], [20, 20, 20], [1, 20, 400]);
        assert_eq!(calls(&small_file), 1, "planes are close as well");
    }
}
