//! Owns what a request tells: [`Report`], and what of it is left where nothing failed, [`Loaded`].

use std::sync::Arc;

use crate::error::{Error, SourceError};
use crate::layout::TileCoord;

/// What became of a request, tile by tile. Tiles that were asked for twice and had to be loaded count once.
#[derive(Debug, Default)]
#[must_use = "tiles may have failed to load"]
pub struct Report {
    /// Tiles that were resident already.
    pub hits: u64,
    /// Tiles that this request loaded.
    pub loaded: u64,
    /// Tiles that another request was loading, and that this one waited for.
    pub shared: u64,
    /// Tiles known to hold one value: readable without memory.
    pub uniform: u64,
    /// Tiles that could not be loaded.
    pub failed: Vec<TileFailure>,
    /// Tiles left out because they do not fit; only of requests for whatever fits.
    pub left_out: u64,
}

/// One tile that could not be loaded.
#[derive(Debug, Clone)]
pub struct TileFailure {
    /// Which.
    pub tile: TileCoord,
    /// Why.
    pub error: Arc<SourceError>,
}

/// A request of which no tile failed: how many of its entries were what. As in [`Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Resident already.
    pub hits: u64,
    /// Loaded by this request.
    pub loaded: u64,
    /// Loaded by another request meanwhile.
    pub shared: u64,
    /// Known to hold one value.
    pub uniform: u64,
    /// Left out because they do not fit.
    pub left_out: u64,
}

impl Report {
    /// The counts, if no tile failed.
    ///
    /// # Errors
    /// [`Error::Tile`], the first failure.
    pub fn complete(self) -> Result<Loaded, Error> {
        let Self { hits, loaded, shared, uniform, left_out, .. } = self;
        match self.failed.first() {
            None => Ok(Loaded { hits, loaded, shared, uniform, left_out }),
            Some(f) => Err(Error::Tile { tile: f.tile, error: f.error.clone() }),
        }
    }
}
