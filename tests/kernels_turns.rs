//! The ray caster's kernels, compiled for the host, in turns: with room for a few tiles they end with the picture in which nothing is missing. Skipped where there is no C++ compiler.
#![cfg(feature = "render")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of test volumes")]

mod common;
mod kernels_host;

use std::collections::HashSet;

use common::pictures::{difference, modes};
use kernels_host::{Host, There, Tiles, field, transfer};
use vastgrid::render::cuda::CastTurns;
use vastgrid::render::{Camera, ClipBox, Options, Progress, Projection, render};
use vastgrid::{Extent, TileCoord, TileId};

/// The first groups that there is room for; one in any case.
fn fitting(turn: &Progress, room: usize) -> HashSet<TileCoord> {
    let mut tiles = HashSet::new();
    for group in &turn.wanted {
        let more = group.tiles.iter().filter(|tile| !tiles.contains(*tile)).count();
        if tiles.is_empty() || tiles.len() + more <= room {
            tiles.extend(group.tiles.iter().copied());
        }
    }
    tiles
}

#[test]
fn a_picture_made_in_turns_through_a_few_tiles_is_that_of_all() {
    let extent = Extent::new(37, 29, 41);
    let aslant = Camera::fit(extent, [1.0; 3]).azimuth(35.0).elevation(-25.0);
    // Samples on voxels' centres, or next to them, whatever rounding does.
    let middle = [13.0, 10.0, 15.0];
    let eye = [13.0, 10.0, -200.0];
    let along = Camera::look_at(eye, middle, [0.0, 1.0, 0.0], Projection::Orthographic { height: 22.0 });
    let clip = ClipBox { low: [0.0, 0.0, 16.0], high: [37.0, 29.0, 41.0] };
    let square = |mode| Options { width: 44, height: 40, mode, ..Options::default() };
    let on_voxels = |mode| Options { spacing: [0.7; 3], step_voxels: 1.0, clip: Some(clip), ..square(mode) };
    for (room, known, is_aslant) in [(8, false, true), (30, true, true), (9, false, false)] {
        for mode in modes(95.0) {
            let (options, camera) = if is_aslant { (square(mode), aslant) } else { (on_voxels(mode), along) };
            let all =
                |t: TileCoord| if t == TileCoord::new(1, 1, 2) { There::Uniform } else { There::Resident };
            let mut tiles = Tiles::<u16>::new(extent, [8; 3], [2, 1, 1], all, |c| field(c, 8));
            tiles.known = known;
            let expected = render(&tiles, &camera, &transfer(), &options).unwrap();
            let there = tiles.there.clone();
            let mut turns = CastTurns::new::<u16>(&tiles.layout, &camera, &transfer(), &options).unwrap();
            let (mut resident, mut loads, mut rounds) = (HashSet::new(), 0, 0);
            loop {
                let Some(mut host) = Host::new() else { return };
                for (id, (now, was)) in tiles.there.iter_mut().zip(&there).enumerate() {
                    let tile = tiles.layout.tile_coord(TileId(id as u64));
                    let is_there = *was == There::Uniform || tile.is_some_and(|t| resident.contains(&t));
                    *now = if is_there { *was } else { There::Missing };
                }
                let plan = turns.plan::<u16>(tiles.level([1; 3])).unwrap();
                host.add_plan(0, &[&tiles], plan);
                let (plan, output) = host.run_raw().remove(0);
                let is_uniform =
                    |tile: TileCoord| there[tiles.layout.tile_id(tile).unwrap().0 as usize] == There::Uniform;
                let turn = turns.take(&plan, &output, is_uniform).unwrap();
                assert!(resident.is_empty() || turn.samples > 0, "{mode:?}: a ray goes on in every turn");
                rounds += 1;
                if turn.done {
                    break;
                }
                let next = fitting(&turn, room);
                loads += next.difference(&resident).count();
                assert!(!next.is_empty() && rounds < 3000, "{mode:?}: {} rays wait", turn.rays_left);
                resident = next;
            }
            let image = turns.into_image();
            let difference = difference(&expected.image, &image);
            println!("{mode:?}, room for {room} tiles: {rounds} turns, {loads} loads; {difference}");
            assert!(difference.is_small(), "{mode:?}: {difference}");
        }
    }
}
