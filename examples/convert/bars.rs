//! Owns what is shown while one waits: a bar for each level, with rates and time left. Knows nothing of what is done.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vastgrid::convert::Progress;

const LINE: &str = "{prefix:>14} {bar:24} {bytes:>11} of {total_bytes:<11} {bytes_per_sec:>12} {eta:>4} left";

/// A bar for something that says how far it is.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(what: &'static str, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        bar.set_style(style());
        bar.set_prefix(what);
        Self(bar)
    }

    pub(crate) fn show(&mut self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
        if done >= all {
            self.0.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows bars of so many bytes while `work` goes on, which tells `progress` in voxels.
pub(crate) fn watch<R: Send>(
    named_bytes: &[(String, u64)],
    voxel_bytes: u64,
    progress: &Progress,
    quiet: bool,
    work: impl FnOnce() -> R + Send,
) -> R {
    let all = MultiProgress::new();
    if quiet {
        all.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let bars: Vec<_> = named_bytes
        .iter()
        .map(|(name, bytes)| {
            let bar = all.add(ProgressBar::new(*bytes).with_style(style()).with_prefix(name.clone()));
            bar.tick();
            bar
        })
        .collect();
    let result = std::thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut begun = vec![false; bars.len()];
        while !work.is_finished() {
            std::thread::park_timeout(Duration::from_millis(100));
            for (level, bar) in bars.iter().enumerate() {
                let done = progress.voxels(level) * voxel_bytes;
                bar.set_position(done);
                if done > 0 && !begun[level] {
                    // What was there before tells nothing of how fast this goes.
                    bar.reset_eta();
                    begun[level] = true;
                }
            }
        }
        work.join()
    });
    for bar in bars {
        bar.abandon();
    }
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
