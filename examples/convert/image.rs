//! Owns the way from a volume to an OME-Zarr image. Knows nothing of how it is done.

use std::path::Path;

use vastgrid::Extent;
use vastgrid::Scalar;
use vastgrid::convert::{Conversion, ConvertOptions, Plan};
use vastgrid::source::{BoxedSource, Dataset};
use vastgrid::store::{ZarrOptions, unfinished_save};

use crate::args::{ImageArgs, Shard};
use crate::input::{Input, identity, open, unit_for_zarr};
use crate::place::scale_and_translation;
use crate::{Failure, bars, say};

/// What a chunk's side is no longer than, unless told otherwise.
const CHUNK_SIDE: u64 = 64;

/// What a shard's side is no longer than, unless told otherwise.
const SHARD_SIDE: u64 = 256;

pub(crate) fn run(args: &ImageArgs) -> Result<(), Failure> {
    let output = args.output()?;
    if !args.dry_run && !args.resume && !args.restart {
        refuse_to_remove(output)?;
    }
    let input = open(&args.input)?;
    // Nothing is gone on with in a dry run.
    let identity = if args.dry_run { String::new() } else { identity(&args.input, &input)? };
    let options = options(args, &input, &identity);
    match input.dataset {
        Dataset::U8(source) => convert(source, options, args),
        Dataset::I8(source) => convert(source, options, args),
        Dataset::U16(source) => convert(source, options, args),
        Dataset::I16(source) => convert(source, options, args),
        Dataset::U32(source) => convert(source, options, args),
        Dataset::I32(source) => convert(source, options, args),
        Dataset::F16(source) => convert(source, options, args),
        Dataset::F32(source) => convert(source, options, args),
        Dataset::F64(source) => convert(source, options, args),
        other => Err(format!("voxels of type {} are not converted", other.scalar_type()).into()),
    }
}

/// What an interrupted conversion has done may have taken hours.
fn refuse_to_remove(output: &Path) -> Result<(), Failure> {
    match unfinished_save(output)? {
        0 => Ok(()),
        files => Err(format!(
            "a conversion to {} was interrupted when {files} of its files were complete: --resume goes on with it, --restart removes them and begins anew",
            output.display()
        )
        .into()),
    }
}

/// What failed, and what to do where something of it is complete.
fn interrupted(error: impl Into<Failure>, output: &Path) -> Failure {
    let error = error.into();
    match unfinished_save(output) {
        Ok(files) if files > 0 => {
            format!("{error}; {files} files are complete: --resume goes on from there, --restart begins anew")
                .into()
        }
        _ => error,
    }
}

fn options(args: &ImageArgs, input: &Input, identity: &str) -> ConvertOptions {
    let sides = input.dataset.extent().to_array();
    let chunk = args
        .chunk
        .unwrap_or_else(|| Extent::from(sides.map(|side| side.clamp(1, CHUNK_SIDE).next_power_of_two())));
    let shard = match args.shard {
        Some(Shard::Chunk) => None,
        Some(Shard::Of(shard)) => Some(shard),
        None => {
            let chunk = chunk.to_array().map(|side| side.max(1));
            let chunks = [0, 1, 2].map(|a| (SHARD_SIDE / chunk[a]).min(sides[a].div_ceil(chunk[a])).max(1));
            Some(Extent::from([0, 1, 2].map(|a| chunks[a].saturating_mul(chunk[a]))))
        }
    };
    let zarr = ZarrOptions {
        chunk,
        shard,
        codec: args.codec,
        replace: args.input.overwrite,
        resume: args.resume,
        input: format!("{identity}, {:?}", args.method),
    };
    let (spacing, origin) = scale_and_translation(input);
    ConvertOptions {
        budget_bytes: args.input.budget,
        threads: args.threads,
        method: args.method.into(),
        most_levels: args.levels.map_or(usize::MAX, usize::from),
        zarr,
        name: Some(input.name.clone()),
        spacing,
        origin,
        units: input.units.clone().map(|unit| unit.as_deref().map(unit_for_zarr)),
        channel: input.channel.clone(),
        ..ConvertOptions::default()
    }
}

fn convert<T: Scalar>(
    source: BoxedSource<T>,
    options: ConvertOptions,
    args: &ImageArgs,
) -> Result<(), Failure> {
    let conversion = Conversion::new(source, options)?;
    let plan = conversion.plan().clone();
    if args.dry_run {
        describe::<T>(&plan, args);
        return Ok(());
    }
    let levels: Vec<_> =
        (0..).zip(&plan.levels).map(|(level, planned)| (format!("level {level}"), planned.bytes)).collect();
    let (progress, output) = (conversion.progress(), args.output()?);
    let quiet = args.input.quiet;
    let summary = bars::watch(&levels, plan.voxel_bytes, &progress, quiet, || conversion.run(output))
        .map_err(|error| interrupted(error, output))?;
    if summary.found_voxels > 0 {
        let share =
            100.0 * summary.found_voxels as f64 / (summary.found_voxels + summary.written_voxels) as f64;
        say(format_args!("{share:.1} % was there from before"));
    }
    say(format_args!("{}: {} levels, {}", output.display(), plan.levels.len(), size(plan.bytes())));
    Ok(())
}

fn describe<T: Scalar>(plan: &Plan, args: &ImageArgs) {
    say(format_args!("{} voxels in {} levels; nothing is written", T::TYPE, plan.levels.len()));
    say(format_args!(
        "{:>8} {:>24} {:>12} {:>10} {:>14}",
        "level", "voxels", "bytes", "chunks", "files at most"
    ));
    for (level, planned) in plan.levels.iter().enumerate() {
        let (extent, bytes) = (planned.extent.to_string(), size(planned.bytes).to_string());
        say(format_args!(
            "{level:>8} {extent:>24} {bytes:>12} {:>10} {:>14}",
            planned.chunks, planned.objects
        ));
    }
    say(format_args!("{} before compression by {:?}", size(plan.bytes()), args.codec));
    say(format_args!(
        "{} of memory at most, {} of it for tiles of {} voxels",
        size(plan.memory_bytes),
        size(plan.pool_bytes),
        plan.tile
    ));
}

fn size(bytes: u64) -> indicatif::BinaryBytes {
    indicatif::BinaryBytes(bytes)
}
