//! Owns the way from a box of a volume to a raw or NRRD file. Knows nothing of how it is done.

use std::path::Path;

use vastgrid::convert::{Progress, copy_region};
use vastgrid::source::{BoxedSource, Dataset};
use vastgrid::store::{NrrdDescription, RawStore};
use vastgrid::{Coord, Extent, Region, Scalar};

use crate::args::RegionArgs;
use crate::input::{Input, open};
use crate::place::description;
use crate::{Failure, bars, say};

pub(crate) fn run(args: &RegionArgs) -> Result<(), Failure> {
    let output = args.output()?;
    let input = open(&args.input)?;
    let region = match args.region {
        Some([x, y, z, w, h, d]) => Region::new(Coord::new(x, y, z), Extent::new(w, h, d)),
        None => Region::whole(input.dataset.extent()),
    };
    let description = description(&input, region.start);
    let Input { dataset, .. } = input;
    let to = To { region, description, output, args };
    match dataset {
        Dataset::U8(source) => copy(source, &to),
        Dataset::I8(source) => copy(source, &to),
        Dataset::U16(source) => copy(source, &to),
        Dataset::I16(source) => copy(source, &to),
        Dataset::U32(source) => copy(source, &to),
        Dataset::I32(source) => copy(source, &to),
        Dataset::F16(source) => copy(source, &to),
        Dataset::F32(source) => copy(source, &to),
        Dataset::F64(source) => copy(source, &to),
        other => Err(format!("voxels of type {} are not copied", other.scalar_type()).into()),
    }
}

struct To<'a> {
    region: Region,
    description: NrrdDescription,
    output: &'a Path,
    args: &'a RegionArgs,
}

fn copy<T: Scalar>(source: BoxedSource<T>, to: &To<'_>) -> Result<(), Failure> {
    let To { region, description, output, args } = to;
    if !region.is_within(vastgrid::TileSource::extent(&source)) {
        let extent = vastgrid::TileSource::extent(&source);
        return Err(format!("{region} is not inside the volume of {extent}").into());
    }
    let replace = args.input.overwrite;
    let is_nrrd = output.extension().is_some_and(|e| e.eq_ignore_ascii_case("nrrd"));
    let store = if is_nrrd {
        RawStore::<T>::create_nrrd(output, region.extent, description, replace)?
    } else {
        RawStore::<T>::create_behind(output, region.extent, &[], replace)?
    };
    let progress = Progress::new(1);
    let bytes = region.extent.checked_volume().unwrap_or(u64::MAX).saturating_mul(size_of::<T>() as u64);
    let named = [("region".to_owned(), bytes)];
    bars::watch(&named, size_of::<T>() as u64, &progress, args.input.quiet, || {
        copy_region(source, *region, &store, args.input.budget, None, &progress)
    })?;
    store.save()?;
    say(format_args!("{}: {} of {}", output.display(), region, T::TYPE));
    Ok(())
}
