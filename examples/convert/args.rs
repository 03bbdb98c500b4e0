//! Owns the command line. Knows nothing of volumes but what they are called.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use vastgrid::pyramid::Downsample;
use vastgrid::source::{AxisOrder, Endian};
use vastgrid::store::{Shuffle, ZarrCodec};
use vastgrid::{Extent, ScalarType};

use crate::Failure;

/// Converts a volume to an OME-Zarr image of several resolutions.
///
/// IN is read once, within a budget of memory. OUT appears when it is whole; what an interrupted conversion leaves is beside it, and --resume goes on from there.
#[derive(Debug, Parser)]
#[command(name = "convert", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a box of a volume as a raw file, or a NRRD file where OUT ends with .nrrd
    Region(RegionArgs),
}

/// What is read.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InputArgs {
    /// A NRRD, MetaImage, NIfTI or TIFF file, a Zarr folder or the address of one, or with --shape and --type a raw file
    // Required, but not where there is a command.
    #[arg(value_name = "IN", required = true)]
    input: Option<PathBuf>,
    /// Size of a raw file in voxels, x first, such as 512x512x300
    #[arg(long, value_name = "XxYxZ", value_parser = extent, requires = "scalar", help_heading = "Raw files")]
    pub(crate) shape: Option<Extent>,
    /// Its voxels: u8, i8, u16, i16, u32, i32, f16, f32 or f64
    #[arg(long = "type", id = "scalar", value_name = "TYPE", value_parser = scalar, requires = "shape", help_heading = "Raw files")]
    pub(crate) scalar: Option<ScalarType>,
    /// Bytes before the first voxel
    #[arg(long, default_value_t = 0, value_name = "BYTES", requires = "shape", help_heading = "Raw files")]
    pub(crate) offset: u64,
    /// Order of the bytes of a voxel
    #[arg(long, default_value = "little", value_enum, requires = "shape", help_heading = "Raw files")]
    pub(crate) endian: ByteOrder,
    /// Order of the axes, fastest first, such as xyz or zyx
    #[arg(long, default_value = "xyz", value_parser = order, requires = "shape", help_heading = "Raw files")]
    pub(crate) order: AxisOrder,
    /// Which of several volumes, by name
    #[arg(long, value_name = "NAME", conflicts_with = "shape")]
    pub(crate) entry: Option<String>,
    /// Which point in time
    #[arg(long, default_value_t = 0, value_name = "T", conflicts_with = "shape")]
    pub(crate) time: u64,
    /// Which channel
    #[arg(long, default_value_t = 0, value_name = "C", conflicts_with = "shape")]
    pub(crate) channel: u64,
    /// Distance of voxels, x first [default: what the file says, or 1x1x1]
    #[arg(long, value_name = "XxYxZ", value_parser = spacing)]
    pub(crate) spacing: Option<[f64; 3]>,
    /// What it is measured in, such as micrometer or mm [default: what the file says]
    #[arg(long, value_name = "UNIT")]
    pub(crate) unit: Option<String>,
    /// Memory for everything, such as 536870912 or 512MiB
    #[arg(long, default_value = "512MiB", value_name = "BYTES", value_parser = bytes)]
    pub(crate) budget: u64,
    /// Take the place of what OUT is already
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Show no bars
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl InputArgs {
    pub(crate) fn path(&self) -> Result<&Path, Failure> {
        self.input.as_deref().ok_or_else(|| "needs IN".into())
    }
}

/// What becomes of a volume.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImageArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// The folder to make
    #[arg(value_name = "OUT", required = true)]
    output: Option<PathBuf>,
    /// Go on with a conversion of the same input and options that was interrupted
    #[arg(long, conflicts_with = "restart")]
    pub(crate) resume: bool,
    /// Begin anew, and remove what a conversion that was interrupted left
    #[arg(long)]
    pub(crate) restart: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What is encoded, and later read, as a whole, in voxels, such as 64 or 128x128x32 [default: 64, and less along an axis that is shorter]
    #[arg(long, value_name = "XxYxZ", value_parser = cube, help_heading = "Format")]
    pub(crate) chunk: Option<Extent>,
    /// What is one file, in voxels: a multiple of the chunk, or none for a file for each chunk [default: as many chunks as fit into 256x256x256 and as there are]
    #[arg(long, value_name = "XxYxZ|none", value_parser = shard, help_heading = "Format")]
    pub(crate) shard: Option<Shard>,
    /// zstd:LEVEL, gzip:LEVEL, blosc:LEVEL (shuffled by bytes) or none
    #[arg(long, default_value = "zstd:3", value_name = "CODEC", value_parser = codec, help_heading = "Format")]
    pub(crate) codec: ZarrCodec,
    /// The most levels, the full resolution among them [default: until one has no more than 128^3 voxels]
    #[arg(long, value_name = "LEVELS", help_heading = "Levels")]
    pub(crate) levels: Option<std::num::NonZeroUsize>,
    /// How blocks of voxels become one
    #[arg(long, default_value = "mean", value_enum, help_heading = "Levels")]
    pub(crate) method: Method,
    /// Threads that encode [default: one for each processor]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "THREADS")]
    pub(crate) threads: usize,
}

impl ImageArgs {
    pub(crate) fn output(&self) -> Result<&Path, Failure> {
        folder(self.output.as_deref().ok_or("needs OUT")?)
    }
}

/// Which box of a volume goes where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegionArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// The file to make; NRRD where it ends with .nrrd
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// First voxel and size of the box: 10,20,30,64,48,32 are 64 x 48 x 32 voxels [default: everything]
    #[arg(long, value_name = "x0,y0,z0,X,Y,Z", value_parser = six)]
    pub(crate) region: Option<[u64; 6]>,
}

impl RegionArgs {
    pub(crate) fn output(&self) -> Result<&Path, Failure> {
        folder(&self.output)
    }
}

/// Refuses addresses by name: as paths they would be folders called `s3:`.
fn folder(output: &Path) -> Result<&Path, Failure> {
    let text = output.to_string_lossy();
    if text.contains("://") {
        return Err(format!("OUT is the address {text}, but only files and folders of this machine are written: convert into a folder, and copy it there").into());
    }
    Ok(output)
}

/// How blocks of voxels become one, by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Method {
    /// The mean: for measured values
    Mean,
    /// The greatest value: so that bright spots stay
    Max,
    /// The most frequent value: for labels
    Mode,
}

impl From<Method> for Downsample {
    fn from(method: Method) -> Self {
        match method {
            Method::Mean => Self::Mean,
            Method::Max => Self::Max,
            Method::Mode => Self::Mode,
        }
    }
}

/// Order of bytes, by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl From<ByteOrder> for Endian {
    fn from(order: ByteOrder) -> Self {
        match order {
            ByteOrder::Little => Self::Little,
            ByteOrder::Big => Self::Big,
        }
    }
}

/// What is one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shard {
    /// A chunk.
    Chunk,
    /// Several.
    Of(Extent),
}

fn split<N: std::str::FromStr, const COUNT: usize>(text: &str) -> Result<[N; COUNT], String> {
    let numbers: Option<Vec<N>> = text.split(['x', ',']).map(|n| n.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|n| <[N; COUNT]>::try_from(n).ok());
    numbers.ok_or_else(|| format!("must be {COUNT} numbers with an x or a comma between them"))
}

fn extent(text: &str) -> Result<Extent, String> {
    split(text).map(<Extent as From<[u64; 3]>>::from)
}

fn cube(text: &str) -> Result<Extent, String> {
    text.trim().parse().map(Extent::cube).or_else(|_| extent(text))
}

fn six(text: &str) -> Result<[u64; 6], String> {
    split(text)
}

fn shard(text: &str) -> Result<Shard, String> {
    if text == "none" { Ok(Shard::Chunk) } else { cube(text).map(Shard::Of) }
}

fn codec(text: &str) -> Result<ZarrCodec, String> {
    let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
    let number =
        |default: i32| level.map_or(Ok(default), |level| level.parse().map_err(|e| format!("{level}: {e}")));
    let small = |default: i32| -> Result<u8, String> {
        u8::try_from(number(default)?)
            .ok()
            .filter(|level| *level <= 9)
            .ok_or_else(|| "levels are 0 to 9".into())
    };
    match name {
        "none" if level.is_none() => Ok(ZarrCodec::None),
        "zstd" => Ok(ZarrCodec::Zstd { level: number(3)? }),
        "gzip" => Ok(ZarrCodec::Gzip { level: small(5)?.into() }),
        "blosc" => Ok(ZarrCodec::Blosc { level: small(5)?, shuffle: Shuffle::Bytes }),
        _ => Err("must be zstd:LEVEL, gzip:LEVEL, blosc:LEVEL or none".into()),
    }
}

fn spacing(text: &str) -> Result<[f64; 3], String> {
    let spacing: [f64; 3] = split(text)?;
    let good = spacing.iter().all(|s| s.is_finite() && *s > 0.0);
    if good { Ok(spacing) } else { Err("must be larger than 0".into()) }
}

fn scalar(name: &str) -> Result<ScalarType, String> {
    ScalarType::from_name(name).ok_or_else(|| "must be u8, i8, u16, i16, u32, i32, f16, f32 or f64".into())
}

fn order(name: &str) -> Result<AxisOrder, String> {
    let axes = |o: AxisOrder| -> String { o.axes().into_iter().map(|a| ["x", "y", "z"][a]).collect() };
    let found = AxisOrder::ALL.into_iter().find(|&o| axes(o) == name);
    found.ok_or_else(|| "must be x, y and z in some order".into())
}

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or("").to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kib" | "k" => 10,
        "mib" | "m" => 20,
        "gib" | "g" => 30,
        "tib" | "t" => 40,
        _ => return Err("the unit must be KiB, MiB, GiB or TiB".into()),
    };
    let number: u64 = digits.trim().parse().map_err(|e| format!("{e}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "beyond 64 bits".into())
}
