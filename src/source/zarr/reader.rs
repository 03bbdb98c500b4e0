//! Owns [`Reader`]: a slice of an array as chunks of x, y, z. Knows nothing of objects or codecs.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::chunks::Chunks;
use super::slice::ZarrSlice;
use crate::error::SourceError;
use crate::geometry::Extent;
use crate::source::chunked::{ChunkCoord, ChunkReader, Found, MOST_CHUNK_BYTES};
use crate::source::{index, with_buffer};
use crate::voxel::Scalar;

/// Decodes the chunks of a slice.
pub(super) struct Reader<T> {
    chunks: Arc<Chunks>,
    axes: [Option<usize>; 3],
    /// The place along every dimension; 0 along x, y and z.
    origin: Vec<u64>,
    extent: Extent,
    /// Shape of a chunk of the slice.
    shape: Extent,
    fill: T,
    /// Voxels of a whole chunk, all dimensions.
    chunk_voxels: usize,
    /// Where the slice begins in a chunk that is decoded, and what lies between neighbours along x, y and z; `None` where that is the order that is asked for.
    taken: Option<Taken>,
    voxel: PhantomData<fn() -> T>,
}

/// How a slice lies in a decoded chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    first: u64,
    strides: [u64; 3],
}

impl<T: Scalar> Reader<T> {
    /// # Errors
    /// A slice that the array does not have, chunks that are too large.
    pub(super) fn new(chunks: Arc<Chunks>, slice: &ZarrSlice) -> Result<Self, SourceError> {
        let location = chunks.location().to_owned();
        let extent = slice.check(&location, chunks.array().shape())?;
        let sides: Vec<u64> = chunks.shape().iter().map(|side| side.get()).collect();
        let bytes = chunks.pipeline().bytes();
        if bytes > MOST_CHUNK_BYTES {
            return Err(SourceError::Unsupported {
                location,
                what: "the chunk shape",
                value: format!("{sides:?}: {bytes} bytes decoded, of at most {MOST_CHUNK_BYTES}"),
            });
        }
        let origin = slice.origin(sides.len());
        let shape = Extent::from(slice.pick(&sides));
        let strides = &chunks.pipeline().strides;
        let axes = slice.axes();
        let first = (0..sides.len()).map(|d| origin[d] % sides[d] * strides[d]).sum();
        let along = axes.map(|axis| axis.map_or(0, |d| strides[d]));
        let taken = Taken { first, strides: along };
        let chunk_voxels = index(sides.iter().product());
        let fill_bytes = chunks.array().fill_value().as_ne_bytes();
        let fill = bytemuck::try_pod_read_unaligned(fill_bytes).map_err(|_| SourceError::Unsupported {
            location,
            what: "the fill value",
            value: format!("{fill_bytes:?}"),
        })?;
        let taken = (!taken.is_all(shape, chunk_voxels)).then_some(taken);
        Ok(Self { chunks, axes, origin, extent, shape, fill, chunk_voxels, taken, voxel: PhantomData })
    }

    /// The number of a chunk along every dimension of the array.
    fn number(&self, chunk: ChunkCoord) -> Vec<u64> {
        let sides = self.chunks.shape().iter().map(|side| side.get());
        let mut number: Vec<_> = self.origin.iter().zip(sides).map(|(at, side)| at / side).collect();
        for (axis, at) in self.axes.into_iter().zip([chunk.x, chunk.y, chunk.z]) {
            if let Some(dimension) = axis {
                number[dimension] = at;
            }
        }
        number
    }
}

impl Taken {
    /// Whether a chunk's voxels are those of the slice, in their order.
    fn is_all(&self, shape: Extent, chunk_voxels: usize) -> bool {
        let dense = [1, shape.x, shape.x * shape.y];
        let in_order = |axis: usize| shape.to_array()[axis] == 1 || self.strides[axis] == dense[axis];
        self.first == 0 && shape.checked_volume() == Some(chunk_voxels as u64) && (0..3).all(in_order)
    }

    fn copy<T: Copy>(&self, shape: Extent, chunk: &[T], out: &mut [T]) {
        let [dx, dy, dz] = self.strides.map(index);
        let (width, height) = (index(shape.x), index(shape.y));
        for (nth, row) in out.chunks_exact_mut(width).enumerate() {
            let first = index(self.first) + nth % height * dy + nth / height * dz;
            if dx == 1 {
                row.copy_from_slice(&chunk[first..first + width]);
            } else {
                for (x, voxel) in row.iter_mut().enumerate() {
                    *voxel = chunk[first + x * dx];
                }
            }
        }
    }
}

impl<T: Scalar> ChunkReader<T> for Reader<T> {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn chunk_shape(&self) -> Extent {
        self.shape
    }

    fn fill_value(&self) -> T {
        self.fill
    }

    fn location(&self) -> String {
        self.chunks.location().to_owned()
    }

    fn missing(&self, chunk: ChunkCoord) -> bool {
        self.chunks.missing(&self.number(chunk))
    }

    fn will_read(&self, chunks: &[ChunkCoord]) {
        self.chunks.will_read(chunks.iter().map(|&chunk| self.number(chunk)));
    }

    fn decode(&self, chunk: ChunkCoord, out: &mut [T]) -> Result<Found, SourceError> {
        let number = self.number(chunk);
        let found = match &self.taken {
            None => self.chunks.decode(&number, bytemuck::cast_slice_mut(out))?,
            Some(taken) => with_buffer(self.chunk_voxels, |voxels: &mut [T]| {
                let found = self.chunks.decode(&number, bytemuck::cast_slice_mut(voxels))?;
                if found == Found::Voxels {
                    taken.copy(self.shape, voxels, out);
                }
                Ok::<_, SourceError>(found)
            })?,
        };
        if found == Found::Voxels && self.chunks.pipeline().swapped {
            for voxel in out {
                *voxel = voxel.swap_bytes();
            }
        }
        Ok(found)
    }
}

impl<T: fmt::Debug> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("array", &self.chunks.location())
            .field("extent", &self.extent)
            .field("chunk", &self.shape)
            .field("fill", &self.fill)
            .finish_non_exhaustive()
    }
}
