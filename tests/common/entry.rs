//! Where bytes of strangers come in: what fuzzers (`fuzz/`) and the bounded mutation test (`tests/mutations.rs`) call. Needs nothing but the crate itself.
//!
//! Each may return whatever it likes; none may panic, hang, or take memory that the bytes do not pay for.

use std::fs;
use std::path::Path;

use vastgrid::open::{Selection, open};
use vastgrid::source::{Dataset, MetaImage, Nifti, Nrrd, Tiff};
use vastgrid::{Extent, Region, TileSource};

/// Volumes of headers are decompressed only up to so many bytes: beyond that lies no other code.
const MOST_BYTES: u64 = 1 << 20;

/// What reads a file that begins with these bytes.
type EntryPoint = fn(&[u8]);

/// All entry points, by name.
pub(crate) const ALL: [(&str, EntryPoint); 6] = [
    ("nrrd", nrrd),
    ("nifti", nifti),
    ("meta_image", meta_image),
    ("tiff", tiff),
    ("description", description),
    ("recognise", recognise),
];

/// Calls `with` with a file of these bytes, which is gone afterwards. In memory where the system has a place for that.
fn with_file(bytes: &[u8], with: impl FnOnce(&Path)) {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let number: String = thread.chars().filter(char::is_ascii_digit).collect();
    let path = folder.join(format!("vastgrid-entry-{}-{number}", std::process::id()));
    if fs::write(&path, bytes).is_ok() {
        with(&path);
    }
    let _ = fs::remove_file(&path);
}

/// Reads a corner.
fn read(dataset: Dataset) {
    let source = dataset.into_source::<f32>();
    let region = Region::whole(Extent::new(9, 5, 3)).clipped_to(source.extent());
    let voxels = usize::try_from(region.extent.checked_volume().unwrap_or(0)).unwrap_or(0);
    let _ = source.read(region, &mut vec![0.0; voxels]);
}

fn is_small(extent: Extent) -> bool {
    extent.checked_volume().is_some_and(|voxels| voxels <= MOST_BYTES / 8)
}

/// A NRRD header, and what it describes.
pub(crate) fn nrrd(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(found) = Nrrd::open(path) else { return };
        if is_small(found.header().extent())
            && let Ok(dataset) = found.into_dataset()
        {
            read(dataset);
        }
    });
}

/// A NIfTI header, and what it describes.
pub(crate) fn nifti(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(found) = Nifti::open(path) else { return };
        let (times, channels) = (found.header().times(), found.header().channels());
        let _ = found.header().to_space();
        let chosen = found.with_time(times - 1).and_then(|found| found.with_channel(channels - 1));
        if let Ok(found) = chosen
            && is_small(found.header().extent())
            && let Ok(dataset) = found.into_dataset()
        {
            read(dataset);
        }
    });
}

/// A MetaImage's header, and what it describes.
pub(crate) fn meta_image(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(found) = MetaImage::open(path) else { return };
        if is_small(found.header().extent())
            && let Ok(dataset) = found.into_dataset()
        {
            read(dataset);
        }
    });
}

/// A TIFF file: directories, tables, chunks.
pub(crate) fn tiff(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(found) = Tiff::open(path) else { return };
        for (index, image) in found.images().iter().enumerate().take(4) {
            if let Ok(dataset) = found.dataset(index, image.times() - 1, image.channels() - 1) {
                read(dataset);
            }
        }
    });
}

/// The description of a stack of six pages of 4 x 3: `ImageJ`'s lines, or OME-XML.
pub(crate) fn description(bytes: &[u8]) {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let entries = 9;
    let directory = 2 + 12 * entries + 4;
    let (voxels, text) = (8 + 6 * directory, 8 + 6 * directory + 12);
    for page in 0..6 {
        file.extend([u8::try_from(entries).unwrap_or(0), 0]);
        let tags = [
            (256u16, 4u16, 1, 4),
            (257, 4, 1, 3),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (270, 2, if page == 0 { bytes.len() } else { 1 }, if page == 0 { text } else { 0 }),
            (273, 4, 1, voxels),
            (278, 4, 1, 3),
            (279, 4, 1, 12),
        ];
        for (tag, kind, count, value) in tags {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(number(count));
            file.extend(number(value));
        }
        file.extend(number(if page < 5 { 8 + (page + 1) * directory } else { 0 }));
    }
    file.extend([7; 12]);
    file.extend(bytes);
    tiff(&file);
}

/// Whatever it is.
pub(crate) fn recognise(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(found) = open(path) else { return };
        for entry in found.entries().iter().take(4) {
            let _ = entry.to_string();
            let selection = Selection { entry: Some(entry.name.clone()), ..Selection::default() };
            if is_small(entry.extent())
                && let Ok(dataset) = found.dataset(&selection)
            {
                read(dataset);
            }
        }
    });
}
