//! Owns what a picture says of itself: [`Fidelity`]. Knows nothing of how pictures are made.

use std::fmt;
use std::time::Duration;

/// What keeps a picture from full quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FidelityLimit {
    /// Nothing.
    #[default]
    Nothing,
    /// What is lacked is being read, decoded or put in place, or about to be. Waiting helps.
    Loading,
    /// As much as is allowed to be under way is ([`StreamOptions::under_way_pages`](crate::StreamOptions::under_way_pages) or `under_way_bytes`). Waiting helps.
    UnderWay,
    /// A frame stays open that holds memory. Waiting helps once it ends.
    Frames,
    /// The budget does not hold what the picture needs, so it is coarser than its pixels. A larger budget, a smaller picture or a nearer look help; waiting does not.
    Budget,
    /// All that is lacked was evicted less than 32 pictures ago, and is left alone while the view moves. A larger budget helps; so does looking at the same for two pictures.
    Resting,
    /// Tiles failed to load. [`Explorer::retry_failed`](crate::Explorer::retry_failed) tries again.
    Failures,
    /// Loading is paused, or the explorer is frozen.
    Paused,
    /// The coarsest level is made of single voxels; [`Pyramid3D::refine_coarsest`](crate::Pyramid3D::refine_coarsest) computes it.
    Provisional,
}

/// How true a picture is, why it is no truer, and whether waiting helps.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Fidelity {
    /// Steps along rays, by the level that was wanted (first index) and the level that was shown (second).
    pub shown: Vec<Vec<u64>>,
    /// Rays of which some part could not be shown from any level.
    pub uncovered_rays: u64,
    /// Rays that were shown, at least in part, from a coarser level than they wanted.
    pub coarse_rays: u64,
    /// Tiles that the picture lacked.
    pub missing_tiles: u64,
    /// Those of them that failed, and are not tried again.
    pub failed_tiles: u64,
    /// Tiles that were evicted less than 32 pictures ago, and are not read while the view moves: most of them among the missing ones, the others evicted while the picture was made.
    pub resting_tiles: u64,
    /// How much coarser than its pixels the picture was, in levels.
    pub bias: f64,
    /// Bytes of pages that the picture needs at this bias.
    pub needed_bytes: u64,
    /// Bytes of the budget that are not pinned.
    pub budget_bytes: u64,
    /// Bytes being loaded.
    pub bytes_in_flight: u64,
    /// What keeps it from full quality.
    pub limit: FidelityLimit,
    /// How long it takes until the picture lacks nothing, at the rate of late; `None` where that is not known, or where waiting does not help.
    pub time_left: Option<Duration>,
    pub(super) converged: bool,
}

impl Fidelity {
    /// Whether waiting would change nothing: all that will be loaded is there, and the bias stays as it is; or the explorer is frozen.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.converged
    }

    /// Whether the picture is what unlimited memory would give.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing_tiles == 0
            && self.coarse_rays == 0
            && self.bias <= 0.0
            && self.limit == FidelityLimit::Nothing
    }

    /// The share of steps that were shown from the level that they wanted; 1 where there was nothing to show.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn share_as_wanted(&self) -> f64 {
        let all: u64 = self.shown.iter().flatten().sum();
        let as_wanted: u64 =
            self.shown.iter().enumerate().filter_map(|(level, shown)| shown.get(level)).sum();
        if all == 0 { 1.0 } else { as_wanted as f64 / all as f64 }
    }
}

impl fmt::Display for Fidelity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact() {
            return write!(f, "exact");
        }
        write!(f, "{:.1} % as wanted", self.share_as_wanted() * 100.0)?;
        if self.bias > 0.0 {
            write!(f, ", {:.2} levels coarser than its pixels", self.bias)?;
        }
        if self.missing_tiles > 0 {
            write!(f, ", {} tiles missing", self.missing_tiles)?;
        }
        let why = match self.limit {
            FidelityLimit::Nothing => "nothing in the way",
            FidelityLimit::Loading => "loading",
            FidelityLimit::UnderWay => "loading as much as may be under way",
            FidelityLimit::Frames => "waiting for a frame to end",
            FidelityLimit::Budget => "the budget holds no more",
            FidelityLimit::Resting => "what was evicted of late is left alone",
            FidelityLimit::Failures => "tiles failed to load",
            FidelityLimit::Paused => "paused",
            FidelityLimit::Provisional => "the coarsest level is provisional",
        };
        write!(f, "; {why}")?;
        match self.time_left {
            Some(left) => write!(f, ", {:.1} s to go", left.as_secs_f64()),
            None if self.converged => write!(f, "; waiting changes nothing"),
            None => Ok(()),
        }
    }
}
