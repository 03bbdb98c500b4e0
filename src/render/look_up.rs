//! Owns what is found out when a ray comes to a brick that its thread does not hold: [`look_up`]. Where a whole box of bricks is there and lies as flat memory, rays visit it
//! as if it were one brick:
//!
//! ```text
//!   | . | . | . | . | . | . |     a group of 4 x 4 x 4 bricks, and those around it: all resident, else
//!   | . |[. | . | . | .]| . |     each of them is visited by itself
//! ```
//!
//! Knows nothing of rays.

use std::sync::Arc;

use super::fine::{Fine, Question};
use super::grid::tile_coord;
use super::held::{Content, Held};
use super::march::{Method, Scene};
use super::met::Groups;
use super::volume::{Brick, Volume};
use crate::voxel::Scalar;

/// What a ray visits when it comes to a brick: its group, or the brick alone.
#[cold]
pub(crate) fn look_up<'a, T: Scalar, V: Volume<T>, M: Method>(
    scene: &Scene<'a, T, V>,
    method: &M,
    tile: [i64; 3],
    groups: &mut Groups<'a, T>,
) -> Arc<Held<'a, T>> {
    let place = scene.grid.group_of(tile);
    let group = groups.get(place, || group(scene, method, place).map(Arc::new));
    group.as_ref().map_or_else(|| Arc::new(brick(scene, method, tile)), Arc::clone)
}

/// What is known of a brick at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glance {
    /// It is missing, and nothing is known of its first cell: of an array's tile that is missing, nothing of any then.
    Unknown,
    /// It has memory, or one value.
    There,
    /// Only [`look_up`] can tell.
    Unclear,
}

/// A first look at a brick: at one range, and at no other brick but the first of its group.
#[cold]
pub(crate) fn glance<T: Scalar, V: Volume<T>>(scene: &Scene<'_, T, V>, tile: [i64; 3]) -> Glance {
    let (volume, grid) = (scene.volume, &scene.grid);
    match volume.brick(tile_coord(tile)) {
        Brick::Resident(voxels) if voxels.len() < grid.brick_voxels => return Glance::Unclear,
        Brick::Resident(_) | Brick::Uniform(_) => return Glance::There,
        Brick::Missing => {}
    }
    // The first brick of a group is looked at for all of them, and met thereby.
    let first = grid.group(grid.group_of(tile)).low;
    let meets = scene.met.is_some() && matches!(volume.brick(tile_coord(first)), Brick::Resident(_));
    if meets || volume.cell_range(tile_coord(tile), 0).is_some() { Glance::Unclear } else { Glance::Unknown }
}

/// A brick by itself.
fn brick<'a, T: Scalar, V: Volume<T>, M: Method>(
    scene: &Scene<'a, T, V>,
    method: &M,
    tile: [i64; 3],
) -> Held<'a, T> {
    let (volume, grid, weigh) = (scene.volume, &scene.grid, method.weigh());
    let cells = scene.cache.cells(volume, grid, weigh, tile);
    let mut held = Held::new(volume, grid, tile, cells);
    if let Some(met) = scene.met
        && matches!(held.content, Content::Voxels(_))
        && !(scene.skip_empty && method.lasting_threshold().is_some_and(|threshold| held.most <= threshold))
    {
        // With what the supports of its samples reach into.
        held.with_memory(method.reach().voxels > 0).for_each(|tile| met.note(tile_coord(tile)));
    }
    if let Some(threshold) = method.lasting_threshold()
        && scene.skip_empty
        && matches!(held.content, Content::Voxels(Some(_)))
        && held.most > threshold
    {
        held.fine = scene.cache.fine(volume, grid, Question { weigh, threshold }, &held);
    }
    held
}

/// The group at a place among groups. `None` where it has to be visited brick by brick: something is missing, it does not lie in line, there are no kernels for it, which of its
/// voxels matter depends on the ray, or there is no gain in it.
fn group<'a, T: Scalar, V: Volume<T>, M: Method>(
    scene: &Scene<'a, T, V>,
    method: &M,
    place: [i64; 3],
) -> Option<Held<'a, T>> {
    // Of places between samples methods ask one by one, which groups make no faster.
    let batches_only = method.reach().samples == 0;
    let threshold = method.lasting_threshold().filter(|_| scene.skip_empty && batches_only)?;
    scene.kernels.across.as_ref()?;
    let group = scene.grid.group(place);
    if group.sides() == [1; 3] {
        return None;
    }
    let mut held = brick(scene, method, group.low).widened(scene.volume, &scene.grid, group)?;
    let fine = scene.cache.group(tile_coord(group.low), || {
        let tiles = group.tiles().map(|t| [t.x, t.y, t.z].map(u64::cast_signed));
        let mut parts = Vec::new();
        for part in tiles.map(|tile| brick(scene, method, tile)).filter(|part| part.most > threshold) {
            parts.push((part.origin, part.fine?));
        }
        Fine::joined(held.origin, &parts, held.sides())
    })?;
    held.fine = Some(fine);
    Some(held)
}

#[cfg(test)]
mod tests {
    use super::super::dvr::Dvr;
    use super::super::grid::Grid;
    use super::super::met::{Met, Table};
    use super::super::occupancy::SkipCache;
    use super::super::transfer::TransferFunction;
    use super::*;
    use crate::geometry::Extent;
    use crate::layout::TileCoord;
    use crate::view::kernels::Kernels;

    /// 7 x 8 x 8 bricks of 8^3 in line, and one that is not there.
    struct InLine(Vec<u8>, TileCoord);

    impl Volume<u8> for InLine {
        fn extent(&self) -> Extent {
            Extent::new(50, 64, 64)
        }
        fn brick_shape(&self) -> Extent {
            Extent::cube(8)
        }
        fn brick(&self, tile: TileCoord) -> Brick<'_, u8> {
            let at = tile.x + 7 * (tile.y + 8 * tile.z);
            let brick = usize::try_from(at).ok().and_then(|at| self.0.chunks_exact(512).nth(at));
            brick.filter(|_| tile != self.1).map_or(Brick::Missing, Brick::Resident)
        }
        fn cell_shape(&self) -> Extent {
            Extent::cube(8)
        }
        fn cell_range(&self, _: TileCoord, _: usize) -> Option<(f32, f32)> {
            None
        }
    }

    #[test]
    fn a_group_is_visited_as_one_where_all_in_and_around_it_is_there() {
        let voxels: Vec<u8> = (0..7 * 64 * 512u32).map(|i| u8::from(i % 999 == 0) * 200).collect();
        let transfer = TransferFunction::grey_ramp(100.0, 200.0).unwrap();
        let table = super::super::table::Table::new(&transfer, None);
        let method = Dvr { table, light: None, stop_at_alpha: 0.99 };
        let visited = |missing: [u64; 3], tile: [i64; 3], simd: bool| {
            let volume = InLine(voxels.clone(), TileCoord::new(missing[0], missing[1], missing[2]));
            let grid = Grid::new(&volume).unwrap();
            let mut cache = SkipCache::new();
            cache.begin(&volume, &grid, method.weigh(), method.lasting_threshold());
            let (kernels, waits) = (Kernels::select(simd), false);
            let scene = Scene {
                volume: &volume,
                grid,
                cache: &cache,
                skip_empty: true,
                waits,
                kernels,
                clamps: false,
                met: None,
            };
            let Table { bricks, groups } = &mut Table::new();
            let held = bricks.get(tile, || look_up(&scene, &method, tile, groups));
            (matches!(held.content, Content::Group), held.origin, held.last)
        };
        if Kernels::<u8>::select(true).across.is_none() {
            println!("skipped: this machine has no kernels for groups");
            return;
        }
        let far = [6, 7, 7];
        assert_eq!(visited(far, [3, 1, 2], true), (true, [0; 3], [31; 3]));
        assert_eq!(
            visited([0, 0, 7], [6, 4, 0], true),
            (true, [32, 32, 0], [17, 31, 31]),
            "cut off at x = 50"
        );
        assert_eq!(visited(far, [3, 1, 2], false), (false, [24, 8, 16], [7; 3]), "no kernels");
        assert!(!visited(far, [6, 4, 4], true).0, "one of it is missing");
        assert!(!visited([4, 4, 4], [0, 0, 0], true).0, "one beside it is missing");
    }

    /// 8^3 bricks of 8^3 voxels in no order: missing ones, ranges of some of which are known, ones of one value, ones too short, and whole ones.
    struct Mixed(Vec<u8>);

    impl Mixed {
        fn kind(tile: TileCoord) -> u64 {
            (tile.x / 2 * 5 + tile.y * 11 + tile.z * 3) % 7
        }
    }

    impl Volume<u8> for Mixed {
        fn extent(&self) -> Extent {
            Extent::cube(64)
        }
        fn brick_shape(&self) -> Extent {
            Extent::cube(8)
        }
        fn brick(&self, tile: TileCoord) -> Brick<'_, u8> {
            match Self::kind(tile) {
                0 => Brick::Resident(&self.0),
                1 => Brick::Uniform(7),
                2 => Brick::Resident(&self.0[1..]),
                _ => Brick::Missing,
            }
        }
        fn cell_shape(&self) -> Extent {
            Extent::cube(4)
        }
        fn cell_range(&self, tile: TileCoord, cell: usize) -> Option<(f32, f32)> {
            // Of some no range is known but the first one's, of others all but that.
            match Self::kind(tile) {
                3 => Some((0.0, 1.0)),
                4 if cell == 0 => Some((0.0, 1.0)),
                5 if cell != 0 => Some((0.0, 1.0)),
                _ => None,
            }
        }
    }

    #[test]
    fn a_glance_shows_no_more_than_a_look_would() {
        let volume = Mixed(vec![200; 512]);
        let grid = Grid::new(&volume).unwrap();
        let transfer = TransferFunction::grey_ramp(100.0, 200.0).unwrap();
        let table = super::super::table::Table::new(&transfer, None);
        let method = Dvr { table, light: None, stop_at_alpha: 0.99 };
        let mut seen = [0; 3];
        for tile in grid.bricks_between([0; 3], [63; 3]).tiles() {
            let mut cache = SkipCache::new();
            cache.begin(&volume, &grid, method.weigh(), method.lasting_threshold());
            let met = Met::default();
            let scene = Scene {
                volume: &volume,
                grid,
                cache: &cache,
                skip_empty: true,
                waits: true,
                kernels: Kernels::select(true),
                clamps: true,
                met: Some(&met),
            };
            let tile = [tile.x, tile.y, tile.z].map(u64::cast_signed);
            let shown = glance(&scene, tile);
            let held = look_up(&scene, &method, tile, &mut Table::new().groups);
            let is_missing = matches!(held.content, Content::Missing);
            match shown {
                Glance::Unknown => {
                    assert!(is_missing && held.most == f32::INFINITY, "{tile:?}");
                    assert_eq!(met.into_tiles(), [], "{tile:?}");
                    seen[0] += 1;
                }
                Glance::There => {
                    assert!(!is_missing, "{tile:?}");
                    seen[1] += 1;
                }
                Glance::Unclear => seen[2] += 1,
            }
        }
        assert!(seen.into_iter().all(|n| n > 50), "{seen:?}");
    }
}
