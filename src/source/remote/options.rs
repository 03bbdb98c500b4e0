//! Owns how remote stores are asked: where, as whom, how patiently, how much at once. Knows nothing of any store.

use std::fmt;
use std::time::Duration;

/// How a remote store is asked.
///
/// Credentials come from the environment, as `object_store` reads it: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and the roles of machines and
/// containers; `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_APPLICATION_CREDENTIALS`; `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_KEY`. (Not from `~/.aws`.) What stands here
/// wins over the environment.
///
/// ```
/// use vastgrid::source::RemoteOptions;
///
/// let public = RemoteOptions { region: Some("us-west-2".into()), ..RemoteOptions::anonymous() };
/// ```
#[derive(Clone)]
pub struct RemoteOptions {
    /// Where requests go instead of the provider's own servers, such as `http://127.0.0.1:9000`. Not for `http(s)://` addresses, which say it themselves. Default: none.
    pub endpoint: Option<String>,
    /// Region of an S3 bucket (`us-east-1` where neither this nor the environment says). Default: none.
    pub region: Option<String>,
    /// Ask without credentials, as for public data. Default: no.
    pub anonymous: bool,
    /// Whether addresses and endpoints may be plain `http://`. Nothing that begins with `https://` is ever led there. Default: yes.
    pub allow_http: bool,
    /// Further settings by `object_store`'s names, such as `("aws_request_payer", "true")`. Default: none.
    pub settings: Vec<(String, String)>,
    /// Take "forbidden" (HTTP 403) for "not there". S3 says so of missing objects to whoever may not list the bucket; but then a chunk that may not be read is fill, too, and nobody is told. Default: no.
    pub forbidden_is_missing: bool,
    /// Longest wait for a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// Longest silence: until an answer begins, and between two parts of it. Default: 15 s.
    pub stall_timeout: Duration,
    /// Longest time for one answer, for each 8 MiB of it that were asked for. Default: 60 s.
    pub request_timeout: Duration,
    /// How often a request is tried in all (at least once). Default: 6.
    pub attempts: u32,
    /// Wait before the second attempt. Doubled each time, and of each wait a half is random. Default: 100 ms.
    pub first_backoff: Duration,
    /// Longest wait between two attempts, also where a server asks for more. Default: 10 s.
    pub max_backoff: Duration,
    /// Most requests under way for what [`TileSource::will_read`](crate::TileSource::will_read) announced, and again as many for what threads wait for. Default: 32.
    pub max_requests: usize,
    /// Most bytes that are fetched ahead and not yet taken. Default: 256 MiB.
    pub ahead_bytes: u64,
    /// Two parts of one object that are no further apart than this are fetched as one. Default: 256 KiB.
    pub coalesce_bytes: u64,
    /// The largest object, or part of one, that is read at once. Default: 4 GiB.
    pub max_object_bytes: u64,
    /// The content's version, if the caller knows better than the store (see [`RemoteStore::version`](super::RemoteStore::version)). Default: none.
    pub version: Option<String>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            anonymous: false,
            allow_http: true,
            settings: Vec::new(),
            forbidden_is_missing: false,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_mins(1),
            attempts: 6,
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            max_requests: 32,
            ahead_bytes: 256 << 20,
            coalesce_bytes: 256 << 10,
            max_object_bytes: 4 << 30,
            version: None,
        }
    }
}

impl RemoteOptions {
    /// For public data: no credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { anonymous: true, ..Self::default() }
    }
}

/// Settings may be secrets: their names are shown, their values are not.
impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("RemoteOptions")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("anonymous", &self.anonymous)
            .field("allow_http", &self.allow_http)
            .field("settings", &settings)
            .field("forbidden_is_missing", &self.forbidden_is_missing)
            .field("connect_timeout", &self.connect_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("attempts", &self.attempts)
            .field("first_backoff", &self.first_backoff)
            .field("max_backoff", &self.max_backoff)
            .field("max_requests", &self.max_requests)
            .field("ahead_bytes", &self.ahead_bytes)
            .field("coalesce_bytes", &self.coalesce_bytes)
            .field("max_object_bytes", &self.max_object_bytes)
            .field("version", &self.version)
            .finish()
    }
}
