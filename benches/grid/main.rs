//! What do computations on a grid in memory cost, against OpenVDB and against plain loops?
//!
//! Workload G1024: 1024^3 f32 voxels in tiles of 64^3, of which 5 % are active. OpenVDB is built and run in turns with this process where it is installed (`openvdb.rs`); it gets the same workload, as it would hold it.
//! Everybody's sums have to agree. SPGrid is not measured: it is no package. It stands here as targets, from one table in which it, OpenVDB and plain loops were measured on one machine:
//!
//! | row | target | where it is from |
//! | --- | --- | --- |
//! | random reads of active voxels | 6 x faster than OpenVDB's best | there SPGrid was 8 x, in blocks of 1 MiB |
//! | 27-point sweep | 8 x faster than OpenVDB's accessor | SPGrid's own ratio there |
//! | parallel sum | 1.10 of a plain slice | the bandwidth of memory |
//! | writing all voxels | 1.00 of OpenVDB's leaf buffers, heap reused | |
//! | a tile's activation and eviction | 3.1 copies of it | half of SPGrid's 6.3: (527 + 67) us a block of 1 MiB, of which a copy took 95 us |
//! | the same | 0.5 of what SPGrid does | its way with memory, written anew (`touched.rs`) and measured in turns with ours, for a copy is not as dear everywhere |
//! | the same without memory to use again | 1.0 of it | |
//! | memory of a thin shell | 1.3 of OpenVDB's | |
//! | a moving band in 2^40 voxels | 1.05 of the same in 2^27 | |
//!
//! Names of groups as arguments run those alone: `reads`, `sweeps`, `sums`, `writes`, `cycle`, `shell`, `band`, `sets`.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a known size")]

#[path = "../common/mod.rs"]
mod common;

mod band;
mod contest;
mod cycle;
mod openvdb;
mod scaling;
mod sets;
mod shell;
mod sums;
mod touched;
mod workload;

use openvdb::Program;
use workload::Workload;

fn main() {
    if shell::was_asked_for() {
        return;
    }
    let asked: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |group: &str| asked.is_empty() || asked.iter().any(|word| word == group);
    let of_workload = ["reads", "sweeps", "sums", "writes"].into_iter().any(wants);
    let program = if of_workload || wants("shell") { Program::build() } else { None };
    println!(
        "{} threads; SPGrid's rows are targets, see the head of benches/grid/main.rs",
        rayon::current_num_threads()
    );
    if wants("shell") {
        shell::compare(program.as_ref());
    }
    if of_workload {
        let workload = Workload::new(program.as_ref());
        let groups = [
            ("reads", Workload::reads as fn(&Workload)),
            ("sweeps", Workload::sweeps),
            ("sums", Workload::sums),
            ("writes", Workload::writes),
        ];
        groups.into_iter().filter(|(name, _)| wants(name)).for_each(|(_, run)| run(&workload));
    }
    if wants("cycle") {
        cycle::compare("1 MiB", [64, 64, 64]);
        cycle::compare("2 MiB", [128, 64, 64]);
    }
    if wants("band") {
        band::compare();
    }
    if wants("sets") {
        sets::measure();
    }
}
