//! Owns what may go wrong with objects in remote stores: which object, which part of it, how often it was tried, why. Knows nothing of how they are fetched, and no secret: addresses come without
//! user names, passwords and queries.

use std::sync::Arc;

use super::{SourceError, StoreError};

/// What keeps an object in a remote store from being read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// Not an address of anything that can be read.
    #[error("{url:?} cannot be read: {reason}")]
    Location {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option cannot be, or there is no client with these options.
    #[error("a client for {url}: {cause}")]
    Client {
        /// The store.
        url: String,
        /// What is wrong.
        cause: String,
    },
    /// There are no credentials, or they could not be had.
    #[error(
        "credentials for {url}: {cause} (they come from the environment; without any, ask for anonymous access)"
    )]
    Credentials {
        /// The store.
        url: String,
        /// Why there are none.
        cause: String,
    },
    /// The store refused.
    #[error("{url}: {what} was refused: {cause}{hint}")]
    Refused {
        /// The object.
        url: String,
        /// Which part of it, or which listing.
        what: String,
        /// The store's answer.
        cause: String,
        /// What else it may mean (empty, or begins with a separator).
        hint: &'static str,
    },
    /// Tried again and again, and failed.
    #[error("{url}: {what} failed {attempts} time(s) in {elapsed_ms} ms, last: {cause}")]
    GaveUp {
        /// The object.
        url: String,
        /// Which part of it, or which listing.
        what: String,
        /// How often it was tried.
        attempts: u32,
        /// How long all of them took, with the waits between them.
        elapsed_ms: u64,
        /// Why the last attempt failed.
        cause: String,
    },
    /// The object is not what it was when it was first seen.
    #[error("{url} changed while it was read: it was {before}, and is {now}")]
    Changed {
        /// The object.
        url: String,
        /// Its version when it was first seen.
        before: String,
        /// Its version now.
        now: String,
    },
    /// The object is not there, where it has to be.
    #[error("{url} is not there")]
    Missing {
        /// The object.
        url: String,
    },
    /// The object is shorter than what is to be read of it.
    #[error("{url} has {object_bytes} bytes: {what} are not in it")]
    Beyond {
        /// The object.
        url: String,
        /// The part that was asked for.
        what: String,
        /// Size of the object.
        object_bytes: u64,
    },
    /// More would have to be read at once than anything is let be.
    #[error("{url} has more than {limit_bytes} bytes, which is the most that is read of it at once")]
    TooLarge {
        /// The object.
        url: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// The server sends whole objects only.
    #[error(
        "{url}: the server sends no parts of objects (it does not know byte ranges), and parts are needed"
    )]
    NoRanges {
        /// The object.
        url: String,
    },
    /// The store cannot tell what it holds.
    #[error("{url}: what is there cannot be listed over plain HTTP, and no consolidated metadata tells it")]
    NotListed {
        /// The folder.
        url: String,
    },
    /// Nothing can be written there.
    #[error("{url}: a plain web server takes no objects")]
    ReadOnly {
        /// The store.
        url: String,
    },
    /// A listing has no end.
    #[error("{url}: more than {limit} names are listed, which is the limit")]
    Listing {
        /// The folder.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// A listing does not get on: a page is to be followed by itself, or by more and more that have no name on them.
    #[error("{url}: its listing goes in circles, after {pages} pages without a name")]
    Circles {
        /// The folder.
        url: String,
        /// Pages without a name, one after the other.
        pages: usize,
    },
    /// The threads that fetch could not be started.
    #[error("the threads that fetch could not be started: {cause}")]
    Threads {
        /// The system's own error.
        cause: String,
    },
    /// A request was made by a thread that itself makes requests: it would wait for itself.
    #[error("{url}: asked for by a thread that fetches, which would wait for itself")]
    WaitsForItself {
        /// The object.
        url: String,
    },
    /// The client panicked.
    #[error("{url}: the client panicked")]
    Panicked {
        /// The object.
        url: String,
    },
}

impl From<RemoteError> for SourceError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(Arc::new(error))
    }
}

impl From<Arc<RemoteError>> for StoreError {
    fn from(error: Arc<RemoteError>) -> Self {
        Self::Remote(error)
    }
}
