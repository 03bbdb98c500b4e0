//! Owns how the client of a store is made from an address and options. Knows nothing of what is read.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use super::cause::Cause;
use super::location::{Location, Place};
use super::options::RemoteOptions;
use super::watched::Watched;
use crate::error::RemoteError;

/// The client of a store.
pub(super) struct Client {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// What lists, where the store can.
    pub(super) lists: Option<Arc<dyn PaginatedListStore>>,
    /// What takes objects part by part, where the store takes any.
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
}

impl Client {
    /// Of the store at `location`. Asks for nothing but credentials, where they are not in the environment itself.
    pub(super) async fn new(location: &Location, options: &RemoteOptions) -> Result<Self, RemoteError> {
        match &location.place {
            Place::S3 { bucket } => s3(location, bucket, options).await,
            Place::Google { bucket } => google(location, bucket, options).await,
            Place::Azure { url } => azure(location, url, options).await,
            Place::Http { url } => http(location, url, options),
        }
    }
}

async fn s3(location: &Location, bucket: &str, options: &RemoteOptions) -> Result<Client, RemoteError> {
    let mut builder = AmazonS3Builder::from_env();
    for (name, value) in &options.settings {
        let key: AmazonS3ConfigKey = name.parse().map_err(|error| refused(location, &error))?;
        builder = builder.with_config(key, value);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    if options.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let set = |key| builder.get_config_value(&key);
    let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
    let client = client_options(location, options, endpoint.as_deref())?;
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(never_again())
        .with_http_connector(Watched)
        .build()
        .map_err(|error| refused(location, &error))?;
    if !options.anonymous {
        had(location, options, store.credentials().get_credential()).await?;
    }
    let store = Arc::new(store);
    Ok(Client { objects: store.clone(), lists: Some(store.clone()), parts: Some(store) })
}

async fn google(location: &Location, bucket: &str, options: &RemoteOptions) -> Result<Client, RemoteError> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (name, value) in &options.settings {
        let key: GoogleConfigKey = name.parse().map_err(|error| refused(location, &error))?;
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if options.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let client = client_options(location, options, endpoint.as_deref())?;
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(never_again())
        .with_http_connector(Watched)
        .build()
        .map_err(|error| refused(location, &error))?;
    if !options.anonymous {
        had(location, options, store.credentials().get_credential()).await?;
    }
    let store = Arc::new(store);
    Ok(Client { objects: store.clone(), lists: Some(store.clone()), parts: Some(store) })
}

async fn azure(location: &Location, url: &str, options: &RemoteOptions) -> Result<Client, RemoteError> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (name, value) in &options.settings {
        let key: AzureConfigKey = name.parse().map_err(|error| refused(location, &error))?;
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if options.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let client = client_options(location, options, endpoint.as_deref())?;
    let store = builder
        .with_url(url)
        .with_client_options(client)
        .with_retry(never_again())
        .with_http_connector(Watched)
        .build()
        .map_err(|error| refused(location, &error))?;
    if !options.anonymous {
        had(location, options, store.credentials().get_credential()).await?;
    }
    let store = Arc::new(store);
    Ok(Client { objects: store.clone(), lists: Some(store.clone()), parts: Some(store) })
}

fn http(location: &Location, url: &str, options: &RemoteOptions) -> Result<Client, RemoteError> {
    let mut client = client_options(location, options, Some(url))?;
    for (name, value) in &options.settings {
        let key: ClientConfigKey = name.parse().map_err(|error| refused(location, &error))?;
        client = client.with_config(key, value);
    }
    let store = HttpBuilder::new()
        .with_url(url)
        .with_client_options(client)
        .with_retry(never_again())
        .with_http_connector(Watched)
        .build()
        .map_err(|error| refused(location, &error))?;
    Ok(Client { objects: Arc::new(store), lists: None, parts: None })
}

/// Time limits are ours, for each attempt as a whole; of the client's own only that of connecting.
fn client_options(
    location: &Location,
    options: &RemoteOptions,
    endpoint: Option<&str>,
) -> Result<ClientOptions, RemoteError> {
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    if plain && !options.allow_http {
        let cause = "plain http:// is not allowed by the options".into();
        return Err(RemoteError::Client { url: location.show(""), cause });
    }
    Ok(ClientOptions::new()
        .with_allow_http(plain)
        .with_connect_timeout(options.connect_timeout)
        .with_timeout_disabled()
        .with_pool_max_idle_per_host(options.max_requests.max(1).saturating_mul(2)))
}

/// Attempts are counted in one place, which is not the client.
fn never_again() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO }
}

/// Whether there are credentials: asked for before anything is read, so that their lack has an error of its own.
async fn had<T>(
    location: &Location,
    options: &RemoteOptions,
    credentials: impl Future<Output = object_store::Result<T>>,
) -> Result<(), RemoteError> {
    let cause = match tokio::time::timeout(options.stall_timeout, credentials).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => Cause::of(&error).text,
        Err(_) => format!("no answer within {:?}", options.stall_timeout),
    };
    Err(RemoteError::Credentials { url: location.show(""), cause })
}

fn refused(location: &Location, error: &object_store::Error) -> RemoteError {
    RemoteError::Client { url: location.show(""), cause: Cause::of(error).text }
}
