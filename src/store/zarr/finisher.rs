//! Owns [`Finisher`]: the threads that make objects durable while others are being written. Knows nothing of what is in them.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::target::{Done, Object, Target};
use crate::error::StoreError;

/// Threads that wait for the disk. Several, because file systems make many files durable in one go.
const THREADS: usize = 4;

/// The most objects that wait for a thread; whoever brings more waits, too.
const MOST_WAITING: usize = 4;

/// Objects that are remembered as complete together.
const COMMIT_EVERY: usize = 16;

/// An object that is written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: String,
    /// `None`: there is nothing in it, and so no object of that name.
    pub(super) object: Option<Box<dyn Object>>,
    /// What is to be remembered, if it is complete.
    pub(super) done: Option<Done>,
}

/// Takes objects that are written, and says whether all of them became durable.
#[derive(Debug)]
pub(super) struct Finisher {
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: Arc<dyn Target>,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: HashSet<String>,
    done: Vec<Done>,
    failed: Option<Arc<StoreError>>,
}

impl Finisher {
    /// # Errors
    /// [`StoreError::File`]: no thread could be started.
    pub(super) fn new(target: Arc<dyn Target>) -> Result<Self, StoreError> {
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let shared = Arc::new(Shared { target, state: Mutex::default(), idle: Condvar::new() });
        let mut finisher = Self { shared, jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..THREADS {
            let (shared, waiting) = (finisher.shared.clone(), waiting.clone());
            let thread = std::thread::Builder::new().name("vastgrid-save".into());
            let started = thread.spawn(move || shared.work(&waiting)).map_err(|source| StoreError::File {
                doing: "starting a thread for",
                path: finisher.shared.target.location("").into(),
                source,
            });
            finisher.threads.push(started?);
        }
        Ok(finisher)
    }

    /// Takes an object over. Waits where the disk is behind.
    ///
    /// # Errors
    /// [`StoreError::Shared`]: an earlier one failed. This one is dropped.
    pub(super) fn take(&self, job: Job) -> Result<(), StoreError> {
        {
            let mut state = self.shared.lock();
            state.check()?;
            state.under_way.insert(job.key.clone());
        }
        // There are threads as long as this is there; without them nothing would be saved.
        if let Some(Err(unsent)) = self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            self.shared.ended(&unsent.0.key, Err(self.shared.lost(&unsent.0.key)));
        }
        Ok(())
    }

    /// Waits until everything that was taken over is durable and remembered.
    ///
    /// # Errors
    /// [`StoreError::Shared`]: something is not.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let mut state = self.shared.wait_until(std::collections::HashSet::is_empty);
        state.check()?;
        let done = std::mem::take(&mut state.done);
        drop(state);
        let outcome = self.shared.target.commit(&done);
        if outcome.is_err() {
            self.shared.lock().done.extend(done);
        }
        outcome
    }

    /// Waits until this object is durable, if it is under way.
    ///
    /// # Errors
    /// [`StoreError::Shared`]: it, or another one, is not.
    pub(super) fn wait_for(&self, key: &str) -> Result<(), StoreError> {
        self.shared.wait_until(|under_way| !under_way.contains(key)).check()
    }

    pub(super) fn target(&self) -> &Arc<dyn Target> {
        &self.shared.target
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic there left its object unfinished, which nobody asks for any more.
            let _ = thread.join();
        }
        // As much as there is can be gone on with.
        let done = std::mem::take(&mut self.shared.lock().done);
        if !done.is_empty()
            && let Err(error) = self.shared.target.commit(&done)
        {
            tracing::warn!(%error, "what was written of a save that ends here will be written again");
        }
    }
}

impl Shared {
    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { key, object, done }) = job else { return };
            let outcome = object.map_or(Ok(()), |object| object.finish(&key));
            self.ended(&key, outcome.map(|()| done));
        }
    }

    fn ended(&self, key: &str, outcome: Result<Option<Done>, StoreError>) {
        let mut state = self.lock();
        let mut due = Vec::new();
        match outcome {
            Ok(done) => {
                state.done.extend(done);
                if state.done.len() >= COMMIT_EVERY {
                    due = std::mem::take(&mut state.done);
                }
            }
            Err(error) => {
                tracing::warn!(%error, key, "an object is lost");
                state.failed.get_or_insert(Arc::new(error));
            }
        }
        if !due.is_empty() {
            drop(state);
            let committed = self.target.commit(&due);
            state = self.lock();
            if let Err(error) = committed {
                state.failed.get_or_insert(Arc::new(error));
            }
        }
        state.under_way.remove(key);
        self.idle.notify_all();
    }

    fn wait_until(&self, enough: impl Fn(&HashSet<String>) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !enough(&state.under_way) {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lost(&self, key: &str) -> StoreError {
        let source = std::io::Error::other("the threads that do so are gone");
        StoreError::File { doing: "making durable", path: self.target.location(key).into(), source }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> Result<(), StoreError> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(StoreError::Shared(error.clone())))
    }
}
