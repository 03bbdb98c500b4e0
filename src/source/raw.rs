//! Owns [`RawFile`]: voxels in a file without a header, in any order. Knows nothing of tiles in memory, nor of any format.
//!
//! ```
//! use vastgrid::source::{AxisOrder, Endian, RawFile, RawSpec};
//! use vastgrid::{Coord, Extent, Region, TileSource};
//!
//! let path = std::env::temp_dir().join(format!("vastgrid-doc-{}.raw", std::process::id()));
//! std::fs::write(&path, [0u8, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6])?;
//!
//! // 3 x 2 x 1 voxels, y fastest (so a Fortran array of shape 2 x 3), most significant byte first.
//! let spec = RawSpec { endian: Endian::Big, order: AxisOrder::Yxz, ..RawSpec::new(Extent::new(3, 2, 1)) };
//! let source = RawFile::<u16>::open(&path, spec)?;
//! let mut row = [0; 3];
//! source.read(Region::new(Coord::new(0, 1, 0), Extent::new(3, 1, 1)), &mut row)?;
//! assert_eq!(row, [2, 4, 6]);
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::TileSource;
use super::ahead::read_ahead;
use super::call::{check_call_of, index};
use super::chunked::Chunked;
use super::input_file::InputFile;
use super::rows::{KEPT_BYTES, RowReader};
use super::runs::{FileBox, Place, read_box};
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::voxel::Scalar;

/// The order of the bytes of a voxel in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "byte order")]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// This machine's own.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };
}

/// The order of the axes in a file, fastest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AxisOrder {
    /// x fastest: a `NumPy` array in C order, indexed `[z, y, x]`.
    #[default]
    Xyz,
    /// x, then z, then y.
    Xzy,
    /// y, then x, then z.
    Yxz,
    /// y, then z, then x.
    Yzx,
    /// z, then x, then y.
    Zxy,
    /// z fastest: a `NumPy` array in Fortran order, indexed `[z, y, x]`, or in C order, indexed `[x, y, z]`.
    Zyx,
}

impl AxisOrder {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Xyz, Self::Xzy, Self::Yxz, Self::Yzx, Self::Zxy, Self::Zyx];

    /// The axes as numbers (x 0, y 1, z 2), fastest first.
    #[must_use]
    pub const fn axes(self) -> [usize; 3] {
        match self {
            Self::Xyz => [0, 1, 2],
            Self::Xzy => [0, 2, 1],
            Self::Yxz => [1, 0, 2],
            Self::Yzx => [1, 2, 0],
            Self::Zxy => [2, 0, 1],
            Self::Zyx => [2, 1, 0],
        }
    }

    /// Values per axis, put into this order.
    fn sort(self, xyz: [u64; 3]) -> [u64; 3] {
        self.axes().map(|axis| xyz[axis])
    }
}

/// How voxels lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSpec {
    /// Size of the volume in voxels.
    pub extent: Extent,
    /// Where the first voxel begins.
    pub offset_bytes: u64,
    /// Order of the bytes of a voxel.
    pub endian: Endian,
    /// Order of the axes.
    pub order: AxisOrder,
    /// `None` where the file is one dense array. Otherwise the file is *tile-major*: a row of tiles of this shape (any, not only powers of two), each a dense array.
    /// The tiles follow each other in `order` as the voxels in them do, and those at the far faces are whole in the file, whatever lies outside the extent.
    pub tile: Option<Extent>,
}

impl RawSpec {
    /// One dense array from the file's first byte, x fastest, in this machine's byte order.
    #[must_use]
    pub const fn new(extent: Extent) -> Self {
        Self { extent, offset_bytes: 0, endian: Endian::NATIVE, order: AxisOrder::Xyz, tile: None }
    }

    /// Bytes of the file's array, without the offset; `None` where it is empty or beyond 64 bits.
    #[must_use]
    pub fn data_bytes(&self, voxel_bytes: usize) -> Option<u64> {
        let tile = self.tile.unwrap_or(self.extent);
        if self.extent.is_empty() || tile.is_empty() {
            return None;
        }
        let tiles = Extent::new(
            self.extent.x.div_ceil(tile.x),
            self.extent.y.div_ceil(tile.y),
            self.extent.z.div_ceil(tile.z),
        );
        tiles.checked_volume()?.checked_mul(tile.checked_volume()?)?.checked_mul(voxel_bytes as u64)
    }
}

/// A volume in a file without a header, or behind one that somebody else has read.
///
/// **Cost**: opening checks the size and reads nothing. A region that is contiguous in the file (whole planes, or exactly one tile of a tile-major file) is
/// one positioned read, straight into the caller's memory; rows that are short or in another order are read many at a time through a buffer. Any number of
/// threads may read at once.
#[derive(Debug)]
pub struct RawFile<T: Scalar> {
    file: Arc<InputFile>,
    path: PathBuf,
    spec: RawSpec,
    /// Rows that the tiles of a batch share, where that is worth it.
    shared_rows: Option<Chunked<T, RowReader<T>>>,
    are_shared: AtomicBool,
}

impl<T: Scalar> RawFile<T> {
    /// Opens a file whose voxels lie as `spec` says. What follows them in the file is ignored.
    ///
    /// # Errors
    /// * [`SourceError::Open`]: no such file, no permission, or no regular file.
    /// * [`SourceError::Shape`]: an extent or tile that is empty or beyond 64 bits.
    /// * [`SourceError::Truncated`]: the file ends before the last voxel.
    pub fn open(path: impl AsRef<Path>, spec: RawSpec) -> Result<Self, SourceError> {
        let path = path.as_ref();
        Self::from_file(open_regular(path)?, path.to_owned(), spec)
    }

    /// From a file that is open already; `path` is for messages.
    pub(super) fn from_file(file: File, path: PathBuf, spec: RawSpec) -> Result<Self, SourceError> {
        let voxel_bytes = size_of::<T>();
        let location = path.display();
        let shape =
            || SourceError::Shape { location: location.to_string(), extent: spec.extent, voxel_bytes };
        let data_bytes = spec.data_bytes(voxel_bytes).ok_or_else(shape)?;
        let expected_bytes = spec.offset_bytes.checked_add(data_bytes).ok_or_else(shape)?;
        let actual_bytes = file_bytes(&file, &path)?;
        if actual_bytes < expected_bytes {
            return Err(SourceError::Truncated { path, expected_bytes, actual_bytes });
        }
        let file = Arc::new(InputFile::new(file));
        let rows = RowReader::new(&file, &path, spec).map(Chunked::new).transpose()?;
        let shared_rows = rows.map(|rows| rows.with_kept_bytes(KEPT_BYTES));
        Ok(Self { file, path, spec, shared_rows, are_shared: AtomicBool::new(false) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How its voxels lie.
    #[must_use]
    pub fn spec(&self) -> RawSpec {
        self.spec
    }

    /// Reads the part of `region` that lies in one dense array of the file: the whole volume, or one tile of it, whose first voxel is `corner`.
    fn read_from(
        &self,
        array: (u64, Extent, [u64; 3]),
        region: &Region,
        out: &mut [T],
    ) -> Result<(), SourceError> {
        let (offset_bytes, shape, corner) = array;
        let (shape, want, size) = (shape.to_array(), region.start.to_array(), region.extent.to_array());
        let (mut start, mut part, mut first) = ([0; 3], [0; 3], [0; 3]);
        for axis in 0..3 {
            let begin = want[axis].max(corner[axis]);
            let end = (want[axis] + size[axis]).min(corner[axis] + shape[axis]);
            start[axis] = begin - corner[axis];
            part[axis] = end - begin;
            first[axis] = begin - want[axis];
        }
        let strides = [1, size[0], size[0] * size[1]];
        let order = self.spec.order;
        let from = FileBox {
            offset_bytes,
            shape: order.sort(shape),
            start: order.sort(start),
            size: order.sort(part),
        };
        let place = Place {
            first: first[0] + first[1] * strides[1] + first[2] * strides[2],
            strides: order.sort(strides),
        };
        read_box(&self.file, &from, &place, out)
            .map_err(|failed| failed.in_file(self.file.through_cache(), &self.path))
    }

    /// Where a region lies in the file of one dense array.
    fn box_of(&self, (offset_bytes, shape): (u64, Extent), region: &Region) -> FileBox {
        let order = self.spec.order;
        FileBox {
            offset_bytes,
            shape: order.sort(shape.to_array()),
            start: order.sort(region.start.to_array()),
            size: order.sort(region.extent.to_array()),
        }
    }

    fn read_tiles(&self, tile: Extent, region: &Region, out: &mut [T]) -> Result<(), SourceError> {
        let shape = tile.to_array();
        let tile_bytes = shape.iter().product::<u64>() * size_of::<T>() as u64;
        let extent = self.spec.extent.to_array();
        let order = self.spec.order.axes();
        let in_file = order.map(|axis| extent[axis].div_ceil(shape[axis]));
        let (start, size) = (region.start.to_array(), region.extent.to_array());
        let touched = |axis: usize| start[axis] / shape[axis]..=(start[axis] + size[axis] - 1) / shape[axis];
        // Slowest axis outermost, so that the file is read forwards.
        for slow in touched(order[2]) {
            for middle in touched(order[1]) {
                for fast in touched(order[0]) {
                    let place = fast + in_file[0] * (middle + in_file[1] * slow);
                    let mut corner = [0; 3];
                    for (axis, t) in order.into_iter().zip([fast, middle, slow]) {
                        corner[axis] = t * shape[axis];
                    }
                    let offset_bytes = self.spec.offset_bytes + place * tile_bytes;
                    self.read_from((offset_bytes, tile, corner), region, out)?;
                }
            }
        }
        Ok(())
    }

    /// Where in the file a region lies that begins with a tile and is no larger.
    fn whole_tile(&self, tile: Extent, region: &Region) -> Option<(u64, std::num::NonZeroU64)> {
        let (shape, start) = (tile.to_array(), region.start.to_array());
        if !region.is_within(self.spec.extent) || (0..3).any(|axis| !start[axis].is_multiple_of(shape[axis]))
        {
            return None;
        }
        let extent = self.spec.extent.to_array();
        let at = self
            .spec
            .order
            .axes()
            .map(|axis| (start[axis] / shape[axis], extent[axis].div_ceil(shape[axis])));
        let place = at[0].0 + at[0].1 * (at[1].0 + at[1].1 * at[2].0);
        let bytes = shape.iter().product::<u64>() * size_of::<T>() as u64;
        Some((self.spec.offset_bytes + place * bytes, bytes.try_into().ok()?))
    }
}

impl<T: Scalar> TileSource<T> for RawFile<T> {
    fn extent(&self) -> Extent {
        self.spec.extent
    }

    /// Has the system read whole tiles, or the rows that the regions share, ahead: then as many reads are under way as the storage takes, not only as many as there are threads.
    fn will_read(&self, regions: &[Region]) {
        let Some(tile) = self.spec.tile else {
            let are_shared = self.shared_rows.is_some() && RowReader::<T>::are_shared(regions);
            self.are_shared.store(are_shared, Ordering::Relaxed);
            if are_shared {
                return;
            }
            let regions = regions.iter().filter(|region| region.is_within(self.spec.extent));
            let boxes = regions.map(|region| self.box_of((self.spec.offset_bytes, self.spec.extent), region));
            return read_ahead::<T>(&self.file, boxes);
        };
        let tiles = || regions.iter().filter_map(|region| self.whole_tile(tile, region));
        let ranges = tiles().map(|(offset_bytes, bytes)| (offset_bytes, offset_bytes + bytes.get()));
        if self.file.choose_way(&ranges.collect::<Vec<_>>()) {
            return;
        }
        for (offset_bytes, bytes) in tiles() {
            // Only a hint: what goes wrong here goes wrong, and is reported, in the read.
            let will_need = rustix::fs::Advice::WillNeed;
            let _ = rustix::fs::fadvise(self.file.through_cache(), offset_bytes, Some(bytes), will_need);
        }
    }

    fn will_read_all(&self) {
        self.file.will_read_all();
    }

    fn kept_bytes(&self) -> u64 {
        self.shared_rows.as_ref().map_or(0, TileSource::kept_bytes)
    }

    fn keep_at_most(&self, bytes: u64) {
        if let Some(rows) = &self.shared_rows {
            rows.keep_at_most(bytes);
        }
    }

    fn read(&self, region: Region, out: &mut [T]) -> Result<(), SourceError> {
        check_call_of(|| self.path.display().to_string(), self.spec.extent, region, out.len())?;
        if region.is_empty() {
            return Ok(());
        }
        match self.spec.tile {
            None if self.are_shared.load(Ordering::Relaxed)
                && let Some(rows) = &self.shared_rows =>
            {
                rows.read(region, out)?;
            }
            None => self.read_from((self.spec.offset_bytes, self.spec.extent, [0; 3]), &region, out)?,
            Some(tile) => self.read_tiles(tile, &region, out)?,
        }
        if self.spec.endian != Endian::NATIVE {
            for voxel in &mut out[..index(region.extent.checked_volume().unwrap_or(0))] {
                *voxel = voxel.swap_bytes();
            }
        }
        Ok(())
    }
}

/// Opens a file for reading; a directory, a pipe or a device is refused (opening a pipe would wait for its writer).
pub(crate) fn open_regular(path: &Path) -> Result<File, SourceError> {
    let open = || {
        if std::fs::metadata(path)?.is_file() {
            File::open(path)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    };
    open().map_err(|source| SourceError::Open { path: path.to_owned(), source })
}

/// Size of an open file.
pub(super) fn file_bytes(file: &File, path: &Path) -> Result<u64, SourceError> {
    let metadata = file.metadata();
    metadata.map(|m| m.len()).map_err(|source| SourceError::Open { path: path.to_owned(), source })
}
