//! Owns opening: which volume, of which type, where its voxels lie in the world. Knows nothing of what becomes of them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vastgrid::open::{Entry, Selection};
use vastgrid::source::{Dataset, RawSpec};
use vastgrid::store::ChannelDescription;

use crate::Failure;
use crate::args::InputArgs;
use crate::bars::Bar;

/// A volume whose type is known at run time only, and what is known of it.
pub(crate) struct Input {
    pub(crate) dataset: Dataset,
    pub(crate) spacing: [f64; 3],
    /// What a file that says more than a raw one says of it.
    pub(crate) entry: Option<Entry>,
    pub(crate) units: [Option<String>; 3],
    pub(crate) channel: Option<ChannelDescription>,
    pub(crate) name: String,
    /// Tells it from others, and from itself after it was changed.
    pub(crate) identity: String,
}

/// Opens what the arguments name.
pub(crate) fn open(args: &InputArgs) -> Result<Input, Failure> {
    let path = args.path()?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut input = match (args.shape, args.scalar) {
        (Some(extent), Some(scalar)) => {
            let spec = RawSpec {
                offset_bytes: args.offset,
                endian: args.endian.into(),
                order: args.order,
                ..RawSpec::new(extent)
            };
            Input {
                dataset: Dataset::open_raw(path, scalar, spec)?,
                spacing: [1.0; 3],
                entry: None,
                units: [None, None, None],
                channel: None,
                name,
                identity: identity(args)?,
            }
        }
        _ => recognised(args, name)?,
    };
    input.spacing = args.spacing.unwrap_or(input.spacing);
    if args.unit.is_some() {
        input.units = [0; 3].map(|_| args.unit.clone());
    }
    Ok(input)
}

/// Whatever it is, told by its content.
fn recognised(args: &InputArgs, name: String) -> Result<Input, Failure> {
    let opened = vastgrid::open(args.path()?)?;
    let InputArgs { entry, time, channel, quiet, .. } = args;
    let selection =
        Selection { entry: entry.clone(), time: *time, channel: *channel, ..Selection::default() };
    let found = opened.entry(&selection)?;
    let shown = usize::try_from(*channel).ok().and_then(|channel| found.channels.get(channel));
    let channel = shown.and_then(|shown| {
        let (least, greatest) = shown.window?;
        let window = [least, greatest];
        let color = shown.colour.unwrap_or([255; 3]);
        let good = least.is_finite() && greatest.is_finite() && least <= greatest;
        good.then(|| ChannelDescription { label: shown.name.clone(), color, window, limits: window })
    });
    let mut bar = Bar::new("decompressing", *quiet);
    Ok(Input {
        dataset: opened.dataset_with(&selection, |done, all| bar.show(done, all))?,
        spacing: found.spacing,
        entry: Some(found.clone()),
        units: found.units.clone(),
        channel,
        name: found.title.clone().unwrap_or(name),
        identity: identity(args)?,
    })
}

/// The file or folder, its size and time, and how it is read.
fn identity(args: &InputArgs) -> Result<String, Failure> {
    let InputArgs { shape, scalar, offset, endian, order, entry, time, channel, .. } = args;
    let how = format!("{shape:?} {scalar:?} {offset} {endian:?} {order:?}, {entry:?} {time} {channel}");
    // An address says nothing of when it was changed.
    let Ok(path) = args.path()?.canonicalize() else {
        return Ok(format!("{}, {how}", args.path()?.display()));
    };
    let about = |path: &Path| -> Result<String, Failure> {
        let metadata = std::fs::metadata(path).map_err(|e| format!("opening {}: {e}", path.display()))?;
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        Ok(format!("{} bytes of {seconds}.{nanoseconds:09}", metadata.len()))
    };
    // Of a folder, what describes it.
    let inside = ["zarr.json", ".zattrs", ".zarray"].map(|name| path.join(name));
    let inside = inside.iter().find(|file| path.is_dir() && file.is_file());
    Ok(format!("{}, {}, {how}", path.display(), about(inside.unwrap_or(&path))?))
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
