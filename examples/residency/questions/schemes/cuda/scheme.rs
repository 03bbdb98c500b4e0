//! Owns what every way of holding a volume on a device can do: [`Scheme`], the kernels that are the same for all of them ([`Bench`]), and how one that fails is left out ([`Contestant`]).

use vastgrid::GridView;
use vastgrid::cuda::{Arg, Device, DeviceBuffer, Event, Function, Module, Stream};

use super::super::volume::Shape;
use super::source::Source;
use crate::suite::{Context, Failure};

/// Something for kernels to do, of lists in the device's memory: where one begins, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Adds the samples along rays.
    Rays(u64, u32),
    /// Adds the samples at points.
    Points(u64, u32),
    /// Adds the voxels of tiles, each by itself.
    Touch(u64, u32),
}

/// Whose arithmetic samples are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// The kernels', which is the reference's.
    Kernel,
    /// The texture unit's: fractions of 8 bits.
    Texture,
}

impl Filter {
    /// By how much of itself a sum may be off: fractions are off by up to a 512th of the difference of two voxels, which differ at random here, so that next to nothing of it is left in the sum of
    /// many samples. That voxels are the right ones is known exactly, by [`Task::Touch`].
    const TEXTURE_TOLERANCE: f64 = 1e-4;

    /// Whether a sum is right.
    pub(crate) fn agree(self, name: &str, sum: u64, expected: u64) -> Result<(), Failure> {
        let difference = sum.abs_diff(expected) as f64;
        let allowed = match self {
            Self::Kernel => 0.0,
            Self::Texture => expected as f64 * Self::TEXTURE_TOLERANCE,
        };
        if difference <= allowed {
            return Ok(());
        }
        Err(format!(
            "{name}: its samples add up to {sum}, and on the host to {expected}; {allowed:.0} off is allowed"
        )
        .into())
    }
}

/// A way of holding a volume that is larger than the device's memory.
pub(crate) trait Scheme {
    fn filter(&self) -> Filter {
        Filter::Kernel
    }

    /// Has these tiles in memory for whatever is put on the stream from now on, and says how many of them had to be loaded. They stay until the next call.
    fn want(&mut self, tiles: &[u32]) -> Result<u64, Failure>;

    /// Puts kernels on the stream.
    fn launch(&self, tasks: &[Task]) -> Result<(), Failure>;

    /// Bytes of the device that it says it holds with so many tiles resident.
    fn bytes(&self, tiles: u64) -> u64;

    /// What it found out when it was made.
    fn remark(&self) -> Option<&str> {
        None
    }
}

/// What all schemes share: the volume in page-locked memory, and the device with its kernels.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) shape: Shape,
    pub(crate) source: std::sync::Arc<Source>,
    pub(crate) bench: Bench,
    /// The sum of every tile's voxels.
    pub(crate) tile_sums: Vec<u64>,
}

/// Makes a scheme with a budget of bytes.
pub(crate) type Maker = for<'v> fn(&'v Setting, u64) -> Result<Box<dyn Scheme + 'v>, Failure>;

/// A scheme's name and what makes it.
pub(crate) type Entry = (&'static str, Maker);

/// `vg_scheme`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    grid: GridView,
    memory: u64,
    table: u64,
    log2: [u32; 3],
    pad: u32,
}

const _: () = assert!(size_of::<Parameters>() == 120);

impl Parameters {
    /// Of an array of the library's.
    pub(crate) fn of_view(grid: GridView, shape: Shape) -> Self {
        Self { grid, memory: 0, table: 0, log2: shape.log2, pad: 0 }
    }

    /// As they lie in memory.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let numbers = [self.memory, self.table].map(u64::to_le_bytes).concat();
        let log2 = [self.log2[0], self.log2[1], self.log2[2], self.pad].map(u32::to_le_bytes).concat();
        [bytemuck::bytes_of(&self.grid), &numbers, &log2].concat()
    }

    /// Of memory, or a texture, and a table that says where tiles are, if there is one.
    pub(crate) fn of_memory(memory: u64, table: u64, shape: Shape) -> Self {
        Self { memory, table, ..Self::of_view(bytemuck::Zeroable::zeroed(), shape) }
    }
}

/// The kernels of one way to find a voxel.
#[derive(Debug)]
pub(crate) struct Kernels {
    rays: Function,
    points: Function,
    touch: Function,
}

/// The device, a stream, the code, and room for sums.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) stream: Stream,
    module: Module,
    out: DeviceBuffer,
}

impl Bench {
    /// With room for the sums of so many tiles.
    pub(crate) fn new(device: &Device, tiles: u32) -> Result<Self, Failure> {
        let ptx = include_str!("../../../../../assets/kernels/schemes.ptx");
        Ok(Self {
            stream: Stream::new(device)?,
            module: Module::load(device, ptx)?,
            out: DeviceBuffer::new(device, 16 * u64::from(tiles.max(1)))?,
        })
    }

    pub(crate) fn device(&self) -> &Device {
        self.stream.device()
    }

    pub(crate) fn kernels(&self, way: &str) -> Result<Kernels, Failure> {
        let function = |what: &str| -> Result<Function, Failure> {
            let name = format!("vg_schemes_{what}_{way}");
            self.module.function(&name).map_err(|error| format!("kernel {name}: {error}").into())
        };
        Ok(Kernels { rays: function("rays")?, points: function("points")?, touch: function("touch")? })
    }

    /// Sums from now on begin at zero.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        Ok(self.out.fill(&self.stream, 0)?)
    }

    /// Puts kernels on the stream. What they read is there for them when their turn comes, and stays until they are over.
    pub(crate) fn launch(
        &self,
        kernels: &Kernels,
        parameters: &Parameters,
        tasks: &[Task],
    ) -> Result<(), Failure> {
        const THREADS: u32 = 256;
        let most = self.device().multiprocessors() * 8;
        for task in tasks {
            let (kernel, list, count, grid) = match *task {
                Task::Rays(list, count) => (&kernels.rays, list, count, [count.div_ceil(THREADS), 1, 1]),
                Task::Points(list, count) => {
                    (&kernels.points, list, count, [count.div_ceil(THREADS).min(most), 1, 1])
                }
                Task::Touch(list, count) => (&kernels.touch, list, count, [count, 16, 1]),
            };
            if count == 0 {
                continue;
            }
            let out = self.out.address();
            let args = [Arg::new(parameters), Arg::new(&list), Arg::new(&count), Arg::new(&out)];
            #[expect(unsafe_code, reason = "kernels are launched on trust")]
            // SAFETY: the arguments are those of the kernels in `schemes.cu`; who calls keeps the lists and what `parameters` names until the sums are read.
            unsafe { kernel.launch(&self.stream, grid, [THREADS, 1, 1], 0, &args) }?;
        }
        Ok(())
    }

    /// The sum of all samples since it was cleared, once they are all taken.
    pub(crate) fn sum(&self, name: &str) -> Result<u64, Failure> {
        let [sum, missing] = self.sums(1)?[0];
        if missing > 0 {
            return Err(format!("{name}: {missing} samples lacked a tile that was asked for").into());
        }
        Ok(sum)
    }

    fn sums(&self, count: usize) -> Result<Vec<[u64; 2]>, Failure> {
        let mut sums = vec![[0u64; 2]; count];
        self.out.copy_to_host(&self.stream, bytemuck::cast_slice_mut(&mut sums))?;
        Ok(sums)
    }

    /// An event of the stream, with a time.
    pub(crate) fn event(&self) -> Result<Event, Failure> {
        Ok(Event::timed(&self.stream)?)
    }

    /// A list in the device's memory, copied there before this returns.
    pub(crate) fn list<T: bytemuck::NoUninit>(&self, list: &[T]) -> Result<DeviceBuffer, Failure> {
        let bytes: &[u8] = bytemuck::cast_slice(list);
        let buffer = DeviceBuffer::new(self.device(), bytes.len().max(1) as u64)?;
        buffer.copy_from_host(&self.stream, bytes)?;
        Ok(buffer)
    }
}

impl Setting {
    /// Whether tiles that a scheme holds are, voxel by voxel, the volume's.
    pub(crate) fn check(
        &self,
        name: &str,
        scheme: &dyn Scheme,
        (list, tiles): (u64, &[u32]),
    ) -> Result<(), Failure> {
        self.bench.clear()?;
        scheme.launch(&[Task::Touch(list, u32::try_from(tiles.len())?)])?;
        let sums = self.bench.sums(tiles.len())?;
        for (&tile, [sum, missing]) in tiles.iter().zip(sums) {
            let expected = self.tile_sums.get(tile as usize).copied().unwrap_or(0);
            if missing > 0 {
                return Err(format!(
                    "{name}: tile {tile} was asked for and {missing} voxels of it are not there"
                )
                .into());
            }
            if sum != expected {
                return Err(
                    format!("{name}: tile {tile} adds up to {sum}, and on the host to {expected}").into()
                );
            }
        }
        Ok(())
    }
}

/// A scheme that takes part for as long as it does not fail.
pub(crate) struct Contestant<'v> {
    pub(crate) name: &'static str,
    scheme: Option<Box<dyn Scheme + 'v>>,
}

impl<'v> Contestant<'v> {
    /// Makes those that can be made, and says which cannot, and why.
    pub(crate) fn all(
        context: &mut Context<'_>,
        setting: &'v Setting,
        entries: &[Entry],
        budget_bytes: u64,
    ) -> Vec<Self> {
        entries.iter().map(|entry| Self::new(context, setting, *entry, budget_bytes)).collect()
    }

    pub(crate) fn new(
        context: &mut Context<'_>,
        setting: &'v Setting,
        (name, make): Entry,
        budget_bytes: u64,
    ) -> Self {
        let made = make(setting, budget_bytes);
        let made =
            made.map_err(|error| context.note(format!("{name}: left out, could not be made: {error}")));
        Self { name, scheme: made.ok() }
    }

    /// What a scheme that is still there does; if it fails, it is there no more, and the report says why.
    pub(crate) fn attempt<T>(
        &mut self,
        context: &mut Context<'_>,
        doing: &str,
        work: impl FnOnce(&mut dyn Scheme) -> Result<T, Failure>,
    ) -> Option<T> {
        match work(&mut **self.scheme.as_mut()?) {
            Ok(done) => Some(done),
            Err(error) => {
                context.note(format!("{}: left out from here on, {doing}: {error}", self.name));
                self.scheme = None;
                None
            }
        }
    }
}
