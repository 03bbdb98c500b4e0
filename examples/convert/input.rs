//! Owns opening: which file, of which type, where its voxels lie in the world. Knows nothing of what becomes of them.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vastgrid::Extent;
use vastgrid::source::{Dataset, Nrrd, RawSpec};

use crate::Failure;
use crate::args::InputArgs;
use crate::bars::Bar;

/// A volume whose type is known at run time only, and what is known of it.
pub(crate) struct Input {
    pub(crate) dataset: Dataset,
    pub(crate) spacing: [f64; 3],
    pub(crate) origin: [f64; 3],
    pub(crate) unit: Option<String>,
    /// What it decodes as a whole, if it does.
    pub(crate) chunk: Option<Extent>,
    pub(crate) name: String,
    /// Tells it from others, and from itself after it was changed.
    pub(crate) identity: String,
}

/// Opens what the arguments name.
pub(crate) fn open(args: &InputArgs) -> Result<Input, Failure> {
    let path = args.path()?;
    let (dataset, spacing, origin, unit) = match (args.shape, args.scalar) {
        (Some(extent), Some(scalar)) => {
            let spec = RawSpec {
                offset_bytes: args.offset,
                endian: args.endian.into(),
                order: args.order,
                ..RawSpec::new(extent)
            };
            (Dataset::open_raw(path, scalar, spec)?, [1.0; 3], [0.0; 3], None)
        }
        _ => open_nrrd(path, args.quiet)?,
    };
    let unit = args.unit.clone().or(unit);
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Input {
        dataset,
        spacing: args.spacing.unwrap_or(spacing),
        origin,
        unit,
        chunk: None,
        name,
        identity: identity(args)?,
    })
}

type Found = (Dataset, [f64; 3], [f64; 3], Option<String>);

fn open_nrrd(path: &Path, quiet: bool) -> Result<Found, Failure> {
    let mut magic = [0; 4];
    let named = |error| format!("opening {}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(named)?;
    // A file shorter than that is no NRRD file either.
    let is_nrrd = file.read_exact(&mut magic).is_ok() && &magic == b"NRRD";
    if !is_nrrd && path.is_file() {
        let what = "is no NRRD file, and a raw one needs --shape and --type";
        return Err(format!("opening {}: {what}", path.display()).into());
    }
    let nrrd = Nrrd::open(path)?;
    let header = nrrd.header();
    let spacing = header.spacing();
    let unit = header.units()[0].map(str::to_owned);
    let origin = header.space_origin().and_then(|o| <[f64; 3]>::try_from(o).ok()).unwrap_or_default();
    let origin = if origin.iter().all(|v| v.is_finite()) { origin } else { [0.0; 3] };
    let mut bar = Bar::new("decompressing", quiet);
    let dataset = nrrd.into_dataset_with(|done, all| bar.show(done, all))?;
    Ok((dataset, spacing, origin, unit))
}

/// The file, its size and time, and how it is read.
fn identity(args: &InputArgs) -> Result<String, Failure> {
    let path = args.path()?;
    let path = path.canonicalize().map_err(|e| format!("opening {}: {e}", path.display()))?;
    let metadata = std::fs::metadata(&path).map_err(|e| format!("opening {}: {e}", path.display()))?;
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    let InputArgs { shape, scalar, offset, endian, order, .. } = args;
    Ok(format!(
        "{}, {} bytes of {seconds}.{nanoseconds:09}, {shape:?} {scalar:?} {offset} {endian:?} {order:?}",
        path.display(),
        metadata.len()
    ))
}

/// What OME-Zarr calls a unit.
pub(crate) fn unit_for_zarr(unit: &str) -> String {
    let known = match unit {
        "nm" => "nanometer",
        "um" | "\u{b5}m" | "\u{3bc}m" | "micron" => "micrometer",
        "mm" => "millimeter",
        "cm" => "centimeter",
        "m" => "meter",
        other => other,
    };
    known.to_owned()
}
