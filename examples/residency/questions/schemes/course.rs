//! Owns what came of going along paths: one of them, [`Path`], and what is entered of several, [`Course`].

use std::time::Instant;

use super::path::Frame;
use super::rates::quantile;
use super::scheme::{Scheme, sampled};
use crate::suite::{Context, Failure};

/// What came of one scheme along one path.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) name: String,
    /// What each frame's samples add up to.
    pub(crate) sums: Vec<f64>,
    frames: Vec<Timed>,
}

/// What one frame took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// Until the wanted tiles were there, or on their way ahead of the kernels that read them.
    pub(crate) residency_ms: f64,
    /// Of a device: from where it could begin with the kernels to their end.
    pub(crate) kernels_ms: Option<f64>,
    pub(crate) all_ms: f64,
    pub(crate) loads: u64,
    /// Bytes that the process had the disk read.
    pub(crate) read_bytes: u64,
}

impl Path {
    /// One that begins.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), sums: Vec::new(), frames: Vec::new() }
    }

    /// Adds a frame.
    pub(crate) fn add(&mut self, sum: f64, timed: Timed) {
        self.sums.push(sum);
        self.frames.push(timed);
    }

    /// Goes along it.
    pub(crate) fn along(scheme: &mut dyn Scheme, frames: &[Frame]) -> Result<Self, Failure> {
        let mut path = Self::new(scheme.name());
        frames.iter().try_for_each(|frame| path.go(scheme, frame))?;
        Ok(path)
    }

    fn go(&mut self, scheme: &mut dyn Scheme, frame: &Frame) -> Result<(), Failure> {
        let read_before = read_bytes();
        let start = Instant::now();
        let loads = scheme.want(&frame.tiles)?;
        let residency_ms = start.elapsed().as_secs_f64() * 1e3;
        let sum = sampled(scheme, &frame.work)?;
        let all_ms = start.elapsed().as_secs_f64() * 1e3;
        let read_bytes = read_bytes().saturating_sub(read_before);
        self.add(sum, Timed { residency_ms, kernels_ms: None, all_ms, loads, read_bytes });
        Ok(())
    }

    fn mean(&self, of: impl Fn(&Timed) -> f64) -> f64 {
        self.frames.iter().map(of).sum::<f64>() / self.frames.len() as f64
    }
}

/// Bytes that this process had read from disks; 0 where the system does not say.
fn read_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// What came of one scheme along one or more paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    pub(crate) name: String,
    pub(crate) frame_ms: Vec<f64>,
    /// Of that, until the wanted tiles were there.
    residency_ms: Vec<f64>,
    /// Of that, kernels of a device.
    kernels_ms: Vec<f64>,
    /// Frame by frame, over ours.
    over_ours: Vec<f64>,
    /// The 99th percentile of each path.
    slow_ms: Vec<f64>,
    /// Tiles loaded a frame, of each path.
    loads: Vec<f64>,
    /// MiB read from the disk a frame, of each path.
    read_mib: Vec<f64>,
}

impl Course {
    /// Adds one path, and what it is compared with, if there is that.
    pub(crate) fn add(&mut self, path: &Path, ours: Option<&Path>) {
        self.name.clone_from(&path.name);
        let times: Vec<_> = path.frames.iter().map(|frame| frame.all_ms).collect();
        self.slow_ms.push(quantile(&times, 0.99));
        self.loads.push(path.mean(|frame| frame.loads as f64));
        self.read_mib.push(path.mean(|frame| frame.read_bytes as f64 / f64::from(1 << 20)));
        let ours = ours.map_or(&[][..], |ours| &ours.frames);
        self.over_ours.extend(path.frames.iter().zip(ours).map(|(a, b)| a.all_ms / b.all_ms));
        self.kernels_ms.extend(path.frames.iter().filter_map(|frame| frame.kernels_ms));
        self.residency_ms.extend(path.frames.iter().map(|frame| frame.residency_ms));
        self.frame_ms.extend(times);
    }

    /// Enters it: compared with ours, if it is not ours, and what was read from the disk, where that is what was asked.
    pub(crate) fn enter(
        self,
        context: &mut Context<'_>,
        settings: &[(&str, String)],
        (is_compared, from_disk): (bool, bool),
    ) {
        let name = &self.name;
        context.row(name, settings, ("frame", "ms"), self.frame_ms);
        context.row(name, settings, ("frame, 99th percentile", "ms"), self.slow_ms);
        context.row(name, settings, ("residency of a frame", "ms"), self.residency_ms);
        context.row(name, settings, ("kernels of a frame", "ms"), self.kernels_ms);
        context.row(name, settings, ("loads", "tiles a frame"), self.loads);
        if from_disk {
            context.row(name, settings, ("read from the disk", "MiB a frame"), self.read_mib);
        }
        if is_compared {
            context.row(name, settings, ("frame over ours", "times"), self.over_ours);
        }
    }
}
