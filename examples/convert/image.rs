//! Owns the way from a volume to an OME-Zarr image. Knows nothing of how it is done.

use vastgrid::Extent;
use vastgrid::Scalar;
use vastgrid::convert::{Conversion, ConvertOptions, Plan};
use vastgrid::source::{BoxedSource, Dataset};
use vastgrid::store::ZarrOptions;

use crate::args::{ImageArgs, Shard};
use crate::input::{Input, identity, open, unit_for_zarr};
use crate::{Failure, bars, say};

/// What a shard's side is no longer than, unless told otherwise.
const SHARD_SIDE: u64 = 256;

pub(crate) fn run(args: &ImageArgs) -> Result<(), Failure> {
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

fn options(args: &ImageArgs, input: &Input, identity: &str) -> ConvertOptions {
    let chunk = args.chunk;
    let shard = match args.shard {
        Some(Shard::Chunk) => None,
        Some(Shard::Of(shard)) => Some(shard),
        None => {
            let sides = chunk.to_array().map(|side| (SHARD_SIDE / side.max(1)).max(1).saturating_mul(side));
            Some(Extent::from(sides))
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
    ConvertOptions {
        budget_bytes: args.input.budget,
        threads: args.threads,
        method: args.method.into(),
        most_levels: args.levels.map_or(usize::MAX, usize::from),
        input_chunk: input.chunk,
        input_kept_bytes: input.kept_bytes,
        zarr,
        name: Some(input.name.clone()),
        spacing: input.spacing,
        origin: input.origin,
        unit: input.unit.as_deref().map(unit_for_zarr),
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
    let summary = bars::watch(&levels, plan.voxel_bytes, &progress, quiet, || conversion.run(output))?;
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
