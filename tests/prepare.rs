//! Tiles that get memory ahead of those who write them, and that give it back when they hold one value: random programs on every backend that a machine has, and what a user may rely on.

#![expect(clippy::cast_possible_truncation, reason = "hashes keep their low bits")]

mod common;
mod prepare_support;

use std::time::Duration;

use common::t;
use prepare_support::{Array, Base, FILL, Hand, Ink, Program, seed};
use vastgrid::backend::{Checked, HostConfig, HostMoves, ModelConfig};
use vastgrid::source::{Fill, Instrumented, Procedural};
use vastgrid::{
    Backend, Coord, Error, Extent, HostAddressable, HostBackend, ModelBackend, Pool, PoolConfig, Region,
    ResidencyError, SparseArray3D, TileCoord,
};

/// What a tile of 16^3 takes, and a page.
const PAGE: u64 = 16 << 10;

/// Writes on the host.
struct OnHost;

impl<B: HostAddressable> Hand<B> for OnHost {
    const WRITES: bool = true;

    fn write(&mut self, array: &mut Array<B>, tiles: &[TileCoord], ink: Ink) -> Result<(), Error> {
        let mut writer = array.writer()?;
        for &tile in tiles {
            let region = writer.array().layout().tile_region(tile);
            writer.write_region(region, &common::expected_by(region, |at| ink.at(at)))?;
        }
        Ok(())
    }
}

/// Writes nothing: what there is to be seen is what is prepared.
struct Nobody;

impl<B: Backend> Hand<B> for Nobody {
    const WRITES: bool = false;

    fn write(&mut self, _: &mut Array<B>, _: &[TileCoord], _: Ink) -> Result<(), Error> {
        Ok(())
    }
}

fn programs<B: Backend, H: Hand<B>>(name: &str, make: impl Fn() -> B, hand: impl Fn() -> H) {
    let seed = seed(name);
    for round in 0..6 {
        let page = 4096 << (round % 3);
        let config = PoolConfig {
            budget_bytes: 12 * page,
            threads: 3,
            patience: Duration::from_secs(2),
            ..PoolConfig::default()
        };
        let pool = Pool::with_config(make(), config).unwrap();
        let base = Base { extent: Extent::new(70, 61, 50), tile: Extent::new(16, 8, 8) };
        Program::new(pool, base, hand(), page, 40, seed.wrapping_add(round)).run(300);
    }
}

#[test]
fn random_programs_on_the_host_agree_with_a_map() {
    programs("host", HostBackend::new, || OnHost);
}

#[test]
fn random_programs_however_memory_comes_agree_with_a_map() {
    for moves in [HostMoves::Mappings, HostMoves::Nothing] {
        let config = HostConfig { moves, ..HostConfig::default() };
        programs(&format!("{moves:?}"), || HostBackend::with_config(config), || OnHost);
    }
}

#[test]
fn random_programs_by_the_rules_agree_with_a_map() {
    programs("checked", || Checked::new(HostBackend::new()), || OnHost);
}

#[test]
fn random_programs_on_a_backend_that_copies_by_itself_agree_with_a_map() {
    let config =
        ModelConfig { asynchronous: true, remembers: true, batch_bytes: 16 << 10, ..ModelConfig::default() };
    programs("asynchronous", || ModelBackend::new(config), || Nobody);
    programs("asynchronous, checked", || Checked::new(ModelBackend::new(config)), || Nobody);
}

fn writable(budget: u64) -> (Pool<HostBackend>, SparseArray3D<u32>) {
    let pool = Pool::new(HostBackend::new(), budget).unwrap();
    let fill = Fill::new(Extent::cube(1 << 10), FILL);
    let array =
        SparseArray3D::builder(&pool, fill).tile([16; 3]).page_bytes(PAGE).writable().build().unwrap();
    (pool, array)
}

#[test]
fn misuse_is_named() {
    let (pool, mut array) = writable(4 * PAGE);
    let tiles: Vec<_> = (0..5).map(|x| t(x, 0, 0)).collect();
    for error in [array.prepare_write(&tiles).unwrap_err(), array.prepare_overwrite(&tiles).unwrap_err()] {
        assert!(matches!(error, Error::Residency(ResidencyError::OverBudget { .. })), "{error}");
    }
    let held = array.prepare_write(&tiles[..3]).unwrap();
    assert_eq!((held.bytes(), pool.stats().pinned_bytes), (3 * PAGE, 3 * PAGE));
    for error in
        [array.prepare_write(&tiles[3..]).unwrap_err(), array.prepare_overwrite(&tiles[3..]).unwrap_err()]
    {
        assert!(matches!(error, Error::Residency(ResidencyError::NothingToEvict { .. })), "{error}");
    }
    drop(held);
    let outside = [t(64, 0, 0)];
    for error in [
        array.prepare_write(&outside).unwrap_err(),
        array.prepare_overwrite(&outside).unwrap_err(),
        array.prune(&outside).unwrap_err(),
        array.reset(&outside).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Residency(ResidencyError::OutOfBounds { .. })), "{error}");
    }
    let (source, _) = common::volume(Extent::cube(64));
    let mut read_only = SparseArray3D::builder(&pool, source).tile([16; 3]).page_bytes(PAGE).build().unwrap();
    let one = [t(0, 0, 0)];
    for error in [
        read_only.prepare_write(&one).unwrap_err(),
        read_only.prepare_overwrite(&one).unwrap_err(),
        read_only.prune(&one).unwrap_err(),
        read_only.reset(&one).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Residency(ResidencyError::ReadOnly)), "{error}");
    }
}

#[test]
fn a_tile_that_cannot_be_loaded_is_named_and_nothing_is_pinned() {
    let pool = Pool::new(HostBackend::new(), 1 << 20).unwrap();
    let source = Instrumented::new(Procedural::new(Extent::cube(64), |at: Coord| at.x as u32));
    let watch = source.instruments();
    let mut array = SparseArray3D::builder(&pool, source).tile([16; 3]).writable().build().unwrap();
    watch.fail_region(Region::new(Coord::new(16, 0, 0), Extent::cube(1)));
    let tiles = [t(0, 0, 0), t(1, 0, 0)];
    let error = array.prepare_write(&tiles).unwrap_err();
    assert!(matches!(error, Error::Tile { tile, .. } if tile == tiles[1]), "{error}");
    assert_eq!(pool.stats().pinned_bytes, 0);
    // What is overwritten is not asked for.
    let pins = array.prepare_overwrite(&tiles).unwrap();
    assert_eq!(array.to_vec(array.layout().tile_region(tiles[1])).unwrap(), vec![0; 4096]);
    drop(pins);
}

#[test]
fn memory_that_is_given_up_is_there_for_others() {
    let (pool, mut array) = writable(4 * PAGE);
    let tiles: Vec<_> = (0..4).map(|x| t(x, 0, 0)).collect();
    for round in 0..10u32 {
        let first = 4 * u64::from(round);
        let some: Vec<_> = tiles.iter().map(|tile| t(tile.x + first, 0, 0)).collect();
        let pins = array.prepare_overwrite(&some).unwrap();
        assert_eq!(pool.stats().used_bytes, 4 * PAGE);
        drop(pins);
        assert_eq!(array.prune(&some).unwrap(), some);
        assert!(array.resident_tiles().is_empty() && array.written_tiles().is_empty());
        array.writer().unwrap().set([16 * first, 0, 0], 100 + round).unwrap();
        assert_eq!(array.written_tiles(), some[..1]);
        assert!(array.prune(&some).unwrap() == some[1..] && array.resident_tiles() == some[..1]);
        array.reset(&some).unwrap();
        assert_eq!((array.written_tiles().len(), pool.stats().written_back), (0, 0));
    }
}

#[test]
fn a_value_that_changes_is_kept_and_read_back() {
    let (_pool, mut array) = writable(4 * PAGE);
    let tile = t(5, 6, 7);
    let region = array.layout().tile_region(tile);
    for value in [9u32, FILL, 1 << 20, 9] {
        let mut writer = array.writer().unwrap();
        writer.tile(tile).unwrap().fill(value);
        drop(writer);
        assert_eq!(array.prune(&[tile]).unwrap(), [tile]);
        assert_eq!(array.to_vec(region).unwrap(), vec![value; 4096]);
        assert_eq!(array.written_tiles().len(), usize::from(value != FILL));
        let pins = array.prepare_write(&[tile]).unwrap();
        assert!(array.is_resident(tile));
        assert_eq!(array.to_vec(region).unwrap(), vec![value; 4096]);
        drop(pins);
    }
}
