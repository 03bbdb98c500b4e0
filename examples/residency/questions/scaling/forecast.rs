//! Owns the forecast: what the constants that were measured say of a thousand times more.

use super::Constants;
use crate::suite::{Context, On};

/// Enters the model, and what it says, as a note.
pub(super) fn note(context: &mut Context<'_>, found: &Constants) {
    let text = match context.on {
        On::Model => found.decision.map(of_decisions),
        _ => found.hit.zip(found.miss).map(|(hit, miss)| of_tiles(context.on, found.tile_bytes, hit, miss)),
    };
    if let Some(text) = text {
        context.note(format!("what a factor of 1000 would cost: {text}"));
    }
}

fn of_decisions(ns: f64) -> String {
    let a_second = 1e9 / ns;
    format!(
        "a decision takes {ns:.0} ns, so that one thread decides about {:.1} million tiles a second. A thousand times the resident tiles is 2^30: with 100 to 500 bytes of tables for each (assumed) that is 100 to 500 GB, \
         so that pages have to grow first. A thousand times the swaps is {:.0} million a second, that is {:.0} threads deciding: the planner's lock would have to be one for each part of the array",
        a_second / 1e6,
        a_second / 1e3,
        1000.0
    )
}

fn of_tiles(on: On, tile_bytes: u64, hit: f64, miss: f64) -> String {
    let tile = tile_bytes as f64;
    // Addresses of the planes: a bit, 8 bytes for one value, 8 for a page of one tile.
    let planes = 2f64.powi(56) / tile * 16.125;
    let rate = tile / miss;
    let next = rate * 1000.0;
    let limits = match on {
        On::Cuda => "the driver's calls cost the same whatever a page's size, so that pages a thousand times larger would do it where copies kept up: a bus of 55 GB/s (assumed) does not".to_owned(),
        _ => format!(
            "where mappings are moved they are the limit, at two for each of the pages: the 65 530 that Linux allows unless told otherwise are {:.0} GiB in pages of this size, and a thousand times the working set needs pages of \
             {:.0} MiB (where OS pages are moved, an array is one mapping whatever is in it)",
            32_765.0 / 2.0 * tile / 2f64.powi(30),
            tile * 1000.0 / 2f64.powi(20)
        ),
    };
    format!(
        "cost(tile) = {hit:.1} ns where it is there, {:.1} us where it is loaded ({rate:.2} GB/s); what the extent adds is above. Extents of 2^56 bytes need addresses of 57 bits (five-level page tables; processes have 47 bits \
         now) and {:.0} TiB of addresses for what is known of each tile, of which only what is touched takes memory. A thousand times the resident tiles: the same for each tile, and {limits}. \
         A thousand times the rate would be {next:.0} GB/s, beyond what memory copies: no matter of residency",
        miss / 1e3,
        planes / 2f64.powi(40)
    )
}
