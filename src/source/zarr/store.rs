//! Owns [`Store`]: the objects of a store and what was found in it, by descending into groups and never into arrays. Knows nothing of chunks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::array::ZarrArray;
use super::node::{ArrayText, Kind, MOST_METADATA_BYTES, Node};
use super::objects::{Objects, Part};
use super::objects_mark::objects_mark;
use super::ome::{ImageText, images};
use crate::error::SourceError;

/// The most arrays and groups that are listed.
const MOST_NODES: usize = 4096;

/// How deep groups within groups are listed.
const MOST_DEPTH: usize = 12;

/// A store that can be read.
#[derive(Debug)]
pub(super) struct Store {
    objects: Arc<dyn Objects>,
    arrays: Vec<ZarrArray>,
}

/// What was found besides the arrays.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Path of the group, what it says, and the dimensions of its first level.
    pub(super) images: Vec<(String, ImageText, usize)>,
    /// What could not be read, and why.
    pub(super) skipped: Vec<(String, Arc<SourceError>)>,
    /// Whether there was more than is listed.
    pub(super) cut: bool,
}

/// An array and the attributes of its group or its own.
pub(super) type Described = (ZarrArray, serde_json::Map<String, serde_json::Value>);

impl Store {
    /// Lists a store.
    ///
    /// # Errors
    /// The root cannot be read, or is neither an array nor a group.
    pub(super) fn list(objects: Arc<dyn Objects>) -> Result<(Self, Found), SourceError> {
        let Some(root) = Node::read(&*objects, "")? else {
            return Err(SourceError::Store {
                doing: "opening",
                location: objects.location(""),
                source: Box::new(super::fault::Fault::Nothing("zarr.json, .zarray or .zgroup")),
            });
        };
        let mut listing = Listing { store: Self { objects, arrays: Vec::new() }, found: Found::default() };
        listing.walk(root);
        Ok((listing.store, listing.found))
    }

    /// The version of what was read, where the store can tell.
    pub(super) fn version(&self) -> Option<String> {
        self.objects.version()
    }

    /// What messages call a place.
    pub(super) fn location(&self, path: &str) -> String {
        self.objects.location(path)
    }

    /// What tells whether the objects of an array are those of before, where they are files.
    ///
    /// # Errors
    /// Its metadata, or something in its folder, cannot be looked at.
    pub(super) fn mark(&self, path: &str) -> Result<Option<String>, SourceError> {
        let Some(root) = self.objects.root() else { return Ok(None) };
        let folder = if path.is_empty() { root.to_owned() } else { root.join(path) };
        let name = if path.is_empty() { "zarr.json".to_owned() } else { format!("{path}/zarr.json") };
        let mut metadata = Vec::new();
        let read = self.objects.read(&name, Part::Whole, MOST_METADATA_BYTES, &mut |bytes| {
            metadata.extend_from_slice(bytes);
            Ok(())
        });
        let location = || self.location(&name);
        read.map_err(|source| SourceError::Store { doing: "reading", location: location(), source })?;
        let mark = objects_mark(&folder, &metadata);
        mark.map(Some).map_err(|(path, source)| SourceError::Open { path, source })
    }

    pub(super) fn arrays(&self) -> &[ZarrArray] {
        &self.arrays
    }

    /// The array at a place, whether it was listed or not.
    ///
    /// # Errors
    /// There is none, or its metadata cannot be read.
    pub(super) fn array(&self, path: &str) -> Result<ZarrArray, SourceError> {
        let path = path.trim_matches('/');
        if let Some(listed) = self.arrays.iter().find(|array| array.path() == path) {
            return Ok(listed.clone());
        }
        match Node::read(&*self.objects, path)? {
            Some(Node { kind: Kind::Array(text), .. }) => Ok(self.opened(path, *text)),
            _ => Err(SourceError::Store {
                doing: "opening",
                location: self.location(path),
                source: Box::new(super::fault::Fault::Nothing("array")),
            }),
        }
    }

    /// The array at a place and its attributes, if there is one.
    ///
    /// # Errors
    /// Its metadata cannot be read.
    pub(super) fn array_and_attributes(&self, path: &str) -> Result<Option<Described>, SourceError> {
        Ok(match Node::read(&*self.objects, path)? {
            Some(Node { kind: Kind::Array(text), attributes, .. }) => {
                Some((self.opened(path, *text), attributes))
            }
            _ => None,
        })
    }

    fn opened(&self, path: &str, text: ArrayText) -> ZarrArray {
        ZarrArray::new(&self.objects, path, text)
    }
}

/// A group that is yet to be gone through.
struct Group {
    path: String,
    version: u8,
    depth: usize,
    /// What its attributes name.
    children: Vec<String>,
}

/// A walk through the groups of a store, nearest first.
struct Listing {
    store: Store,
    found: Found,
}

impl Listing {
    fn walk(&mut self, root: Node) {
        let (mut groups, mut nodes) = (VecDeque::new(), 1);
        self.enter(root, 0, &mut groups);
        while let Some(Group { path: group, version, depth, mut children }) = groups.pop_front() {
            match self.store.objects.folders(&group, MOST_NODES) {
                Ok(folders) => children.extend(folders),
                Err(source) => self.skip(&group, "listing", source),
            }
            children.sort_unstable();
            children.dedup();
            let paths: Vec<_> = children
                .into_iter()
                .map(|child| if group.is_empty() { child } else { format!("{group}/{child}") })
                .collect();
            Node::will_be_read(&*self.store.objects, &paths[..paths.len().min(MOST_NODES)], version);
            for path in paths {
                if nodes == MOST_NODES {
                    self.found.cut = true;
                    return;
                }
                match Node::read(&*self.store.objects, &path) {
                    Ok(Some(node)) => {
                        nodes += 1;
                        self.enter(node, depth + 1, &mut groups);
                    }
                    Ok(None) => {}
                    Err(error) => self.found.skipped.push((path, Arc::new(error))),
                }
            }
        }
    }

    /// Takes in a node; a group's children are for later, those that its attributes name already known.
    fn enter(&mut self, node: Node, depth: usize, groups: &mut VecDeque<Group>) {
        let Node { path, version, attributes, bad_attributes, kind } = node;
        if let Some(error) = bad_attributes {
            self.found.skipped.push((path.clone(), Arc::new(error)));
        }
        if let Kind::Array(text) = kind {
            let array = self.store.opened(&path, *text);
            self.store.arrays.push(array);
            return;
        }
        let mut named = Vec::new();
        match images(&path, &attributes) {
            Ok(images) => {
                for image in images {
                    let first = image.levels.first().map(|level| level.path.clone()).unwrap_or_default();
                    // A store that cannot be listed has at least these.
                    named.extend(image.levels.iter().filter_map(|level| child_of(&path, &level.path)));
                    let dimensions = if image.axes.is_empty() {
                        self.store.array(&first).map_or(5, |a| a.shape().len())
                    } else {
                        0
                    };
                    self.found.images.push((path.clone(), image, dimensions));
                }
            }
            Err(error) => self.skip(&path, "reading the image's attributes of", error.into()),
        }
        if depth < MOST_DEPTH {
            groups.push_back(Group { path, version, depth, children: named });
        } else {
            self.found.cut = true;
        }
    }

    fn skip(&mut self, path: &str, doing: &'static str, source: super::fault::Cause) {
        let location = self.store.location(path);
        self.found.skipped.push((path.to_owned(), Arc::new(SourceError::Store { doing, location, source })));
    }
}

/// The name of the entry of a group on the way to a place within it.
fn child_of(group: &str, path: &str) -> Option<String> {
    let within = if group.is_empty() { path } else { path.strip_prefix(group)?.strip_prefix('/')? };
    let name = within.split('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}
