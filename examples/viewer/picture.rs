//! Owns `--png`: one picture without a browser, through whatever budget there is.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use vastgrid::render::{Image, render_exact};
use vastgrid::{Extent, HostBackend, Pool, Scalar, SparseArray3D, Stats};

use crate::args::Args;
use crate::scene::Scene;
use crate::view::View;
use crate::volume::{Bar, Volume};
use crate::{Failure, encode};

/// A picture and what it took.
pub(crate) struct Made {
    image: Image,
    stats: Stats,
    peak_bytes: u64,
    /// How true it is, unless nothing is missing.
    says: Option<String>,
}

/// Makes a picture into `path`, and prints what it took.
pub(crate) fn write(path: &Path, make: impl FnOnce() -> Result<Made, Failure>) -> Result<(), Failure> {
    let named = |error| format!("writing {}: {error}", path.display());
    // Before anything is rendered, lest an hour's work find no place. What is there now stays until the picture is done.
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(named)?;
    let begun = Instant::now();
    let made = match make() {
        Ok(made) => made,
        Err(error) => {
            if is_new {
                // The render's error is the one to tell.
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let Made { image, stats, peak_bytes, says } = made;
    let bytes = encode::png(&image, png::Compression::High)?;
    file.set_len(0).and_then(|()| file.write_all(&bytes)).map_err(named)?;
    // Not `println!`, which panics where nobody listens.
    writeln!(
        std::io::stdout(),
        "{}: {} x {} pixels in {seconds:.2} s\n{} tiles loaded, {} pages evicted\nat most {peak_bytes} bytes of the budget of {} used{}",
        path.display(),
        image.width(),
        image.height(),
        stats.loads,
        stats.evictions,
        stats.budget_bytes,
        says.map(|says| format!("\n{says}")).unwrap_or_default(),
    )
    .map_err(|error| format!("writing to standard output: {error}").into())
}

/// The view that the arguments describe.
fn view(args: &Args) -> Result<View, Failure> {
    let (width, height) = args.size;
    let view = View {
        azimuth: args.azimuth,
        elevation: args.elevation,
        zoom: args.zoom,
        ortho: args.ortho,
        mode: args.mode,
        iso: args.iso,
        preset: args.preset.clone(),
        window: args.window,
        level: args.level,
        step: args.step,
        ..View::default()
    };
    Ok(View { width, height, ..view.checked()? })
}

/// The picture in which nothing is missing.
pub(crate) fn exact<T: Scalar>(volume: Volume<T>, args: &Args) -> Result<Made, Failure> {
    let Volume { source, facts, about } = volume;
    let pool = Pool::new(HostBackend::new(), about.budget_bytes)?;
    let builder = SparseArray3D::builder(&pool, source).tile(Extent::cube(args.tile())).track_ranges();
    let array = match args.page_bytes {
        Some(bytes) => builder.page_bytes(bytes).build()?,
        None => builder.build()?,
    };
    let view = view(args)?;
    let (mut peak_bytes, mut bar) = (0, Bar::new("rendering"));
    let rays = u64::from(view.width) * u64::from(view.height);
    let image = render_exact(
        &array,
        &view.camera(&facts),
        &view.transfer(&facts)?,
        &view.options(&facts, 1),
        &mut |progress| {
            peak_bytes = peak_bytes.max(pool.stats().used_bytes);
            bar.show(rays.saturating_sub(progress.rays_left), rays);
        },
    )?;
    Ok(Made { image, stats: pool.stats(), peak_bytes, says: None })
}

/// The picture that is as fine as its pixels and the budget allow, or tile by tile where it can be made so.
pub(crate) fn explored<T: Scalar>(scene: &Scene<T>, args: &Args) -> Result<Made, Failure> {
    let (view, mut eye) = (view(args)?, scene.eye()?);
    let (mut peak_bytes, mut bar) = (0, Bar::new("rendering"));
    loop {
        let Some(look) = eye.look(&view, 1, &AtomicBool::new(false))? else { continue };
        peak_bytes = peak_bytes.max(eye.stats().used_bytes);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
        bar.show((look.quality.share * 1e3) as u64, 1000);
        if look.quality.converged {
            let more = eye.finishes() && !look.quality.exact;
            let finished = if more { eye.finish(&view, &mut |_| true)? } else { None };
            let look = finished.unwrap_or(look);
            return Ok(Made {
                image: look.image,
                stats: eye.stats(),
                peak_bytes,
                says: Some(look.quality.text),
            });
        }
        let waits = Instant::now();
        while eye.is_loading() && waits.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
