//! Owns what is listed below a place of a remote store: by the store, page by page, or for want of that from consolidated metadata. Knows nothing of what the names mean, but for those of metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use serde_json::Value;
use tokio::time::timeout;

use super::cause::Cause;
use super::fetch::{Failure, Fetcher};
use super::runtime;
use super::store::RemoteStore;
use crate::error::RemoteError;

/// Most names that are listed below one place.
const MOST_NAMES: usize = 1 << 20;

/// Most pages in a row that have no name on them. Some stores pass over what was deleted so, a page for each thousand of them.
const MOST_EMPTY: usize = 10_000;

/// What lies below a place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Keys, and sizes where they are known (0 elsewhere).
    pub(super) objects: Vec<(String, u64)>,
    /// Keys of folders, without a slash at the end.
    pub(super) folders: Vec<String>,
}

/// How far a listing is.
#[derive(Debug, Clone, Default)]
struct Reader {
    token: Option<String>,
    /// Pages without a name since the last with one.
    empty: usize,
    over: bool,
}

impl RemoteStore {
    /// Hands keys and sizes of all objects below `prefix` (empty, or with a slash at its end) to `each`, page by page, as long as that says to go on. There may be any number of them.
    ///
    /// # Errors
    /// Why they cannot be listed, and what `each` fails with.
    pub(crate) fn each_page<E: From<Arc<RemoteError>>>(
        &self,
        prefix: &str,
        mut each: impl FnMut(Vec<(String, u64)>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let not_listed = || Arc::new(RemoteError::NotListed { url: self.show(prefix.trim_end_matches('/')) });
        let lists = self.shared().fetcher.client.lists.clone().ok_or_else(not_listed)?;
        let mut reader = Reader::default();
        loop {
            let (shared, lists, its) = (self.shared().clone(), lists.clone(), prefix.to_owned());
            let mut at = reader;
            let page = async move {
                let page = next_page(&shared.fetcher, &*lists, &its, true, &mut at).await?;
                Ok::<_, RemoteError>((page, at))
            };
            let page = runtime::wait(|| self.show(prefix), page).map_err(Arc::new)?.map_err(Arc::new)?;
            let (Some(listed), at) = page else { return Ok(()) };
            if !each(listed.objects)? {
                return Ok(());
            }
            reader = at;
        }
    }

    /// Keys of the folders right below `prefix` (empty, or with a slash at its end), sorted.
    pub(crate) fn folders_below(&self, prefix: &str) -> Result<Vec<String>, Arc<RemoteError>> {
        Ok(list(self, prefix, false)?.folders)
    }
}

/// What lies below `prefix` (empty, or with a slash at its end): all of it, or its own objects and folders.
///
/// # Errors
/// Why it cannot be listed.
pub(super) fn list(store: &RemoteStore, prefix: &str, deep: bool) -> Result<Listed, Arc<RemoteError>> {
    let shared = store.shared().clone();
    let Some(lists) = shared.fetcher.client.lists.clone() else { return from_metadata(store, prefix, deep) };
    let its = prefix.to_owned();
    Ok(runtime::wait(
        || store.show(prefix),
        async move { pages(&shared.fetcher, &*lists, &its, deep).await },
    )??)
}

async fn pages(
    fetcher: &Fetcher,
    lists: &dyn PaginatedListStore,
    prefix: &str,
    deep: bool,
) -> Result<Listed, RemoteError> {
    let mut listed = Listed::default();
    let mut reader = Reader::default();
    while let Some(page) = next_page(fetcher, lists, prefix, deep, &mut reader).await? {
        listed.objects.extend(page.objects);
        listed.folders.extend(page.folders);
        if listed.objects.len() + listed.folders.len() > MOST_NAMES {
            let url = fetcher.location.show(prefix.trim_end_matches('/'));
            return Err(RemoteError::Listing { url, limit: MOST_NAMES });
        }
    }
    listed.folders.sort();
    listed.folders.dedup();
    Ok(listed)
}

/// What is on the next page; `None` after the last.
async fn next_page(
    fetcher: &Fetcher,
    lists: &dyn PaginatedListStore,
    prefix: &str,
    deep: bool,
    reader: &mut Reader,
) -> Result<Option<Listed>, RemoteError> {
    if reader.over {
        return Ok(None);
    }
    let folder = prefix.trim_end_matches('/');
    let path = fetcher.location.path(folder)?;
    let within = if path.as_ref().is_empty() { None } else { Some(format!("{path}/")) };
    let token = reader.token.take();
    let page = fetcher.persist(|| page(fetcher, lists, within.as_deref(), token.clone(), deep)).await;
    let page = page.map_err(|lost| fetcher.given_up(folder, "a listing".to_owned(), lost).1)?;
    let mut listed = Listed::default();
    for object in &page.result.objects {
        // What is no key of ours (the folder's own marker, say) is nothing that could be read.
        if let Some(key) = fetcher.location.key(&object.location).filter(|key| !key.is_empty()) {
            listed.objects.push((key.to_owned(), object.size));
        }
    }
    let folders = page.result.common_prefixes.iter();
    listed.folders.extend(folders.filter_map(|path| fetcher.location.key(path)).map(str::to_owned));
    let empty = page.result.objects.is_empty() && page.result.common_prefixes.is_empty();
    reader.empty = if empty { reader.empty + 1 } else { 0 };
    // Where a page is to be followed by itself, or by none that has a name, what was listed is not all, and there is no getting at the rest.
    if page.page_token.is_some() && (page.page_token == token || reader.empty > MOST_EMPTY) {
        return Err(RemoteError::Circles { url: fetcher.location.show(folder), pages: reader.empty });
    }
    reader.over = page.page_token.is_none();
    reader.token = page.page_token;
    Ok(Some(listed))
}

async fn page(
    fetcher: &Fetcher,
    lists: &dyn PaginatedListStore,
    within: Option<&str>,
    page_token: Option<String>,
    deep: bool,
) -> Result<PaginatedListResult, Failure> {
    let delimiter = if deep { None } else { Some("/".into()) };
    let options = PaginatedListOptions { delimiter, page_token, ..PaginatedListOptions::default() };
    let most = fetcher.options.request_timeout;
    let answer = timeout(most, lists.list_paginated(within, options)).await;
    let answer = answer.map_err(|_| Cause::again(format!("no answer within {most:?}")))?;
    Ok(answer.map_err(|error| Cause::of(&error))?)
}

/// What consolidated metadata at the root says is there: metadata alone, no chunks.
fn from_metadata(store: &RemoteStore, prefix: &str, deep: bool) -> Result<Listed, Arc<RemoteError>> {
    let not_listed = || Arc::new(RemoteError::NotListed { url: store.show(prefix.trim_end_matches('/')) });
    let mut keys = None;
    for name in ["zarr.json", ".zmetadata"] {
        if let Some(metadata) = store.object(name)? {
            keys = keys.or_else(|| consolidated(&metadata));
        }
    }
    let keys = keys.ok_or_else(not_listed)?;
    Ok(below(&keys, prefix, deep))
}

/// The keys that consolidated metadata is made of; `None` where there is none.
fn consolidated(metadata: &[u8]) -> Option<Vec<String>> {
    let root: Value = serde_json::from_slice(metadata).ok()?;
    if let Some(nodes) = root.pointer("/consolidated_metadata/metadata").and_then(Value::as_object) {
        let keys = nodes.keys().map(|path| format!("{}/zarr.json", path.trim_matches('/')));
        return Some(keys.chain(["zarr.json".to_owned()]).collect());
    }
    root.get("zarr_consolidated_format")?;
    Some(root.get("metadata")?.as_object()?.keys().cloned().collect())
}

fn below(keys: &[String], prefix: &str, deep: bool) -> Listed {
    let mut objects = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for key in keys {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match rest.split_once('/') {
            Some((folder, _)) if !deep => folders.insert(format!("{prefix}{folder}")),
            _ => objects.insert(key.clone()),
        };
    }
    Listed {
        objects: objects.into_iter().map(|key| (key, 0)).collect(),
        folders: folders.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, prefix: &str) -> (Vec<String>, Vec<String>) {
        let listed = below(&consolidated(text.as_bytes()).unwrap(), prefix, false);
        (listed.objects.into_iter().map(|(key, _)| key).collect(), listed.folders)
    }

    #[test]
    fn consolidated_metadata_lists_what_it_is_made_of() {
        let v3 = r#"{"zarr_format":3,"node_type":"group","consolidated_metadata":{"kind":"inline","metadata":{"0":{},"labels":{},"labels/a":{}}}}"#;
        assert_eq!(names(v3, ""), (vec!["zarr.json".into()], vec!["0".into(), "labels".into()]));
        assert_eq!(names(v3, "labels/"), (vec!["labels/zarr.json".into()], vec!["labels/a".into()]));
        let v2 = r#"{"zarr_consolidated_format":1,"metadata":{".zgroup":{},"0/.zarray":{},"0/.zattrs":{}}}"#;
        assert_eq!(names(v2, ""), (vec![".zgroup".into()], vec!["0".into()]));
        assert_eq!(names(v2, "0/"), (vec!["0/.zarray".into(), "0/.zattrs".into()], vec![]));
        assert_eq!(names(v2, "none/"), (vec![], vec![]));
    }

    #[test]
    fn other_metadata_lists_nothing() {
        for text in
            ["{}", "[]", "nonsense", r#"{"zarr_format":3,"node_type":"group"}"#, r#"{"metadata":{"a":1}}"#]
        {
            assert_eq!(consolidated(text.as_bytes()), None, "{text}");
        }
    }
}
