//! Owns a remote store as whoever reads it sees it: objects and parts of them, for threads that wait, and announcements of what will be read. Knows nothing of any format.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use zarrs::storage::Bytes;

use super::ahead::{Ahead, Announced, Ticket};
use super::aside::Aside;
use super::client::Client;
use super::coalesce::coalesce;
use super::fetch::{Answer, Fetcher, Part};
use super::location::Location;
use super::options::RemoteOptions;
use super::runtime;
use crate::error::RemoteError;

/// Parts of an object that are fetched as one are no more than this together.
const MOST_COALESCED_BYTES: u64 = 8 << 20;

/// The objects below one address in a remote store, read by threads that wait for them.
///
/// **Requests**: each is tried [`RemoteOptions::attempts`] times, with growing waits in between, where it fails in a way that may pass: no answer, silence, a broken or short answer, HTTP 408, 429 and 5xx.
/// What is told at once: HTTP 401 and 403, a certificate that is not trusted, an object that is another than when its first part was read. Where an object is missing (HTTP 404), that is an answer.
///
/// **Versions**: where an object is read by parts, its version (tag, else time and length) is noted with the first, later requests are bound to it (`If-Match`), and what they bring is compared with it.
///
/// **Threads**: two for the whole process fetch; nothing is decoded there. Threads that wait may be in another `tokio` runtime (they block it).
#[derive(Clone)]
pub struct RemoteStore(Arc<Shared>);

pub(super) struct Shared {
    pub(super) fetcher: Arc<Fetcher>,
    ahead: Ahead,
    /// For what threads wait for.
    requests: Semaphore,
    aside: Aside,
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStore").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl RemoteStore {
    /// The store that an address is of (see [`is_url`](crate::source::is_url)): `s3://bucket/path`, `gs://bucket/path`, `az://container/path`, `http(s)://host/path`.
    ///
    /// **Cost**: no request, but for credentials that are not in the environment itself.
    ///
    /// # Errors
    /// [`RemoteError::Location`], [`RemoteError::Client`], [`RemoteError::Credentials`], [`RemoteError::Threads`].
    pub fn open(url: &str, options: &RemoteOptions) -> Result<Self, RemoteError> {
        let location = Location::parse(url)?;
        let shown = location.show("");
        let (place, asked) = (location.clone(), options.clone());
        let client = runtime::wait(|| shown, async move { Client::new(&place, &asked).await })??;
        let ahead = Ahead::new(options.max_requests, options.ahead_bytes);
        let requests = Semaphore::new(options.max_requests.clamp(1, Semaphore::MAX_PERMITS));
        let fetcher = Arc::new(Fetcher::new(client, location, options.clone()));
        Ok(Self(Arc::new(Shared { fetcher, ahead, requests, aside: Aside::default() })))
    }

    /// The address, without user name, password and query.
    #[must_use]
    pub fn url(&self) -> String {
        self.show("")
    }

    /// The address of an object, without secrets.
    pub(crate) fn show(&self, key: &str) -> String {
        self.0.fetcher.location.show(key)
    }

    /// The version of the contents, for whoever keeps copies: [`RemoteOptions::version`] if given, or else made of tags, times and contents of all metadata (`zarr.json`, `.zarray`, `.zattrs`, ...) that was
    /// read through this store until now. So a volume that was written anew has another; one of which somebody replaced a chunk alone has not.
    #[must_use]
    pub fn version(&self) -> String {
        let given = self.0.fetcher.options.version.clone();
        given.unwrap_or_else(|| self.0.fetcher.versions.of_metadata())
    }

    /// A whole object; `None` where there is none.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn object(&self, key: &str) -> Result<Option<Bytes>, Arc<RemoteError>> {
        self.object_within(key, u64::MAX)
    }

    /// A whole object of at most so many bytes.
    pub(crate) fn object_within(
        &self,
        key: &str,
        most_bytes: u64,
    ) -> Result<Option<Bytes>, Arc<RemoteError>> {
        let Some(got) = self.one(key, Part::Whole(most_bytes))? else { return Ok(None) };
        // What was announced may have been so with another limit.
        if got.bytes.len() as u64 > most_bytes {
            return Err(Arc::new(self.0.fetcher.too_large(key, most_bytes)));
        }
        if is_metadata(key) {
            self.0.fetcher.versions.note_metadata(key, &got.version, &got.bytes);
        }
        Ok(Some(got.bytes))
    }

    /// Size of an object in bytes; `None` where there is none.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn object_bytes(&self, key: &str) -> Result<Option<u64>, Arc<RemoteError>> {
        Ok(self.one(key, Part::Size)?.map(|got| got.version.bytes()))
    }

    /// The last `bytes` of an object; `None` where there is none.
    ///
    /// # Errors
    /// Why they cannot be had; a shorter object is one cause.
    pub fn last(&self, key: &str, bytes: u64) -> Result<Option<Bytes>, Arc<RemoteError>> {
        Ok(self.one(key, Part::Last(bytes))?.map(|got| got.bytes))
    }

    /// Parts of an object, each as given; `None` where there is no such object. Parts that lie near each other are fetched as one, several at a time.
    ///
    /// # Errors
    /// Why they cannot be had; an object that ends before one of them is one cause.
    pub fn ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>, Arc<RemoteError>> {
        let mut found: Vec<Option<Bytes>> = vec![None; ranges.len()];
        let mut lacking = Vec::new();
        for (i, range) in ranges.iter().enumerate() {
            if range.is_empty() {
                found[i] = Some(Bytes::new());
                continue;
            }
            match self.taken(key, &Part::Range(range.clone())) {
                Some(Ok(Some(got))) => found[i] = Some(got.bytes),
                Some(Ok(None)) => return Ok(None),
                Some(Err(error)) => return Err(error),
                None => lacking.push(i),
            }
        }
        let wanted: Vec<Range<u64>> = lacking.iter().map(|&i| ranges[i].clone()).collect();
        let groups = coalesce(&wanted, self.0.fetcher.options.coalesce_bytes, MOST_COALESCED_BYTES);
        let parts = groups.iter().map(|group| Part::Range(group.whole.clone())).collect();
        for (group, got) in groups.iter().zip(self.fetched(key, parts)?) {
            let Some(got) = got? else { return Ok(None) };
            for &member in &group.members {
                let range = &wanted[member];
                let at = |offset: u64| usize::try_from(offset - group.whole.start).unwrap_or(usize::MAX);
                found[lacking[member]] = Some(got.bytes.slice(at(range.start)..at(range.end)));
            }
        }
        Ok(Some(found.into_iter().flatten().collect()))
    }

    /// Begins to fetch whole objects, in this order, of at most so many bytes each. Waits for nothing.
    pub fn announce_objects(&self, objects: impl IntoIterator<Item = (String, u64)>) {
        self.announce(objects.into_iter().map(|(key, most_bytes)| {
            let part = Part::Whole(self.0.fetcher.options.max_object_bytes);
            Announced { key, part, most_bytes, wanted_bytes: most_bytes }
        }));
    }

    /// Begins to fetch the last so many bytes of objects, in this order, each for so many readers. Waits for nothing.
    pub fn announce_last(&self, objects: impl IntoIterator<Item = (String, u64)>, readers: u64) {
        self.announce(objects.into_iter().map(|(key, bytes)| {
            let wanted_bytes = bytes.saturating_mul(readers);
            Announced { key, part: Part::Last(bytes), most_bytes: bytes, wanted_bytes }
        }));
    }

    /// Begins to fetch parts of an object; those that lie near each other as one; each for so many readers. Waits for nothing.
    pub fn announce_ranges(&self, key: &str, ranges: &[Range<u64>], readers: u64) {
        let groups = coalesce(ranges, self.0.fetcher.options.coalesce_bytes, MOST_COALESCED_BYTES);
        self.announce(groups.into_iter().map(|group| Announced {
            key: key.to_owned(),
            most_bytes: group.whole.end.saturating_sub(group.whole.start),
            wanted_bytes: group.wanted_bytes.saturating_mul(readers),
            part: Part::Range(group.whole),
        }));
    }

    /// Does something that waits for this store on a thread of its own, after what was given before; not at all, where too much was. For what finds out what else to announce.
    pub(crate) fn do_aside(&self, work: Box<dyn FnOnce() + Send>) {
        self.0.aside.run(work);
    }

    fn announce(&self, parts: impl IntoIterator<Item = Announced>) {
        self.0.ahead.announce(parts);
        self.0.pump();
    }

    fn one(&self, key: &str, part: Part) -> Answer {
        if let Some(answer) = self.taken(key, &part) {
            return answer;
        }
        self.fetched(key, vec![part])?.pop().unwrap_or(Ok(None))
    }

    /// What was fetched ahead, or is being fetched.
    fn taken(&self, key: &str, part: &Part) -> Option<Answer> {
        let taken = self.0.ahead.take(key, part)?;
        self.0.pump();
        Some(taken)
    }

    /// Parts of one object, fetched at the same time while this thread waits.
    fn fetched(&self, key: &str, parts: Vec<Part>) -> Result<Vec<Answer>, Arc<RemoteError>> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let (shared, its) = (self.0.clone(), key.to_owned());
        let work = async move {
            join_all(parts.iter().map(|part| async {
                // Never closed; and if it were, one more request would do no harm.
                let _permit = shared.requests.acquire().await;
                shared.fetcher.get(&its, part).await
            }))
            .await
        };
        Ok(runtime::wait(|| self.show(key), work)?)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Shared {
    /// Begins what there is room for.
    fn pump(self: &Arc<Self>) {
        let Ok(handle) = runtime::handle() else { return };
        while let Some(ticket) = self.ahead.next() {
            let under_way = UnderWay { shared: self.clone(), ticket, answer: None };
            handle.spawn(async move {
                let Ticket { key, part, .. } = under_way.ticket.clone();
                let answer = under_way.shared.fetcher.get(&key, &part).await;
                under_way.over(answer);
            });
        }
    }
}

/// Hands a ticket back whatever happens, so that nobody waits for it in vain.
struct UnderWay {
    shared: Arc<Shared>,
    ticket: Ticket,
    answer: Option<Answer>,
}

impl UnderWay {
    fn over(mut self, answer: Answer) {
        self.answer = Some(answer);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.ahead.done(&self.ticket, self.answer.take());
        self.shared.pump();
    }
}

/// Whether an object is metadata by its name.
pub(super) fn is_metadata(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    matches!(name, "zarr.json" | ".zarray" | ".zgroup" | ".zattrs" | ".zmetadata")
}
