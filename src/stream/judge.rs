//! Owns what the end of a request says to the schedule: [`judge`].

use std::sync::Arc;

use crate::backend::Backend;
use crate::engine::{ArrayShared, Report, Room};
use crate::error::{Error, ResidencyError};
use crate::layout::{Layout, PageId, TileId};

use super::failures::StreamFailure;
use super::schedule::Ended;
use super::status::StreamLimit;
use super::under_way::Batch;
use super::want::Enrolled;

/// How a request ended, made when there was that much room.
pub(super) fn judge<B: Backend>(
    array: &ArrayShared<B>,
    enrolled: Enrolled,
    batch: &Batch,
    result: Result<Report, Error>,
    room: Room,
) -> Ended {
    match result {
        Ok(report) => done(array, enrolled, batch, report),
        Err(error) => match refusal(&error) {
            Some(limit) => Ended::Refused(limit, room),
            None => Ended::Failed(all_failed(&array.layout, enrolled, batch, error)),
        },
    }
}

fn done<B: Backend>(array: &ArrayShared<B>, enrolled: Enrolled, batch: &Batch, report: Report) -> Ended {
    let Report { hits, loaded, shared, uniform, failed, .. } = report;
    let layout = &array.layout;
    let some_without_memory = uniform > 0 || !failed.is_empty();
    let empty = if some_without_memory { empty_pages(array, batch) } else { Vec::new() };
    let failed = failed.into_iter().filter_map(|f| {
        let error = Arc::new(Error::Tile { tile: f.tile, error: f.error });
        Some((layout.tile_id(f.tile)?, StreamFailure { array: enrolled, tile: f.tile, error }))
    });
    Ended::Done { hits, loaded, shared, uniform, failed: failed.collect(), empty }
}

/// The pages of the batch in which no tile is resident.
fn empty_pages<B: Backend>(array: &ArrayShared<B>, batch: &Batch) -> Vec<PageId> {
    let layout = &array.layout;
    let mut pages: Vec<_> = batch.tiles.iter().map(|&tile| layout.page_of(tile)).collect();
    pages.sort_unstable();
    pages.dedup();
    pages.retain(|&page| !layout.tiles_of_page(page).any(|t| array.planes.is_resident(TileId(t))));
    pages
}

/// What an error that may be none at another time says of the room there is.
fn refusal(error: &Error) -> Option<StreamLimit> {
    match error {
        Error::Residency(ResidencyError::OverBudget { .. } | ResidencyError::NothingToEvict { .. }) => {
            Some(StreamLimit::Budget)
        }
        Error::Residency(ResidencyError::FramesOpen { .. }) => Some(StreamLimit::Frames),
        _ => None,
    }
}

fn all_failed(layout: &Layout, array: Enrolled, batch: &Batch, error: Error) -> Vec<(TileId, StreamFailure)> {
    let error = Arc::new(error);
    let failure = |&id| {
        let tile = layout.tile_coord(id)?;
        Some((id, StreamFailure { array, tile, error: error.clone() }))
    };
    batch.tiles.iter().filter_map(failure).collect()
}
