//! The example `convert` from its command line: there and back, what it refuses and how it says so.

mod convert_support;

use std::fs;
use std::process::Command;

use convert_support::{Random, Volume, all, binary, convert, fails, names, raw, succeeds};
use vastgrid::source::{Nrrd, Zarr, ZarrSelection};
use vastgrid::{Coord, Extent, Region, TileSource};

#[test]
fn a_volume_becomes_an_image_and_a_box_of_it_comes_back() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(190, 150, 130), random.next());
    let image = folder.path().join("out.ome.zarr");
    let mut args = volume.args();
    args.extend(["--spacing=0.5x0.5x2".into(), "--unit=mm".into(), "--budget=96MiB".into()]);
    args.extend(["--chunk=32x16x32".into(), "--codec=blosc:3".into()]);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    let path = image.display().to_string();
    args.push(&path);
    let said = succeeds(&[&args[..], &["--dry-run"]].concat());
    assert!(said.contains("nothing is written") && said.contains("190 x 150 x 130"), "{said}");
    assert_eq!(names(folder.path()), ["volume.raw"]);

    succeeds(&args);
    assert_eq!(names(folder.path()), ["out.ome.zarr", "volume.raw"]);
    let zarr = Zarr::open(&image).unwrap();
    let found = &zarr.images()[0];
    assert_eq!((found.spacing(), found.units()[2]), ([0.5, 0.5, 2.0], Some("millimeter")));
    assert_eq!((found.levels().len(), found.scale(1), found.name()), (2, [1.0, 1.0, 2.0], Some("volume")));

    // The image itself is an input like any other.
    let again = folder.path().join("again.ome.zarr");
    succeeds(&[&path, &again.display().to_string(), "--quiet", "--method=max"]);
    let again_zarr = Zarr::open(&again).unwrap();
    let copy = &again_zarr.images()[0];
    assert_eq!(
        (copy.spacing(), copy.units()[0], copy.name()),
        (found.spacing(), found.units()[0], found.name())
    );
    let finest = |image: &vastgrid::source::ZarrImage| {
        all(&image.level(0, &ZarrSelection::default()).unwrap().into_source::<u16>())
    };
    assert!(finest(copy) == finest(found) && finest(copy) == all(&volume.source()));
    std::fs::remove_dir_all(&again).unwrap();

    // Boxes of the file that it was made of.
    let region = Region::new(Coord::new(17, 20, 33), Extent::new(101, 64, 50));
    let mut expected = vec![0; 101 * 64 * 50];
    volume.source().read(region, &mut expected).unwrap();
    let input: Vec<_> = volume.args();
    let input: Vec<&str> = input.iter().map(String::as_str).collect();
    for name in ["box.raw", "box.nrrd"] {
        let out = folder.path().join(name).display().to_string();
        let spacing = ["--spacing=0.5x0.5x2", "--budget=48MiB", "--region=17,20,33,101,64,50", &out];
        succeeds(&[&["region"], &input[..], &spacing].concat());
        let found = if name == "box.raw" {
            raw(out.as_ref(), region.extent)
        } else {
            let nrrd = Nrrd::open(&out).unwrap();
            assert_eq!(nrrd.header().spacing(), [0.5, 0.5, 2.0]);
            assert_eq!(nrrd.header().space_origin(), Some(&[8.5, 10.0, 66.0][..]));
            all(&nrrd.into_source::<u16>().unwrap())
        };
        assert!(found == expected, "{name}");
        let again = fails(&[&["region"], &input[..], &spacing].concat());
        assert!(again.contains("exists already"), "{again}");
        succeeds(&[&["region"], &input[..], &spacing, &["--overwrite"]].concat());
    }
}

#[test]
fn an_orientation_goes_to_nrrd_and_its_loss_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let input = "tests/fixtures/nifti/pair_i16.hdr";
    let entry = vastgrid::open(input).unwrap().entries()[0].clone();
    assert!(entry.is_turned());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let output = convert(&[input, &at("v.ome.zarr"), "--quiet"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("the orientation is lost"), "{said}");
    assert!(said.contains("right-anterior-superior"), "{said}");
    let zarr = Zarr::open(at("v.ome.zarr")).unwrap();
    assert_eq!((zarr.images()[0].spacing(), zarr.images()[0].origin()), (entry.spacing, [0.0; 3]));

    succeeds(&["region", input, &at("box.nrrd"), "--region=2,3,4,5,6,7", "--quiet"]);
    let nrrd = Nrrd::open(at("box.nrrd")).unwrap();
    let header = nrrd.header();
    let steps = entry.steps();
    assert_eq!(header.space_directions(), steps.each_ref().map(|step| Some(&step[..])));
    assert_eq!(header.space_origin(), Some(&entry.position([2.0, 3.0, 4.0])[..]));
    assert_eq!(header.space(), Some("right-anterior-superior"));
    // Distances that the command line gives go along the same directions.
    let [x, y, z] = entry.spacing;
    let spacing = format!("--spacing={}x{}x{}", 2.0 * x, y, z);
    succeeds(&["region", input, &at("wide.nrrd"), "--region=2,3,4,5,6,7", "--quiet", &spacing]);
    let nrrd = Nrrd::open(at("wide.nrrd")).unwrap();
    let wide = nrrd.header().space_directions()[0].unwrap().to_vec();
    for (wide, step) in wide.iter().zip(steps[0]) {
        assert!((wide - 2.0 * step).abs() < 1e-6, "{wide} and {step}");
    }
    // What is not turned is placed as it is.
    let plain = convert(&["tests/fixtures/nrrd/raw_i16.nrrd", &at("plain.ome.zarr"), "--quiet"]);
    assert!(plain.status.success() && plain.stderr.is_empty(), "{plain:?}");
    let zarr = Zarr::open(at("plain.ome.zarr")).unwrap();
    assert_eq!(zarr.images()[0].origin(), [-90.0, -126.0, -72.0]);
}

#[test]
fn thin_volumes_have_thin_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(400, 90, 1), 3);
    let image = folder.path().join("out.ome.zarr");
    let mut args = volume.args();
    args.push(image.display().to_string());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    succeeds(&args);
    let zarr = Zarr::open(&image).unwrap();
    assert_eq!(zarr.images()[0].array(0).unwrap().chunk_shape(), [1, 64, 64]);
    volume.check(&image);
}

#[test]
fn what_is_there_is_left_alone_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(150, 140, 110), 1);
    let image = folder.path().join("out.ome.zarr");
    let path = image.display().to_string();
    let input = volume.args();
    let mut args: Vec<&str> = input.iter().map(String::as_str).collect();
    args.push(&path);
    fs::create_dir(&image).unwrap();
    fs::write(image.join("letter.txt"), "dear").unwrap();
    assert!(fails(&args).contains("exists already"));
    let over = [&args[..], &["--overwrite"]].concat();
    assert!(fails(&over).contains("something else than Zarr"));
    assert_eq!(fs::read(image.join("letter.txt")).unwrap(), b"dear");
    fs::remove_dir_all(&image).unwrap();
    succeeds(&args);
    volume.check(&image);
    let other = Volume::write(folder.path(), Extent::new(150, 140, 110), 2);
    assert!(fails(&args).contains("exists already"));
    volume.check(&image);
    succeeds(&over);
    other.check(&image);
    assert_eq!(names(folder.path()), ["out.ome.zarr", "volume.raw"]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(20, 20, 20), 1);
    let input = volume.args();
    let out = folder.path().join("out").display().to_string();
    let with = |more: &[&str]| -> String {
        let mut args: Vec<&str> = input.iter().map(String::as_str).collect();
        args.push(&out);
        args.extend(more);
        fails(&args)
    };
    for (more, word) in [
        (&["--chunk=0"][..], "chunk"),
        (&["--chunk=5000"], "chunk"),
        (&["--chunk=32", "--shard=48"], "shard"),
        (&["--codec=lzma:3"], "zstd:LEVEL"),
        (&["--codec=gzip:12"], "0 to 9"),
        (&["--codec=zstd:99"], "s0"),
        (&["--levels=0"], "levels"),
        (&["--budget=1KiB"], "budget"),
        (&["--budget=1parsec"], "KiB"),
        (&["--spacing=1x0x1"], "larger than 0"),
        (&["--method=median"], "mean"),
    ] {
        let said = with(more);
        assert!(said.contains(word), "{more:?}: {said}");
    }
    for address in ["s3://bucket/out", "https://host/out"] {
        let image = fails(&[&input[0], &input[1], &input[2], address]);
        let region = fails(&["region", &input[0], &input[1], &input[2], address]);
        assert!(image.contains(address) && region.contains("address"), "{image} {region}");
    }
    let missing = fails(&["/nowhere/at/all.nrrd", &out]);
    assert!(missing.contains("/nowhere/at/all.nrrd"), "{missing}");
    let short = fails(&[&input[0], "--shape=20x20x21", "--type=u16", &out]);
    assert!(short.contains("16800 bytes are needed"), "{short}");
    let absurd = fails(&[&input[0], "--shape=18446744073709551615x2x2", "--type=u16", &out]);
    assert!(absurd.contains("beyond 64 bits"), "{absurd}");
    let outside = fails(&["region", &input[0], &input[1], &input[2], "--region=10,0,0,11,1,1", &out]);
    assert!(outside.contains("11 x 1 x 1 at (10, 0, 0)"), "{outside}");
    let half = fails(&["region", &input[0], &input[1], "--type=f16", &format!("{out}.nrrd")]);
    assert!(half.contains("NRRD has no f16"), "{half}");
    assert!(fails(&[]).contains("IN"));
    assert_eq!(names(folder.path()), ["volume.raw"], "nothing is left of it");
}

/// Has an image converted by a process that may write no file larger than so many KiB, which it cannot do without.
fn interrupted(args: &[&str], most_kib: u32) {
    let limited = format!("trap '' XFSZ; ulimit -f {most_kib}; exec \"$@\"");
    let run =
        Command::new("bash").args(["-c", &limited, "convert"]).arg(binary()).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("File too large"), "{said}");
}

#[test]
fn an_image_is_gone_on_with_unless_a_chunk_of_it_was_changed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(64, 64, 768), 1);
    let (image, out) = (folder.path().join("in.ome.zarr"), folder.path().join("out.ome.zarr"));
    let (from, to) = (image.display().to_string(), out.display().to_string());
    let plain = ["--chunk=16", "--shard=32", "--codec=none"];
    let input = volume.args();
    let made: Vec<&str> = input.iter().map(String::as_str).chain([from.as_str()]).chain(plain).collect();
    succeeds(&made);
    volume.check(&image);
    // Of the finest level's shards those of the first half lack the quarter that holds nothing, and are complete before one of 256 KiB comes, which is more than a file may have.
    let args = ["--chunk=16", "--shard=64x64x32", "--codec=none", "--quiet"];
    let begin = [&[from.as_str(), to.as_str()][..], &args].concat();
    let resume = [&begin[..], &["--resume"]].concat();

    interrupted(&begin, 200);
    assert!(!out.exists());
    let said = succeeds(&resume);
    assert!(said.contains("from before"), "{said}");
    volume.check(&out);
    fs::remove_dir_all(&out).unwrap();

    interrupted(&begin, 200);
    // One voxel of one chunk, in place: neither its size nor anything that describes it changes.
    let chunk = image.join("s0/c/20/0/1");
    let (mut bytes, described) = (fs::read(&chunk).unwrap(), fs::read(image.join("s0/zarr.json")).unwrap());
    bytes[0] ^= 0x55;
    fs::write(&chunk, bytes).unwrap();
    let said = fails(&resume);
    assert!(said.contains("`input`"), "{said}");
    assert!(!out.exists());
    assert_eq!(fs::read(image.join("s0/zarr.json")).unwrap(), described);
    // Begun anew, it has the voxel that was written.
    succeeds(&[&begin[..], &["--restart"]].concat());
    let finest = |path: &std::path::Path| {
        let zarr = Zarr::open(path).unwrap();
        all(&zarr.images()[0].level(0, &ZarrSelection::default()).unwrap().into_source::<u16>())
    };
    assert!(finest(&out) == finest(&image) && finest(&out) != all(&volume.source()));
}
