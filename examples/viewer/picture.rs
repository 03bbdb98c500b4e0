//! Owns `--png`: one picture in which nothing is missing, through whatever budget there is.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use vastgrid::Scalar;
use vastgrid::render::{Image, render_exact};

use crate::args::Args;
use crate::view::View;
use crate::volume::{Bar, Scene};
use crate::{Failure, encode};

/// Renders the view that the arguments describe into `path`, and prints what it took.
pub(crate) fn write<T: Scalar>(scene: &Scene<T>, args: &Args, path: &Path) -> Result<(), Failure> {
    let named = |error| format!("writing {}: {error}", path.display());
    // Before anything is rendered, lest an hour's work find no place. What is there now stays until the picture is done.
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(named)?;
    let begun = Instant::now();
    let (image, peak_bytes) = match render(scene, args) {
        Ok(rendered) => rendered,
        Err(error) => {
            if is_new {
                // The render's error is the one to tell.
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = encode::png(&image, png::Compression::High)?;
    file.set_len(0).and_then(|()| file.write_all(&bytes)).map_err(named)?;
    let stats = scene.pool.stats();
    // Not `println!`, which panics where nobody listens.
    writeln!(
        std::io::stdout(),
        "{}: {} x {} pixels in {seconds:.2} s\n{} tiles loaded, {} pages evicted\nat most {peak_bytes} bytes of the budget of {} used",
        path.display(),
        image.width(),
        image.height(),
        stats.loads,
        stats.evictions,
        stats.budget_bytes,
    )
    .map_err(|error| format!("writing to standard output: {error}").into())
}

fn render<T: Scalar>(scene: &Scene<T>, args: &Args) -> Result<(Image, u64), Failure> {
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
    let view = View { width, height, ..view.checked()? };
    let facts = &scene.facts;
    let (mut peak_bytes, mut bar) = (0, Bar::new("rendering"));
    let rays = u64::from(width) * u64::from(height);
    let image = render_exact(
        &scene.array,
        &view.camera(facts),
        &view.transfer(facts)?,
        &view.options(facts, 1),
        &mut |progress| {
            peak_bytes = peak_bytes.max(scene.pool.stats().used_bytes);
            bar.show(rays.saturating_sub(progress.rays_left), rays);
        },
    )?;
    Ok((image, peak_bytes))
}
