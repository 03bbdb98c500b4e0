//! What is opened of Zarr stores: dimensions go by their names, images of one group are told apart, and what cannot be read is told with its reason.

mod common;

use std::fs;
use std::path::Path;

use common::files::{fixtures, read_whole};
use vastgrid::open::{Selection, open};
use vastgrid::{Extent, SourceError, TileSource};

/// An array of version 3, of `u8`, in one chunk; voxels count up.
fn write_array(folder: &Path, shape: &[u64], names: Option<serde_json::Value>) {
    let mut metadata = serde_json::json!({"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}]});
    if let Some(names) = names {
        metadata["dimension_names"] = names;
    }
    let mut chunk = folder.join("c");
    let _ = fs::remove_dir_all(&chunk);
    chunk.extend(shape.iter().map(|_| "0"));
    fs::create_dir_all(chunk.parent().unwrap()).unwrap();
    let voxels: Vec<u8> = (0..shape.iter().product()).map(|n: u64| u8::try_from(n % 251).unwrap()).collect();
    fs::write(chunk, voxels).unwrap();
    fs::write(folder.join("zarr.json"), metadata.to_string()).unwrap();
}

fn write_group(folder: &Path, attributes: &serde_json::Value) {
    fs::create_dir_all(folder).unwrap();
    let metadata = serde_json::json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
    fs::write(folder.join("zarr.json"), metadata.to_string()).unwrap();
}

fn tczyx(levels: &[&str], name: &str) -> serde_json::Value {
    let axes = [("t", "time"), ("c", "channel"), ("z", "space"), ("y", "space"), ("x", "space")];
    let axes: Vec<_> =
        axes.iter().map(|(name, kind)| serde_json::json!({"name": name, "type": kind})).collect();
    let datasets: Vec<_> = levels.iter().map(|path| serde_json::json!({"path": path})).collect();
    serde_json::json!({"name": name, "axes": axes, "datasets": datasets})
}

#[test]
fn dimensions_of_arrays_go_by_their_names_and_further_ones_are_chosen_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let read = |names: serde_json::Value, shape: &[u64], selection: &Selection| {
        write_array(folder.path(), shape, Some(names));
        let opened = open(folder.path()).unwrap();
        let entry = &opened.entries()[0];
        let source = opened.dataset(selection).unwrap().into_source::<u8>();
        assert_eq!(source.extent(), entry.extent());
        (entry.extent(), entry.times, entry.channel_count, read_whole(&source))
    };
    let first = Selection::default();
    let (extent, ..) = read(serde_json::json!(["z", "y", "x"]), &[2, 3, 4], &first);
    assert_eq!(extent, Extent::new(4, 3, 2));
    let (extent, _, _, voxels) = read(serde_json::json!(["x", "y", "z"]), &[2, 3, 4], &first);
    assert_eq!(extent, Extent::new(2, 3, 4));
    assert_eq!(voxels[..6], [0, 12, 4, 16, 8, 20], "x fastest, which has the longest step in the array");
    let chosen = Selection { time: 1, channel: 2, ..Selection::default() };
    let (extent, times, channels, voxels) =
        read(serde_json::json!(["t", "c", "y", "x"]), &[2, 3, 2, 2], &chosen);
    assert_eq!((extent, times, channels), (Extent::new(2, 2, 1), 2, 3));
    assert_eq!(voxels, [20, 21, 22, 23]);
    // An axis of another kind.
    let others = vec![("energy".to_owned(), 1)];
    let at_one = Selection { others, ..Selection::default() };
    let (extent, _, _, voxels) = read(serde_json::json!(["energy", "z", "y", "x"]), &[2, 1, 2, 2], &at_one);
    assert_eq!((extent, voxels), (Extent::new(2, 2, 1), vec![4, 5, 6, 7]));
    let opened = open(folder.path()).unwrap();
    let refused = |name: &str, at| {
        let others = vec![(name.to_owned(), at)];
        opened.dataset(&Selection { others, ..Selection::default() }).unwrap_err().to_string()
    };
    assert!(
        refused("energy", 2).contains("(/), energy: there is no place 2; it has 2"),
        "{}",
        refused("energy", 2)
    );
    assert!(refused("mass", 0).contains("the axis \"mass\" is not supported"), "{}", refused("mass", 0));
    assert!(refused("x", 0).contains("along dimension 3"), "{}", refused("x", 0));
    let file = open(fixtures().join("nrrd/raw_i16.nrrd")).unwrap();
    let others = vec![("x".to_owned(), 0)];
    assert!(
        file.dataset(&Selection { others, ..Selection::default() }).is_err(),
        "no axis of a file is chosen"
    );
}

#[test]
fn what_cannot_be_read_of_a_store_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    write_group(folder.path(), &serde_json::json!({}));
    fs::create_dir(folder.path().join("broken")).unwrap();
    fs::write(folder.path().join("broken/zarr.json"), "{ what").unwrap();
    write_group(
        &folder.path().join("image"),
        &serde_json::json!({"ome": {"multiscales": [tczyx(&["0", "1"], "a")]}}),
    );
    let opened = open(folder.path()).unwrap();
    let mut skipped: Vec<_> = opened.skipped().iter().map(|(name, _)| name.as_str()).collect();
    skipped.sort_unstable();
    // No level of the image is there.
    assert_eq!((skipped, opened.entries().len(), opened.is_cut()), (vec!["broken", "image"], 0, false));
    let error = opened.dataset(&Selection::default()).unwrap_err().to_string();
    assert!(error.contains("broken/zarr.json") && error.contains("image/0"), "{error}");

    // With a coarser level its times and channels are known; the finest one says why it is not read.
    write_array(&folder.path().join("image/1"), &[2, 3, 1, 2, 2], None);
    let opened = open(folder.path()).unwrap();
    let entry = &opened.entries()[0];
    assert_eq!((entry.name.as_str(), entry.times, entry.channel_count), ("image", 2, 3));
    assert_eq!(entry.levels, [Extent::default(), Extent::new(2, 2, 1)]);
    assert_eq!(entry.axes.iter().map(|axis| axis.size).collect::<Vec<_>>(), [2, 3, 0, 0, 0]);
    let level = |level, time| opened.dataset(&Selection { level, time, ..Selection::default() });
    assert_eq!(level(1, 1).unwrap().extent(), Extent::new(2, 2, 1));
    assert!(matches!(level(0, 0).unwrap_err(), SourceError::Store { .. }));
    assert!(matches!(level(1, 2).unwrap_err(), SourceError::NoSuch { what: "time point", count: 2, .. }));
    assert!(matches!(level(2, 0).unwrap_err(), SourceError::NoSuch { what: "level", count: 2, .. }));
}

#[test]
fn images_of_one_group_have_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let images = [tczyx(&["a"], "first"), tczyx(&["b"], "second")];
    write_group(folder.path(), &serde_json::json!({"ome": {"multiscales": images}}));
    write_array(&folder.path().join("a"), &[1, 1, 2, 3, 4], None);
    write_array(&folder.path().join("b"), &[1, 1, 5, 6, 7], None);
    let opened = open(folder.path()).unwrap();
    let names: Vec<_> = opened.entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["/", "/#1"]);
    let second = Selection { entry: Some("/#1".into()), ..Selection::default() };
    assert_eq!(opened.dataset(&second).unwrap().extent(), Extent::new(7, 6, 5));
    assert_eq!(opened.entry(&second).unwrap().title.as_deref(), Some("second"));
}
