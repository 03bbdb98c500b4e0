//! What do the driver's virtual memory calls cost, by size of the physical memory, by how many one call covers, and by how many devices are given access?
//!
//! Microseconds for each piece of physical memory, medians of rounds; through `vastgrid::vmm`, so with its own bookkeeping on top. Needs a CUDA device; says so where there is none.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures of a known size")]

mod common;

use std::time::Instant;

use common::device::device_or_skip;
use common::{SplitMix, median, rounds};
use vastgrid::BackendError;
use vastgrid::backend::Access;
use vastgrid::cuda::Device;
use vastgrid::vmm::Space;

/// Pieces that are mapped in turn.
const PIECES: u64 = 64;

fn micros(start: Instant, pieces: u64) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / pieces as f64
}

/// One row: pieces of `bytes`, access set for runs of `run` of them at a time.
fn row(space: &Space, devices: &[&Device], bytes: u64, run: u64) -> Result<(), BackendError> {
    let mut times = [const { Vec::new() }; 5];
    let mut random = SplitMix(bytes);
    for round in 0..=rounds(7) {
        let start = Instant::now();
        let pieces: Vec<_> = (0..PIECES).map(|_| space.create(bytes)).collect::<Result<_, _>>()?;
        let create = micros(start, PIECES);
        let mut range = space.reserve(bytes * PIECES * 16, bytes)?;
        // Runs of neighbours, each somewhere else.
        let mut starts: Vec<u64> = random
            .shuffled((PIECES * 16 / run) as u32)
            .into_iter()
            .map(|r| u64::from(r) * run * bytes)
            .collect();
        starts.truncate((PIECES / run) as usize);
        let start = Instant::now();
        for (i, piece) in pieces.iter().enumerate() {
            range.map(starts[i / run as usize] + i as u64 % run * bytes, piece)?;
        }
        let map = micros(start, PIECES);
        let start = Instant::now();
        for &at in &starts {
            range.set_access(at..at + run * bytes, Access::ReadWrite, devices)?;
        }
        let access = micros(start, PIECES);
        let start = Instant::now();
        for &at in &starts {
            range.unmap(at, run * bytes)?;
        }
        let unmap = micros(start, PIECES);
        let start = Instant::now();
        drop(pieces);
        let release = micros(start, PIECES);
        if round > 0 {
            for (times, time) in times.iter_mut().zip([create, map, access, unmap, release]) {
                times.push(time);
            }
        }
    }
    let [create, map, access, unmap, release] = times.map(|mut t| median(&mut t));
    let cycle = map + access + unmap;
    println!(
        "{:>6} MiB, runs of {run:>2}, {} device(s): create {create:6.1}, map {map:5.1}, set_access {access:6.1}, unmap {unmap:6.1}, release {release:6.1} us; a cycle {cycle:6.1} us = {:6.1} GB/s",
        bytes >> 20,
        devices.len().max(1),
        bytes as f64 / cycle / 1e3
    );
    Ok(())
}

fn main() -> Result<(), BackendError> {
    let Some(device) = device_or_skip() else { return Ok(()) };
    let space = Space::cuda(&device)?;
    println!("{}, driver {}", device.name(), Device::driver_version()?);
    println!(
        "granularity {} bytes, recommended {}",
        space.granularity_bytes(),
        space.recommended_granularity_bytes()
    );
    for bytes in [2u64, 4, 8, 16, 32, 128].map(|mib| mib << 20) {
        row(&space, &[], bytes, 1)?;
    }
    for run in [1, 4, 16, 64] {
        row(&space, &[], 2 << 20, run)?;
    }
    if Device::count()? > 1 {
        let other = Device::open(1)?;
        for bytes in [2u64, 8].map(|mib| mib << 20) {
            row(&space, &[&device, &other], bytes, 1)?;
        }
    } else {
        println!("one device only: nothing to say of several");
    }
    Ok(())
}
