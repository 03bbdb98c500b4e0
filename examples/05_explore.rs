//! Looks at a volume of 32 768 voxels a side (32 TiB), which is computed where it is looked at, through 512 MiB: a coarse picture at once, finer ones as they come, and what each says of itself.
//!
//! ```sh
//! cargo run --release --example 05_explore            # writes explore_first.png and explore_last.png
//! cargo run --release --example 05_explore -- /tmp 64 # into another folder, through a budget of 64 MiB
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vastgrid::render::{Camera, Image, Mode, Options, Orbit, Shading, TransferFunction};
use vastgrid::{Explorer, Extent, HostBackend, Pool, Pyramid3D, PyramidSource, StreamOptions};

const SIDE: u32 = 1 << 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into()));
    let mebibytes: u64 = arguments.next().map_or(Ok(512), |text| text.parse())?;

    let start = Instant::now();
    let source = PyramidSource::procedural(Extent::cube(SIDE.into()), balls)?;
    let pool = Pool::new(HostBackend::new(), mebibytes << 20)?;
    let pyramid = Pyramid3D::builder(&pool, source).tile([32, 32, 32]).track_ranges().build()?;
    let mut explorer = Explorer::new(pyramid, StreamOptions::default())?;

    let transfer = TransferFunction::new(
        &[(0.0, 0.0), (90.0, 0.0), (110.0, 0.1), (255.0, 0.5)],
        &[(90.0, [0.2, 0.4, 0.8]), (130.0, [0.9, 0.6, 0.3]), (200.0, [1.0, 1.0, 0.9])],
        64.0,
    )?;
    let middle = f64::from(SIDE) / 2.0;
    let camera = Camera::orbit(Orbit {
        target: [middle; 3],
        azimuth_degrees: 35.0,
        elevation_degrees: 25.0,
        distance: f64::from(SIDE) * 1.9,
        fov_degrees: 45.0,
    });
    let mode = Mode::Dvr { shading: Some(Shading::default()) };
    let options = Options {
        width: 400,
        height: 300,
        step_voxels: 1.0,
        mode,
        background: [0.0, 0.0, 0.0, 1.0],
        ..Options::default()
    };

    for number in 1.. {
        let picture = explorer.picture(&camera, &transfer, &options)?;
        println!("{:6.0} ms, picture {number}: {}", start.elapsed().as_secs_f64() * 1e3, picture.fidelity);
        let done = picture.fidelity.is_converged();
        if number == 1 || done {
            let name = if number == 1 { "explore_first.png" } else { "explore_last.png" };
            write(&picture.image, &folder.join(name))?;
        }
        if done {
            break;
        }
        // A viewer would show the picture meanwhile.
        explorer.wait_idle(Duration::from_millis(500));
    }
    println!("{}", pool.stats());
    Ok(())
}

/// Balls on balls, with shells in them. Cheap to compute, so that what is shown is what loading costs.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
fn balls(at: [f64; 3]) -> u8 {
    let (mut sum, mut share, mut size) = (0.0, 190.0, f64::from(SIDE) / 2.0);
    while size >= 1024.0 {
        let [x, y, z] = at.map(|v| {
            let cell = v / size;
            cell - cell.floor() - 0.5
        });
        sum += share * (1.0 - 4.4 * (x * x + y * y + z * z)).max(-0.4);
        share *= 0.4;
        size /= 4.0;
    }
    sum.clamp(0.0, 255.0) as u8
}

fn write(image: &Image, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut encoder = png::Encoder::new(
        std::io::BufWriter::new(std::fs::File::create(path)?),
        image.width(),
        image.height(),
    );
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&image.to_rgba8())?;
    println!("wrote {}", path.display());
    Ok(())
}
