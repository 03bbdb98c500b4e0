//! Owns how objects are put into a remote store and removed from it: as a whole, or in parts where they are long, tried again as reads are. Knows nothing of what is in them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetResult, ObjectMeta, PutMode, PutOptions};
use tokio::time::timeout;
use zarrs::storage::Bytes;

use super::cause::Cause;
use super::fetch::{Failure, Fetcher};
use super::runtime;
use super::store::RemoteStore;
use crate::error::RemoteError;

/// Longer objects are put in parts of this length; all but the last are of one length, as some stores want it. S3 takes 10 000.
const PART_BYTES: u64 = 32 << 20;

/// By which a store knows a version of an object.
pub(crate) use object_store::UpdateVersion as Tag;

/// What becomes of an object that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The new one takes its place.
    Replace,
    /// It stays, and the answer is [`Came::Kept`].
    Keep,
}

/// What came of putting an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// It is there.
    Put,
    /// Another one is there, and stays; or the one that was to be replaced is not there any more.
    Kept,
    /// An equal one is there: an attempt whose answer was lost put it, or somebody else did.
    Equal,
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

    /// Puts an object.
    ///
    /// # Errors
    /// Why it could not be put.
    pub(crate) fn put(&self, key: &str, contents: &Bytes, put: Put) -> Result<Came, Arc<RemoteError>> {
        let mode = if put == Put::Keep { PutMode::Create } else { PutMode::Overwrite };
        self.put_if(key, contents, mode)
    }

    /// Puts an object in the place of the very one that [`RemoteStore::tagged`] read.
    ///
    /// # Errors
    /// Why it could not be put.
    pub(crate) fn put_over(&self, key: &str, contents: &Bytes, there: Tag) -> Result<Came, Arc<RemoteError>> {
        self.put_if(key, contents, PutMode::Update(there))
    }

    fn put_if(&self, key: &str, contents: &Bytes, mode: PutMode) -> Result<Came, Arc<RemoteError>> {
        let (bytes, attempts) = (contents.clone(), Arc::new(AtomicU32::new(0)));
        let count = attempts.clone();
        let put = self.change(key, "putting it", move |fetcher, path| {
            count.fetch_add(1, Ordering::Relaxed);
            let (bytes, mode) = (bytes.clone(), mode.clone());
            async move { put_once(&fetcher, &path, &bytes, mode).await }
        })?;
        if put {
            return Ok(Came::Put);
        }
        // What a first attempt is told is so. A later one may have found what an earlier one put.
        let again = attempts.load(Ordering::Relaxed) > 1;
        let equal = again && self.object(key)?.is_some_and(|there| there == contents);
        Ok(if equal { Came::Equal } else { Came::Kept })
    }

    /// A whole object, with what [`RemoteStore::put_over`] wants of it; `None` where there is none.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(crate) fn tagged(&self, key: &str) -> Result<Option<(Bytes, Tag)>, Arc<RemoteError>> {
        let its = key.to_owned();
        self.change(key, "reading it", move |fetcher, path| {
            let its = its.clone();
            async move {
                let Some(got) = there(&fetcher, &path, GetOptions::default()).await? else { return Ok(None) };
                let most = fetcher.options.max_object_bytes;
                if got.meta.size > most {
                    return Err(Failure::told(fetcher.too_large(&its, most)));
                }
                let (e_tag, version) = (got.meta.e_tag.clone(), got.meta.version.clone());
                let bytes = in_time(&fetcher, got.meta.size, got.bytes()).await?;
                Ok(Some((bytes, Tag { e_tag, version })))
            }
        })
    }

    /// What the store says of an object; `None` where there is none.
    fn about(&self, key: &str) -> Result<Option<ObjectMeta>, Arc<RemoteError>> {
        self.change(key, "its size", |fetcher, path| async move {
            let head = GetOptions { head: true, ..GetOptions::default() };
            Ok(there(&fetcher, &path, head).await?.map(|got| got.meta))
        })
    }

    /// Puts an object of so many bytes, of which `read` fills a part that begins at an offset.
    ///
    /// **Cost**: memory of 32 MiB at the most.
    ///
    /// # Errors
    /// Why it could not be put, or not be read.
    pub(crate) fn put_long(
        &self,
        key: &str,
        bytes: u64,
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), Arc<RemoteError>> {
        let read = |offset_bytes: u64| {
            let length = PART_BYTES.min(bytes - offset_bytes);
            let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            read(offset_bytes, &mut part).map_err(|error| {
                let (url, cause) = (self.show(key), format!("its file cannot be read: {error}"));
                Arc::new(RemoteError::Client { url, cause })
            })?;
            Ok::<_, Arc<RemoteError>>(Bytes::from(part))
        };
        if bytes <= PART_BYTES {
            return self.put(key, &read(0)?, Put::Replace).map(|_| ());
        }
        let parts = self.multipart()?;
        let (store, before) = (parts.clone(), self.about(key)?);
        let id = self.change(key, "beginning to put it", move |fetcher, path| {
            let store = store.clone();
            async move { in_time(&fetcher, 0, store.create_multipart(&path)).await }
        })?;
        let put = self.put_parts(key, &parts, &id, (bytes, before), read);
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
        (bytes, before): (u64, Option<ObjectMeta>),
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
        let (store, id, attempts) = (parts.clone(), id.to_owned(), Arc::new(AtomicU32::new(0)));
        let count = attempts.clone();
        let together = self.change(key, "putting its parts together", move |fetcher, path| {
            count.fetch_add(1, Ordering::Relaxed);
            let (store, id, put) = (store.clone(), id.clone(), put.clone());
            async move { in_time(&fetcher, bytes, store.complete_multipart(&path, &id, put)).await }
        });
        let Err(error) = together else { return Ok(()) };
        // An attempt whose answer was lost may have done it: the next one is told that there are no such parts any more.
        let lost = attempts.load(Ordering::Relaxed) > 1;
        let now = if lost { self.about(key).ok().flatten() } else { None };
        if now.as_ref().is_some_and(|now| now.size == bytes) && now != before { Ok(()) } else { Err(error) }
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

async fn put_once(fetcher: &Fetcher, path: &Path, bytes: &Bytes, mode: PutMode) -> Result<bool, Failure> {
    let over = matches!(mode, PutMode::Update(_));
    let options = PutOptions { mode, ..PutOptions::default() };
    let putting = async {
        match fetcher.client.objects.put_opts(path, bytes.clone().into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(Error::NotFound { .. }) if over => Ok(false),
            Err(error) => Err(error),
        }
    };
    in_time(fetcher, bytes.len() as u64, putting).await
}

/// The beginning of an answer; `None` where there is no object.
async fn there(fetcher: &Fetcher, path: &Path, options: GetOptions) -> Result<Option<GetResult>, Failure> {
    let asking = async {
        match fetcher.client.objects.get_opts(path, options).await {
            Ok(got) => Ok(Some(got)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    in_time(fetcher, 0, asking).await
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
