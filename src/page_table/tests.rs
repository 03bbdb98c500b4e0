//! The planes by themselves, and beside plain sets.

use super::*;

#[test]
fn memory_is_in_proportion_to_what_is_committed() {
    let mut t = PageTable::new(8);
    for page in [0, 1, 1 << 40, (1 << 40) + 1] {
        t.set_mapped(PageId(page));
        let _ = t.set_resident(TileId(page * 8 + 3));
    }
    assert_eq!((t.blocks(), t.mapped_pages(), t.resident_tiles()), (2, 4, 4));
    assert_eq!(t.mapped().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 1 << 40, (1 << 40) + 1]);
    for page in [0, 1, 1 << 40, (1 << 40) + 1] {
        t.clear_page(PageId(page));
    }
    assert_eq!((t.blocks(), t.mapped_pages(), t.resident_tiles()), (0, 0, 0));
}

#[test]
fn a_page_gives_its_resident_tiles_as_words() {
    let mut t = PageTable::new(128);
    t.set_mapped(PageId(5));
    let _ = t.set_resident(TileId(5 * 128 + 1));
    let _ = t.set_resident(TileId(5 * 128 + 127));
    let words = |page| t.resident_words(PageId(page)).collect::<Vec<_>>();
    assert_eq!(words(5), [(TileId(640), 2), (TileId(704), 1 << 63)]);
    assert_eq!(t.resident().map(|t| t.0).collect::<Vec<_>>(), [641, 767]);
    assert!(t.has_resident(PageId(5)) && !t.has_resident(PageId(4)) && !t.is_dirty(PageId(5)));
}

#[test]
fn small_pages_share_words() {
    let mut t = PageTable::new(2);
    t.set_mapped(PageId(33));
    let _ = t.set_resident(TileId(67));
    assert_eq!(t.resident_words(PageId(33)).collect::<Vec<_>>(), [(TileId(66), 2)]);
    assert_eq!(t.resident_words(PageId(32)).count(), 0);
}

#[test]
fn uniform_and_resident_exclude_each_other() {
    let mut t = PageTable::new(1);
    assert!(t.set_uniform(TileId(7)));
    assert_eq!(t.known(TileId(7)).0, Known::Uniform);
    t.set_mapped(PageId(7));
    let _ = t.set_resident(TileId(7));
    assert_eq!(t.known(TileId(7)).0, Known::Resident);
    assert!(!t.set_uniform(TileId(7)), "a resident tile keeps its memory");
    assert_eq!((t.uniform_tiles(), t.resident_tiles()), (0, 1));
}

#[test]
fn dirty_tiles_are_resident_ones() {
    let mut t = PageTable::new(4);
    t.set_mapped(PageId(2));
    let _ = t.set_resident(TileId(9));
    let _ = t.set_resident(TileId(10));
    for tile in [8, 9, 9, 10, 500_000] {
        t.set_dirty(TileId(tile));
    }
    assert_eq!((t.dirty_tiles(), t.dirty_pages(), t.is_dirty(PageId(2))), (2, 1, true));
    t.clear_dirty(TileId(9));
    t.clear_dirty(TileId(9));
    assert_eq!((t.dirty_tiles(), t.dirty_pages()), (1, 1));
    t.clear_page(PageId(2));
    assert_eq!((t.dirty_tiles(), t.dirty_pages()), (0, 0));
    assert_eq!(t.groups().count(), 0);
    t.set_mapped(PageId(1024));
    assert_eq!(t.groups().collect::<Vec<_>>(), (64..128).collect::<Vec<_>>());
}

#[test]
fn the_planes_agree_with_plain_sets_whatever_a_page_takes() {
    use std::collections::BTreeSet;
    for tiles_per_page in [1, 2, 32, 64, 256, 8192] {
        let mut table = PageTable::new(tiles_per_page);
        let [mut mapped, mut resident, mut dirty, mut uniform] = [const { BTreeSet::<u64>::new() }; 4];
        let [mut fresh, mut evicting] = [const { BTreeSet::<u64>::new() }; 2];
        let mut seed = tiles_per_page;
        let mut next = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..4000 {
            // Two regions far from each other, so that several blocks come and go.
            let page = next(12) + next(2) * (1 << 30);
            let tile = page * tiles_per_page + next(tiles_per_page);
            match next(11) {
                0 => {
                    table.clear_page(PageId(page));
                    for set in [&mut mapped, &mut fresh, &mut evicting] {
                        set.remove(&page);
                    }
                    resident.retain(|tile| tile / tiles_per_page != page);
                    dirty.retain(|tile| tile / tiles_per_page != page);
                }
                1 if !resident.contains(&tile) => {
                    assert!(table.set_uniform(TileId(tile)));
                    uniform.insert(tile);
                }
                2 => assert_eq!(table.clear_uniform(TileId(tile)), uniform.remove(&tile)),
                3 => {
                    dirty.remove(&tile);
                    assert_eq!(table.clear_resident(TileId(tile)), resident.remove(&tile));
                }
                4 => {
                    table.set_fresh(PageId(page));
                    mapped.insert(page);
                    fresh.insert(page);
                }
                5 => assert_eq!(table.take_fresh(PageId(page)), fresh.remove(&page)),
                6 => {
                    let going = next(2) == 0;
                    table.set_evicting(PageId(page), going);
                    evicting.remove(&page);
                    evicting.extend(mapped.get(&page).filter(|_| going));
                }
                7 => {
                    table.set_dirty(TileId(tile));
                    dirty.extend(resident.get(&tile));
                }
                _ => {
                    table.set_mapped(PageId(page));
                    mapped.insert(page);
                    resident.insert(tile);
                    assert_eq!(table.set_resident(TileId(tile)), uniform.remove(&tile));
                }
            }
            let tiles = page * tiles_per_page..(page + 1) * tiles_per_page;
            let page = PageId(page);
            let [is_mapped, is_fresh, is_evicting] =
                [&mapped, &fresh, &evicting].map(|set| set.contains(&page.0));
            let of_page = OfPage { mapped: is_mapped, fresh: is_fresh, evicting: is_evicting };
            assert_eq!((table.is_mapped(page), table.is_evicting(page)), (is_mapped, is_evicting));
            assert_eq!((table.of_page(page), table.evicting_pages()), (of_page, evicting.len() as u64));
            assert_eq!(table.has_resident(page), resident.range(tiles.clone()).next().is_some());
            assert_eq!(table.is_dirty(page), dirty.range(tiles.clone()).next().is_some());
            assert!(table.dirty(page).map(|tile| tile.0).eq(dirty.range(tiles).copied()));
            let of = |set: &BTreeSet<u64>| set.contains(&tile);
            let tile = TileId(tile);
            let known = [(of(&resident), Known::Resident), (of(&uniform), Known::Uniform)];
            let known = known.into_iter().find_map(|(is_it, known)| is_it.then_some(known));
            assert_eq!(table.known(tile), (known.unwrap_or(Known::Nothing), of_page));
            assert_eq!(table.is_dirty_tile(tile), of(&dirty));
        }
        assert!(table.mapped().map(|page| page.0).eq(mapped.iter().copied()), "{tiles_per_page}");
        assert!(table.resident().map(|tile| tile.0).eq(resident.iter().copied()));
        assert!(table.all_dirty().map(|tile| tile.0).eq(dirty.iter().copied()));
        assert!(table.uniform().map(|tile| tile.0).eq(uniform.iter().copied()));
        let pages: BTreeSet<_> = dirty.iter().map(|tile| tile / tiles_per_page).collect();
        let counts = [table.mapped_pages(), table.resident_tiles(), table.dirty_tiles(), table.dirty_pages()];
        assert_eq!(counts, [&mapped, &resident, &dirty, &pages].map(|set| set.len() as u64));
        for page in mapped {
            table.clear_page(PageId(page));
        }
        for tile in uniform {
            assert!(table.clear_uniform(TileId(tile)));
        }
        assert_eq!(table.blocks(), 0, "{tiles_per_page}");
    }
}

#[test]
fn runs_without_anything_are_taken_once_many_blocks_became_empty() {
    let mut t = PageTable::new(1);
    let touch = |t: &mut PageTable, block: u64| {
        t.set_mapped(PageId(block << 12));
        t.clear_page(PageId(block << 12));
    };
    for block in 0..1024 {
        touch(&mut t, 2 * block);
    }
    assert_eq!(t.take_emptied(1), None, "they may come back");
    // Used once more, it is the last to go.
    touch(&mut t, 0);
    touch(&mut t, 5000);
    assert_eq!(t.take_emptied(1), Some(2 << 12..3 << 12));
    assert_eq!(t.take_emptied(1), None);
    // Beside the next one something is mapped: its run stays as a whole.
    t.set_mapped(PageId(5 << 12));
    touch(&mut t, 5002);
    touch(&mut t, 5004);
    assert_eq!(t.take_emptied(2 << 12), Some(6 << 12..8 << 12));
    assert_eq!((t.take_emptied(2 << 12), t.empty_blocks, t.blocks()), (None, 1024, 1));
    assert_eq!(t.blocks.len(), 1025);
    // However often the same ones come and go.
    for round in 0..20 {
        (0..512).for_each(|block| touch(&mut t, 8000 + block));
        while t.take_emptied(1).is_some() {}
        assert!(t.emptied.len() <= 4 * 1024 && t.blocks.len() == 1025, "round {round}");
    }
    assert!((8000..8512).all(|block| t.blocks.get(block).is_some()));
}
