//! Tiles and reservations as other libraries see them: views of `ndarray`, and tensors of `DLPack`.
#![expect(unsafe_code, reason = "reads through a tensor's address, as its consumers do")]

#[path = "common/cuda.rs"]
#[expect(dead_code, reason = "one device is all that is used")]
mod cuda;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Axis;
use vastgrid::dlpack::{DLDataType, DLDevice, DLManagedTensorVersioned};
use vastgrid::source::{Fill, Procedural};
use vastgrid::{
    Coord, Error, Extent, HostBackend, LayoutError, Pool, Region, ResidencyError, ScalarType, SparseArray3D,
    TileCoord,
};

const EXTENT: Extent = Extent::new(70, 45, 50);

fn value(c: Coord) -> f32 {
    (c.x + 100 * c.y + 10_000 * c.z) as f32
}

fn array(pool: &Pool<HostBackend>) -> SparseArray3D<f32> {
    SparseArray3D::builder(pool, Procedural::new(EXTENT, value))
        .tile([32, 16, 32])
        .writable()
        .build()
        .unwrap()
}

fn pool() -> Pool<HostBackend> {
    Pool::new(HostBackend::new(), 16 << 20).unwrap()
}

/// A position in an array that is addressed by z, y, x.
fn zyx(c: Coord) -> [usize; 3] {
    [c.z, c.y, c.x].map(|v| usize::try_from(v).unwrap())
}

fn coords(region: Region) -> impl Iterator<Item = Coord> {
    let (s, e) = (region.start, region.extent);
    (0..e.z).flat_map(move |z| {
        (0..e.y).flat_map(move |y| (0..e.x).map(move |x| Coord::new(s.x + x, s.y + y, s.z + z)))
    })
}

#[test]
fn a_view_of_ndarray_has_the_tiles_voxels_and_no_others() {
    let pool = pool();
    let array = array(&pool);
    array.request_region(Region::whole(EXTENT)).unwrap().complete().unwrap();
    let view = array.frame();
    let layout = array.layout();
    let mut seen = 0;
    for tile in layout.tiles_in(Region::whole(EXTENT)) {
        let region = layout.tile_region(tile);
        let dense = view.tile_ndarray(tile).unwrap();
        assert_eq!(dense.dim(), zyx(Coord::new(region.extent.x, region.extent.y, region.extent.z)).into());
        for c in coords(region) {
            let at = Coord::new(c.x - region.start.x, c.y - region.start.y, c.z - region.start.z);
            assert_eq!(dense[zyx(at)], value(c), "{c}");
            seen += 1;
        }
        // Their sums along y against a loop.
        let sums = dense.mapv(f64::from).sum_axis(Axis(1));
        for ((z, x), &sum) in sums.indexed_iter() {
            let voxel = |y| value(Coord::new(region.start.x + x as u64, y, region.start.z + z as u64));
            let y = region.start.y;
            assert_eq!(sum, (y..y + region.extent.y).map(|y| f64::from(voxel(y))).sum::<f64>());
        }
    }
    assert_eq!(Some(seen), EXTENT.checked_volume());
    assert!(view.tile_ndarray(TileCoord::new(3, 0, 0)).is_none(), "outside");
}

#[test]
fn what_has_no_memory_has_no_view_and_no_tensor() {
    let pool = pool();
    let tile = TileCoord::new(0, 0, 0);
    let array = SparseArray3D::builder(&pool, Fill::new(EXTENT, 3.0f32)).tile([32, 16, 32]).build().unwrap();
    assert!(array.frame().tile_ndarray(tile).is_none(), "nobody asked for it");
    array.request(&[tile]).unwrap().complete().unwrap();
    assert!(array.is_uniform(tile));
    assert!(array.frame().tile_ndarray(tile).is_none());
    let refused = array.dlpack_tile(tile).unwrap_err();
    assert!(
        matches!(refused, Error::Residency(ResidencyError::OneValue { tile: t }) if t == tile),
        "{refused}"
    );
    let refused = array.dlpack_tile(TileCoord::new(0, 3, 0)).unwrap_err();
    assert!(matches!(refused, Error::Residency(ResidencyError::OutOfBounds { .. })), "{refused}");
    assert_eq!(pool.stats().pinned_bytes, 0);
}

#[test]
fn what_is_written_through_a_view_of_ndarray_is_the_arrays() {
    let pool = pool();
    let mut array = array(&pool);
    let tile = TileCoord::new(2, 2, 1);
    let region = array.layout().tile_region(tile);
    let mut writer = array.writer().unwrap();
    let mut dense = writer.tile_ndarray(tile).unwrap();
    assert_eq!(dense.dim(), (18, 13, 6));
    dense.mapv_inplace(|v| -v);
    assert!(writer.tile_ndarray(TileCoord::new(0, 3, 0)).is_err());
    drop(writer);
    for c in coords(region) {
        assert_eq!(array.get(c).unwrap(), -value(c));
    }
    assert_eq!(array.get([63, 32, 32]).unwrap(), value(Coord::new(63, 32, 32)), "its neighbour's");
}

/// Reads an element as a consumer does: by what the struct says alone.
///
/// # Safety
/// `tensor` is alive, and the element has memory.
unsafe fn element(tensor: *const DLManagedTensorVersioned, at: &[u64]) -> f32 {
    // SAFETY: the caller's promise.
    let tensor = unsafe { &*tensor }.dl_tensor;
    assert_eq!(at.len(), usize::try_from(tensor.ndim).unwrap());
    // SAFETY: there are as many numbers as axes.
    let shape = unsafe { std::slice::from_raw_parts(tensor.shape, at.len()) };
    // SAFETY: as above.
    let strides = unsafe { std::slice::from_raw_parts(tensor.strides, at.len()) };
    let mut elements = 0;
    for ((&at, &shape), &stride) in at.iter().zip(shape).zip(strides) {
        let at = i64::try_from(at).unwrap();
        assert!(at < shape);
        elements += at * stride;
    }
    let offset_bytes = usize::try_from(tensor.byte_offset).unwrap();
    let first = tensor.data.cast::<f32>().wrapping_byte_add(offset_bytes);
    // SAFETY: the caller's promise.
    unsafe { first.wrapping_offset(isize::try_from(elements).unwrap()).read() }
}

#[test]
fn a_tiles_tensor_is_read_in_place_and_keeps_it_until_it_is_deleted() {
    let pool = pool();
    let array = array(&pool);
    for tile in [TileCoord::new(1, 1, 0), TileCoord::new(2, 2, 1)] {
        let region = array.layout().tile_region(tile);
        let raw = array.dlpack_tile(tile).unwrap().into_raw().as_ptr();
        // SAFETY: it is alive.
        let managed = unsafe { *raw };
        assert_eq!((managed.version.major, managed.flags), (1, DLManagedTensorVersioned::READ_ONLY));
        assert_eq!(managed.dl_tensor.device, DLDevice { device_type: DLDevice::CPU, device_id: 0 });
        assert_eq!(managed.dl_tensor.dtype, DLDataType { code: DLDataType::FLOAT, bits: 32, lanes: 1 });
        // Everything else goes, and comes back; this tile stays.
        assert_eq!(array.evict(region).unwrap(), 0);
        let view = array.frame();
        for c in coords(region) {
            let at = [c.z - region.start.z, c.y - region.start.y, c.x - region.start.x];
            // SAFETY: it is alive, and the tile is pinned.
            assert_eq!(Some(unsafe { element(raw, &at) }), view.get(c), "{c}");
        }
        drop(view);
        assert_eq!(pool.stats().pinned_bytes, array.layout().page_bytes());
        // SAFETY: once.
        unsafe { managed.deleter.unwrap()(raw) };
        assert_eq!(pool.stats().pinned_bytes, 0);
        assert_eq!(array.evict(region).unwrap(), 1);
    }
}

#[test]
fn a_tensor_outlives_its_array_and_is_deleted_on_any_thread() {
    /// A source that says when it goes: with its array.
    struct Noted(Arc<AtomicBool>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let pool = pool();
    let gone = Arc::new(AtomicBool::new(false));
    let noted = Noted(Arc::clone(&gone));
    let source = Procedural::new(EXTENT, move |c: Coord| {
        let _ = &noted;
        value(c)
    });
    let array = SparseArray3D::builder(&pool, source).tile([32, 16, 32]).build().unwrap();
    let tensor = array.dlpack_tile(TileCoord::new(1, 0, 0)).unwrap();
    let whole = array.dlpack_reservation().unwrap();
    drop(array);
    assert!(!gone.load(Ordering::SeqCst));
    // SAFETY: it is alive, and the tile is pinned.
    assert_eq!(unsafe { element(tensor.as_raw().as_ptr(), &[3, 2, 1]) }, value(Coord::new(33, 2, 3)));
    std::thread::spawn(move || drop(tensor)).join().unwrap();
    assert_eq!(pool.stats().pinned_bytes, 0);
    assert!(!gone.load(Ordering::SeqCst), "the reservation is still shown");
    drop(whole);
    assert!(gone.load(Ordering::SeqCst));
    assert_eq!(pool.stats().used_bytes, 0);
}

#[test]
fn a_reservations_tensor_has_every_voxel_at_its_place() {
    let pool = pool();
    // Page shapes in tiles, of an array of 3 x 3 x 2 tiles: whether that has strides.
    for (page, even) in [
        ([1, 1, 1], true),
        ([2, 1, 1], true),
        ([1, 2, 1], false),
        ([4, 2, 1], true),
        ([4, 4, 2], true),
        ([1, 1, 2], true),
        ([2, 2, 1], false),
        ([2, 2, 2], false),
    ] {
        let source = Procedural::new(EXTENT, value);
        let array = SparseArray3D::builder(&pool, source).tile([32, 16, 32]).page(page).build().unwrap();
        let layout = array.layout();
        let whole = match array.dlpack_reservation() {
            Ok(whole) => whole,
            Err(Error::Layout(LayoutError::NoStrides { page: named, .. })) => {
                assert!(!even, "{page:?}");
                assert_eq!(named, layout.page_shape());
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        assert!(even, "{page:?}");
        assert_eq!(whole.shape(), [2, 3, 3, 32, 16, 32]);
        assert_eq!(whole.address(), array.base_address());
        let pins = array.pin_region(Region::whole(EXTENT)).unwrap().complete().unwrap();
        let strides = whole.strides().to_vec();
        // SAFETY: every tile is pinned for as long as the tensor is read.
        let tensor = unsafe { whole.into_tensor() };
        let tile = layout.tile_shape();
        for c in coords(Region::whole(EXTENT)) {
            let at = [c.z / tile.z, c.y / tile.y, c.x / tile.x, c.z % tile.z, c.y % tile.y, c.x % tile.x];
            let elements: i64 = at.iter().zip(&strides).map(|(&at, &s)| i64::try_from(at).unwrap() * s).sum();
            assert_eq!(layout.voxel_offset_bytes(c), u64::try_from(4 * elements).ok(), "{c}, page {page:?}");
            // SAFETY: it is alive, and the tile is pinned.
            assert_eq!(unsafe { element(tensor.as_raw().as_ptr(), &at) }, value(c));
        }
        drop(tensor);
        drop(pins);
    }
}

#[test]
fn tensors_of_a_device_say_so_and_keep_their_tile() {
    let Some(backend) = cuda::backend_or_skip() else { return };
    let pool = Pool::new(backend, 64 << 20).unwrap();
    let source = Procedural::new(EXTENT, value);
    let array = SparseArray3D::builder(&pool, source).tile([32, 16, 32]).build().unwrap();
    let tile = TileCoord::new(1, 2, 1);
    let layout = array.layout();
    let tensor = array.dlpack_tile(tile).unwrap();
    assert_eq!(tensor.device(), DLDevice { device_type: DLDevice::CUDA, device_id: 0 });
    assert_eq!(
        tensor.address(),
        array.base_address() + layout.tile_offset_bytes(layout.tile_id(tile).unwrap())
    );
    assert_eq!((tensor.shape(), tensor.strides()), (&[18, 13, 32][..], &[512, 32, 1][..]));
    assert_eq!(pool.stats().pinned_bytes, layout.page_bytes());
    drop(tensor);
    assert_eq!(pool.stats().pinned_bytes, 0);
}

#[test]
fn every_scalar_has_its_code() {
    for scalar in ["u8", "i8", "u16", "i16", "u32", "i32", "f16", "f32", "f64"] {
        let of = DLDataType::of(ScalarType::from_name(scalar).unwrap());
        let letter = ["i", "u", "f"][usize::from(of.code)];
        assert_eq!(format!("{letter}{}", of.bits), scalar);
        assert_eq!(of.lanes, 1);
    }
}
