//! Conversions that are killed, hindered or hurried by another: what has the target's name is whole, and what an interrupted one left is gone on with.

mod convert_support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use convert_support::{Random, Volume, binary, names, raw};
use vastgrid::Extent;
use vastgrid::store::unfinished_save;

/// Starts a conversion that takes a while.
fn start(volume: &Volume, image: &Path, more: &[&str]) -> Child {
    let slow = ["--chunk=16", "--shard=32", "--codec=zstd:15", "--budget=64MiB"];
    Command::new(binary())
        .args(volume.args())
        .arg(image)
        .args(slow)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_conversion_that_is_killed_anywhere_leaves_nothing_or_all_and_is_gone_on_with() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(140, 110, 140), random.next());
    let image = folder.path().join("out.ome.zarr");
    let begun = Instant::now();
    assert!(start(&volume, &image, &[]).wait().unwrap().success());
    let whole = begun.elapsed();
    volume.check(&image);
    let (mut kills, mut completed, mut gone_on) = (0, 1, 0);
    while kills < 25 {
        let before = image.exists();
        let mut child = start(&volume, &image, &["--resume", "--overwrite"]);
        let wait = Duration::from_micros(random.below(u64::try_from(whole.as_micros()).unwrap() * 3 / 4));
        std::thread::sleep(wait);
        let killed = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if killed && !output.status.success() {
            kills += 1;
        } else {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            completed += 1;
            gone_on += usize::from(String::from_utf8_lossy(&output.stdout).contains("from before"));
        }
        // There, and then whole: the one from before, or the new one.
        assert!(image.exists() || !before, "what was there is gone");
        if image.exists() && (kills % 5 == 0 || output.status.success()) {
            volume.check(&image);
        }
        if output.status.success() && random.below(2) == 0 {
            fs::remove_dir_all(&image).unwrap();
        }
    }
    let said = start(&volume, &image, &["--resume", "--overwrite"]).wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    volume.check(&image);
    assert_eq!(names(folder.path()), ["out.ome.zarr", "volume.raw"], "nothing is left beside it");
    eprintln!(
        "{kills} kills in conversions of {whole:?}; {completed} were completed, {gone_on} of them gone on with"
    );
}

#[test]
fn of_two_conversions_to_one_target_one_wins_and_the_other_says_so() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(130, 100, 90), random.next());
    let image = folder.path().join("out.ome.zarr");
    for round in 0..6 {
        let first = start(&volume, &image, &[]);
        std::thread::sleep(Duration::from_millis(random.below(if round % 2 == 0 { 3 } else { 300 })));
        let second = start(&volume, &image, &[]);
        let outputs = [first, second].map(|child| child.wait_with_output().unwrap());
        let winners = outputs.iter().filter(|output| output.status.success()).count();
        let said: Vec<_> = outputs.iter().map(|o| String::from_utf8_lossy(&o.stderr).into_owned()).collect();
        assert_eq!(winners, 1, "{said:?}");
        assert!(
            said.iter().any(|s| s.contains("by someone else") || s.contains("exists already")),
            "{said:?}"
        );
        volume.check(&image);
        fs::remove_dir_all(&image).unwrap();
        assert_eq!(names(folder.path()), ["volume.raw"]);
    }
}

#[test]
fn a_conversion_of_a_file_that_changed_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(160, 150, 140), 1);
    let image = folder.path().join("out.ome.zarr");
    let mut child = start(&volume, &image, &[]);
    let partial = folder.path().join(".out.ome.zarr.partial/tree/s0/c");
    let waited = Instant::now();
    // The files that are complete are noted by the dozen.
    let journal = folder.path().join(".out.ome.zarr.partial/journal");
    let length = || fs::metadata(&journal).map_or(0, |about| about.len());
    let mut begun = 0;
    while (begun == 0 || length() == begun) && waited.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(2));
        begun = if begun == 0 { length() } else { begun };
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!image.exists(), "killed too late");
    assert!(unfinished_save(&image).unwrap() > 0, "killed too soon");
    let other = Volume::write(folder.path(), Extent::new(160, 150, 140), 2);
    let output = start(&other, &image, &["--resume"]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("`input`"), "{said}");
    assert!(said.contains("--resume") && said.contains("--restart"), "{said}");
    // Nobody loses hours of work by leaving out a word.
    let output = start(&other, &image, &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--resume") && said.contains("--restart"), "{said}");
    assert!(partial.exists());
    // Begun anew, it is what it should be.
    assert!(start(&other, &image, &["--restart"]).wait().unwrap().success());
    other.check(&image);
}

/// Runs a shell's words with `convert` and what follows as its arguments.
fn shell(words: &str, args: &[String]) -> std::process::Output {
    Command::new("bash").args(["-c", words, "convert"]).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn files_that_may_grow_no_more_are_an_error_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(120, 100, 90), 5);
    let image = folder.path().join("out.ome.zarr");
    let mut args = vec![binary().display().to_string()];
    args.extend(volume.args());
    args.push(image.display().to_string());
    args.extend(["--chunk=16".into(), "--shard=64".into(), "--codec=none".into()]);
    // Shards have 512 KiB; the limit is of 100 KiB.
    let limited = shell("trap '' XFSZ; ulimit -f 100; exec \"$@\"", &args);
    let said = String::from_utf8_lossy(&limited.stderr);
    assert!(
        !limited.status.success() && said.contains("File too large") && said.contains("writing"),
        "{said}"
    );
    assert!(!image.exists());
    args.push("--resume".into());
    let free = shell("exec \"$@\"", &args);
    assert!(free.status.success(), "{}", String::from_utf8_lossy(&free.stderr));
    volume.check(&image);

    let mut region = vec![args[0].clone(), "region".into()];
    region.extend(volume.args());
    let out = folder.path().join("box.raw");
    region.push(out.display().to_string());
    let limited = shell("trap '' XFSZ; ulimit -f 100; exec \"$@\"", &region);
    let said = String::from_utf8_lossy(&limited.stderr);
    assert!(!limited.status.success() && said.contains("File too large"), "{said}");
    assert_eq!(names(folder.path()), ["out.ome.zarr", "volume.raw"]);
    assert!(shell("exec \"$@\"", &region).status.success());
    assert!(raw(&out, volume.extent) == raw(&volume.path, volume.extent));
}

/// A file system of so many bytes, if one may be mounted here.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let small = Self(folder);
        small.run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "vastgrid-test"]).then_some(small)
    }

    fn remount(&self, options: &str) {
        assert!(self.run("mount", &["-o", &format!("remount,{options}")]));
    }

    fn run(&self, program: &str, args: &[&str]) -> bool {
        let status = Command::new(program).args(args).arg(self.0.path()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.run("umount", &[]);
    }
}

#[test]
fn a_full_disk_or_one_that_may_not_be_written_is_an_error_and_nothing_is_lost() {
    let Some(small) = Small::mount("1m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::write(folder.path(), Extent::new(160, 150, 140), 9);
    let image = small.0.path().join("out.ome.zarr");
    let output = start(&volume, &image, &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    assert!(!image.exists());
    small.remount("size=64m");
    let again = start(&volume, &image, &["--resume"]).wait_with_output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    volume.check(&image);
    small.remount("ro");
    let other = start(&volume, &small.0.path().join("other"), &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        !other.status.success() && said.contains("Read-only file system") && said.contains(".other"),
        "{said}"
    );
}
