//! Owns what becomes of addresses. The one place that knows of stores that are no folders.

use super::opened::Opened;
use crate::error::SourceError;

/// How things are opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// For addresses: credentials, time-outs, how often is tried.
    #[cfg(feature = "cloud")]
    pub remote: crate::source::RemoteOptions,
}

/// Whether it is an address and no path: a scheme and `://`.
#[cfg(feature = "cloud")]
pub(super) fn is_url(text: &str) -> bool {
    crate::source::is_url(text)
}

/// Whether it is an address and no path: a scheme and `://`.
#[cfg(not(feature = "cloud"))]
pub(super) fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Opens an address: `file://` is a path, whatever else there is a Zarr store.
#[cfg(feature = "cloud")]
pub(super) fn open(url: &str, options: &OpenOptions) -> Result<Opened, SourceError> {
    if let Some(path) = crate::source::file_url(url)? {
        return super::open_with(path, options);
    }
    crate::source::Zarr::open_url(url, &options.remote).map(|zarr| Opened::zarr(&zarr))
}

/// Says what is needed.
#[cfg(not(feature = "cloud"))]
pub(super) fn open(url: &str, _: &OpenOptions) -> Result<Opened, SourceError> {
    Err(SourceError::NeedsFeature { location: url.to_owned(), format: "an address", feature: "cloud" })
}
