//! Owns how objects are put into a remote store and removed from it: as a whole, or in parts where they are long, tried again as reads are. Knows nothing of what is in them.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, PutMode, PutOptions};
use tokio::time::timeout;
use zarrs::storage::Bytes;

use super::cause::Cause;
use super::fetch::{Failure, Fetcher};
use super::listing::list;
use super::runtime;
use super::store::RemoteStore;
use crate::error::RemoteError;

/// Longer objects are put in parts of this length; all but the last are of one length, as some stores want it. S3 takes 10 000.
const PART_BYTES: u64 = 32 << 20;

/// What becomes of an object that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The new one takes its place.
    Replace,
    /// It stays, and the answer is `false`.
    Keep,
}

impl RemoteStore {
    /// Whether objects can be put here at all: a plain web server takes none.
    ///
    /// # Errors
    /// [`RemoteError::ReadOnly`].
    pub(crate) fn writable(&self) -> Result<(), Arc<RemoteError>> {
        self.multipart().map(|_| ())
    }

    fn multipart(&self) -> Result<Arc<dyn MultipartStore>, Arc<RemoteError>> {
        let parts = self.shared().fetcher.client.parts.clone();
        parts.ok_or_else(|| Arc::new(RemoteError::ReadOnly { url: self.url() }))
    }

    /// Keys of all objects, those in folders too.
    ///
    /// # Errors
    /// Why they cannot be listed.
    pub(crate) fn keys(&self) -> Result<Vec<String>, Arc<RemoteError>> {
        Ok(list(self, "", true)?.objects.into_iter().map(|(key, _)| key).collect())
    }

    /// Puts an object; `false` where another one is there that stays.
    ///
    /// # Errors
    /// Why it could not be put.
    pub(crate) fn put(&self, key: &str, contents: &Bytes, put: Put) -> Result<bool, Arc<RemoteError>> {
        let bytes = contents.clone();
        let there = self.change(key, "putting it", move |fetcher, path| {
            let bytes = bytes.clone();
            async move { put_once(&fetcher, &path, &bytes, put).await }
        })?;
        // An attempt whose answer was lost may have put it.
        Ok(there || self.object(key)?.is_some_and(|there| there == contents))
    }

    /// Puts an object that is the first `bytes` of a file.
    ///
    /// **Cost**: memory of 32 MiB at the most.
    ///
    /// # Errors
    /// Why it could not be put, or the file not be read.
    pub(crate) fn put_file(&self, key: &str, file: &File, bytes: u64) -> Result<(), Arc<RemoteError>> {
        let read = |offset_bytes: u64| {
            let length = PART_BYTES.min(bytes - offset_bytes);
            let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut part, offset_bytes).map_err(|error| {
                let (url, cause) = (self.show(key), format!("its file cannot be read: {error}"));
                Arc::new(RemoteError::Client { url, cause })
            })?;
            Ok::<_, Arc<RemoteError>>(Bytes::from(part))
        };
        if bytes <= PART_BYTES {
            return self.put(key, &read(0)?, Put::Replace).map(|_| ());
        }
        let parts = self.multipart()?;
        let store = parts.clone();
        let id = self.change(key, "beginning to put it", move |fetcher, path| {
            let store = store.clone();
            async move { in_time(&fetcher, 0, store.create_multipart(&path)).await }
        })?;
        let put = self.put_parts(key, &parts, &id, bytes, read);
        if put.is_err() {
            let store = parts.clone();
            // The store forgets it by itself in the end, if it has such a rule.
            let _ = self.change(key, "giving it up", move |fetcher, path| {
                let (store, id) = (store.clone(), id.clone());
                async move { in_time(&fetcher, 0, store.abort_multipart(&path, &id)).await }
            });
        }
        put
    }

    fn put_parts(
        &self,
        key: &str,
        parts: &Arc<dyn MultipartStore>,
        id: &str,
        bytes: u64,
        read: impl Fn(u64) -> Result<Bytes, Arc<RemoteError>>,
    ) -> Result<(), Arc<RemoteError>> {
        let mut put: Vec<PartId> = Vec::new();
        for (nth, offset_bytes) in (0..bytes.div_ceil(PART_BYTES)).map(|n| n * PART_BYTES).enumerate() {
            let (part, store, id) = (read(offset_bytes)?, parts.clone(), id.to_owned());
            put.push(self.change(key, "putting a part of it", move |fetcher, path| {
                let (part, store, id) = (part.clone(), store.clone(), id.clone());
                async move {
                    let length = part.len() as u64;
                    in_time(&fetcher, length, store.put_part(&path, &id, nth, part.into())).await
                }
            })?);
        }
        let (store, id) = (parts.clone(), id.to_owned());
        self.change(key, "putting its parts together", move |fetcher, path| {
            let (store, id, put) = (store.clone(), id.clone(), put.clone());
            async move { in_time(&fetcher, bytes, store.complete_multipart(&path, &id, put)).await }
        })?;
        Ok(())
    }

    /// Removes objects, those that are there.
    ///
    /// # Errors
    /// Why they could not all be removed.
    pub(crate) fn remove(&self, keys: &[String]) -> Result<(), Arc<RemoteError>> {
        let all: Vec<String> = keys.to_vec();
        self.change("", "removing objects", move |fetcher, _| {
            let all = all.clone();
            async move {
                let paths: Result<Vec<Path>, RemoteError> =
                    all.iter().map(|key| fetcher.location.path(key)).collect();
                let paths = paths.map_err(Failure::told)?;
                let gone = fetcher.client.objects.delete_stream(stream::iter(paths).map(Ok).boxed());
                let gone = gone.filter_map(|removed| async move {
                    match removed {
                        Ok(_) | Err(Error::NotFound { .. }) => None,
                        Err(error) => Some(Err::<(), _>(error)),
                    }
                });
                in_time(&fetcher, all.len() as u64 * (64 << 10), gone.try_collect::<Vec<()>>()).await
            }
        })?;
        for key in keys {
            self.shared().fetcher.versions.forget(key);
        }
        Ok(())
    }

    /// Does something to an object, again where that fails in a way that may pass.
    fn change<T, F>(
        &self,
        key: &str,
        what: &'static str,
        once: impl Fn(Arc<Fetcher>, Path) -> F + Send + Sync + 'static,
    ) -> Result<T, Arc<RemoteError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (fetcher, its) = (self.shared().fetcher.clone(), key.to_owned());
        let path = fetcher.location.path(key)?;
        let work = async move {
            let done = fetcher.persist(|| once(fetcher.clone(), path.clone())).await;
            fetcher.versions.forget(&its);
            done.map_err(|lost| fetcher.given_up(&its, what.to_owned(), lost).1)
        };
        Ok(runtime::wait(|| self.show(key), work)??)
    }
}

async fn put_once(fetcher: &Fetcher, path: &Path, bytes: &Bytes, put: Put) -> Result<bool, Failure> {
    let mode = if put == Put::Keep { PutMode::Create } else { PutMode::Overwrite };
    let options = PutOptions { mode, ..PutOptions::default() };
    let putting = async {
        match fetcher.client.objects.put_opts(path, bytes.clone().into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    };
    in_time(fetcher, bytes.len() as u64, putting).await
}

/// What `request` comes to, if it does so in the time that a request of so many bytes has.
async fn in_time<T>(
    fetcher: &Fetcher,
    bytes: u64,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failure> {
    let most = fetcher.most_time(bytes);
    let done = timeout(most, request).await;
    let done = done.map_err(|_| Cause::again(format!("no answer within {most:?}")))?;
    Ok(done.map_err(|error| Cause::of(&error))?)
}
