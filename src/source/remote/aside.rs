//! Owns a thread that does one thing after another, started on first use: what has to wait for a store to find out what else will be read of it. Knows nothing of stores.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

/// Most that waits. What comes then is dropped: it is for hints alone.
const MOST_WAITING: usize = 64;

pub(super) type Work = Box<dyn FnOnce() + Send>;

/// The thread, which ends when this is dropped and what it has was done.
#[derive(Debug, Default)]
pub(super) struct Aside {
    sender: Mutex<Option<SyncSender<Work>>>,
}

impl Aside {
    /// Begins it after what was given before.
    pub(super) fn run(&self, work: Work) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_none() {
            let (send, receive) = mpsc::sync_channel(MOST_WAITING);
            let thread = std::thread::Builder::new().name("vastgrid-ahead".into());
            // Where the system gives no thread there are no hints.
            if thread.spawn(move || done(&receive)).is_ok() {
                *sender = Some(send);
            }
        }
        if let Some(sender) = &*sender {
            let _ = sender.try_send(work);
        }
    }
}

fn done(receive: &Receiver<Work>) {
    while let Ok(work) = receive.recv() {
        // A panic costs this hint alone; it says itself what it was.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn work_is_done_in_order_beside_all_else_and_survives_a_panic() {
        let aside = Aside::default();
        let (send, receive) = mpsc::channel();
        let (hold, held) = mpsc::channel::<()>();
        aside.run(Box::new(move || {
            let _ = held.recv();
            panic!("of the test");
        }));
        for i in 0..10 * MOST_WAITING {
            let send = send.clone();
            aside.run(Box::new(move || send.send(i).unwrap()));
        }
        drop((hold, send, aside));
        let done: Vec<usize> =
            std::iter::from_fn(|| receive.recv_timeout(Duration::from_secs(10)).ok()).collect();
        // One more where the thread had taken the first before the others came.
        assert!((MOST_WAITING - 1..=MOST_WAITING).contains(&done.len()), "{} done", done.len());
        assert!(done.is_sorted());
    }
}
