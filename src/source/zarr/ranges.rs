//! Owns reading what vastgrid writes beside an image: the smallest and largest value of each cell of a level. Knows nothing of how they are found, nor of what they are for.
//!
//! They are an array of shape `[z, y, x, 2]` at `vastgrid/ranges/` and the level's name, in the image's group; its attribute `vastgrid` has the cell's shape as `{"cell": [z, y, x]}`
//! ([`PyramidWriter`](crate::store::PyramidWriter)).
//!
//! Whoever writes voxels later knows nothing of them, and a range that is too narrow hides voxels. So the same attribute has a mark of the level's objects as they were when the ranges were written, of names, sizes and times and of the level's
//! metadata ([`objects_mark`](super::objects_mark)), and ranges count only where a walk through the level's folder gives the same. No weaker rule would do: voxels can change without any size changing, and "no object is
//! newer than the ranges" says nothing of a copy, whose times are those of copying, in whatever order the folder lists its entries. A checksum of the contents would survive a copy, but would cost a read of everything.
//! The price: a copy that does not keep times to the nanosecond (`cp -r`, `git`; not `cp -a`, `rsync -a`) is without ranges, which costs time and shows nothing wrong. Stores that are no folder are taken at their word.

use super::image::ZarrImage;
use super::slice::ZarrSlice;
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::source::{RangeIndex, TileSource, index};
use crate::voxel::{Scalar, ScalarType};

/// The most cells that are read: an index is in memory as a whole.
const MOST_CELLS: u64 = 1 << 24;

impl ZarrImage {
    /// The smallest and largest value of each cell of a level, where vastgrid wrote them; `None` where there are none that are of this level. Of images of axes z, y and x alone.
    ///
    /// In a folder they count as long as the level's objects are those that they were written with, by name, size and time: where somebody changed voxels, or copied the folder without keeping times, there are none, and a warning
    /// says so. Of stores elsewhere they are as true as when they were written: whoever changes voxels there must remove them.
    ///
    /// **Cost**: all of them are read, two values for each cell; in a folder, one system call for each of the level's objects, a million at the most.
    ///
    /// # Errors
    /// Those of [`ZarrImage::array`] and of reading.
    pub fn ranges<T: Scalar>(&self, level: usize) -> Result<Option<RangeIndex<T>>, SourceError> {
        let names: Vec<_> = self.axes().iter().map(|axis| axis.name.as_str()).collect();
        if names != ["z", "y", "x"] {
            return Ok(None);
        }
        let array = self.array(level)?;
        let Some((ranges, attributes)) = self.beside(array.path())? else { return Ok(None) };
        let ours = |name| attributes.get("vastgrid").and_then(|ours| ours.get(name));
        let cell = ours("cell").and_then(serde_json::Value::as_array);
        let cell: Option<Vec<u64>> =
            cell.and_then(|cell| cell.iter().map(serde_json::Value::as_u64).collect());
        let (Some(Ok(cell)), Ok(extent)) =
            (cell.map(<[u64; 3]>::try_from), <[u64; 3]>::try_from(array.shape()))
        else {
            return Ok(None);
        };
        let cells = [0, 1, 2].map(|axis| extent[axis].div_ceil(cell[axis].max(1)));
        let count = Extent::from(cells).checked_volume().unwrap_or(u64::MAX);
        let [z, y, x] = cells;
        if cell.contains(&0) || ranges.shape() != [z, y, x, 2] || count > MOST_CELLS {
            return Ok(None);
        }
        if let Some(mark) = self.mark(array.path())?
            && ours("objects").and_then(serde_json::Value::as_str) != Some(&*mark)
        {
            let level = self.location(array.path());
            tracing::warn!(
                level,
                "ranges of values are not used: objects of the level are not those, by name, size and time, that the ranges were written with"
            );
            return Ok(None);
        }
        let values = |which: u64| -> Result<Vec<T>, SourceError> {
            let slice = ZarrSlice { x: 2, y: Some(1), z: Some(0), at: vec![(3, which)] };
            // Conversion keeps order, so what was a range of voxels is one of what they become.
            let source = ranges.dataset(&slice)?.into_source::<T>();
            let mut values = vec![T::zeroed(); index(count)];
            source.read(Region::whole(Extent::from_zyx(cells)), &mut values)?;
            Ok(values)
        };
        let (mut least, mut greatest) = (values(0)?, values(1)?);
        let float = |scalar| matches!(scalar, ScalarType::F16 | ScalarType::F32 | ScalarType::F64);
        if array.scalar_type().is_some_and(float) && !float(T::TYPE) {
            // Ranges leave NaNs out, which become zero. What is not known stays so.
            let (zero, unknown) = (T::zeroed(), (T::from_f64(1.0), T::zeroed()));
            for (least, greatest) in least.iter_mut().zip(&mut greatest) {
                if (*least, *greatest) != unknown {
                    *least = if *least < zero { *least } else { zero };
                    *greatest = if *greatest > zero { *greatest } else { zero };
                }
            }
        }
        let (extent, cell) = (Extent::from_zyx(extent), Extent::from_zyx(cell));
        RangeIndex::from_parts(extent, cell, least, greatest).map(Some)
    }
}
