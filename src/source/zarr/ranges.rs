//! Owns reading what vastgrid writes beside an image: the smallest and largest value of each cell of a level. Knows nothing of how they are found, nor of what they are for.
//!
//! They are an array of shape `[z, y, x, 2]` at `vastgrid/ranges/` and the level's name, in the image's group; its attribute `vastgrid` has the cell's shape as `{"cell": [z, y, x]}`
//! ([`PyramidWriter`](crate::store::PyramidWriter)).

use super::image::ZarrImage;
use super::slice::ZarrSlice;
use crate::error::SourceError;
use crate::geometry::{Extent, Region};
use crate::source::{RangeIndex, TileSource, index};
use crate::voxel::Scalar;

/// The most cells that are read: an index is in memory as a whole.
const MOST_CELLS: u64 = 1 << 24;

impl ZarrImage {
    /// The smallest and largest value of each cell of a level, where vastgrid wrote them; `None` where there are none that are of this level. Of images of axes z, y and x alone.
    ///
    /// They are as true as when they were written: whoever changes voxels afterwards must remove them.
    ///
    /// **Cost**: all of them are read, two values for each cell.
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
        let cell =
            attributes.get("vastgrid").and_then(|ours| ours.get("cell")).and_then(|cell| cell.as_array());
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
        let values = |which: u64| -> Result<Vec<T>, SourceError> {
            let slice = ZarrSlice { x: 2, y: Some(1), z: Some(0), at: vec![(3, which)] };
            // Conversion keeps order, so what was a range of voxels is one of what they become.
            let source = ranges.dataset(&slice)?.into_source::<T>();
            let mut values = vec![T::zeroed(); index(count)];
            source.read(Region::whole(Extent::from_zyx(cells)), &mut values)?;
            Ok(values)
        };
        let (extent, cell) = (Extent::from_zyx(extent), Extent::from_zyx(cell));
        RangeIndex::from_parts(extent, cell, values(0)?, values(1)?).map(Some)
    }
}
