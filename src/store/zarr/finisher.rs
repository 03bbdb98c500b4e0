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

/// Objects that wait or are made durable, at most.
pub(super) const UNDER_WAY: usize = THREADS + MOST_WAITING;

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
    /// Objects that are being remembered as complete.
    committing: HashSet<String>,
    failed: Option<Arc<StoreError>>,
    /// Whether something could not be remembered. What the disk lost then is not told again: nothing more is.
    refused: bool,
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

    /// Takes an object over, perhaps in the place of an earlier one of that name. Waits where the disk is behind.
    ///
    /// # Errors
    /// [`StoreError::Shared`]: an earlier one failed. This one is dropped.
    pub(super) fn take(&self, job: Job) -> Result<(), StoreError> {
        {
            let mut state = self.shared.wait_until(|state| !state.committing.contains(&job.key));
            state.check()?;
            // What is remembered of the earlier one must not be so after this one has its name.
            state.done.retain(|done| done.key != job.key);
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
        let idle = |state: &State| state.under_way.is_empty() && state.committing.is_empty();
        let mut state = self.shared.wait_until(idle);
        state.check()?;
        let done = std::mem::take(&mut state.done);
        self.shared.commit(state, &done).check()
    }

    /// Waits until this object is durable, if it is under way.
    ///
    /// # Errors
    /// [`StoreError::Shared`]: it, or another one, is not.
    pub(super) fn wait_for(&self, key: &str) -> Result<(), StoreError> {
        self.shared.wait_until(|state| !state.under_way.contains(key)).check()
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
        let mut state = self.shared.lock();
        let done = if state.refused { Vec::new() } else { std::mem::take(&mut state.done) };
        drop(state);
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
            state = self.commit(state, &due);
        }
        state.under_way.remove(key);
        self.idle.notify_all();
    }

    /// Has objects remembered as complete. Once that failed, it stays so: a second attempt may succeed without what the first one lost.
    fn commit<'a>(&'a self, mut state: MutexGuard<'a, State>, done: &[Done]) -> MutexGuard<'a, State> {
        state.committing.extend(done.iter().map(|done| done.key.clone()));
        drop(state);
        let outcome = self.target.commit(done);
        let mut state = self.lock();
        for Done { key, .. } in done {
            state.committing.remove(key);
        }
        if let Err(error) = outcome {
            state.failed.get_or_insert(Arc::new(error));
            state.refused = true;
        }
        self.idle.notify_all();
        state
    }

    fn wait_until(&self, enough: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !enough(&state) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers nothing the first time, and says so once.
    #[derive(Debug, Default)]
    struct Forgetful(Mutex<Vec<usize>>);

    impl Target for Arc<Forgetful> {
        fn begin(&self) -> Result<Box<dyn Object>, StoreError> {
            Err(StoreError::NoLevel { level: 0, levels: 0 })
        }
        fn size(&self, _: &str) -> Result<Option<u64>, StoreError> {
            Ok(None)
        }
        fn read(&self, _: &str, _: u64, _: &mut [u8]) -> Result<(), StoreError> {
            Ok(())
        }
        fn remove(&self, _: &str) -> Result<(), StoreError> {
            Ok(())
        }
        fn commit(&self, done: &[Done]) -> Result<(), StoreError> {
            let mut commits = self.0.lock().unwrap();
            commits.push(done.len());
            let source = std::io::Error::other("the disk is gone");
            let error = StoreError::File { doing: "making durable", path: "somewhere".into(), source };
            if commits.len() == 1 { Err(error) } else { Ok(()) }
        }
        fn publish(&self, _: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
            Ok(())
        }
        fn discard(&self) -> Result<(), StoreError> {
            Ok(())
        }
        fn location(&self, key: &str) -> String {
            key.to_owned()
        }
    }

    fn job(key: &str) -> Job {
        Job { key: key.into(), object: None, done: Some(Done { key: key.into(), note: Vec::new() }) }
    }

    #[test]
    fn what_was_not_remembered_once_is_not_said_to_be_at_a_second_attempt() {
        let target = Arc::new(Forgetful::default());
        let finisher = Finisher::new(Arc::new(target.clone())).unwrap();
        finisher.take(job("a")).unwrap();
        for _ in 0..2 {
            let error = finisher.settle().unwrap_err();
            assert!(error.to_string().contains("the disk is gone"), "{error}");
        }
        assert!(finisher.take(job("b")).is_err());
        drop(finisher);
        assert_eq!(*target.0.lock().unwrap(), [1], "nothing more is remembered");
    }

    #[test]
    fn an_object_that_is_written_again_is_remembered_once() {
        let target = Arc::new(Forgetful(Mutex::new(vec![0])));
        let finisher = Finisher::new(Arc::new(target.clone())).unwrap();
        for key in ["a", "b", "a"] {
            finisher.take(job(key)).unwrap();
            finisher.wait_for(key).unwrap();
        }
        finisher.settle().unwrap();
        assert_eq!(*target.0.lock().unwrap(), [0, 2]);
    }
}
