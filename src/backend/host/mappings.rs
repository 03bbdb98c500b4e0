//! Owns the count of memory mappings (VMAs) that the process' host backends hold, so that running out is an error of ours, with the sysctl's name,
//! and not a failed allocation somewhere else in the process. Knows nothing of what is mapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sys;
use crate::error::BackendError;

/// What all host backends of the process hold together.
static HELD: AtomicU64 = AtomicU64::new(0);

/// The mappings that one backend may hold.
#[derive(Debug)]
pub(in crate::backend) struct Mappings {
    own: AtomicU64,
    own_limit: u64,
    process_limit: u64,
}

impl Mappings {
    /// At most `own_limit` for this backend, and for all of the process' together all but `headroom` of what the system allows.
    pub(in crate::backend) fn new(own_limit: Option<u64>, headroom: Option<u64>) -> Arc<Self> {
        let most = sys::max_map_count();
        let process_limit = most.saturating_sub(headroom.unwrap_or(most / 2));
        let own_limit = own_limit.unwrap_or(process_limit).min(process_limit);
        Arc::new(Self { own: AtomicU64::new(0), own_limit, process_limit })
    }

    /// How many more may be taken.
    pub(super) fn room(&self) -> u64 {
        let own = self.own_limit.saturating_sub(self.own.load(Ordering::Relaxed));
        own.min(self.process_limit.saturating_sub(HELD.load(Ordering::Relaxed)))
    }

    /// How many this backend holds.
    pub(super) fn held(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    /// Takes `count` mappings until the returned value is dropped.
    ///
    /// # Errors
    /// [`BackendError::TooManyMappings`].
    pub(in crate::backend) fn take(
        self: &Arc<Self>,
        call: &'static str,
        count: u64,
    ) -> Result<Taken, BackendError> {
        let add = |of: &AtomicU64, limit: u64| {
            of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(count).filter(|sum| *sum <= limit)
            })
            .map_err(|mappings| BackendError::TooManyMappings { call, mappings, limit })
        };
        add(&self.own, self.own_limit)?;
        if let Err(error) = add(&HELD, self.process_limit) {
            self.own.fetch_sub(count, Ordering::Relaxed);
            return Err(error);
        }
        Ok(Taken { from: Arc::clone(self), count })
    }
}

/// Mappings that are held until this is dropped.
#[derive(Debug)]
pub(in crate::backend) struct Taken {
    from: Arc<Mappings>,
    count: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.from.own.fetch_sub(self.count, Ordering::Relaxed);
        HELD.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_never_exceeds_the_limit() {
        let mappings = Mappings::new(Some(5), None);
        let three = mappings.take("map", 3).unwrap();
        let error = mappings.take("map", 3).unwrap_err();
        assert!(matches!(error, BackendError::TooManyMappings { mappings: 3, limit: 5, .. }), "{error}");
        assert!(error.to_string().contains("vm.max_map_count"));
        assert_eq!(mappings.room(), 2);
        drop(three);
        let five = mappings.take("map", 5).unwrap();
        assert_eq!((mappings.held(), mappings.room()), (5, 0));
        drop(five);
        assert!(mappings.take("map", u64::MAX).is_err());
    }
}
