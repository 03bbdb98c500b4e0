//! Owns what is done to an explorer between pictures: freezing what is there, and beginning anew. Knows nothing of how pictures are made.

use super::bias::Bias;
use super::explorer::Explorer;
use super::ghosts::Ghosts;
use super::progress::{Progress, Rate};
use super::rereads::Rereads;
use crate::backend::Backend;
use crate::error::Error;
use crate::geometry::Region;
use crate::voxel::Scalar;

impl<T: Scalar, B: Backend, R> Explorer<T, B, R> {
    /// Stops loading, and with it evicting, and keeps the level bias: pictures are made of what is there, from wherever one looks. What is under way is finished. `false` goes on.
    ///
    /// Pausing the [`streamer`](Self::streamer) alone leaves the bias to follow what pictures lack.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
        if frozen {
            self.streamer.pause();
        } else {
            self.streamer.resume();
        }
        self.progress = Progress::default();
    }

    /// Whether it is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Begins anew: evicts every page but pinned ones, such as those of the coarsest level, gives their memory back, and forgets failures and the level bias. Returns how many pages went.
    ///
    /// What is under way comes all the same. Ranges of values that were learnt and tiles that turned out uniform stay known: they have no memory.
    ///
    /// **Cost**: a look at each tile that is resident, a few mapping calls for each page.
    ///
    /// # Errors
    /// [`ResidencyError::FramesOpen`](crate::ResidencyError::FramesOpen) where frames of others do not end in time; [`Error::Backend`]. The other levels are evicted all the same.
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.streamer.flush();
        self.retry_failed();
        (self.bias, self.rate, self.progress) = (Bias::default(), Rate::default(), Progress::default());
        let mut evicted = 0;
        let mut outcome = Ok(());
        for array in (0..self.pyramid.levels()).filter_map(|level| self.pyramid.level(level).ok()) {
            match array.evict(Region::whole(array.extent())) {
                Ok(pages) => evicted += pages,
                Err(error) => outcome = Err(error),
            }
        }
        // What went now need not rest.
        self.notice();
        (self.ghosts, self.rereads) = (Ghosts::default(), Rereads::default());
        outcome.map(|()| evicted)
    }
}
