//! Tests of the schedule by itself: no thread, no array, no memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failures::StreamFailure;
use super::queue::TileKey;
use super::schedule::{Ended, Found, Schedule, Shape};
use super::under_way::Batch;
use super::{Enrolled, Priority, StreamLimit, StreamOptions};
use crate::engine::Room;
use crate::error::{Error, ResidencyError};
use crate::layout::{TileCoord, TileId};

/// Pages of two tiles of 100 bytes.
const SHAPE: Shape = Shape { page_shift: 1, page_bytes: 200, tile_bytes: 100 };

fn room(budget_bytes: u64) -> Room {
    Room { budget_bytes, ..Room::default() }
}

fn schedule(options: StreamOptions) -> Schedule {
    let mut schedule = Schedule::new(options, room(10_000));
    (1..4).for_each(|array| schedule.enrol(array, SHAPE));
    schedule
}

fn one_at_a_time() -> StreamOptions {
    StreamOptions { batch_tiles: 1, ..StreamOptions::default() }
}

fn want(schedule: &mut Schedule, array: u32, tile: u64, priority: Priority) {
    schedule.want(key(array, tile), priority, Found::Missing, Instant::now());
}

fn key(array: u32, tile: u64) -> TileKey {
    TileKey { array, tile: TileId(tile) }
}

fn near(distance: f32) -> Priority {
    Priority::visible(0, distance)
}

fn next(schedule: &mut Schedule, budget_bytes: u64) -> Result<Batch, StreamLimit> {
    schedule.next(room(budget_bytes), Instant::now())
}

fn loaded(tiles: u64) -> Ended {
    Ended::Done { hits: 0, loaded: tiles, shared: 0, uniform: 0, failed: Vec::new(), empty: Vec::new() }
}

/// Hands out and ends everything, and says in which order.
fn drain(schedule: &mut Schedule, budget_bytes: u64) -> Vec<(u32, Vec<u64>)> {
    let mut order = Vec::new();
    while let Ok(batch) = next(schedule, budget_bytes) {
        order.push((batch.array, batch.tiles.iter().map(|tile| tile.0).collect()));
        schedule.end(&batch, loaded(batch.tiles.len() as u64), |_| true, Instant::now());
    }
    order
}

fn failure(array: u32, tile: u64) -> StreamFailure {
    let error = Arc::new(Error::from(ResidencyError::ReadOnly));
    StreamFailure { array: Enrolled { pool: 0, array }, tile: TileCoord::new(tile, 0, 0), error }
}

#[test]
fn tiles_come_by_priority_then_array_then_tile() {
    let mut s = schedule(one_at_a_time());
    want(&mut s, 1, 0, Priority::prefetch(9, 0.0));
    want(&mut s, 3, 2, near(1.0));
    want(&mut s, 2, 5, near(1.0));
    want(&mut s, 2, 4, near(1.0));
    want(&mut s, 3, 8, Priority::visible(2, 7.0));
    assert_eq!(drain(&mut s, 10_000), [(3, vec![8]), (2, vec![4]), (2, vec![5]), (3, vec![2]), (1, vec![0])]);
}

#[test]
fn a_batch_takes_the_next_tiles_of_its_array_and_urgency() {
    let mut s = schedule(StreamOptions { batch_tiles: 3, ..StreamOptions::default() });
    for tile in 0..4 {
        want(&mut s, 1, tile, near(tile as f32));
        want(&mut s, 2, tile, near(tile as f32));
    }
    want(&mut s, 1, 9, Priority::prefetch(0, 0.0));
    let order = drain(&mut s, 10_000);
    assert_eq!(order, [(1, vec![0, 1, 2]), (2, vec![0, 1, 2]), (1, vec![3]), (2, vec![3]), (1, vec![9])]);
}

#[test]
fn both_caps_hold_but_for_a_single_tile() {
    let options = StreamOptions { under_way_pages: 2, under_way_bytes: 350, ..StreamOptions::default() };
    let room_for_pages = StreamOptions { under_way_pages: 3, ..options };
    let mut s = schedule(options);
    (0..4).for_each(|tile| want(&mut s, 1, tile * 2, near(tile as f32)));
    let first = next(&mut s, 10_000).unwrap();
    assert_eq!(first.tiles.len(), 2, "two pages");
    assert_eq!(next(&mut s, 10_000).unwrap_err(), StreamLimit::Pages);
    s.end(&first, loaded(2), |_| true, Instant::now());

    let mut s = schedule(room_for_pages);
    (0..8).for_each(|tile| want(&mut s, 2, tile, near(tile as f32)));
    let second = next(&mut s, 10_000).unwrap();
    assert_eq!(second.tiles.len(), 3, "350 bytes in two pages");
    assert_eq!(next(&mut s, 10_000).unwrap_err(), StreamLimit::Bytes);
    let status = s.status(room(10_000), Instant::now());
    assert_eq!((status.under_way_tiles, status.under_way_bytes, status.under_way_pages), (3, 300, 2));
    assert_eq!((status.limit, status.under_way_requests), (StreamLimit::Bytes, 1));

    let options = StreamOptions { under_way_pages: 0, under_way_bytes: 0, ..StreamOptions::default() };
    let mut s = schedule(options);
    (0..3).for_each(|tile| want(&mut s, 1, tile, near(tile as f32)));
    assert_eq!(drain(&mut s, 10_000), [(1, vec![0]), (1, vec![1]), (1, vec![2])]);
}

#[test]
fn wants_last_as_many_generations_as_the_options_say() {
    for keep in [0, 1, 3] {
        let mut s = schedule(StreamOptions { keep_generations: keep, ..one_at_a_time() });
        want(&mut s, 1, 0, near(0.0));
        for _ in 0..keep {
            s.begin_generation();
        }
        assert!(!s.is_idle());
        s.begin_generation();
        assert_eq!((s.is_idle(), s.status(room(0), Instant::now()).cancelled), (true, 1));
    }
    let mut s = schedule(one_at_a_time());
    want(&mut s, 1, 0, near(0.0));
    want(&mut s, 1, 1, near(1.0));
    s.begin_generation();
    want(&mut s, 1, 1, near(2.0));
    s.begin_generation();
    assert_eq!(drain(&mut s, 10_000), [(1, vec![1])]);
}

#[test]
fn what_is_under_way_is_not_queued_twice_and_not_cancelled() {
    let mut s = schedule(one_at_a_time());
    want(&mut s, 1, 0, near(0.0));
    let batch = next(&mut s, 10_000).unwrap();
    want(&mut s, 1, 0, near(1.0));
    assert_eq!(next(&mut s, 10_000).unwrap_err(), StreamLimit::Read);
    (0..5).for_each(|_| s.begin_generation());
    assert_eq!(s.status(room(10_000), Instant::now()).under_way_tiles, 1);
    s.end(&batch, loaded(1), |_| true, Instant::now());
    let status = s.status(room(10_000), Instant::now());
    assert_eq!((status.loaded, status.cancelled, status.limit), (1, 0, StreamLimit::Idle));
}

#[test]
fn what_was_evicted_before_its_request_ended_is_queued_again_if_somebody_missed_it() {
    let mut s = schedule(StreamOptions { batch_tiles: 3, ..StreamOptions::default() });
    (0..3).for_each(|tile| want(&mut s, 1, tile, near(tile as f32)));
    let batch = next(&mut s, 10_000).unwrap();
    want(&mut s, 1, 0, near(0.0));
    want(&mut s, 1, 1, near(1.0));
    // Tile 0 is there, tile 1 is not any more, and nobody asked for tile 2 again.
    s.end(&batch, loaded(3), |tile| tile.0 == 0, Instant::now());
    assert_eq!(drain(&mut s, 10_000), [(1, vec![1])]);
}

#[test]
fn the_budget_goes_to_the_most_urgent_whatever_came_first() {
    let mut s = schedule(one_at_a_time());
    let resident = |s: &mut Schedule, tile, distance| {
        s.want(key(1, tile), near(distance), Found::Resident, Instant::now());
    };
    // Two pages far away are resident; the budget holds three.
    resident(&mut s, 0, 50.0);
    resident(&mut s, 2, 60.0);
    (2..5).for_each(|page| want(&mut s, 1, page * 2, near(page as f32)));
    let mut order = Vec::new();
    while let Ok(batch) = next(&mut s, 600) {
        order.push(batch.tiles[0].0);
        s.end(&batch, loaded(1), |_| true, Instant::now());
    }
    assert_eq!(order, [4, 6, 8], "the near ones take the shares of the far ones");
    assert!(s.has_share(key(1, 8)) && !s.has_share(key(1, 0)));
    want(&mut s, 1, 10, near(55.0));
    assert_eq!(next(&mut s, 600).unwrap_err(), StreamLimit::Budget);
    assert_eq!(next(&mut s, 999).unwrap_err(), StreamLimit::Budget, "what lies between has it first");
    assert_eq!(next(&mut s, 1000).unwrap().tiles, [TileId(10)]);
}

#[test]
fn pages_that_turned_out_to_be_empty_give_their_shares_back() {
    let mut s = schedule(one_at_a_time());
    (0..3).for_each(|page| want(&mut s, 1, page * 2, near(page as f32)));
    want(&mut s, 1, 1, near(9.0));
    let first = next(&mut s, 400).unwrap();
    let second = next(&mut s, 400).unwrap();
    let third = next(&mut s, 400).unwrap();
    assert_eq!(third.tiles, [TileId(1)], "its page has a share already");
    assert_eq!(next(&mut s, 400).unwrap_err(), StreamLimit::Budget);
    let empty = first.tiles.iter().map(|tile| crate::layout::PageId(tile.0 >> 1)).collect();
    let uniform = Ended::Done { hits: 0, loaded: 0, shared: 0, uniform: 1, failed: Vec::new(), empty };
    s.end(&first, uniform, |_| true, Instant::now());
    assert_eq!(next(&mut s, 400).unwrap().tiles, [TileId(4)]);
    s.end(&second, loaded(1), |_| true, Instant::now());
}

#[test]
fn a_refused_request_waits_for_a_change() {
    let mut s = schedule(one_at_a_time());
    let refuse = |s: &mut Schedule, limit, room: Room| {
        let batch = s.next(room, Instant::now()).unwrap();
        s.end(&batch, Ended::Refused(limit, room), |_| true, Instant::now());
        assert_eq!(s.next(room, Instant::now()).unwrap_err(), limit);
    };
    let old = Room { budget_bytes: 1000, pinned_bytes: 200, oldest_frame: 7 };
    want(&mut s, 1, 0, near(0.0));
    refuse(&mut s, StreamLimit::Budget, old);
    assert_eq!(s.status(old, Instant::now()).limit, StreamLimit::Budget);
    let other_frame = Room { oldest_frame: 8, ..old };
    assert_eq!(s.next(other_frame, Instant::now()).unwrap_err(), StreamLimit::Budget);
    // Each of these is a change.
    refuse(&mut s, StreamLimit::Budget, Room { pinned_bytes: 0, ..old });
    refuse(&mut s, StreamLimit::Frames, old);
    refuse(&mut s, StreamLimit::Frames, other_frame);
    s.begin_generation();
    refuse(&mut s, StreamLimit::Budget, other_frame);
    assert_eq!(s.status(old, Instant::now()).queued_visible_tiles, 1);
    // Refused, and wanted no more meanwhile.
    let batch = s.next(room(1000), Instant::now()).unwrap();
    (0..3).for_each(|_| s.begin_generation());
    s.end(&batch, Ended::Refused(StreamLimit::Budget, old), |_| true, Instant::now());
    assert_eq!((s.is_idle(), s.status(old, Instant::now()).cancelled), (true, 1));
}

#[test]
fn a_failed_tile_is_not_queued_until_it_may_be() {
    let mut s = schedule(StreamOptions { retry_after: Some(Duration::from_secs(9)), ..one_at_a_time() });
    let now = Instant::now();
    s.want(key(1, 0), near(0.0), Found::Missing, now);
    let batch = s.next(room(10_000), now).unwrap();
    s.end(&batch, Ended::Failed(vec![(TileId(0), failure(1, 0))]), |_| true, now);
    let status = s.status(room(10_000), now);
    assert_eq!((status.failed, status.failed_tiles, status.limit), (1, 1, StreamLimit::Idle));
    s.want(key(1, 0), near(0.0), Found::Missing, now + Duration::from_secs(8));
    assert!(s.is_idle());
    s.want(key(1, 0), near(0.0), Found::Missing, now + Duration::from_secs(9));
    assert_eq!(drain(&mut s, 10_000), [(1, vec![0])]);
    assert_eq!(s.failures.drain().newest.len(), 1);
}

#[test]
fn pausing_flushing_and_forgetting() {
    let mut s = schedule(one_at_a_time());
    want(&mut s, 1, 0, near(0.0));
    want(&mut s, 2, 0, near(0.0));
    s.pause(true);
    assert_eq!(next(&mut s, 10_000).unwrap_err(), StreamLimit::Paused);
    s.pause(false);
    s.forget(1);
    assert_eq!(next(&mut s, 10_000).unwrap().array, 2);
    want(&mut s, 1, 0, near(0.0));
    want(&mut s, 3, 0, near(0.0));
    s.flush();
    let status = s.status(room(10_000), Instant::now());
    assert_eq!((status.queued_tiles(), status.cancelled, status.limit), (0, 2, StreamLimit::Read));
}
