//! Pictures of a real volume through an array: the same whatever the budget.
#![cfg(feature = "render")]

use vastgrid::render::{
    Camera, DenseVolume, Image, Mode, Options, Preset, RenderError, Shading, TransferFunction, render,
    render_exact,
};
use vastgrid::source::Nrrd;
use vastgrid::{Error, HostBackend, Pool, Region, ResidencyError, SparseArray3D};

/// The stent CT in 32^3 tiles of 64 KiB, each its own page.
fn stent(budget_bytes: u64) -> (Pool<HostBackend>, SparseArray3D<i16>) {
    let pool = Pool::new(HostBackend::new(), budget_bytes).unwrap();
    let source = Nrrd::open("assets/stent.nrrd").unwrap().into_source::<i16>().unwrap();
    let array = SparseArray3D::builder(&pool, source).tile([32, 32, 32]).track_ranges().build().unwrap();
    (pool, array)
}

fn camera(array: &SparseArray3D<i16>) -> Camera {
    Camera::fit(array.extent(), [1.0; 3]).elevation(-80.0).azimuth(33.0)
}

fn transfer() -> TransferFunction {
    Preset::CtAngio.transfer_function((0.0, 2000.0)).unwrap()
}

fn options(mode: Mode) -> Options {
    Options { width: 96, height: 96, mode, ..Options::default() }
}

fn modes() -> [Mode; 4] {
    let shading = Shading::default();
    [
        Mode::Dvr { shading: None },
        Mode::Dvr { shading: Some(shading) },
        Mode::Mip,
        Mode::Iso { value: 700.0, colour: [0.9, 0.8, 0.7], shading },
    ]
}

fn exact(budget_bytes: u64, mode: Mode) -> (Image, u64) {
    let (pool, array) = stent(budget_bytes);
    let picture = render_exact(&array, &camera(&array), &transfer(), &options(mode), &mut |_| {
        assert!(pool.stats().used_bytes <= budget_bytes);
    });
    (picture.unwrap(), pool.stats().loads)
}

#[test]
fn the_exact_picture_is_the_same_under_any_budget() {
    for mode in modes() {
        let (whole, loads) = exact(64 << 20, mode);
        assert!(loads <= 128, "every tile once: {loads}");
        for budget in [1 << 20, 4 << 20] {
            let (picture, _) = exact(budget, mode);
            assert!(picture.pixels() == whole.pixels(), "{mode:?} under {budget} bytes");
        }
        assert!(whole.pixels().iter().any(|p| p[..3].iter().any(|c| *c > 0.1)), "{mode:?} shows something");
    }
}

#[test]
fn arrays_and_dense_memory_give_the_same_picture() {
    let (_pool, array) = stent(64 << 20);
    let voxels = array.to_vec(Region::whole(array.extent())).unwrap();
    let dense = DenseVolume::new(&voxels, array.extent()).unwrap();
    for mode in modes() {
        let (camera, transfer, options) = (camera(&array), transfer(), options(mode));
        let bricked = render(&*array.frame(), &camera, &transfer, &options).unwrap();
        assert!(bricked.report.wanted.is_empty());
        let flat = render(&dense, &camera, &transfer, &options).unwrap();
        assert!(bricked.image.pixels() == flat.image.pixels(), "{mode:?}");
    }
}

#[test]
fn what_is_missing_is_reported_and_a_budget_below_one_sample_refused() {
    let (pool, array) = stent(4 << 20);
    let shown = render(&*array.frame(), &camera(&array), &transfer(), &options(Mode::Mip)).unwrap();
    assert!(!shown.report.wanted.is_empty());
    let _pins = array.pin_region(Region::whole(vastgrid::Extent::new(128, 128, 96))).unwrap();
    pool.set_budget(49 * (64 << 10)).unwrap();
    let mode = Mode::Dvr { shading: Some(Shading::default()) };
    let refused =
        render_exact(&array, &camera(&array), &transfer(), &options(mode), &mut |_| {}).unwrap_err();
    let RenderError::Array(error) = refused else { panic!("{refused}") };
    assert!(matches!(*error, Error::Residency(ResidencyError::NothingToEvict { .. })), "{error}");
}
