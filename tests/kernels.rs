//! The kernels that ship with the crate, as far as that can be told without a GPU: PTX that its sources make, the struct that both languages agree on, and the header's functions
//! run on the host.

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use vastgrid::device::{GridView, block};
use vastgrid::{Coord, Extent, Layout, LayoutSpec, cuda};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/kernels")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The headers that a source includes, and those that they do, in the order in which they are first met.
fn headers(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text(source).lines() {
        let Some(name) = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) else {
            continue;
        };
        for header in std::iter::once(name.to_owned()).chain(headers(name)) {
            if !found.contains(&header) {
                found.push(header);
            }
        }
    }
    found
}

#[test]
fn ptx_is_of_its_sources() {
    let mut sources: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    assert_eq!(sources.len(), 12);
    for source in sources {
        let name = source.file_name().unwrap().to_str().unwrap();
        let ptx = text(&name.replace(".cu", ".ptx"));
        let options = ptx.lines().nth(1).and_then(|line| line.strip_prefix("// options ")).unwrap();
        let quoted: Vec<_> = options.split(' ').map(|option| format!("\"{option}\"")).collect();
        let line = format!("OPTIONS = [{}]", quoted.join(", "));
        assert!(text("build.py").contains(&line), "{name}: made with other options than build.py's");
        let mut sum = Sha256::new();
        let used = headers(name);
        let texts = [name].into_iter().chain(used.iter().map(String::as_str)).map(text);
        for part in texts.chain([options.to_owned()]) {
            sum.update(part);
            sum.update([0]);
        }
        let used = used.join(", ");
        let expected = format!("// sha256 {:x} of {name}, {used} and the options", sum.finalize());
        assert_eq!(ptx.lines().next(), Some(expected.as_str()), "stale: run assets/kernels/build.py");
        assert!(ptx.contains("release 12.4, V12.4.127"), "{name}: made by another compiler");
        assert!(ptx.contains("\n.version 8.4\n.target sm_75\n"), "{name}: made for other drivers or devices");
    }
}

/// The `#define`s of the header that are plain numbers.
fn defines() -> HashMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("#define ")?.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    cuda::kernels::VASTGRID_CUH.lines().filter_map(line).collect()
}

/// That the header's own assertions hold is checked by every compilation of it; that `GridView` has the same offsets, by the library's.
#[test]
fn both_languages_agree_on_numbers() {
    let defines = defines();
    let layout = Layout::new(Extent::new(3, 5, 9), 4, LayoutSpec::default(), 1, 64).unwrap();
    let view = GridView::new(&layout, 0x1111, 0x2222, &[1, 2, 3, 4], true).unwrap();
    let bytes = bytemuck::bytes_of(&view);
    let word = |name: &str| {
        let at = usize::try_from(defines[name]).unwrap();
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let byte = |name: &str| bytes[usize::try_from(defines[name]).unwrap()];
    assert_eq!(bytes.len() as u64, defines["VG_GRID_BYTES"]);
    assert_eq!(word("VG_OFFSET_BASE"), 0x1111);
    assert_eq!(word("VG_OFFSET_BLOCKS"), 0x2222);
    assert_eq!(word("VG_OFFSET_FILL"), 0x0403_0201);
    assert_eq!(word("VG_OFFSET_EXTENT"), 3 | 5 << 32);
    assert_eq!(word("VG_OFFSET_EXTENT") & 0xffff_ffff, layout.extent().x);
    assert_eq!(u64::from(byte("VG_OFFSET_AXIS")), u64::from(layout.tile_shape().x.trailing_zeros()));
    assert_eq!(byte("VG_OFFSET_VOXEL_LOG2"), 2);
    assert_eq!(1 << byte("VG_OFFSET_TILE_VOXELS_LOG2"), layout.tile_voxels());
    assert_eq!(byte("VG_OFFSET_BLOCK_LOG2"), 12);
    assert_eq!(u64::from(byte("VG_OFFSET_FLAGS")), defines["VG_WRITABLE"]);
    assert_eq!(size_of::<vastgrid::device::GridAxis>() as u64, defines["VG_AXIS_BYTES"]);
    assert_eq!(view.fields().len(), 3 + 3 * 5 + 3 + 4);
    for (name, value) in [
        ("VG_WRITABLE", u64::from(GridView::WRITABLE)),
        ("VG_BLOCK_LOG2", block::TILES_LOG2.into()),
        ("VG_BLOCK_TILES", block::TILES),
        ("VG_GROUP_BYTES", block::GROUP_BYTES),
        ("VG_WORD_RESIDENT", block::RESIDENT_WORD),
        ("VG_WORD_UNIFORM", block::UNIFORM_WORD),
        ("VG_WORD_DIRTY", block::DIRTY_WORD),
        ("VG_BLOCK_GROUPS", 0),
        ("VG_BLOCK_VALUES", block::VALUES_BYTES),
        ("VG_BLOCK_RANGES", block::RANGES_BYTES),
        ("VG_BLOCK_BYTES", block::BYTES),
    ] {
        assert_eq!(defines[name], value, "{name}");
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % n
    }
}

/// One case of `kernels_host/check.cpp`.
fn write_case(
    out: &mut impl Write,
    extent: Extent,
    voxel_bytes: usize,
    spec: LayoutSpec,
    random: &mut Random,
) {
    let layout = Layout::new(extent, voxel_bytes, spec, 1, 1 << 16).unwrap();
    let view =
        GridView::new(&layout, 0x7000_0000_0000, 0, &vec![0; voxel_bytes], false).unwrap_or_else(|error| {
            panic!("{error}");
        });
    let corners = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| {
        let far = |a: u64, side: u64| if i >> a & 1 == 1 { side - 1 } else { 0 };
        Coord::new(far(0, extent.x), far(1, extent.y), far(2, extent.z))
    });
    let anywhere =
        (0..200).map(|_| Coord::new(random.below(extent.x), random.below(extent.y), random.below(extent.z)));
    let positions: Vec<_> = corners.into_iter().chain(anywhere).collect();
    out.write_all(&u32::try_from(voxel_bytes).unwrap().to_le_bytes()).unwrap();
    out.write_all(&u32::try_from(positions.len()).unwrap().to_le_bytes()).unwrap();
    out.write_all(&layout.reserved_bytes().to_le_bytes()).unwrap();
    out.write_all(bytemuck::bytes_of(&view)).unwrap();
    for c in positions {
        for v in [c.x, c.y, c.z, 0] {
            out.write_all(&u32::try_from(v).unwrap().to_le_bytes()).unwrap();
        }
        let id = layout.tile_id(layout.tile_of(c)).unwrap();
        out.write_all(&id.0.to_le_bytes()).unwrap();
        out.write_all(&layout.voxel_offset_bytes(c).unwrap().to_le_bytes()).unwrap();
    }
}

#[test]
fn the_headers_functions_run_on_the_host() {
    let compilers = ["c++", "g++", "clang++"];
    let Some(compiler) =
        compilers.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
    else {
        println!("skipped: no C++ compiler");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let kernels = text("check.cu");
    let hash = kernels.split("__device__ ").find(|part| part.starts_with("vg_u64 vg_hash(")).unwrap();
    let end = hash.find("\n}\n").unwrap() + 3;
    std::fs::write(scratch.path().join("hash.inc"), format!("static {}", &hash[..end])).unwrap();
    let (program, cases) = (scratch.path().join("check"), scratch.path().join("cases"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels_host/check.cpp");
    let built = Command::new(compiler)
        .args(["-std=c++11", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-I"])
        .arg(folder())
        .arg("-I")
        .arg(scratch.path())
        .arg(source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let mut random = Random(1);
    let mut file = std::io::BufWriter::new(std::fs::File::create(&cases).unwrap());
    let spec = |tile: [u64; 3], page: [u64; 3]| LayoutSpec {
        tile: Some(tile.into()),
        page: Some(page.into()),
        page_bytes: None,
    };
    // In memory: extents that are multiples of nothing, tiles of one voxel along an axis, one tile only.
    for (extent, tile, page) in [
        ([19, 21, 7], [4, 8, 2], [2, 1, 4]),
        ([8, 16, 4], [4, 8, 2], [1, 1, 1]),
        ([17, 16, 25], [8, 8, 8], [1, 2, 1]),
        ([13, 5, 9], [1, 4, 2], [4, 1, 2]),
        ([7, 6, 5], [16, 16, 16], [1, 1, 1]),
        ([1, 30, 2], [4, 4, 4], [1, 1, 1]),
        ([48, 32, 32], [16, 16, 16], [1, 2, 1]),
    ] {
        for voxel_bytes in [2, 4] {
            write_case(&mut file, extent.into(), voxel_bytes, spec(tile, page), &mut random);
        }
    }
    // Addresses only: as large as they come.
    let most = (1 << 31) - 1;
    for extent in [[1 << 16, 1 << 15, 1 << 15], [most, 100, 17], [3, most, 5], [1, 7, most], [40_000; 3]] {
        write_case(&mut file, extent.into(), 1, LayoutSpec::default(), &mut random);
    }
    for _ in 0..300 {
        let mut axis = || (1 + random.below(1 << 14), 1 << random.below(8), 1 << random.below(4));
        let axes = [axis(), axis(), axis()];
        let voxel_bytes = 1 << random.below(5);
        let spec = spec(axes.map(|a| a.1), axes.map(|a| a.2));
        write_case(&mut file, axes.map(|a| a.0).into(), voxel_bytes, spec, &mut random);
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let ran = Command::new(&program).arg(&cases).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    println!("{}", said.lines().last().unwrap());
    for (i, line) in (0u32..100).zip(said.lines()) {
        let c = Coord::new(i.into(), i.wrapping_mul(77777).into(), (i * i).wrapping_mul(1_000_003).into());
        assert_eq!(line.parse(), Ok(common::device_hash(c, i + 3)), "{c}");
    }
}
