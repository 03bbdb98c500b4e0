//! Owns one object's part and how it is got: attempts, waits between them, what an answer has to be. Knows nothing of chunks.
//!
//! An answer counts only if it is complete and of the version seen first; whatever else a server, a proxy or a line does is a failure that is tried again, or one that is told at once.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload};
use tokio::time::timeout;
use zarrs::storage::Bytes;

use super::cause::{Cause, Verdict};
use super::client::Client;
use super::location::{Location, Place};
use super::options::RemoteOptions;
use super::versions::{Version, Versions};
use crate::error::RemoteError;

/// For each of these that a request is for, it gets [`RemoteOptions::request_timeout`].
const TIMED_BYTES: u64 = 8 << 20;
/// Most that is set aside before it has come: what a header says of an answer's length is not believed further than this.
const FIRST_CAPACITY_BYTES: u64 = 16 << 20;

const S3_REFUSES: &str = "; S3 answers so, too, where an object is missing and one may not list the bucket: the option `forbidden_is_missing` takes it for that";

/// A part of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// All of it, if it has no more bytes than this.
    Whole(u64),
    /// These bytes, all of them.
    Range(Range<u64>),
    /// That many bytes at its end.
    Last(u64),
    /// Nothing: its size alone.
    Size,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(_) => write!(f, "the whole object"),
            Self::Range(range) => write!(f, "bytes {} to {}", range.start, range.end),
            Self::Last(bytes) => write!(f, "the last {bytes} bytes"),
            Self::Size => write!(f, "its size"),
        }
    }
}

/// What was got.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) bytes: Bytes,
    pub(super) version: Version,
}

/// `None`: the object is not there.
pub(super) type Answer = Result<Option<Got>, Arc<RemoteError>>;

/// Gets parts of one store's objects.
pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) location: Location,
    pub(super) options: RemoteOptions,
    pub(super) versions: Versions,
    /// Whether the server knows "the last n bytes": not every one does.
    knows_last: AtomicBool,
}

impl Fetcher {
    pub(super) fn new(client: Client, location: Location, options: RemoteOptions) -> Self {
        let knows_last = AtomicBool::new(!matches!(location.place, Place::Azure { .. }));
        Self { client, location, options, versions: Versions::new(), knows_last }
    }

    /// A part of an object, tried as often as the options say.
    ///
    /// # Errors
    /// Why it cannot be had, once and for all.
    pub(super) async fn get(&self, key: &str, part: &Part) -> Answer {
        let Part::Last(bytes) = *part else { return self.tried(key, part).await.map_err(told) };
        if self.knows_last.load(Ordering::Relaxed) {
            match self.tried(key, part).await {
                Err((Verdict::NotLikeThis | Verdict::NoRanges, _)) => {}
                other => return other.map_err(told),
            }
        }
        // Through the size, which takes another request.
        let Some(whole) = self.tried(key, &Part::Size).await.map_err(told)? else { return Ok(None) };
        let size = whole.version.bytes();
        let Some(start) = size.checked_sub(bytes) else {
            return Err(Arc::new(self.beyond(key, part, size)));
        };
        let got = self.tried(key, &Part::Range(start..size)).await.map_err(told)?;
        self.knows_last.store(false, Ordering::Relaxed);
        Ok(got)
    }

    /// As [`Fetcher::get`], with what follows from a failure.
    async fn tried(&self, key: &str, part: &Part) -> Result<Option<Got>, (Verdict, RemoteError)> {
        let lost = match self.persist(|| self.attempt(key, part)).await {
            Ok(got) => return Ok(Some(got)),
            Err(lost) => lost,
        };
        let before = self.versions.seen(key);
        match lost.cause.verdict {
            Verdict::Missing => match before {
                None => Ok(None),
                Some(before) => Err(self.changed(key, &before.to_string(), "not there any more")),
            },
            Verdict::Changed => {
                let before = before.map_or_else(|| "another".to_owned(), |before| before.to_string());
                Err(self.changed(key, &before, "another, of which the store does not tell"))
            }
            Verdict::Refused if self.options.forbidden_is_missing => Ok(None),
            _ => Err(self.given_up(key, part.to_string(), lost)),
        }
    }

    /// What `attempt` comes to, made again as long as there is hope and the options allow.
    pub(super) async fn persist<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Lost>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let begun = Instant::now();
        let mut attempts = 1;
        loop {
            let (cause, error) = match attempt().await {
                Ok(got) => return Ok(got),
                Err(Failure::Cause(cause)) => (cause, None),
                Err(Failure::Told(error)) => {
                    (Cause { verdict: Verdict::Final, text: String::new() }, Some(error))
                }
            };
            match cause.verdict {
                Verdict::Again(after) if attempts < self.options.attempts => {
                    let wait = self.backoff(attempts).max(after.unwrap_or_default());
                    tokio::time::sleep(wait.min(self.options.max_backoff)).await;
                    attempts += 1;
                }
                _ => return Err(Lost { cause, error, attempts, elapsed: begun.elapsed() }),
            }
        }
    }

    async fn attempt(&self, key: &str, part: &Part) -> Result<Got, Failure> {
        let begun = Instant::now();
        let path = self.location.path(key).map_err(Failure::told)?;
        let before = self.versions.seen(key);
        let options = GetOptions {
            range: match part {
                Part::Range(range) => Some(GetRange::Bounded(range.clone())),
                Part::Last(bytes) => Some(GetRange::Suffix(*bytes)),
                Part::Whole(_) | Part::Size => None,
            },
            head: *part == Part::Size,
            if_match: before.and_then(|before| before.condition()),
            ..GetOptions::default()
        };
        let stall = self.options.stall_timeout;
        let answer = timeout(stall, self.client.objects.get_opts(&path, options)).await;
        let answer = answer.map_err(|_| Cause::again(format!("no answer within {stall:?}")))?;
        let answer = answer.map_err(|error| Cause::of(&error))?;
        let version = Version::of(&answer.meta);
        self.same_version(key, part, &version)?;
        if *part == Part::Size {
            return Ok(Got { bytes: Bytes::new(), version });
        }
        self.right_range(key, part, &answer)?;
        let bytes = self.body(answer, begun).await?;
        Ok(Got { bytes, version })
    }

    fn same_version(&self, key: &str, part: &Part, version: &Version) -> Result<(), Failure> {
        let noted = match part {
            // An object that is read as a whole is of one version whenever that is.
            Part::Whole(_) => return Ok(()),
            Part::Range(_) | Part::Last(_) | Part::Size => self.versions.note(key, version),
        };
        noted.map_err(|before| {
            Failure::told(RemoteError::Changed {
                url: self.location.show(key),
                before: before.to_string(),
                now: version.to_string(),
            })
        })
    }

    /// Whether an answer is of the part that was asked for; `object_store` has compared its range with what an object of this size can have.
    fn right_range(&self, key: &str, part: &Part, answer: &GetResult) -> Result<(), Failure> {
        let bytes = answer.range.end.saturating_sub(answer.range.start);
        let limit_bytes = match part {
            Part::Whole(most_bytes) => self.options.max_object_bytes.min(*most_bytes),
            _ => self.options.max_object_bytes,
        };
        if bytes > limit_bytes {
            return Err(Failure::told(self.too_large(key, limit_bytes)));
        }
        let wanted = match part {
            Part::Whole(_) | Part::Size => return Ok(()),
            Part::Range(range) => range.end - range.start,
            Part::Last(bytes) => *bytes,
        };
        if bytes == wanted {
            return Ok(());
        }
        Err(Failure::told(self.beyond(key, part, answer.meta.size)))
    }

    /// An answer's bytes, all that it promised and no more.
    async fn body(&self, answer: GetResult, begun: Instant) -> Result<Bytes, Failure> {
        let promised = answer.range.end.saturating_sub(answer.range.start);
        let GetResultPayload::Stream(mut parts) = answer.payload;
        let most = self.options.request_timeout.saturating_mul(1 + u32_of(promised / TIMED_BYTES));
        let mut bytes = Vec::with_capacity(usize_of(promised.min(FIRST_CAPACITY_BYTES)));
        let stall = self.options.stall_timeout;
        loop {
            let next = timeout(stall, parts.next()).await;
            let next = next.map_err(|_| {
                Cause::again(format!("silence for {stall:?} after {} of {promised} bytes", bytes.len()))
            })?;
            let Some(next) = next else { break };
            let next = next.map_err(|error| {
                let text = format!("after {} of {promised} bytes: {}", bytes.len(), Cause::of(&error).text);
                Cause::again(text)
            })?;
            if (bytes.len() + next.len()) as u64 > promised {
                return Err(Cause::again(format!("more than the {promised} bytes that were promised")).into());
            }
            bytes.extend_from_slice(&next);
            if begun.elapsed() > most {
                let text = format!("too slow: {} of {promised} bytes within {most:?}", bytes.len());
                return Err(Cause::again(text).into());
            }
        }
        if bytes.len() as u64 != promised {
            return Err(Cause::again(format!("{} of {promised} bytes came", bytes.len())).into());
        }
        Ok(bytes.into())
    }

    /// How long to wait after this attempt.
    fn backoff(&self, attempt: u32) -> Duration {
        let longest = self.options.first_backoff.saturating_mul(1 << (attempt - 1).min(16));
        let longest = longest.min(self.options.max_backoff);
        // The keys of a hash are random: no generator is needed for jitter.
        let random = f64::from(u32_of(RandomState::new().hash_one(attempt) >> 32)) / f64::from(u32::MAX);
        longest.mul_f64(0.5 + random / 2.0)
    }

    /// The error of what failed for good, and what that means to whoever asked.
    pub(super) fn given_up(&self, key: &str, what: String, lost: Lost) -> (Verdict, RemoteError) {
        let Lost { cause, error, attempts, elapsed } = lost;
        let url = self.location.show(key);
        let error = match (error, &cause.verdict) {
            (Some(error), _) => *error,
            (None, Verdict::Refused) => {
                let hint = if matches!(self.location.place, Place::S3 { .. }) { S3_REFUSES } else { "" };
                RemoteError::Refused { url, what, cause: cause.text, hint }
            }
            (None, Verdict::NoRanges) => RemoteError::NoRanges { url },
            (None, _) => {
                let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                RemoteError::GaveUp { url, what, attempts, elapsed_ms, cause: cause.text }
            }
        };
        (cause.verdict, error)
    }

    fn changed(&self, key: &str, before: &str, now: &str) -> (Verdict, RemoteError) {
        let (before, now) = (before.to_owned(), now.to_owned());
        (Verdict::Final, RemoteError::Changed { url: self.location.show(key), before, now })
    }

    pub(super) fn too_large(&self, key: &str, limit_bytes: u64) -> RemoteError {
        RemoteError::TooLarge { url: self.location.show(key), limit_bytes }
    }

    fn beyond(&self, key: &str, part: &Part, object_bytes: u64) -> RemoteError {
        RemoteError::Beyond { url: self.location.show(key), what: part.to_string(), object_bytes }
    }
}

/// What nobody tries any more.
pub(super) struct Lost {
    cause: Cause,
    /// The error, where it has been told already.
    error: Option<Box<RemoteError>>,
    attempts: u32,
    elapsed: Duration,
}

/// Why an attempt failed: for a cause that may pass, or with an error that is final.
pub(super) enum Failure {
    Cause(Cause),
    Told(Box<RemoteError>),
}

impl Failure {
    fn told(error: RemoteError) -> Self {
        Self::Told(Box::new(error))
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

fn told((_, error): (Verdict, RemoteError)) -> Arc<RemoteError> {
    Arc::new(error)
}

fn u32_of(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
