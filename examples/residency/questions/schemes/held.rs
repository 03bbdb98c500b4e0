//! Owns how much memory the same tiles take: what a scheme says, and how much larger the process is with it than without.

use std::sync::Arc;

use super::path::{Tiles, Work};
use super::scheme::sampled;
use super::volume::{TILE_BYTES, Volume};
use super::{MAKERS, Sizes};
use crate::measure::SplitMix;
use crate::process::resident_bytes;
use crate::suite::{Context, Failure};

/// Loads half a budget of tiles under each scheme in turn, samples them, and enters bytes of memory for each byte of tiles.
pub(crate) fn measure(context: &mut Context<'_>, volume: &Arc<Volume>, sizes: Sizes) -> Result<(), Failure> {
    let wanted = Tiles::halved(sizes.shape, sizes.budget_tiles / 2);
    let mut tiles = Vec::new();
    wanted.list(sizes.shape, &mut tiles);
    // Every tile is touched in full below; samples only make sure that they are there.
    let work = Work::in_boxes(sizes.shape, &[wanted], (1 << 12, 1 << 12), &mut SplitMix(sizes.seed));
    let net = (tiles.len() * TILE_BYTES) as f64;
    // The budget is what is wanted, or a little more where tiles have borders, or pages several tiles.
    let budget_bytes = sizes.budget_bytes();
    for make in MAKERS {
        if context.stops() {
            return Ok(());
        }
        let before = resident_bytes()?;
        let mut scheme = make(volume, budget_bytes)?;
        let _ = scheme.want(&tiles)?;
        let _ = sampled(&*scheme, &work)?;
        for &tile in &tiles {
            let _ = scheme.touch(tile);
        }
        let grown = resident_bytes()?.saturating_sub(before) as f64;
        let settings = [("tiles", tiles.len().to_string())];
        let name = scheme.name().to_owned();
        let held = scheme.bytes(tiles.len() as u64) as f64;
        context.row(&name, &settings, ("held", "bytes a byte of tiles"), vec![held / net]);
        context.row(&name, &settings, ("process grew by", "bytes a byte of tiles"), vec![grown / net]);
    }
    context.note(
        "what the process grows by are the pages that it has mapped: a mapped file's are the page cache's own, which the others have besides"
            .to_owned(),
    );
    Ok(())
}
