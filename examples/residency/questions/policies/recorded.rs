//! Owns what recorded flights ask for: the pictures of `assets/traces`, as [`Asked`].

use std::collections::{BTreeMap, HashSet};

use vastgrid::trace::{Trace, TraceFrame, TraceTile, TraceUse};

use crate::suite::Failure;

use super::traces::Asked;

const TRACES: [(&str, &str); 6] = [
    ("cuts", include_str!("../../../../assets/traces/cuts.trace")),
    ("orbit", include_str!("../../../../assets/traces/orbit.trace")),
    ("through", include_str!("../../../../assets/traces/through.trace")),
    ("zoom", include_str!("../../../../assets/traces/zoom.trace")),
    ("viewer ct", include_str!("../../../../assets/traces/viewer_ct.trace")),
    ("viewer planet", include_str!("../../../../assets/traces/viewer_planet.trace")),
];

/// All recorded flights, and `more`, by name and text. Of each what the coarsest level takes is left out, for that is always there.
///
/// # Errors
/// A trace that cannot be read, or whose pages are of several sizes or more than a tile.
pub(super) fn flights(more: &[(String, String)]) -> Result<Vec<Asked>, Failure> {
    let more = more.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    TRACES.into_iter().chain(more).map(|(name, text)| flight(name, text)).collect()
}

fn flight(name: &str, text: &str) -> Result<Asked, Failure> {
    let mut trace = Trace::parse(text).map_err(|error| format!("{name}.trace: {error}"))?;
    let page_bytes = trace.levels.first().map_or(0, |level| level.page_bytes(trace.voxel_bytes));
    for level in &trace.levels {
        let bytes = level.page_bytes(trace.voxel_bytes);
        if bytes != page_bytes || level.page.checked_volume() != Some(1) {
            return Err(format!(
                "{name}.trace: pages of {bytes} and {page_bytes} bytes, or of several tiles"
            )
            .into());
        }
    }
    let coarsest = trace.levels.len().saturating_sub(1);
    // What is of one value has no page, and what cannot be read never gets one.
    let without_page: HashSet<TraceTile> = trace
        .frames
        .iter()
        .flat_map(|frame| frame.outcome.uniform.iter().chain(&frame.outcome.failed))
        .copied()
        .collect();
    for frame in &mut trace.frames {
        frame.changes.retain(|(tile, _)| tile.level != coarsest && !without_page.contains(tile));
        for (_, what_for) in &mut frame.changes {
            // What no picture lacks is not asked for here.
            *what_for = what_for.filter(|what_for| *what_for != TraceUse::Ahead);
        }
    }
    let mut pictures = Vec::new();
    let mut requests = trace.requests();
    while let Some((frame, wanted)) = requests.next_frame() {
        pictures.push(by_urgency(&trace, frame, wanted));
    }
    let asked = Asked::new("recorded flights", &format!("recorded {name}"), pictures);
    Ok(Asked { page_bytes, recorded: Some(trace), ..asked })
}

/// The same flight, of whose pictures each wants no more than what so many pages hold: the most urgent of it.
pub(super) fn within(trace: &Trace, pages: usize) -> Trace {
    let mut requests = trace.requests();
    let mut before = BTreeMap::<TraceTile, TraceUse>::new();
    let mut frames = Vec::with_capacity(trace.frames.len());
    while let Some((frame, wanted)) = requests.next_frame() {
        let urgent = by_urgency(trace, frame, wanted).into_iter().take(pages);
        let now: BTreeMap<_, _> = urgent.filter_map(|tile| Some((tile, *wanted.get(&tile)?))).collect();
        let gone = before.keys().filter(|tile| !now.contains_key(tile)).map(|&tile| (tile, None));
        let other = now.iter().filter(|(tile, what_for)| before.get(*tile) != Some(*what_for));
        let changes = gone.chain(other.map(|(&tile, &what_for)| (tile, Some(what_for)))).collect();
        frames.push(TraceFrame { changes, ..frame.clone() });
        before = now;
    }
    Trace { frames, ..trace.clone() }
}

/// Most urgent first, as an explorer ranks them.
fn by_urgency(trace: &Trace, frame: &TraceFrame, wanted: &BTreeMap<TraceTile, TraceUse>) -> Vec<TraceTile> {
    let place = |(&tile, &what_for): (&TraceTile, &TraceUse)| {
        let behind = frame.near_first && what_for == TraceUse::StandIn;
        // Coarse ones come first, but where near ones do.
        let rank = if frame.near_first && !behind { 0 } else { usize::MAX - tile.level };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an order, and as coarse as the one that it stands for"
        )]
        let distance = trace.distance(frame, tile) as f32;
        (behind, rank, distance, tile)
    };
    let mut tiles: Vec<_> = wanted.iter().map(place).collect();
    let across = |tile: &TraceTile| (tile.level, tile.tile.z, tile.tile.y, tile.tile.x);
    tiles.sort_by(|a, b| {
        let by_distance = || a.2.total_cmp(&b.2);
        (a.0, a.1).cmp(&(b.0, b.1)).then_with(by_distance).then_with(|| across(&a.3).cmp(&across(&b.3)))
    });
    tiles.into_iter().map(|(.., tile)| tile).collect()
}
