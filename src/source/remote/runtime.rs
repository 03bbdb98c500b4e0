//! Owns the threads that fetch: two for the whole process, started on first use. Whoever needs an answer waits for it on a channel, on its own thread, so that these two are never waited on by
//! themselves, and a caller inside somebody else's runtime is a thread like any other. Knows nothing of stores.

use std::cell::Cell;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::RemoteError;

/// Answers are decrypted and copied here, and nothing is decoded: two threads keep up with any line.
const THREADS: usize = 2;

thread_local! {
    static FETCHES: Cell<bool> = const { Cell::new(false) };
}

/// The runtime, which lives as long as the process.
///
/// # Errors
/// [`RemoteError::Threads`] where the system gives no threads; asked again, the answer is the same.
pub(super) fn handle() -> Result<&'static Handle, RemoteError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("vastgrid-remote")
            .on_thread_start(|| FETCHES.set(true))
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    match runtime {
        Ok(runtime) => Ok(runtime.handle()),
        Err(cause) => Err(RemoteError::Threads { cause: cause.clone() }),
    }
}

/// What `work` comes to, which the threads here do meanwhile. `url` is for errors.
///
/// # Errors
/// [`RemoteError::WaitsForItself`] on a thread of this runtime, [`RemoteError::Panicked`], [`RemoteError::Threads`].
pub(super) fn wait<T: Send + 'static>(
    url: impl FnOnce() -> String,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, RemoteError> {
    if FETCHES.get() {
        return Err(RemoteError::WaitsForItself { url: url() });
    }
    let (send, receive) = mpsc::sync_channel(1);
    handle()?.spawn(async move {
        // Whoever asked may be gone: then nobody needs it.
        let _ = send.send(work.await);
    });
    receive.recv().map_err(|_| RemoteError::Panicked { url: url() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_a_wait_for_itself_are_errors() {
        let panicked = wait(|| "here".into(), async { panic!("of the test") });
        let panicked: RemoteError = panicked.unwrap_err();
        assert!(matches!(panicked, RemoteError::Panicked { .. }), "{panicked}");
        let inner = wait(|| "outer".into(), async { wait(|| "inner".into(), async { 1 }) }).unwrap();
        assert!(matches!(inner, Err(RemoteError::WaitsForItself { ref url }) if url == "inner"), "{inner:?}");
        assert_eq!(wait(|| "after".into(), async { 7 }).unwrap(), 7);
    }

    #[test]
    fn a_thread_of_another_runtime_may_wait() {
        let other = Builder::new_current_thread().build().unwrap();
        assert_eq!(other.block_on(async { wait(|| "x".into(), async { 3 }).unwrap() }), 3);
    }
}
