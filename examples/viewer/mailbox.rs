//! Owns [`Mailbox`]: between a browser, which sends views faster than they can be rendered, and its render thread, which takes the newest only.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::view::View;

/// The newest view, and how many pictures the browser has shown.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    newest: View,
    /// Counts views; 0 before the first.
    number: u64,
    shown: u64,
    closed: bool,
}

impl Mailbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner());
        self.changed.notify_all();
    }

    /// Puts a view in; one that was not taken yet is forgotten.
    pub(crate) fn put(&self, view: View) {
        self.change(|inner| {
            inner.newest = view;
            inner.number += 1;
        });
    }

    /// The browser has shown the picture of this number.
    pub(crate) fn shown(&self, number: u64) {
        self.change(|inner| inner.shown = inner.shown.max(number));
    }

    /// The browser is gone.
    pub(crate) fn close(&self) {
        self.change(|inner| inner.closed = true);
    }

    /// Waits for a view newer than number `seen`; `None` once the browser is gone.
    pub(crate) fn next(&self, seen: u64) -> Option<(u64, View)> {
        let waits = |inner: &mut Inner| inner.number <= seen && !inner.closed;
        let inner = self.changed.wait_while(self.inner(), waits).unwrap_or_else(PoisonError::into_inner);
        (!inner.closed).then(|| (inner.number, inner.newest.clone()))
    }

    /// Whether view number `seen` is outdated, or comes to be so within `patience`.
    pub(crate) fn is_outdated(&self, seen: u64, patience: Duration) -> bool {
        let waits = |inner: &mut Inner| inner.number <= seen && !inner.closed;
        let waited = self.changed.wait_timeout_while(self.inner(), patience, waits);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.number > seen || inner.closed
    }

    /// Waits until the browser has shown picture number `number`; false once it is gone.
    pub(crate) fn wait_shown(&self, number: u64) -> bool {
        let waits = |inner: &mut Inner| inner.shown < number && !inner.closed;
        let inner = self.changed.wait_while(self.inner(), waits).unwrap_or_else(PoisonError::into_inner);
        !inner.closed
    }
}
