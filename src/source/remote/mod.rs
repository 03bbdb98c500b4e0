//! Owns volumes in remote stores (S3, web servers, Google, Azure): an address in, objects and parts of them out, whatever servers and lines do. Knows nothing of arrays and tiles.
//!
//! ```text
//! location, options   what an address and the caller say
//! client, watched     the store's client; its failures, so that they can be told apart
//! fetch, cause        one part of an object: attempts, and what makes an answer count
//! versions            which version was seen first
//! ahead, coalesce     what is fetched before it is asked for, and together
//! store               all of it, for threads that wait;   runtime: the threads that do not
//! aside               what has to wait to find out what else to fetch
//! storage, listing    the same, as the `zarrs` crate wants it;   upload: the other way
//! ```

mod ahead;
mod aside;
mod cause;
mod client;
mod coalesce;
mod fetch;
mod listing;
mod location;
mod options;
mod runtime;
mod storage;
mod store;
mod upload;
mod versions;
mod watched;

pub use location::file_url;
pub(crate) use location::shown_url;
pub use options::RemoteOptions;
pub use store::RemoteStore;
pub(crate) use upload::{Came, Put, Tag};
