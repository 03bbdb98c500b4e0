//! Owns the walk along a file's directories: which images there are, each of pages that are alike. Knows nothing of what their order means.

use std::collections::{HashMap, HashSet};

use super::file::TiffFile;
use super::layout::Layout;
use super::tags;
use crate::error::SourceError;

/// The most pages of a file that are read.
pub(super) const MOST_PAGES: usize = 1 << 20;

/// Pages that are alike.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) layout: Layout,
    /// Where the directory of each page is.
    pub(super) pages: Vec<u64>,
    /// Of the first page.
    pub(super) resolution: Resolution,
}

/// Pixels per unit, as a page's tags have it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resolution {
    pub(super) x: Option<f64>,
    pub(super) y: Option<f64>,
    /// 1 none, 2 inch, 3 centimetre.
    pub(super) unit: u64,
}

/// All pages in groups of those that are alike, in the order of each group's first page.
///
/// **Cost**: one read of 512 bytes for each page, as long as its directory has no more than 42 entries.
pub(super) fn groups(tiff: &TiffFile) -> Result<Vec<Group>, SourceError> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_layout = HashMap::new();
    let mut seen = HashSet::new();
    let mut at = tiff.first_directory;
    while at != 0 {
        if !seen.insert(at) {
            return Err(tiff.bad(
                "directory",
                at.to_string(),
                "the chain of directories comes back to this one",
            ));
        }
        if seen.len() > MOST_PAGES {
            return Err(tiff.unsupported("more pages than", MOST_PAGES.to_string()));
        }
        let directory = tiff.directory(at)?;
        let layout = Layout::of(tiff, &directory)?;
        let group = *by_layout.entry(layout).or_insert(groups.len());
        if group == groups.len() {
            let resolution = Resolution {
                x: tiff.fraction(&directory, tags::X_RESOLUTION),
                y: tiff.fraction(&directory, tags::Y_RESOLUTION),
                unit: tiff.first(&directory, tags::RESOLUTION_UNIT)?.unwrap_or(2),
            };
            groups.push(Group { layout, pages: Vec::new(), resolution });
        }
        groups[group].pages.push(at);
        at = directory.next;
    }
    if groups.is_empty() {
        return Err(tiff.bad("directory", "0", "the file has no page"));
    }
    Ok(groups)
}
