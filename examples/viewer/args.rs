//! Owns the command line. Knows nothing of volumes but what they are called.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use vastgrid::source::{AxisOrder, Endian};
use vastgrid::{Extent, ScalarType};

use crate::view::Shown;

/// Looks at a volume that need not fit into memory.
///
/// Without FILE it shows a CT of a stent in an aorta through a budget of half its size; --demo huge is 4 million times larger. Serves one page on 127.0.0.1, or renders one picture (--png).
#[derive(Debug, Parser)]
#[command(name = "viewer", version)]
pub(crate) struct Args {
    /// A NRRD, MetaImage, NIfTI or TIFF file, the folder or address of an OME-Zarr image or a Zarr array, or with --shape and --type a raw file
    #[arg(conflicts_with = "demo")]
    pub(crate) file: Option<PathBuf>,
    /// A volume that is computed instead of a FILE
    #[arg(long, value_enum, conflicts_with = "spacing")]
    pub(crate) demo: Option<Demo>,

    /// Which array or image of a FILE that holds several, by the name that is told for an unknown one [default: the first]
    #[arg(
        long,
        value_name = "NAME",
        requires = "file",
        conflicts_with = "shape",
        help_heading = "Files of several volumes"
    )]
    pub(crate) array: Option<String>,
    /// Which channel, from 0 on
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        requires = "file",
        conflicts_with = "shape",
        help_heading = "Files of several volumes"
    )]
    pub(crate) channel: u64,
    /// Which point in time, from 0 on
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        requires = "file",
        conflicts_with = "shape",
        help_heading = "Files of several volumes"
    )]
    pub(crate) time: u64,

    /// Size of a raw file in voxels, x first, such as 512x512x300
    #[arg(long, value_name = "XxYxZ", value_parser = extent, requires_all = ["file", "scalar"], help_heading = "Raw files")]
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
    /// Size of a voxel, x first [default: what the file says, or 1x1x1]
    #[arg(long, value_name = "XxYxZ", value_parser = spacing)]
    pub(crate) spacing: Option<[f64; 3]>,

    /// Memory for voxels, such as 4194304 or 4MiB; the page can change it [default: 4MiB for the built-in volume (16MiB on a device), 256MiB for a FILE, 512MiB for a demo]
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Memory")]
    pub(crate) budget: Option<u64>,
    /// Edge of a tile, the unit of loading, in voxels: a power of two [default: 32, of a demo 64]
    #[arg(long, value_name = "VOXELS", help_heading = "Memory")]
    tile: Option<u64>,
    /// Size of a page, the unit of mapping and eviction [default: one tile, on a device 2MiB]
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Memory")]
    pub(crate) page_bytes: Option<u64>,
    /// Where tiles lie and pictures are made
    #[arg(long, default_value = "host", value_enum, help_heading = "Memory")]
    pub(crate) backend: Backend,
    /// So much longer takes every read, in milliseconds: to see what pictures are like while things load
    #[arg(long, default_value_t = 0, value_name = "MS", help_heading = "Memory")]
    pub(crate) delay: u64,

    /// Port of the page; 0 takes any that is free
    #[arg(long, default_value_t = 8737, help_heading = "Page")]
    pub(crate) port: u16,
    /// Do not open a browser
    #[arg(long, help_heading = "Page")]
    pub(crate) no_open: bool,

    /// Write into this folder what the pictures of each page wanted and what became of it, a file for each, once the page is closed
    #[arg(long, value_name = "FOLDER", conflicts_with = "png", help_heading = "Page")]
    pub(crate) record: Option<PathBuf>,

    /// Render one picture in which nothing is missing (of a demo: as fine as its pixels and the budget allow) into this file, and end
    #[arg(long, value_name = "OUT", help_heading = "Picture")]
    pub(crate) png: Option<PathBuf>,
    /// Its size in pixels
    #[arg(long, default_value = "800x600", value_name = "WxH", value_parser = size, help_heading = "Picture")]
    pub(crate) size: (u32, u32),
    /// How far the camera goes around the z axis, in degrees
    #[arg(
        long,
        default_value_t = 25.0,
        allow_negative_numbers = true,
        value_name = "DEGREES",
        help_heading = "Picture"
    )]
    pub(crate) azimuth: f64,
    /// How far it stands above the volume, in degrees
    #[arg(
        long,
        default_value_t = 10.0,
        allow_negative_numbers = true,
        value_name = "DEGREES",
        help_heading = "Picture"
    )]
    pub(crate) elevation: f64,
    /// How near it goes; at 1 the sphere around the volume just fits
    #[arg(long, default_value_t = 1.15, help_heading = "Picture")]
    pub(crate) zoom: f64,
    /// What is shown
    #[arg(long, default_value = "shaded", value_enum, help_heading = "Picture")]
    pub(crate) mode: Shown,
    /// Value of the isosurface [default: where the transfer function begins to be opaque]
    #[arg(long, allow_negative_numbers = true, value_name = "VALUE", help_heading = "Picture")]
    pub(crate) iso: Option<f32>,
    /// Transfer function: ct-angio, bone, skin, grey, mip, heat or strata [default: by volume and mode]
    #[arg(long, value_name = "NAME", help_heading = "Picture")]
    pub(crate) preset: Option<String>,
    /// Width of the window of values that the transfer function spans [default: its own]
    #[arg(long, value_name = "VALUES", help_heading = "Picture")]
    pub(crate) window: Option<f32>,
    /// Middle of that window
    #[arg(long, allow_negative_numbers = true, value_name = "VALUE", help_heading = "Picture")]
    pub(crate) level: Option<f32>,
    /// Distance between samples, in voxels
    #[arg(long, default_value_t = 0.5, value_name = "VOXELS", help_heading = "Picture")]
    pub(crate) step: f64,
    /// Parallel projection instead of perspective
    #[arg(long, help_heading = "Picture")]
    pub(crate) ortho: bool,
}

impl Args {
    pub(crate) fn tile(&self) -> u64 {
        self.tile.unwrap_or(if self.demo.is_some() { 64 } else { 32 })
    }
}

/// Volumes that are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Demo {
    /// A porous planet of 32 768 voxels a side (32 TiB), with something to see at every scale
    Huge,
}

/// Where tiles lie and pictures are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The processor and its memory
    Host,
    /// The first CUDA device
    Cuda,
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

fn split<N: std::str::FromStr, const COUNT: usize>(text: &str) -> Result<[N; COUNT], String> {
    let numbers: Option<Vec<N>> = text.split(['x', ',']).map(|n| n.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|n| <[N; COUNT]>::try_from(n).ok());
    numbers.ok_or_else(|| format!("must be {COUNT} numbers with an x between them"))
}

fn extent(text: &str) -> Result<Extent, String> {
    split(text).map(<Extent as From<[u64; 3]>>::from)
}

fn spacing(text: &str) -> Result<[f64; 3], String> {
    split(text)
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let [width, height] = split::<u32, 2>(text)?;
    // What the picture takes while it is made: 40 bytes a pixel.
    if !(1..=1 << 26).contains(&(u64::from(width) * u64::from(height))) {
        return Err(format!("must be from 1 to {} pixels", 1 << 26));
    }
    Ok((width, height))
}

fn scalar(name: &str) -> Result<ScalarType, String> {
    ScalarType::from_name(name).ok_or_else(|| "must be u8, i8, u16, i16, u32, i32, f16, f32 or f64".into())
}

fn order(name: &str) -> Result<AxisOrder, String> {
    let axes = |o: AxisOrder| -> String { o.axes().into_iter().map(|a| ["x", "y", "z"][a]).collect() };
    AxisOrder::ALL
        .into_iter()
        .find(|&o| axes(o) == name)
        .ok_or_else(|| "must be x, y and z in some order".into())
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
