//! Owns the ceilings on a device, which hold the whole volume: tile after tile, row after row, and as a dense texture. Nothing is ever loaded or looked up.
//!
//! Made good: positions become offsets by shifts alone; rows are sampled without any test. Rows of a large volume lie far from each other, so that the volume in tiles may be the faster of the two: both are
//! here so that neither stands for the other. The texture is laid out as the device likes it best and filtered by its unit, whose fractions have 8 bits.

use vastgrid::cuda::DeviceBuffer;

use super::arrays::{Array3D, CopyFrom, CopyTo, begin_copy};
use super::scheme::{Filter, Kernels, Parameters, Scheme, Setting, Task};
use super::uploads::Uploads;
use crate::suite::Failure;

/// What holds the voxels.
#[derive(Debug)]
enum Memory {
    Linear(DeviceBuffer),
    Texture(Array3D),
}

/// How voxels lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Tiles,
    Rows,
    Texture,
}

pub(crate) struct Dense<'v> {
    setting: &'v Setting,
    kernels: Kernels,
    memory: Memory,
}

impl<'v> Dense<'v> {
    pub(crate) fn new(setting: &'v Setting, order: Order) -> Result<Self, Failure> {
        let (shape, bench, tiles) = (setting.shape, &setting.bench, &setting.source.tiles);
        let memory = match order {
            Order::Texture => Memory::Texture(Array3D::new(bench.device(), shape.voxels(), false)?),
            Order::Tiles | Order::Rows => Memory::Linear(DeviceBuffer::new(bench.device(), shape.bytes())?),
        };
        let [row, rows, _] = shape.voxels();
        let mut uploads = Uploads::new(&bench.stream)?;
        for tile in 0..shape.tile_count() {
            let at = shape.first_voxel(shape.position(tile));
            match (&memory, order) {
                (Memory::Linear(memory), Order::Tiles) => {
                    uploads.put_in_buffer(memory, u64::from(tile) * shape.tile_bytes(), tiles, tile)?;
                }
                (Memory::Linear(memory), _) => {
                    let to = CopyTo::Rows(memory.address(), [row, rows]);
                    begin_copy(&bench.stream, (to, at), CopyFrom::Host(tiles.of(tile)?), tiles.size)?;
                }
                (Memory::Texture(array), _) => uploads.put_in_array(array, at, tiles, tile)?,
            }
        }
        uploads.end(&bench.stream)?;
        bench.stream.synchronize()?;
        let kernels = bench.kernels(match order {
            Order::Tiles => "tiles",
            Order::Rows => "rows",
            Order::Texture => "texture",
        })?;
        Ok(Self { setting, kernels, memory })
    }
}

impl Scheme for Dense<'_> {
    fn filter(&self) -> Filter {
        match self.memory {
            Memory::Linear(_) => Filter::Kernel,
            Memory::Texture(_) => Filter::Texture,
        }
    }

    fn want(&mut self, _tiles: &[u32]) -> Result<u64, Failure> {
        Ok(0)
    }

    fn launch(&self, tasks: &[Task]) -> Result<(), Failure> {
        let memory = match &self.memory {
            Memory::Linear(memory) => memory.address(),
            Memory::Texture(array) => array.texture(),
        };
        self.setting.bench.launch(&self.kernels, &Parameters::of_memory(memory, 0, self.setting.shape), tasks)
    }

    fn bytes(&self, _tiles: u64) -> u64 {
        self.setting.shape.bytes()
    }
}
