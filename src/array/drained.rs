//! Tests of frames that readers elsewhere draw out, seen from an array: what stays, what goes, and who waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::backend::ModelBackend;
use crate::engine::{FrameEnd, OpenFrame};
use crate::error::{BackendError, Error, ResidencyError};
use crate::geometry::{Coord, Extent};
use crate::layout::{TileCoord, TileId};
use crate::pool::{Pool, PoolConfig};
use crate::source::Procedural;

use super::SparseArray3D;

type Array = SparseArray3D<u8, ModelBackend>;

/// Readers that are done, or fail, when a test says so.
#[derive(Clone, Debug, Default)]
struct Readers {
    done: Arc<AtomicBool>,
    fails: Arc<Mutex<Option<BackendError>>>,
    wrote: Vec<(u32, Vec<TileId>)>,
}

impl FrameEnd for Readers {
    fn is_over(&mut self) -> Result<bool, BackendError> {
        match self.fails.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(self.done.load(Ordering::Relaxed)),
        }
    }

    fn written(&mut self) -> Vec<(u32, Vec<TileId>)> {
        std::mem::take(&mut self.wrote)
    }
}

/// Eight tiles of a page each, in a pool of so many pages.
fn world(pages: u64) -> (Pool<ModelBackend>, Array) {
    let config = PoolConfig {
        budget_bytes: pages * 4096,
        threads: 1,
        patience: Duration::from_secs(2),
        ..PoolConfig::default()
    };
    let pool = Pool::with_config(ModelBackend::default(), config).unwrap();
    let source = Procedural::new(Extent::cube(32), |c: Coord| u8::try_from(c.x + c.y + c.z).unwrap());
    let array = SparseArray3D::builder(&pool, source).tile([16, 16, 16]).writable().build().unwrap();
    (pool, array)
}

fn tile(i: u64) -> TileCoord {
    TileCoord::new(i & 1, i >> 1 & 1, i >> 2)
}

fn request(array: &Array, i: u64) -> Result<(), Error> {
    array.request(&[tile(i)]).map(|report| {
        let _ = report.complete().unwrap();
    })
}

fn end(pool: &Pool<ModelBackend>, readers: &Readers) {
    OpenFrame::new(pool.engine()).end_with(Box::new(readers.clone()));
}

#[test]
fn memory_stays_until_readers_elsewhere_are_done() {
    let (pool, array) = world(1);
    request(&array, 0).unwrap();
    let readers = Readers::default();
    end(&pool, &readers);
    assert_eq!(pool.stats().open_frames, 1);
    let error = request(&array, 1).unwrap_err();
    assert!(matches!(error, Error::Residency(ResidencyError::FramesOpen { own: false, .. })), "{error}");
    assert!(array.is_resident(tile(0)), "visible again");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| request(&array, 1));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!array.is_resident(tile(1)) && !asking.is_finished());
        readers.done.store(true, Ordering::Relaxed);
        asking.join().unwrap().unwrap();
    });
    assert!(array.is_resident(tile(1)) && !array.is_resident(tile(0)));
    assert_eq!(pool.stats().open_frames, 0);
}

#[test]
fn a_victim_that_was_written_to_meanwhile_is_written_back() {
    let (pool, array) = world(2);
    let shared = array.shared();
    let id = shared.layout.tile_id(tile(0)).unwrap();
    request(&array, 0).unwrap();
    request(&array, 1).unwrap();
    let readers = Readers { wrote: vec![(shared.id, vec![id])], ..Readers::default() };
    end(&pool, &readers);
    // Tile 0 is the one to go, and hidden, when what was written becomes known.
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| request(&array, 2));
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(pool.stats().written_back, 0, "it may be written to still");
        readers.done.store(true, Ordering::Relaxed);
        asking.join().unwrap().unwrap();
    });
    assert!(!array.is_resident(tile(0)) && array.is_resident(tile(2)) && array.is_resident(tile(1)));
    assert_eq!((pool.stats().dirty_tiles, pool.stats().written_back), (0, 1));
    assert_eq!(array.written_tiles(), [tile(0)]);
    pool.set_budget(4096).unwrap();
    assert_eq!(array.to_vec(array.layout().tile_region(tile(0))).unwrap()[5], 5, "as it was in memory");
    array.discard_written(&[tile(0)]).unwrap();
    assert_eq!(array.written_tiles(), []);
}

#[test]
fn a_shortage_is_asked_again_and_a_lost_device_poisons_every_array() {
    let (pool, array) = world(2);
    request(&array, 0).unwrap();
    let readers = Readers::default();
    end(&pool, &readers);
    *readers.fails.lock().unwrap() = Some(BackendError::OutOfMemory { call: "look", bytes: 1 });
    assert_eq!(pool.stats().open_frames, 1, "nobody knows yet");
    request(&array, 0).unwrap();
    let lost = || BackendError::DeviceLost { call: "wait", code: 700, name: "ILLEGAL".into() };
    *readers.fails.lock().unwrap() = Some(lost());
    assert_eq!(pool.stats().open_frames, 0);
    let error = request(&array, 0).unwrap_err();
    let Error::Residency(ResidencyError::Poisoned { cause }) = &error else { panic!("{error}") };
    assert_eq!(*cause, lost().to_string());
    drop(array);
    drop(pool);
}

/// Says that the readers are done, a while from now.
fn done_late(readers: &Readers) -> std::thread::JoinHandle<()> {
    let done = readers.done.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        done.store(true, Ordering::Relaxed);
    })
}

#[test]
fn reading_an_array_waits_for_readers_elsewhere() {
    let (pool, array) = world(2);
    let readers = Readers::default();
    end(&pool, &readers);
    let late = done_late(&readers);
    assert_eq!(array.to_vec(array.layout().tile_region(tile(0))).unwrap()[5], 5);
    assert!(readers.done.load(Ordering::Relaxed));
    late.join().unwrap();
}

#[test]
fn dropping_an_array_waits_for_readers_elsewhere() {
    let (pool, array) = world(2);
    request(&array, 0).unwrap();
    let readers = Readers::default();
    end(&pool, &readers);
    let late = done_late(&readers);
    drop(array);
    assert!(readers.done.load(Ordering::Relaxed));
    assert_eq!((pool.stats().open_frames, pool.backend().page_bytes()), (0, 0));
    late.join().unwrap();
}
