//! Owns opening: which volume, of which type, where its voxels lie in the world. Knows nothing of what becomes of them.

use std::path::Path;
use std::time::SystemTime;

use vastgrid::Extent;
use vastgrid::open::{Format, Opened, Selection};
use vastgrid::source::{ContentKey, Dataset, RawSpec, Zarr};
use vastgrid::store::ChannelDescription;

use crate::args::InputArgs;
use crate::bars::Bar;
use crate::{Failure, warn};

/// Chunks of a Zarr array whose shape is not known here.
const CHUNK: Extent = Extent::cube(64);

/// What sources of rows, and what those of chunks keep of what they read.
const ROWS_BYTES: u64 = 32 << 20;
const CHUNKS_BYTES: u64 = 320 << 20;

/// A volume whose type is known at run time only, and what is known of it.
pub(crate) struct Input {
    pub(crate) dataset: Dataset,
    pub(crate) spacing: [f64; 3],
    pub(crate) origin: [f64; 3],
    pub(crate) unit: Option<String>,
    pub(crate) channel: Option<ChannelDescription>,
    /// What it decodes as a whole, if it does.
    pub(crate) chunk: Option<Extent>,
    /// Memory that its source takes besides.
    pub(crate) kept_bytes: u64,
    pub(crate) name: String,
    /// What an address says of which version is there.
    pub(crate) version: Option<String>,
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
                origin: [0.0; 3],
                unit: None,
                channel: None,
                chunk: None,
                kept_bytes: ROWS_BYTES,
                name,
                version: None,
            }
        }
        _ => recognised(args, name)?,
    };
    input.spacing = args.spacing.unwrap_or(input.spacing);
    input.unit = args.unit.clone().or(input.unit);
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
    let chunk = (opened.format() == Format::Zarr).then(|| chunk(&opened, &found.name).unwrap_or(CHUNK));
    let mut bar = Bar::new("decompressing", *quiet);
    Ok(Input {
        dataset: opened.dataset_with(&selection, |done, all| bar.show(done, all))?,
        spacing: found.spacing,
        origin: found.origin,
        unit: found.units[0].clone(),
        channel,
        chunk,
        kept_bytes: if matches!(opened.format(), Format::Zarr | Format::Tiff) {
            CHUNKS_BYTES
        } else {
            ROWS_BYTES
        },
        name: found.title.clone().unwrap_or(name),
        version: opened.version().map(str::to_owned),
    })
}

/// What a Zarr folder decodes as a whole, of the array or the finest level of the image of that name.
fn chunk(opened: &Opened, name: &str) -> Option<Extent> {
    let zarr = Zarr::open(Path::new(opened.location())).ok()?;
    let name = name.trim_matches('/');
    let image = zarr.images().iter().find(|image| image.path() == name);
    let array = image.map_or_else(|| zarr.array(name), |image| image.array(0)).ok()?;
    let zyx = array.chunk_shape().last_chunk::<3>().copied()?;
    Some(Extent::from_zyx(zyx))
}

/// Tells an input from others, and from itself after it was changed: the file, or the folder with all that is in it, and how it is read.
pub(crate) fn identity(args: &InputArgs, input: &Input) -> Result<String, Failure> {
    let InputArgs { shape, scalar, offset, endian, order, entry, time, channel, .. } = args;
    let how = format!("{shape:?} {scalar:?} {offset} {endian:?} {order:?}, {entry:?} {time} {channel}");
    let path = args.path()?;
    let Ok(resolved) = path.canonicalize() else {
        return Ok(format!("{}, {:?}, {how}", path.display(), input.version));
    };
    let version = ContentKey::of_path(&resolved).map_or_else(
        |error| {
            warn(format_args!("an interruption could not be gone on with: {error}"));
            // That of no other run.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            format!("unknown version, {} at {}", std::process::id(), now.as_nanos())
        },
        |key| key.to_string(),
    );
    Ok(format!("{}, {version}, {how}", resolved.display()))
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
