//! The eight voxels around a position and values between them, against reads one by one: for tiles and pages of many shapes, of which some are resident, some hold one value and some are not there.

mod common;

use common::{Random, pool, salted};
use vastgrid::source::Procedural;
use vastgrid::{ArrayFrame, Coord, Extent, HostBackend, Scalar, SparseArray3D, TileCoord, View, Voxel};

/// An array of random voxels, a third of whose tiles hold one value, and another third of which was never asked for.
fn array<T: Voxel>(
    extent: Extent,
    tile: [u64; 3],
    seed: u64,
    make: fn(u64) -> T,
) -> SparseArray3D<T, HostBackend> {
    let kind = move |c: Coord| {
        let tile = Coord::new(c.x / tile[0], c.y / tile[1], c.z / tile[2]);
        (salted(tile, seed) % 3, tile)
    };
    let voxel = move |c: Coord| match kind(c) {
        (0, tile) => make(salted(tile, seed + 1)),
        _ => make(salted(c, seed)),
    };
    let source = Procedural::new(extent, voxel).with_uniform(move |region| {
        // Asked of tiles, and of nothing larger.
        let end = region.end()?;
        let last = Coord::new(end.x - 1, end.y - 1, end.z - 1);
        let (kind, of) = kind(region.start);
        (kind == 0 && self::tile_of(last, tile) == of).then(|| voxel(region.start))
    });
    let pool = pool(HostBackend::new(), 64 << 20, 1000);
    let array = SparseArray3D::builder(&pool, source).tile(tile).build().unwrap();
    let all = array.layout().tiles();
    let mut wanted = Vec::new();
    for (z, y, x) in (0..all.z).flat_map(|z| (0..all.y).flat_map(move |y| (0..all.x).map(move |x| (z, y, x))))
    {
        let of_hash = salted(Coord::new(x, y, z), seed) % 3 != 1
            || salted(Coord::new(x, y, z), seed + 2).is_multiple_of(4);
        // Whatever the hashes, some are missing.
        if of_hash && (x + y + z) % 5 != 4 {
            wanted.push(TileCoord::new(x, y, z));
        }
    }
    let _ = array.request(&wanted).unwrap().complete().unwrap();
    array
}

fn tile_of(c: Coord, tile: [u64; 3]) -> Coord {
    Coord::new(c.x / tile[0], c.y / tile[1], c.z / tile[2])
}

/// What eight reads give.
fn one_by_one<T: Voxel>(view: &View<'_, T>, c: Coord) -> Option<[T; 8]> {
    let _ = view.get(c)?;
    let n = view.extent();
    let mut all = [T::zeroed(); 8];
    for (k, voxel) in (0..8).zip(&mut all) {
        let next = |v: u64, k: u64, n: u64| (v + (k & 1)).min(n - 1);
        *voxel = view.get([next(c.x, k, n.x), next(c.y, k >> 1, n.y), next(c.z, k >> 2, n.z)])?;
    }
    Some(all)
}

/// Every voxel of a small array and those just outside, or as many at random of a large one.
fn positions(extent: Extent, seed: u64) -> Vec<Coord> {
    let mut all = vec![
        Coord::new(u64::MAX, 0, 0),
        Coord::new(0, u64::MAX, 0),
        Coord::new(0, 0, u64::MAX),
        Coord::new(u64::MAX, u64::MAX, u64::MAX),
        Coord::new(1 << 63, 1, 1),
    ];
    let around = Extent::new(extent.x + 2, extent.y + 2, extent.z + 2);
    if around.checked_volume().unwrap() <= 40_000 {
        for z in 0..around.z {
            for y in 0..around.y {
                all.extend((0..around.x).map(|x| Coord::new(x, y, z)));
            }
        }
    } else {
        let mut random = Random::new(seed);
        all.extend(
            (0..40_000)
                .map(|_| Coord::new(random.below(around.x), random.below(around.y), random.below(around.z))),
        );
    }
    all
}

/// Bits, so that what is no number is compared too.
fn bits<T: Voxel>(near: Option<[T; 8]>) -> Option<Vec<u8>> {
    near.map(|near| bytemuck::cast_slice(&near).to_vec())
}

fn check_corners<T: Voxel>(extent: Extent, tile: [u64; 3], seed: u64, make: fn(u64) -> T) {
    let array = array(extent, tile, seed, make);
    let view: ArrayFrame<'_, T, _> = array.frame();
    let positions = positions(extent, seed);
    let (mut there, mut missing) = (0, 0);
    let mut accessor = view.accessor();
    let mut wanted = Vec::new();
    for &c in &positions {
        let want = bits(one_by_one(&view, c));
        assert_eq!(bits(view.corners(c)), want, "{extent}, tiles of {tile:?}, seed {seed}: {c}");
        assert_eq!(bits(accessor.corners(c)), want, "{extent}, tiles of {tile:?}, seed {seed}: {c}");
        there += u32::from(want.is_some());
        missing += u32::from(want.is_none() && extent.contains(c));
        wanted.push(want);
    }
    assert!(there > 0 && missing > 0, "{extent}, tiles of {tile:?}: {there} there and {missing} missing");
    // In an order in which hardly any two lie near each other, single voxels in between.
    let mut accessor = view.accessor();
    for i in (0..positions.len()).map(|i| i * 7919 % positions.len()) {
        assert_eq!(accessor.get(positions[i]), view.get(positions[i]));
        assert_eq!(bits(accessor.corners(positions[i])), wanted[i]);
    }
    for count in [0, 1, 15, 16, 17, positions.len()] {
        let mut found = Vec::new();
        view.corners_each(positions.iter().copied().take(count), |near| found.push(bits(near)));
        assert_eq!(found, wanted[..count]);
    }
}

const EXTENTS: [Extent; 4] =
    [Extent::new(21, 19, 18), Extent::new(64, 8, 16), Extent::new(37, 29, 1), Extent::new(1, 1, 70)];

const TILES: [[u64; 3]; 7] =
    [[8, 8, 8], [4, 8, 2], [1, 4, 16], [16, 1, 1], [2, 2, 2], [32, 32, 1], [1, 1, 1]];

/// Of a type that takes any bits.
macro_rules! of_bits {
    ($($name:ident: $type:ty, $make:expr;)*) => {$(
        #[test]
        fn $name() {
            let make: fn(u64) -> $type = $make;
            for (seed, (extent, tile)) in (0..).zip(EXTENTS.into_iter().flat_map(|e| TILES.map(|t| (e, t)))) {
                let tile_count = array(extent, tile, seed, make).layout().tiles().checked_volume().unwrap();
                // Of few tiles none may be missing.
                if tile_count >= 12 {
                    check_corners(extent, tile, seed, make);
                }
            }
        }
    )*};
}

#[allow(clippy::cast_possible_truncation, clippy::cast_lossless, reason = "a hash keeps its low bits")]
mod of_type {
    use super::*;

    of_bits! {
        u8_corners: u8, |h| h as u8;
        i8_corners: i8, |h| h as i8;
        u16_corners: u16, |h| h as u16;
        i16_corners: i16, |h| h as i16;
        u32_corners: u32, |h| h as u32;
        i32_corners: i32, |h| h as i32;
        f32_corners: f32, |h| (h as i32) as f32 * 0.37;
        f64_corners: f64, |h| h.cast_signed() as f64 * 0.37;
        pairs_corners: [f64; 2], |h| [h as f64, -(h as f64)];
        bytes_corners: [u8; 64], |h| [h as u8; 64];
    }

    #[cfg(feature = "f16")]
    of_bits! { f16_corners: half::f16, |h| half::f16::from_f32(h as i16 as f32 * 0.1); }
}

#[test]
fn corners_of_tiles_in_larger_pages_and_of_axes_that_no_table_reaches() {
    let make: fn(u64) -> u16 = |h| u16::try_from(h & 0xFFFF).unwrap();
    check_corners(Extent::new(70_003, 5, 3), [32, 4, 2], 5, make);
    check_corners(Extent::new(3, 5, 70_003), [1, 4, 32], 6, make);
    // Around the last entries of the tables.
    let array = array(Extent::new(70_003, 5, 3), [32, 4, 2], 7, make);
    let view = array.frame();
    for x in (65_530..65_540).chain(69_990..70_005) {
        for (y, z) in (0..6).flat_map(|y| (0..4).map(move |z| (y, z))) {
            let c = Coord::new(x, y, z);
            assert_eq!(view.corners(c), one_by_one(&view, c), "{c}");
        }
    }
}

/// The value at a position by the definition, in double precision: a sum over eight voxels.
fn by_definition<T: Scalar>(view: &View<'_, T>, at: [f64; 3]) -> Option<f64> {
    let n = view.extent().to_array();
    if !(0..3).all(|k| at[k] >= 0.0 && at[k] <= n[k] as f64) {
        return None;
    }
    let centred: [f64; 3] = std::array::from_fn(|k| (at[k] - 0.5).clamp(0.0, n[k] as f64 - 1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "inside a small array")]
    let low = centred.map(|v| v.floor() as u64);
    let mut sum = 0.0;
    for corner in 0..8u64 {
        let mut weight = 1.0;
        let c: [u64; 3] = std::array::from_fn(|k| {
            let beyond = centred[k] - low[k] as f64;
            weight *= if corner >> k & 1 == 1 { beyond } else { 1.0 - beyond };
            (low[k] + (corner >> k & 1)).min(n[k] - 1)
        });
        sum += weight * view.get(c)?.to_f64();
    }
    Some(sum)
}

fn check_trilinear<T: Scalar>(extent: Extent, tile: [u64; 3], seed: u64, make: fn(u64) -> T) {
    let array = array(extent, tile, seed, make);
    let view = array.frame();
    let mut random = Random::new(seed);
    let mut axis = |n: u64| match random.below(8) {
        // Faces of tiles, centres, and outside.
        0 => random.below(n + 1) as f64,
        1 => random.below(n) as f64 + 0.5,
        2 => -0.01,
        3 => n as f64 + 0.01,
        _ => random.below(n << 16) as f64 / 65_536.0,
    };
    let mut positions: Vec<[f64; 3]> =
        (0..20_000).map(|_| [axis(extent.x), axis(extent.y), axis(extent.z)]).collect();
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.1] {
        positions.extend([[wrong, 0.5, 0.5], [0.5, wrong, 0.5], [0.5, 0.5, wrong]]);
    }
    let mut accessor = view.accessor();
    let mut values = Vec::new();
    for &at in &positions {
        let value = view.trilinear(at);
        match (value, by_definition(&view, at)) {
            (Some(value), Some(want)) => {
                // Single precision, of values up to 2^16.
                assert!((f64::from(value) - want).abs() <= 0.05, "{at:?}: {value}, not {want}");
            }
            (value, want) => assert_eq!(value.map(f64::from), want, "{extent}, tiles of {tile:?}: {at:?}"),
        }
        assert_eq!(accessor.trilinear(at), value);
        values.push(value);
    }
    assert!(values.iter().any(Option::is_some) && values.iter().any(Option::is_none));
    let mut found = Vec::new();
    view.trilinear_each(positions.iter().copied(), |value| found.push(value));
    assert_eq!(found, values);
    // At centres, the voxels.
    let n = extent.to_array();
    for _ in 0..1000 {
        let c = n.map(|n| random.below(n));
        let value = view.trilinear(c.map(|v| v as f64 + 0.5));
        if let (Some(value), Some(voxel)) = (value, view.get(c)) {
            assert_eq!(value, voxel.to_f32(), "{c:?}");
        }
    }
}

#[test]
#[allow(clippy::cast_possible_truncation, reason = "a hash keeps its low bits")]
fn values_between_voxels_are_interpolated_and_those_at_centres_are_the_voxels() {
    for (seed, (extent, tile)) in (0..).zip([
        (Extent::new(21, 19, 18), [8, 8, 8]),
        (Extent::new(21, 19, 18), [4, 2, 16]),
        (Extent::new(37, 29, 1), [8, 8, 1]),
        (Extent::new(1, 1, 70), [1, 1, 4]),
    ]) {
        check_trilinear::<u8>(extent, tile, seed, |h| h as u8);
        check_trilinear::<i16>(extent, tile, seed, |h| h as i16);
        check_trilinear::<u16>(extent, tile, seed, |h| h as u16);
        check_trilinear::<f32>(extent, tile, seed, |h| f32::from(h as i16) * 0.37);
        check_trilinear::<f64>(extent, tile, seed, |h| f64::from(h as i16) * 0.37);
    }
}
