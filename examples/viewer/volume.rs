//! Owns opening: which file, of which type, with which values. Knows nothing of memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use vastgrid::open::{Entry, EntryKind, Selection};
use vastgrid::render::Preset;
use vastgrid::source::{BoxedSource, Dataset, Instrumented, RawSpec};
use vastgrid::{Coord, Extent, Region, Scalar, SourceError, TileSource};

use crate::Failure;
use crate::args::{Args, Backend};
use crate::view::{Facts, Palette};

/// The volume that is shown where none is named.
const BUILT_IN: &str = "assets/stent.nrrd";

/// A volume whose type is known at run time only.
pub(crate) struct Opened {
    pub(crate) dataset: Dataset,
    pub(crate) about: About,
}

/// A volume whose levels come with it.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) opened: Arc<vastgrid::Opened>,
    entry: Entry,
    pub(crate) selection: Selection,
}

/// What does not depend on the type.
pub(crate) struct About {
    pub(crate) name: String,
    spacing: [f64; 3],
    pub(crate) budget_bytes: u64,
    preset: Preset,
    /// Where the levels come from, if not from the volume.
    pub(crate) image: Option<Image>,
}

/// A volume and what is known of it.
pub(crate) struct Volume<T> {
    pub(crate) source: BoxedSource<T>,
    pub(crate) facts: Facts,
    pub(crate) about: About,
}

/// Opens what the arguments name.
pub(crate) fn open(args: &Args) -> Result<Opened, Failure> {
    let path = args.file.clone().map_or_else(built_in, Ok)?;
    let (dataset, found, image) = match (args.shape, args.scalar) {
        (Some(extent), Some(scalar)) => {
            let spec = RawSpec {
                offset_bytes: args.offset,
                endian: args.endian.into(),
                order: args.order,
                ..RawSpec::new(extent)
            };
            (Dataset::open_raw(&path, scalar, spec)?, [1.0; 3], None)
        }
        _ => open_any(&path, args)?,
    };
    let is_file = args.file.is_some();
    let about = About {
        name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        spacing: args.spacing.unwrap_or(found),
        budget_bytes: args.budget.unwrap_or(match (is_file, args.backend) {
            (true, _) => 256 << 20,
            (false, Backend::Host) => 4 << 20,
            // Pages are larger there.
            (false, Backend::Cuda) => 16 << 20,
        }),
        preset: if is_file { Preset::Heat } else { Preset::CtAngio },
        image,
    };
    Ok(Opened { dataset, about })
}

/// Whatever the path or address is, by its content.
fn open_any(path: &Path, args: &Args) -> Result<(Dataset, [f64; 3], Option<Image>), Failure> {
    let opened = vastgrid::open(path).map_err(|error| match error {
        SourceError::Unrecognised { .. } => format!("{error}: a raw one needs --shape and --type"),
        error => error.to_string(),
    })?;
    let selection = Selection {
        entry: args.array.clone(),
        time: args.time,
        channel: args.channel,
        ..Selection::default()
    };
    let entry = opened.entry(&selection)?.clone();
    let mut bar = Bar::new("decompressing");
    let mut dataset = opened.dataset_with(&selection, |done, all| bar.show(done, all));
    // Level 0 may be missing.
    for level in 1..entry.levels.len() {
        if dataset.is_ok() {
            break;
        }
        dataset = opened.dataset(&Selection { level, ..selection.clone() }).or(dataset);
    }
    let spacing = entry.spacing;
    let has_levels = entry.kind != EntryKind::Array;
    Ok((dataset?, spacing, has_levels.then(|| Image { opened: opened.into(), entry, selection })))
}

/// The built-in volume: cargo runs examples in the package's root, and says where that is.
fn built_in() -> Result<PathBuf, Failure> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let places = [Some(PathBuf::new()), root].into_iter().flatten().map(|place| place.join(BUILT_IN));
    let found = places.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        format!("{BUILT_IN} is not here: run this in the root of the package, or name a FILE").into()
    })
}

impl<T: Scalar> Volume<T> {
    /// Reads a sample of its values.
    pub(crate) fn new(source: BoxedSource<T>, about: About, delay: Duration) -> Result<Self, Failure> {
        let (extent, range) = (source.extent(), range_of(&source, about.image.as_ref())?);
        let palette = Palette::Preset(about.preset);
        let facts = Facts {
            extent,
            spacing: about.spacing,
            range,
            palette,
            fades_by_pixels: false,
            whole_bytes: None,
            zoom: 1.15,
        };
        Ok(Self { source: delayed(source, delay), facts, about })
    }
}

/// The same source, every read of which takes so much longer.
pub(crate) fn delayed<T: Scalar>(source: impl TileSource<T> + 'static, delay: Duration) -> BoxedSource<T> {
    if delay.is_zero() {
        return Box::new(source);
    }
    let source = Instrumented::new(source);
    source.instruments().set_delay(delay);
    Box::new(source)
}

/// The values that are shown: those that an image's file names, or those of its coarsest level, or of the volume.
fn range_of<T: Scalar>(source: &BoxedSource<T>, image: Option<&Image>) -> Result<(f32, f32), SourceError> {
    let Some(Image { opened, entry, selection }) = image else { return sample(source) };
    let channel = usize::try_from(selection.channel).ok().and_then(|channel| entry.channels.get(channel));
    if let Some((low, high)) = channel.and_then(|channel| channel.window)
        && low < high
    {
        return Ok((Scalar::to_f32(low), Scalar::to_f32(high)));
    }
    let mut levels = (0..entry.levels.len()).rev();
    let coarsest = levels.find_map(|level| opened.dataset(&Selection { level, ..selection.clone() }).ok());
    coarsest.map_or_else(|| sample(source), |dataset| sample(&dataset.into_source::<T>()))
}

/// Least and greatest value of some thousand rows all over the volume, at most 256 voxels of each.
fn sample<T: Scalar>(source: &BoxedSource<T>) -> Result<(f32, f32), SourceError> {
    const EDGE: u64 = 64;
    const ROW: u64 = 256;
    let Extent { x: width, y: height, z: depth } = source.extent();
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let mut bar = Bar::new("sampling values");
    let (rows, planes) = (height.min(EDGE), depth.min(EDGE));
    let mut voxels = vec![T::zeroed(); usize::try_from(width.min(ROW)).unwrap_or(0)];
    let spread = |i: u64, count: u64, size: u64| {
        let at = (2 * u128::from(i) + 1) * u128::from(size) / (2 * u128::from(count));
        u64::try_from(at).unwrap_or(0)
    };
    for z in 0..planes {
        for y in 0..rows {
            // Rows longer than that are read at another place each time.
            let x = if width > ROW { spread((y * 7 + z * 13) % EDGE, EDGE, width - ROW) } else { 0 };
            let start = Coord::new(x, spread(y, rows, height), spread(z, planes, depth));
            source.read(Region::new(start, Extent::new(width.min(ROW), 1, 1)), &mut voxels)?;
            for value in voxels.iter().map(|v| v.to_f32()).filter(|v| v.is_finite()) {
                (low, high) = (low.min(value), high.max(value));
            }
        }
        bar.show(z + 1, planes);
    }
    Ok(if low <= high { (low, high) } else { (0.0, 1.0) })
}

/// A progress bar that appears once something takes longer than a second.
pub(crate) struct Bar {
    what: &'static str,
    begun: Instant,
    shown: Option<ProgressBar>,
}

impl Bar {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, begun: Instant::now(), shown: None }
    }

    pub(crate) fn show(&mut self, done: u64, all: u64) {
        if self.shown.is_none() && self.begun.elapsed() < Duration::from_secs(1) {
            return;
        }
        let bar = self.shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}");
            let bar = ProgressBar::new(all).with_message(self.what);
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
