//! One budget for several arrays: it is never passed, pins are left alone, and it can be changed at any time.
//!
//! `cargo run --release --example 03_shared_budget` prints, after each step, what the pool uses and what the system says this process holds (resident set).
//! Expect the resident set to follow the budget: up to 64 MiB more at first, 16 MiB once the budget shrinks, and next to nothing at the end.

use std::error::Error;

use vastgrid::source::Procedural;
use vastgrid::{Coord, Extent, HostBackend, Pool, Region, SparseArray3D};

/// Bytes of this process that are in memory now.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn show(what: &str, pool: &Pool<HostBackend>, before: u64) {
    let (stats, rss) = (pool.stats(), resident_bytes().saturating_sub(before));
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{what:<38} {:>3} of {:>3} MiB used, {:>2} pinned, {:>4} evictions; resident set +{:>3} MiB",
        mib(stats.used_bytes),
        mib(stats.budget_bytes),
        mib(stats.pinned_bytes),
        stats.evictions,
        mib(rss)
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let before = resident_bytes();
    let pool = Pool::new(HostBackend::new(), 64 << 20)?;

    // Three time steps of 1 GiB each, in tiles of 32^3 x 4 bytes: 128 KiB.
    let mut steps = Vec::new();
    for time in 0..3u16 {
        let source = Procedural::new(Extent::new(1024, 512, 512), move |c: Coord| {
            f32::from(time) + f32::from(u16::try_from(c.x).unwrap_or(u16::MAX))
        });
        steps.push(SparseArray3D::builder(&pool, source).tile(Extent::cube(32)).build()?);
    }
    show("three arrays of 1 GiB, nothing read", &pool, before);

    // 32 MiB of each: 96 MiB through a budget of 64. The least recently used tiles go.
    let part = Region::new(Coord::new(0, 0, 0), Extent::new(512, 512, 32));
    for step in &steps {
        let _report = step.request_region(part)?.complete()?;
    }
    show("32 MiB of each array", &pool, before);

    // What is pinned stays, whatever the others ask for.
    let corner = Region::new(Coord::new(0, 0, 0), Extent::new(256, 128, 32));
    let pins = steps[0].pin_region(corner)?;
    let _report =
        steps[2].request_region(Region::new(Coord::new(0, 0, 64), Extent::new(512, 512, 32)))?.complete()?;
    show("a corner of the first pinned", &pool, before);

    // A smaller budget takes effect at once: memory goes back to the system, pins stay.
    pool.set_budget(16 << 20)?;
    show("the budget cut to 16 MiB", &pool, before);
    match pool.set_budget(2 << 20) {
        Ok(()) => println!("2 MiB: more is pinned, so this should not be possible"),
        Err(error) => println!("cut to 2 MiB: {error}"),
    }
    println!("a pinned voxel reads without loading: {:?}", steps[0].frame().get([200, 100, 20]));

    drop(pins);
    drop(steps);
    pool.trim()?;
    show("all arrays dropped", &pool, before);
    Ok(())
}
