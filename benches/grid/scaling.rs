//! What all threads gain over one.

use std::hint::black_box;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;
use vastgrid::Coord;

use crate::common::{G1024, median, rounds};
use crate::contest::verdict;

/// Rayon's pool of so many threads.
pub(crate) fn threads(count: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap()
}

/// How much faster all threads are than one, beside the same of a loop that needs nothing but registers: what the machine has to give in that minute.
pub(crate) fn scaling(label: &str, mut work: impl FnMut(&ThreadPool)) {
    let count = rayon::current_num_threads();
    if count < 2 {
        return println!("{label:<44} one thread, nothing to scale over");
    }
    let pools = [threads(1), threads(count)];
    let hashes = |pool: &ThreadPool| {
        let hash = |i: u32| {
            let at = |x| Coord::new(x, i.into(), 0);
            (0..1 << 16).map(|x| G1024::value(at(x))).sum::<f32>()
        };
        black_box(pool.install(|| (0..256u32).into_par_iter().with_max_len(1).map(hash).sum::<f32>()));
    };
    let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(7) {
        let [one, all] = pools.each_ref().map(|pool| seconds(|| work(pool)));
        let [plain_one, plain_all] = pools.each_ref().map(|pool| seconds(|| hashes(pool)));
        ours.push(one / all);
        plain.push(plain_one / plain_all);
        ratios.push(plain_one / plain_all / (one / all));
    }
    let (ours, plain, ratio) = (median(&mut ours), median(&mut plain), median(&mut ratios));
    let verdict = verdict(ratio, 1.2, ratios[0], ratios[ratios.len() - 1]);
    println!(
        "{:<44} {ours:.2} x one thread's speed, a plain loop {plain:.2} x: {verdict}",
        format!("{label}, {count} threads")
    );
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
