//! Refuses an import that would make a lower layer know a higher one.
//!
//! The table is the architecture as data. A path is resolved through the re-exports of `src/lib.rs`, so that `crate::Extent` counts as `geometry`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What lies at the bottom, and may know itself only.
const BASE: &[&str] = &["error", "geometry", "voxel", "layout", "prepared", "sync", "stats"];

/// Module, and what of the crate it may import besides itself; `module::Item` allows that item alone. The crate's root may import anything.
const TABLE: &[(&str, &[&str])] = &[
    ("error", BASE),
    ("geometry", BASE),
    ("voxel", BASE),
    ("layout", BASE),
    ("prepared", BASE),
    ("sync", BASE),
    ("stats", BASE),
    // Bytes only: no voxels, no tiles.
    ("backend", &["error", "sync", "stats", "prepared", "layout::MAX_RESERVED_BYTES"]),
    // What readers look at without a lock: tables and planes, indexed by tile.
    ("offsets", &["geometry", "layout"]),
    ("planes", &["error", "geometry", "voxel", "layout", "sync", "backend::ZeroedWords"]),
    ("recall", BASE),
    ("page_table", &["error", "geometry", "voxel", "layout", "sync", "stats", "recall"]),
    // Where tiles come from, not where they go.
    ("source", &["error", "geometry", "voxel", "layout", "prepared", "sync", "stats"]),
    // Where voxels go.
    (
        "store",
        &[
            "error",
            "geometry",
            "voxel",
            "source::index",
            // Files are written past the system's cache as they are read; tests look there for what was.
            "source::direct_alignment",
            "source::is_in_memory",
            // What is written is told from what somebody changed.
            "source::objects_mark",
            "source::with_buffer",
            // Objects are put where they are read from.
            "source::Came",
            "source::Put",
            "source::RemoteOptions",
            "source::RemoteStore",
            "source::Tag",
            "source::scratch_file",
            "source::scratch_file_in",
            "source::shown_url",
        ],
    ),
    // Who stays and who goes, decided without any memory.
    ("residency", &["error", "geometry", "layout", "sync", "stats", "recall", "page_table"]),
    (
        "engine",
        &[
            "error",
            "geometry",
            "voxel",
            "layout",
            "prepared",
            "sync",
            "stats",
            "residency",
            "source",
            // Where tiles wait that were written to and lost their memory.
            "store::ScratchStore",
            "backend",
            "page_table",
            "planes",
            "recall",
            "offsets",
        ],
    ),
    ("view", &["geometry", "voxel", "layout", "sync", "planes", "offsets", "engine", "backend"]),
    (
        "pool",
        &[
            "error",
            "geometry",
            "voxel",
            "layout",
            "sync",
            "stats",
            "residency",
            "source",
            "backend",
            "page_table",
            "planes",
            "engine",
            "view",
            // A frame shows arrays.
            "array::SparseArray3D",
        ],
    ),
    (
        "array",
        &[
            "error",
            "geometry",
            "voxel",
            "layout",
            "sync",
            "stats",
            "residency",
            "source",
            // Where tiles wait that were written to and lost their memory.
            "store::ScratchFile",
            "store::ScratchStore",
            "store::TileStore",
            "backend",
            "page_table",
            "planes",
            "engine",
            "view",
            "pool",
        ],
    ),
    // Several arrays of one volume. Of the engine, what a request says of a tile that failed.
    (
        "pyramid",
        &[
            "error",
            "geometry",
            "voxel",
            "prepared",
            "source",
            "backend",
            "engine::TileFailure",
            "pool",
            "array",
        ],
    ),
    // Computing on the tiles of arrays: sets of them, reductions, stencils.
    ("compute", &["error", "geometry", "voxel", "layout", "backend", "view", "array"]),
    // From sources to stores, through arrays.
    (
        "convert",
        &[
            "error",
            "geometry",
            "voxel",
            "layout::MAX_RESERVED_BYTES",
            "layout::TileCoord",
            "source",
            "store",
            "backend::HostBackend",
            "view",
            "pool",
            "array",
            "pyramid",
        ],
    ),
    // What a path or an address is, and what is in it.
    ("open", &["error", "geometry", "voxel", "source", "pyramid"]),
    // Requests that nobody waits for, of arrays and engine as they are.
    ("stream", &["error", "layout", "voxel", "backend", "engine", "pool", "array"]),
    // Arrays as kernels see them.
    (
        "device",
        &["error", "geometry", "voxel", "layout", "sync", "backend", "planes", "engine", "pool", "array"],
    ),
    // Sees what users see.
    (
        "render",
        &[
            "error",
            "geometry",
            "voxel",
            "layout",
            "view",
            "array",
            "pool",
            "device",
            "backend::Backend",
            "backend::HostAddressable",
            "backend::CudaBackend",
            "backend::cuda",
        ],
    ),
    // What pictures wanted, as a file, and again without them.
    (
        "trace",
        &[
            "error", "geometry", "voxel", "layout", "source", "backend", "pool", "array", "pyramid",
            "stream", "render",
        ],
    ),
    // Pictures of pyramids while they load.
    (
        "explore",
        &[
            "error", "geometry", "voxel", "layout", "view", "array", "pool", "backend", "pyramid", "stream",
            "render", "trace",
        ],
    ),
];

#[test]
fn no_layer_imports_a_higher_one() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = fs::read_to_string(src.join("lib.rs")).unwrap();
    let reexports = reexports(&root);
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 10, "only {} files under {}", files.len(), src.display());
    let mut complaints = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        complaints.extend(check(path, &fs::read_to_string(&file).unwrap(), &reexports));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// What is wrong with a file of that path under `src`.
fn check(path: &Path, text: &str, reexports: &HashMap<String, String>) -> Vec<String> {
    let modules = module_path(path);
    let Some(module) = modules.first() else { return Vec::new() };
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| name == module) else {
        return vec![format!("{}: module `{module}` is in no row of the layer table", path.display())];
    };
    let mut complaints = Vec::new();
    for import in imports(text, modules.len(), reexports) {
        let (target, item) = (import[0].as_str(), import.get(1).map_or("", String::as_str));
        let one_item = format!("{target}::{item}");
        if target != module && !allowed.contains(&target) && !allowed.contains(&one_item.as_str()) {
            complaints.push(format!("{}: `{module}` may not import `{one_item}`", path.display()));
        }
    }
    complaints
}

/// `source/nrrd/text.rs` is `source`, `nrrd`, `text`; the crate's root is nothing.
fn module_path(path: &Path) -> Vec<String> {
    let parts = path.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| !matches!(part.as_str(), "mod" | "lib")).collect()
}

/// Every path from the crate's root in `text`, as its first two segments, wherever it stands: in a `use`, however nested, or in code.
fn imports(text: &str, depth: usize, reexports: &HashMap<String, String>) -> Vec<Vec<String>> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    // From a file `depth` modules deep, that many `super` lead to the root.
    for prefix in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            branches(&code[at + prefix.len()..], &mut Vec::new(), &mut found);
        }
    }
    for path in &mut found {
        if let Some(module) = reexports.get(&path[0]) {
            path.insert(0, module.clone());
        }
    }
    // A `super` that leads from a nested module to a sibling in the same folder looks the same; it names no layer.
    found.retain(|path| reexports.contains_key(&path[0]) || TABLE.iter().any(|(name, _)| *name == path[0]));
    found
}

/// Follows one path, and each branch of `{...}`, for two segments; returns where it ended.
fn branches(text: &str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let trimmed = text.trim_start();
    let mut at = text.len() - trimmed.len();
    if trimmed.starts_with('{') {
        at += 1;
        loop {
            at += text[at..].len() - text[at..].trim_start().len();
            match text[at..].chars().next() {
                None => return at,
                Some('}') => return at + 1,
                Some(',') => at += 1,
                Some(_) => {
                    let used = branches(&text[at..], &mut path.clone(), found);
                    // Whatever a branch ends with, such as `as name`, up to the next one.
                    let rest = &text[at + used..];
                    at += used + rest.find([',', '}']).unwrap_or(rest.len());
                }
            }
        }
    }
    let end = trimmed.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(trimmed.len());
    path.push(trimmed[..end].to_owned());
    at += end;
    if text[at..].starts_with("::") {
        return at + 2 + branches(&text[at + 2..], path, found);
    }
    if !path[0].is_empty() {
        path.truncate(2);
        found.push(path.clone());
    }
    at
}

/// What `lib.rs` re-exports at the root: item, and the module that it comes from.
fn reexports(lib: &str) -> HashMap<String, String> {
    let mut found = Vec::new();
    for (at, start) in lib.match_indices("pub use ") {
        branches(&lib[at + start.len()..], &mut Vec::new(), &mut found);
    }
    found.into_iter().filter_map(|path| Some((path.get(1)?.clone(), path[0].clone()))).collect()
}

#[test]
fn the_checker_sees_what_it_must() {
    let reexports = reexports("pub use engine::{Frame, Request};\npub use geometry::Extent;\n");
    let complaints = |path: &str, text: &str| check(Path::new(path), text, &reexports).len();

    assert_eq!(
        complaints("residency/lru.rs", "use crate::layout::TileId;\nuse crate::{error::Error, Extent};"),
        0
    );
    assert_eq!(complaints("residency/lru.rs", "use crate::backend::Backend;"), 1, "higher");
    assert_eq!(
        complaints("residency/lru.rs", "use crate::{layout::TileId, source::{TileSource, raw}};"),
        2,
        "nested"
    );
    assert_eq!(
        complaints("render/dvr.rs", "use crate::{\n    geometry::Extent,\n    Frame,\n};"),
        1,
        "re-exported"
    );
    assert_eq!(complaints("render/dvr.rs", "fn f(e: &crate::engine::Engine) {}"), 1, "not in a use");
    assert_eq!(complaints("backend/host/sys.rs", "use super::super::super::layout::Layout;"), 1, "by super");
    assert_eq!(complaints("backend/host/sys.rs", "use super::HostConfig;"), 0);
    assert_eq!(complaints("backend/model.rs", "use crate::layout::TileId;"), 1, "bytes, never tiles");
    assert_eq!(complaints("planes.rs", "use crate::backend::ZeroedWords;"), 0, "one item of a module");
    assert_eq!(complaints("planes.rs", "use crate::backend::{ZeroedWords, Backend};"), 1);
    assert_eq!(
        complaints("planes.rs", "//! see [`crate::engine::Engine`]\n// use crate::engine::x;"),
        0,
        "prose"
    );
    assert_eq!(complaints("surprise.rs", ""), 1, "a module without a row");
    assert_eq!(complaints("lib.rs", "use crate::engine::Engine;"), 0, "the root may");
}
