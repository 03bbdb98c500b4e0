//! Saves into a folder after what was interrupted, lost or left.

use std::fs;
use std::path::{Path, PathBuf};

use super::tests::read_array;
use super::*;
use crate::error::StoreError;
use crate::geometry::boxes::grid;
use crate::geometry::{Extent, Region};
use crate::store::TileStore;
use crate::store::disk::tests::{IN_TURNS, Killed};

const EXTENT: Extent = Extent::new(16, 8, 8);

fn options() -> ZarrOptions {
    ZarrOptions { chunk: Extent::cube(4), shard: Some(Extent::cube(8)), ..ZarrOptions::default() }
}

fn replace() -> ZarrOptions {
    ZarrOptions { replace: true, ..options() }
}

fn save(root: &Path, options: &ZarrOptions, value: u16) -> Result<(), StoreError> {
    let store = ZarrStore::create(root, EXTENT, 0u16, options)?;
    store.write_uniform(Region::whole(EXTENT), value)?;
    store.save()
}

fn found(root: &Path) -> Vec<u16> {
    read_array(root, "/").unwrap().1
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// A folder with a volume of ones, and what became of replacing it by twos where names cannot be swapped.
fn replaced_in_turns(killed: Killed) -> (tempfile::TempDir, PathBuf, Result<(), StoreError>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    save(&root, &options(), 1).unwrap();
    IN_TURNS.set(Some(killed));
    let outcome = save(&root, &replace(), 2);
    IN_TURNS.set(None);
    (folder, root, outcome)
}

#[test]
fn where_names_cannot_be_swapped_a_volume_is_replaced_all_the_same() {
    let (folder, root, outcome) = replaced_in_turns(Killed::Never);
    outcome.unwrap();
    assert_eq!(found(&root), [2; 1024]);
    assert_eq!(names(folder.path()), ["a.zarr"]);
}

#[test]
fn what_was_moved_aside_has_its_name_again_after_a_kill() {
    let (folder, root, outcome) = replaced_in_turns(Killed::Between);
    outcome.unwrap_err();
    assert_eq!(names(folder.path()), [".a.zarr.partial"], "nothing has the name");
    let error = save(&root, &options(), 3).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(found(&root), [1; 1024]);
    // The save that was killed can still be gone on with.
    let resume = ZarrOptions { resume: true, ..replace() };
    let store = ZarrStore::create(&root, EXTENT, 0u16, &resume).unwrap();
    assert!(store.array().is_complete(Region::whole(EXTENT)));
    store.save().unwrap();
    assert_eq!(found(&root), [2; 1024]);
    assert_eq!(names(folder.path()), ["a.zarr"]);
}

#[test]
fn what_was_moved_aside_is_removed_where_the_new_one_is_in_place() {
    let (folder, root, outcome) = replaced_in_turns(Killed::After);
    outcome.unwrap_err();
    assert_eq!(found(&root), [2; 1024]);
    save(&root, &replace(), 3).unwrap();
    assert_eq!(found(&root), [3; 1024]);
    assert_eq!(names(folder.path()), ["a.zarr"]);

    // Something else has the name: the only copy is not removed for it.
    let (folder, root, _) = replaced_in_turns(Killed::Between);
    fs::create_dir(&root).unwrap();
    let error = save(&root, &replace(), 3).unwrap_err();
    assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
    fs::rename(folder.path().join(".a.zarr.partial/.tree.replaced"), folder.path().join("saved")).unwrap();
    assert_eq!(found(&folder.path().join("saved")), [1; 1024]);
    save(&root, &replace(), 4).unwrap();
    assert_eq!(found(&root), [4; 1024]);
    assert_eq!(names(folder.path()), ["a.zarr", "saved"]);
}

#[test]
fn what_a_save_did_not_make_stays_and_keeps_nobody_from_saving() {
    let folder = tempfile::tempdir().unwrap();
    let (root, partial) = (folder.path().join("a.zarr"), folder.path().join(".a.zarr.partial"));
    let store = ZarrStore::create(&root, EXTENT, 0u16, &options()).unwrap();
    fs::write(partial.join("mine"), "mine").unwrap();
    store.save().unwrap();
    for value in 1..4 {
        save(&root, &replace(), value).unwrap();
        assert_eq!(found(&root), [value; 1024]);
        assert_eq!(fs::read(partial.join("mine")).unwrap(), b"mine");
    }
    let error = ZarrStore::create(&root, EXTENT, 0u16, &replace()).unwrap().discard().unwrap_err();
    assert!(matches!(error, StoreError::InTheWay { .. }), "{error}");
    fs::remove_file(partial.join("mine")).unwrap();
    save(&root, &replace(), 5).unwrap();
    assert_eq!(names(folder.path()), ["a.zarr"]);
}

type Spoil = fn(&Path);

#[test]
fn an_object_that_is_not_as_it_was_remembered_is_written_again() {
    let object = "c/0/0/0";
    let spoil: [(&str, Spoil); 3] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("longer", |path| fs::write(path, vec![7; 100_000]).unwrap()),
    ];
    for (how, spoil) in spoil {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a.zarr");
        let store = ZarrStore::create(&root, EXTENT, 0u16, &options()).unwrap();
        store.write_uniform(Region::whole(EXTENT), 7).unwrap();
        store.flush().unwrap();
        drop(store);
        spoil(&folder.path().join(".a.zarr.partial/tree").join(object));
        let resume = ZarrOptions { resume: true, ..options() };
        let store = ZarrStore::create(&root, EXTENT, 0u16, &resume).unwrap();
        let parts: Vec<_> = grid(Region::whole(EXTENT), Extent::cube(8)).collect();
        let complete: Vec<_> = parts.iter().map(|part| store.array().is_complete(*part)).collect();
        assert_eq!(complete, [false, true], "{how}");
        store.write_uniform(parts[0], 7).unwrap();
        store.save().unwrap();
        assert_eq!(found(&root), [7; 1024], "{how}");
    }
}

#[test]
fn a_file_where_nothing_is_remembered_to_be_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a.zarr");
    let resume = ZarrOptions { resume: true, ..options() };
    let store = ZarrStore::create(&root, EXTENT, 0u16, &resume).unwrap();
    store.write_uniform(Region::whole(EXTENT), 0).unwrap();
    store.flush().unwrap();
    drop(store);
    let path = folder.path().join(".a.zarr.partial/tree/c/0/0/0");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "an object that was removed, and came back").unwrap();
    ZarrStore::create(&root, EXTENT, 0u16, &resume).unwrap().save().unwrap();
    assert_eq!(found(&root), [0; 1024]);
}
