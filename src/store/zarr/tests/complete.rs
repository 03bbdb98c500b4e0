//! What a level says of what is complete, gives back of that, and remembers of it.

use super::*;

#[test]
fn what_is_not_complete_is_not_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let (extent, options) = small();
    let store = ZarrStore::create(&root, extent, 0u16, &options).unwrap();
    let first = Region::whole(Extent::new(8, 8, 7));
    let back = |region: Region| {
        let mut out = vec![1; index(voxels(region.extent))];
        store.array().read_back(region, &mut out).map(|()| out)
    };
    store.write_uniform(first, 5).unwrap();
    assert_eq!(back(first).unwrap(), [5; 448]);
    for region in [Region::whole(extent), Region::new(Coord::new(8, 0, 0), Extent::new(8, 8, 7))] {
        let error = back(region).unwrap_err();
        assert!(
            matches!(&error, StoreError::ReadBack { location, .. } if location.contains("c/0/")),
            "{error}"
        );
    }
    // Nor what is being written again, until it is there.
    let part = Region::whole(Extent::new(4, 4, 4));
    store.write_uniform(part, 6).unwrap();
    assert!(!store.array().is_complete(first));
    assert!(matches!(back(first), Err(StoreError::ReadBack { .. })));
    store.flush().unwrap();
    assert!(store.array().is_complete(first));
    assert_eq!(back(part).unwrap(), [6; 64]);
    assert_eq!(back(first).unwrap().iter().filter(|v| **v == 5).count(), 448 - 64);
    store.discard().unwrap();
}

#[test]
fn what_the_interrupted_save_completed_stays_known_and_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let (extent, options) = small();
    let store = ZarrStore::create(&root, extent, 0u16, &options).unwrap();
    let first = Region::whole(Extent::new(8, 8, 7));
    store.write_uniform(first, 5).unwrap();
    drop(store);
    assert_eq!(unfinished_save(&root).unwrap(), 1);
    let options = ZarrOptions { resume: true, ..options };
    let store = ZarrStore::create(&root, extent, 0u16, &options).unwrap();
    assert_eq!(unfinished_save(&root).unwrap(), 0, "somebody writes it");
    let level = store.array();
    let across = Region::whole(Extent::new(16, 8, 7));
    assert!(level.was_found(first) && !level.was_found(across));
    level.write_rest(across, &[7; 16 * 8 * 7]).unwrap();
    assert!(level.is_complete(across) && !level.was_found(across));
    level.write_uniform_rest(first, 9).unwrap();
    let mut out = vec![0; 16 * 8 * 7];
    level.read_back(across, &mut out).unwrap();
    let row = [[5; 8], [7; 8]].concat();
    assert!(out.chunks_exact(16).all(|found| found == row));
    // Who says so writes it all the same.
    store.write_uniform(first, 9).unwrap();
    assert!(!level.is_complete(first) && level.was_found(first));
    store.discard().unwrap();
    assert_eq!(unfinished_save(&root).unwrap(), 0);
}

#[test]
fn shards_that_were_closed_are_remembered_by_a_few_bits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let options = ZarrOptions { chunk: Extent::cube(1), shard: None, ..ZarrOptions::default() };
    let extent = Extent::new(9, 9, 9);
    let store = ZarrStore::create(&root, extent, 0u8, &options).unwrap();
    let chunks: Vec<_> = grid(Region::whole(extent), Extent::cube(1)).collect();
    // Several threads close the same ones again and again.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| chunks.iter().for_each(|&chunk| store.write(chunk, &[3]).unwrap()));
        }
    });
    assert!(store.array().state().open.is_empty());
    assert!(store.array().is_complete(Region::whole(extent)));
    store.save().unwrap();
    assert_eq!(read_array::<u8>(&root, "/").unwrap().1, vec![3; 729]);
}
