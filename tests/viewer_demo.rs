//! The viewer's computed volume: what it claims to be empty is, and every level shows the same planet.

#[path = "../examples/viewer/demo.rs"]
mod demo;

use vastgrid::{Coord, Extent, Region, TileSource};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Places all over a level.
fn regions(extent: Extent, edge: u64) -> impl Iterator<Item = Region> {
    let tiles = extent.to_array().map(|side| (side / edge).max(1));
    (0..2000u64).map(move |i| {
        let at = [0, 1, 2].map(|axis| {
            let scattered = (i + 1).wrapping_mul([0x9e37_79b9, 0x85eb_ca6b, 0xc2b2_ae35][axis]) >> 7;
            scattered % tiles[axis] * edge
        });
        Region::new(Coord::new(at[0], at[1], at[2]), Extent::cube(edge)).clipped_to(extent)
    })
}

#[test]
fn what_is_claimed_to_be_empty_is() {
    let planet = demo::huge(|source| Box::new(source)).unwrap();
    assert_eq!(planet.extent(), Extent::cube(u64::from(demo::SIDE)));
    let (mut claimed, mut looked) = (0, 0);
    for level in 0..planet.levels() {
        let source = planet.source(level).unwrap();
        let mut voxels = vec![1; 4096];
        for region in regions(source.extent(), 16) {
            looked += 1;
            if source.uniform(region) == Some(0) {
                claimed += 1;
                voxels.fill(1);
                source.read(region, &mut voxels).unwrap();
                assert!(voxels.iter().all(|&v| v == 0), "level {level}, {region}");
            }
        }
    }
    assert!(claimed * 5 > looked, "{claimed} of {looked} are known to be empty");
}

#[test]
fn levels_agree_on_where_there_is_something() {
    let planet = demo::huge(|source| Box::new(source)).unwrap();
    // Beyond the size of the largest pores that one level shows and the next does not, on average.
    let share = |level: usize| {
        let source = planet.source(level).unwrap();
        let (mut voxels, mut there, mut all) = (vec![0; 512], 0u32, 0u32);
        for region in regions(source.extent(), 8) {
            source.read(region, &mut voxels).unwrap();
            there += voxels.iter().map(|&v| u32::from(v >= 100)).sum::<u32>();
            all += 512;
        }
        f64::from(there) / f64::from(all)
    };
    let shares: Vec<_> = (0..planet.levels()).map(share).collect();
    for pair in shares.windows(2) {
        assert!((pair[0] - pair[1]).abs() < 0.08 && pair[0] > 0.05, "{shares:?}");
    }
}
