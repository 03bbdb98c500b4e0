//! How long does a frame of the stent take, against VTK's CPU ray caster and against our own over a dense array?
//!
//! 512 x 512 pixels, half-voxel steps, the same transfer function, camera and 2 threads as the peer's program; ten views nine degrees apart. The array is all resident, in
//! 32^3 tiles of 64 KiB. `VTK_BENCH=command` (with the volume as its argument, `shade` is appended) runs VTK before and after.

mod common;

use std::process::Command;
use std::time::Instant;

use common::{median, paired, variable};
use criterion::Criterion;
use vastgrid::render::{
    Camera, DenseVolume, Mode, Options, Shading, SkipCache, TransferFunction, Volume, render_with,
};
use vastgrid::source::Nrrd;
use vastgrid::{HostBackend, Pool, Region, SparseArray3D};

/// The points of the peer's program.
fn transfer() -> TransferFunction {
    let opacity = [(0.0, 0.0), (200.0, 0.0), (400.0, 0.15), (700.0, 0.4), (1200.0, 0.9), (2000.0, 1.0)];
    let colour = [
        (0.0, [0.0, 0.0, 0.0]),
        (400.0, [0.8, 0.3, 0.2]),
        (800.0, [1.0, 0.8, 0.6]),
        (2000.0, [1.0, 1.0, 1.0]),
    ];
    TransferFunction::new(&opacity, &colour, 1.0).unwrap()
}

/// The ten views, one frame each.
struct Views<'a, V> {
    volume: &'a V,
    cameras: Vec<Camera>,
    transfer: TransferFunction,
    options: Options,
    cache: SkipCache,
}

impl<'a, V: Volume<i16>> Views<'a, V> {
    fn new(volume: &'a V, shading: Option<Shading>) -> Self {
        let first = Camera::fit(volume.extent(), [1.0; 3]).elevation(-80.0);
        let cameras = (1..=10).map(|view| first.azimuth(9.0 * f64::from(view))).collect();
        let options = Options { mode: Mode::Dvr { shading }, ..Options::default() };
        Self { volume, cameras, transfer: transfer(), options, cache: SkipCache::new() }
    }

    /// Renders all, and returns how much they show.
    fn frames(&mut self) -> f64 {
        let mut shown = 0.0;
        for camera in &self.cameras {
            let frame =
                render_with(self.volume, camera, &self.transfer, &self.options, &mut self.cache).unwrap();
            assert!(frame.report.wanted.is_empty());
            shown += frame.image.pixels().iter().map(|p| f64::from(p[3])).sum::<f64>();
        }
        shown
    }

    /// Milliseconds of the median frame.
    fn frame_ms(&mut self) -> f64 {
        let times = self.cameras.clone().into_iter().map(|camera| {
            let start = Instant::now();
            let frame = render_with(self.volume, &camera, &self.transfer, &self.options, &mut self.cache);
            std::hint::black_box(frame.unwrap());
            start.elapsed().as_secs_f64() * 1e3
        });
        median(&mut times.collect::<Vec<_>>())
    }
}

/// VTK's median frame in milliseconds.
fn vtk(command: &str, shade: bool) -> f64 {
    let mut words = command.split_whitespace();
    let mut run = Command::new(words.next().unwrap());
    run.args(words).args(shade.then_some("shade"));
    let out = run.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let at = text.find("median ").map(|i| &text[i + 7..]).unwrap_or_default();
    at.split_whitespace().next().and_then(|ms| ms.parse().ok()).unwrap_or(f64::NAN)
}

fn main() {
    let pool = Pool::new(HostBackend::new(), 16 << 20).unwrap();
    let source = Nrrd::open("assets/stent.nrrd").unwrap().into_source::<i16>().unwrap();
    let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).track_ranges().build().unwrap();
    let whole = Region::whole(array.extent());
    let voxels = array.to_vec(whole).unwrap();
    let dense = DenseVolume::new(&voxels, array.extent()).unwrap();
    let frame = array.frame();
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();

    for (name, shading) in [("unshaded", None), ("shaded", Some(Shading::default()))] {
        let mut ours = Views::new(&*frame, shading);
        let mut flat = Views::new(&dense, shading);
        paired(&format!("ten frames over tiles, {name}"), 10.0, 7, 1.15, || ours.frames(), || flat.frames());
        if let Some(command) = variable("VTK_BENCH") {
            let (mut theirs, mut mine) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                theirs.push(vtk(&command, shading.is_some()));
                mine.push(ours.frame_ms());
            }
            let (theirs, mine) = (median(&mut theirs), median(&mut mine));
            println!(
                "frame, {name}: VTK {theirs:.1} ms, ours {mine:.1} ms, ratio {:.3} (target 0.50)",
                mine / theirs
            );
        } else {
            println!("frame, {name}: set VTK_BENCH to measure VTK in the same run");
        }
    }

    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut views = Views::new(&*frame, None);
    criterion.bench_function("raycast/ten frames, unshaded", |b| b.iter(|| views.frames()));
    criterion.final_summary();
}
