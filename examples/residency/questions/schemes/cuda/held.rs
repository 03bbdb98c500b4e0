//! Owns how much of the device's memory the same tiles take: what a scheme says, how much less is free with it than without, and whether that is free again when it is gone.

use super::super::path::{Tiles, Work};
use super::scheme::{Contestant, Setting, Task};
use super::{ENTRIES, Sizes};
use crate::measure::SplitMix;
use crate::suite::{Context, Failure};

/// Loads as many tiles as each scheme is made for, half of the usual budget, has kernels read them, and enters bytes of memory for each byte of tiles. Each scheme twice: what the driver takes for itself when something is
/// first done stays with it, and is counted apart.
pub(crate) fn measure(context: &mut Context<'_>, setting: &Setting, sizes: Sizes) -> Result<(), Failure> {
    let shape = sizes.shape;
    let wanted = Tiles::halved(shape, sizes.budget_tiles / 2);
    let mut tiles = Vec::new();
    wanted.list(shape, &mut tiles);
    let work = Work::in_boxes(shape, &[wanted], (1 << 16, 1 << 16), &mut SplitMix(sizes.seed));
    let (rays, points) = (setting.bench.list(&work.rays)?, setting.bench.list(&work.points)?);
    let list = setting.bench.list(&tiles)?;
    let tasks = [
        Task::Rays(rays.address(), u32::try_from(work.rays.len())?),
        Task::Points(points.address(), u32::try_from(work.points.len())?),
    ];
    let net_bytes = tiles.len() as u64 * shape.tile_bytes();
    let net = net_bytes as f64;
    let free = || Ok::<_, Failure>(setting.bench.device().memory()?.0);
    for entry in ENTRIES {
        let settings = [("tiles", tiles.len().to_string())];
        // What the wanted tiles take, which is more where they have borders.
        let bordered_bytes = (setting.source.bordered.range(0).len() * tiles.len()) as u64;
        let budget_bytes = if entry.0.starts_with("atlas") { bordered_bytes } else { net_bytes };
        for round in 0..2 {
            if context.stops() {
                return Ok(());
            }
            let before = free()?;
            let mut one = Contestant::new(context, setting, entry, budget_bytes);
            let found = one.attempt(context, "while it held tiles", |scheme| {
                let _ = scheme.want(&tiles)?;
                setting.bench.clear()?;
                scheme.launch(&tasks)?;
                setting.bench.sum(entry.0)?;
                setting.check(entry.0, scheme, (list.address(), &tiles))?;
                Ok((scheme.bytes(tiles.len() as u64), free()?, scheme.remark().map(str::to_owned)))
            });
            drop(one);
            let after = free()?;
            let Some((held, with, remark)) = found else { break };
            let left = before as f64 - after as f64;
            if round == 0 {
                if let Some(remark) = remark {
                    context.note(format!("{}: {remark}", entry.0));
                }
                context.row(entry.0, &settings, ("kept by the driver, first use", "bytes"), vec![left]);
                continue;
            }
            let taken = before as f64 - with as f64;
            context.row(entry.0, &settings, ("held", "bytes a byte of tiles"), vec![held as f64 / net]);
            context.row(entry.0, &settings, ("device", "bytes a byte of tiles"), vec![taken / net]);
            context.row(entry.0, &settings, ("not free again", "bytes"), vec![left]);
            if left != 0.0 {
                context.note(format!(
                    "{}: of {taken:.0} bytes of the device {left:.0} were not free again when it was gone",
                    entry.0
                ));
            }
        }
    }
    Ok(())
}
