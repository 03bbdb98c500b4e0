//! Zarr that may not be read, or written: an error that names the file and says why, for those whom permissions hold.
//!
//! Permissions hold for everyone but root. A test that runs as root has itself run once more by somebody else.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use vastgrid::convert::{Conversion, ConvertOptions};
use vastgrid::source::{ContentKey, Procedural, Zarr, ZarrSelection, ZarrSlice};
use vastgrid::store::{PyramidDescription, PyramidWriter, TileStore, ZarrCodec, ZarrOptions, ZarrStore};
use vastgrid::{Coord, Extent, PyramidSource, Region, SourceError, StoreError, TileSource};

/// Whom permissions hold for: the user that is nobody on all systems.
const NOBODY: &str = "65534";

/// Where the folder is, for the test that runs once more.
const FOLDER: &str = "VASTGRID_TEST_OF_PERMISSIONS";

/// What it says once it has come to its end.
const CHECKED: &str = "permissions were checked";

const SIDE: u64 = 32;

fn options(shard: Option<Extent>, codec: ZarrCodec) -> ZarrOptions {
    ZarrOptions { chunk: Extent::cube(8), shard, codec, ..ZarrOptions::default() }
}

/// Writes an image of two levels.
fn image(path: &Path, shard: Option<Extent>, codec: ZarrCodec) {
    let source = Procedural::new(Extent::cube(SIDE), |c: Coord| u16::try_from(1 + c.x + c.y * c.z).unwrap());
    let options =
        ConvertOptions { coarsest_voxels: 4096, zarr: options(shard, codec), ..ConvertOptions::default() };
    Conversion::new(source, options).unwrap().run(path).unwrap();
}

/// Has `check` run where permissions hold, on a folder that `prepare` has put things into. `name` is that of the test.
fn unprivileged(name: &str, prepare: impl FnOnce(&Path), check: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        check(Path::new(&folder));
        println!("{CHECKED}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().join("within");
    fs::create_dir(&within).unwrap();
    prepare(&within);
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return check(&within);
    }
    for open in [folder.path(), &within] {
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
    }
    // The test itself may lie where nobody else looks.
    let test = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    fs::set_permissions(&test, Permissions::from_mode(0o755)).unwrap();
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    let run = Command::new("setpriv")
        .args([&user, &group, "--clear-groups", "--"])
        .arg(&test)
        .args(["--exact", name, "--nocapture"])
        .env(FOLDER, &within)
        .current_dir("/")
        .output();
    let run = match run {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: root without `setpriv`, for whom permissions do not hold");
            return;
        }
        run => run.unwrap(),
    };
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains(CHECKED), "{said}");
}

fn forbid(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
}

/// Whether an error tells of a file, and what the system says of it.
fn names(error: &dyn Error, path: &Path, why: &str) {
    let said = error.to_string();
    assert!(said.contains(path.to_str().unwrap()) && said.contains(why), "{said:?} of {}", path.display());
}

fn voxels(image: &Path, region: Region) -> Result<Vec<u16>, SourceError> {
    let array = Zarr::open(image)?.array("s0")?;
    let mut out = vec![0; usize::try_from(region.extent.checked_volume().unwrap()).unwrap()];
    array.source::<u16>(&ZarrSlice::last(3))?.read(region, &mut out)?;
    Ok(out)
}

/// The box of the chunk, or of the shard's chunk, that is tampered with, and one that is not.
fn boxes() -> [Region; 2] {
    [16, 0].map(|x| Region::new(Coord::new(x, 0, 0), Extent::cube(8)))
}

const DENIED: &str = "Permission denied";

#[test]
fn what_may_not_be_read_is_told_by_its_file() {
    let shards = [None, Some(Extent::cube(16))];
    let prepare = |folder: &Path| {
        for (name, file) in [("root", "zarr.json"), ("level", "s1/zarr.json")] {
            image(&folder.join(name), None, ZarrCodec::default());
            forbid(&folder.join(name).join(file));
        }
        for (nth, shard) in shards.into_iter().enumerate() {
            for codec in [ZarrCodec::None, ZarrCodec::default()] {
                let path = folder.join(format!("chunk {nth} {codec:?}"));
                image(&path, shard, codec);
                forbid(&path.join(if shard.is_some() { "s0/c/0/0/1" } else { "s0/c/0/0/2" }));
            }
        }
        image(&folder.join("row"), None, ZarrCodec::default());
        forbid(&folder.join("row/s0/c/0/0"));
        image(&folder.join("ranges"), None, ZarrCodec::default());
        forbid(&folder.join("ranges/vastgrid/ranges/s0/c/0/0/0/0"));
        image(&folder.join("list"), None, ZarrCodec::default());
        forbid(&folder.join("list"));
    };
    unprivileged("what_may_not_be_read_is_told_by_its_file", prepare, |folder| {
        let [within, beside] = boxes();
        let file = folder.join("root/zarr.json");
        names(&Zarr::open(folder.join("root")).unwrap_err(), &file, DENIED);
        names(&vastgrid::open(folder.join("root")).unwrap_err(), &file, DENIED);
        let error = Zarr::open(folder.join("list")).unwrap_err();
        names(&error, &folder.join("list"), DENIED);

        let (zarr, file) = (Zarr::open(folder.join("level")).unwrap(), folder.join("level/s1/zarr.json"));
        let skipped = &zarr.skipped().iter().find(|(path, _)| path == "s1").expect("it is told").1;
        names(skipped, &file, DENIED);
        names(&zarr.images()[0].array(1).unwrap_err(), &file, DENIED);
        let levels = PyramidSource::<u16>::from_zarr(&zarr.images()[0], &ZarrSelection::default()).unwrap();
        names(&levels.source(1).err().expect("an error"), &file, DENIED);
        assert!(levels.source(0).is_ok());

        for (nth, shard) in shards.into_iter().enumerate() {
            for codec in [ZarrCodec::None, ZarrCodec::default()] {
                let path = folder.join(format!("chunk {nth} {codec:?}"));
                let file = path.join(if shard.is_some() { "s0/c/0/0/1" } else { "s0/c/0/0/2" });
                names(&voxels(&path, within).unwrap_err(), &file, DENIED);
                assert_eq!(voxels(&path, beside).unwrap()[0], 1);
            }
        }
        // A chunk that may not be looked for is not one that is not there.
        let row = folder.join("row");
        names(&voxels(&row, within).unwrap_err(), &row.join("s0/c/0/0/2"), DENIED);
        names(&ContentKey::of_path(&row).unwrap_err(), &row.join("s0/c/0/0"), DENIED);
        // Only ranges are gone.
        let ranges = folder.join("ranges");
        let zarr = Zarr::open(&ranges).unwrap();
        let error = zarr.images()[0].ranges::<u16>(0).unwrap_err();
        names(&error, &ranges.join("vastgrid/ranges/s0/c/0/0/0/0"), DENIED);
        let levels = PyramidSource::<u16>::from_zarr(&zarr.images()[0], &ZarrSelection::default()).unwrap();
        assert!(levels.source(0).unwrap().ranges().is_none());
        assert!(levels.source(1).unwrap().ranges().is_some());
    });
}

fn image_store(path: &Path, options: &ZarrOptions) -> Result<(), StoreError> {
    let levels = vec![(Extent::cube(SIDE), [1.0; 3])];
    PyramidWriter::create(path, &PyramidDescription::new(levels), 0u16, options).map(drop)
}

#[test]
fn where_nothing_may_be_written_nothing_is() {
    let prepare = |folder: &Path| {
        fs::create_dir(folder.join("closed")).unwrap();
        image(&folder.join("closed/there.zarr"), None, ZarrCodec::default());
        fs::set_permissions(folder.join("closed"), Permissions::from_mode(0o555)).unwrap();
    };
    unprivileged("where_nothing_may_be_written_nothing_is", prepare, |folder| {
        let options = options(None, ZarrCodec::default());
        let partial = folder.join("closed/.new.zarr.partial");
        let new = folder.join("closed/new.zarr");
        let error = ZarrStore::create(&new, Extent::cube(SIDE), 0u16, &options).unwrap_err();
        assert!(matches!(&error, StoreError::File { path, .. } if *path == partial), "{error:?}");
        names(&error, &partial, DENIED);
        names(&image_store(&new, &options).unwrap_err(), &partial, DENIED);
        let replace = ZarrOptions { replace: true, ..options.clone() };
        let there = folder.join("closed/there.zarr");
        let error = image_store(&there, &replace).unwrap_err();
        names(&error, &folder.join("closed/.there.zarr.partial"), DENIED);
        assert_eq!(voxels(&there, boxes()[1]).unwrap()[0], 1, "it is as it was");

        // A folder that is closed while it is written to.
        fs::create_dir(folder.join("open")).unwrap();
        let target = folder.join("open/new.zarr");
        let store = ZarrStore::create(&target, Extent::cube(SIDE), 0u16, &options).unwrap();
        let objects = folder.join("open/.new.zarr.partial/tree");
        store.write(Region::whole(Extent::cube(8)), &[1; 512]).unwrap();
        store.flush().unwrap();
        fs::set_permissions(folder.join("open"), Permissions::from_mode(0o555)).unwrap();
        assert!(objects.is_dir());
        let error = store.save().unwrap_err();
        assert!(error.to_string().contains(DENIED), "{error}");
        names(&error, &target, DENIED);
        assert!(!target.exists());
        fs::set_permissions(folder.join("open"), Permissions::from_mode(0o777)).unwrap();
        // What was written is there to go on with.
        let resume = ZarrOptions { resume: true, ..options };
        ZarrStore::create(&target, Extent::cube(SIDE), 0u16, &resume).unwrap().save().unwrap();
        let array = Zarr::open(&target).unwrap().array("").unwrap();
        let mut out = [0; 512];
        array.source::<u16>(&ZarrSlice::last(3)).unwrap().read(boxes()[1], &mut out).unwrap();
        assert_eq!(out, [1; 512]);
    });
}

#[test]
fn what_cannot_be_a_file_is_told_by_its_name_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zarr");
    let [within, beside] = boxes();
    for shard in [None, Some(Extent::cube(16))] {
        image(&path, shard, ZarrCodec::default());
        let chunk = path.join(if shard.is_some() { "s0/c/0/0/1" } else { "s0/c/0/0/2" });
        fs::remove_file(&chunk).unwrap();
        symlink(&chunk, &chunk).unwrap();
        names(&voxels(&path, within).unwrap_err(), &chunk, "symbolic links");
        assert_eq!(voxels(&path, beside).unwrap()[0], 1);
        // A file in the place of a folder: its chunks are not those that hold the fill value.
        fs::remove_dir_all(path.join("s0/c/0/0")).unwrap();
        fs::write(path.join("s0/c/0/0"), "in the way").unwrap();
        names(&voxels(&path, within).unwrap_err(), &chunk, "Not a directory");
        fs::remove_file(path.join("s0/zarr.json")).unwrap();
        symlink("zarr.json", path.join("s0/zarr.json")).unwrap();
        names(&voxels(&path, within).unwrap_err(), &path.join("s0/zarr.json"), "symbolic links");
        fs::remove_file(path.join("zarr.json")).unwrap();
        symlink("zarr.json", path.join("zarr.json")).unwrap();
        names(&Zarr::open(&path).unwrap_err(), &path.join("zarr.json"), "symbolic links");
        fs::remove_dir_all(&path).unwrap();
    }
    fs::write(folder.path().join("file"), "").unwrap();
    let target = folder.path().join("file/new.zarr");
    let options = options(None, ZarrCodec::default());
    let error = ZarrStore::create(&target, Extent::cube(SIDE), 0u16, &options).unwrap_err();
    names(&error, &folder.path().join("file"), "Not a directory");
}
