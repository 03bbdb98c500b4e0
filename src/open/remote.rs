//! Owns what becomes of addresses. The one place that knows of stores that are no folders.

use super::opened::Opened;
use crate::error::SourceError;

/// How things are opened.
///
/// ```no_run
/// # #[cfg(feature = "cloud")] {
/// use vastgrid::open::{OpenOptions, open_with};
/// use vastgrid::source::RemoteOptions;
///
/// // Public data, which takes no credentials, in a bucket whose region is known.
/// let remote = RemoteOptions { region: Some("us-west-2".into()), ..RemoteOptions::anonymous() };
/// let volume = open_with("s3://bucket/brain.ome.zarr", &OpenOptions { remote })?;
/// # }
/// # Ok::<(), vastgrid::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// For addresses: credentials, time-outs, how often is tried.
    #[cfg(feature = "cloud")]
    pub remote: crate::source::RemoteOptions,
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
