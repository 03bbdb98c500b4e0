//! Owns [`Mailbox`]: between a browser, which sends views faster than they can be rendered, and its render thread, which takes the newest only, and what was ordered meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::view::View;

/// What is to be done before the next picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Orders {
    pub(crate) budget_bytes: Option<u64>,
    pub(crate) frozen: Option<bool>,
    pub(crate) overlay: Option<bool>,
    pub(crate) flush: bool,
    pub(crate) retry: bool,
    /// What is seen at this place of the picture is asked for, in parts of its sides.
    pub(crate) pick: Option<[f64; 2]>,
}

impl Orders {
    /// Whether pictures stay as they are, and nothing is to be drawn over them.
    pub(crate) fn only_ask(&self) -> bool {
        self.overlay.is_none() && !self.change_pictures()
    }

    /// Whether pictures become others, or come about otherwise.
    pub(crate) fn change_pictures(&self) -> bool {
        *self != Self { pick: self.pick, overlay: self.overlay, ..Self::default() }
    }
}

/// What a browser asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Counts what was asked for; 0 before the first.
    pub(crate) number: u64,
    /// The newest view.
    pub(crate) view: View,
    /// What was ordered since the last that was taken.
    pub(crate) orders: Orders,
    /// When the last change came.
    pub(crate) at: Instant,
}

/// What was asked for last, and how many pictures the browser has shown.
#[derive(Debug)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Something newer came than what was taken last, or the browser is gone.
    outdated: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    asked: Asked,
    shown: u64,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        let asked = Asked { number: 0, view: View::default(), orders: Orders::default(), at: Instant::now() };
        Self {
            inner: Mutex::new(Inner { asked, shown: 0, closed: false }),
            changed: Condvar::new(),
            outdated: AtomicBool::new(false),
        }
    }

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
            inner.asked.view = view;
            inner.asked.number += 1;
            inner.asked.at = Instant::now();
            self.outdated.store(true, Ordering::Relaxed);
        });
    }

    /// Orders something; the render thread sees it with the newest view.
    pub(crate) fn order(&self, order: impl FnOnce(&mut Orders)) {
        self.change(|inner| {
            order(&mut inner.asked.orders);
            // Before the first view there is nothing to be done again.
            inner.asked.number += u64::from(inner.asked.number > 0);
            inner.asked.at = Instant::now();
            self.outdated.store(true, Ordering::Relaxed);
        });
    }

    /// The browser has shown the picture of this number.
    pub(crate) fn shown(&self, number: u64) {
        self.change(|inner| inner.shown = inner.shown.max(number));
    }

    /// The browser is gone.
    pub(crate) fn close(&self) {
        self.change(|inner| {
            inner.closed = true;
            self.outdated.store(true, Ordering::Relaxed);
        });
    }

    /// Waits for something newer than number `seen`, and takes the orders; `None` once the browser is gone.
    pub(crate) fn next(&self, seen: u64) -> Option<Asked> {
        let waits = |inner: &mut Inner| inner.asked.number <= seen && !inner.closed;
        let mut inner = self.changed.wait_while(self.inner(), waits).unwrap_or_else(PoisonError::into_inner);
        let asked = inner.asked.clone();
        self.outdated.store(inner.closed, Ordering::Relaxed);
        inner.asked.orders = Orders::default();
        (!inner.closed).then_some(asked)
    }

    /// Whether number `seen` is outdated, or comes to be so within `patience`.
    pub(crate) fn is_outdated(&self, seen: u64, patience: Duration) -> bool {
        let waits = |inner: &mut Inner| inner.asked.number <= seen && !inner.closed;
        let waited = self.changed.wait_timeout_while(self.inner(), patience, waits);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.asked.number > seen || inner.closed
    }

    /// Is set as soon as what was taken last is outdated.
    pub(crate) fn outdated(&self) -> &AtomicBool {
        &self.outdated
    }

    /// Waits until the browser has shown picture number `number`; false once it is gone.
    pub(crate) fn wait_shown(&self, number: u64) -> bool {
        let waits = |inner: &mut Inner| inner.shown < number && !inner.closed;
        let inner = self.changed.wait_while(self.inner(), waits).unwrap_or_else(PoisonError::into_inner);
        !inner.closed
    }
}
