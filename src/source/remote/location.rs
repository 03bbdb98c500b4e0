//! Owns what an address says: which kind of store, where in it, and how that is shown without secrets. Knows nothing of requests.
//!
//! | address | store |
//! | --- | --- |
//! | `s3://bucket/path`, `s3a://` | S3, or what speaks like it at an endpoint |
//! | `gs://bucket/path` | Google Cloud Storage |
//! | `az://container/path`, `azure://`, `adl://`, `abfs(s)://container@account.dfs.core.windows.net/path` | Azure Blob Storage |
//! | `http://host/path`, `https://host/path` | any web server that sends ranges; a query (`?token=...`) goes with every request |
//! | `file:///path` | no store, but a path of this machine |

use std::path::PathBuf;

use object_store::path::Path;
use url::Url;

use crate::error::RemoteError;

/// A kind of store, and which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    S3 {
        bucket: String,
    },
    Google {
        bucket: String,
    },
    /// What an address says about account and container.
    Azure {
        url: String,
    },
    /// The address itself, without a slash at its end; may hold secrets.
    Http {
        url: String,
    },
}

/// Where the objects of one volume lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) place: Place,
    /// What comes before an object's key (empty for HTTP, whose address has it already).
    prefix: Path,
    /// The address as it may be shown, without a slash at its end.
    shown: String,
}

/// The path that a `file://` address names, if it is one.
///
/// # Errors
/// [`RemoteError::Location`] where it names another machine, or no path.
pub fn file_url(text: &str) -> Result<Option<PathBuf>, RemoteError> {
    let Ok(url) = Url::parse(text) else { return Ok(None) };
    if url.scheme() != "file" {
        return Ok(None);
    }
    url.to_file_path().map(Some).map_err(|()| wrong(text, "a file of this machine has no host, and a path"))
}

/// A place below an address, for people: without secrets.
pub(crate) fn shown_url(url: &str, key: &str) -> String {
    Location::parse(url).map_or_else(|_| key.to_owned(), |location| location.show(key))
}

impl Location {
    /// Of an address.
    ///
    /// # Errors
    /// [`RemoteError::Location`].
    pub(super) fn parse(text: &str) -> Result<Self, RemoteError> {
        let url = Url::parse(text).map_err(|error| wrong(text, error.to_string()))?;
        let named = |what: &str| match url.host_str() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(wrong(text, format!("the {what} is missing"))),
        };
        let place = match url.scheme() {
            "s3" | "s3a" => Place::S3 { bucket: named("bucket")? },
            "gs" => Place::Google { bucket: named("bucket")? },
            "az" | "azure" | "adl" | "abfs" | "abfss" => {
                named("container")?;
                Place::Azure { url: text.to_owned() }
            }
            "http" | "https" => {
                named("host")?;
                Place::Http { url: http_base(&url) }
            }
            "file" => return Err(wrong(text, "a path of this machine is opened as such")),
            other => {
                let reason =
                    format!("{other:?} is no scheme that is known: s3, gs, az, abfs, http, https, file");
                return Err(wrong(text, reason));
            }
        };
        let prefix = Path::from_url_path(url.path()).map_err(|error| wrong(text, error.to_string()))?;
        let prefix = if matches!(place, Place::Http { .. }) { Path::ROOT } else { prefix };
        Ok(Self { place, prefix, shown: shown(&url) })
    }

    /// The same store, with `key` as the place of its objects' root; an empty key changes nothing.
    pub(super) fn path(&self, key: &str) -> Result<Path, RemoteError> {
        let whole = match (self.prefix.as_ref(), key) {
            ("", key) => key.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, key) => format!("{prefix}/{key}"),
        };
        Path::parse(whole).map_err(|error| wrong(&self.show(key), error.to_string()))
    }

    /// What lies at `path` of the store, as a key below this place.
    pub(super) fn key<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let rest = path.as_ref().strip_prefix(self.prefix.as_ref())?;
        if self.prefix.as_ref().is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// The address of an object, for people.
    pub(super) fn show(&self, key: &str) -> String {
        if key.is_empty() { self.shown.clone() } else { format!("{}/{key}", self.shown) }
    }
}

fn wrong(text: &str, reason: impl Into<String>) -> RemoteError {
    let url = Url::parse(text).map_or_else(|_| text.to_owned(), |url| shown(&url));
    RemoteError::Location { url, reason: reason.into() }
}

/// Without user name, password, query and fragment, any of which may be a secret.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    // `abfs://container@account...`: there the name says which container.
    let user = if url.scheme().starts_with("abfs") && !url.username().is_empty() {
        format!("{}@", url.username())
    } else {
        String::new()
    };
    format!("{}://{user}{host}{port}{}", url.scheme(), url.path().trim_end_matches('/'))
}

/// The address that keys are appended to.
fn http_base(url: &Url) -> String {
    let mut base = url.clone();
    base.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    base.set_path(&path);
    base.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_which_store_and_where() {
        let place = |text: &str| Location::parse(text).map(|l| (l.place, l.prefix.to_string())).unwrap();
        assert_eq!(
            place("s3://bucket/a/b.zarr/"),
            (Place::S3 { bucket: "bucket".into() }, "a/b.zarr".into())
        );
        assert_eq!(place("s3://My_bucket"), (Place::S3 { bucket: "My_bucket".into() }, String::new()));
        assert_eq!(place("gs://bucket/a%20b"), (Place::Google { bucket: "bucket".into() }, "a b".into()));
        let azure = "abfss://box@account.dfs.core.windows.net/x/y";
        assert_eq!(place(azure), (Place::Azure { url: azure.into() }, "x/y".into()));
        let http = Place::Http { url: "http://host:81/a/b?t=1".into() };
        assert_eq!(place("http://host:81/a/b/?t=1#f"), (http, String::new()));
    }

    #[test]
    fn keys_go_below_the_place_and_come_back() {
        for (text, key) in [
            ("s3://b/p/q", "c/0/1"),
            ("s3://b", "zarr.json"),
            ("http://h/x", "0/.zarray"),
            ("s3://b/p", "a b"),
        ] {
            let location = Location::parse(text).unwrap();
            let path = location.path(key).unwrap();
            assert_eq!(location.key(&path), Some(key), "{text}");
            assert_eq!(location.show(key), format!("{text}/{key}"));
        }
        let location = Location::parse("s3://b/p/q").unwrap();
        assert_eq!(location.key(&Path::from("p/other/z")), None);
        assert_eq!(location.key(&Path::from("p/qq/z")), None, "a name that only begins alike");
        assert!(location.path("../secret").is_err());
        assert!(location.path("a//b").is_err());
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = Location::parse("https://user:hunter2@host/v.zarr?token=hunter2#hunter2").unwrap();
        assert_eq!(secret.show("c/0"), "https://host/v.zarr/c/0");
        let wrong = Location::parse("ftp://user:hunter2@host/v?hunter2").unwrap_err().to_string();
        assert!(!wrong.contains("hunter2") && wrong.contains("ftp"), "{wrong}");
    }

    #[test]
    fn what_is_no_address_is_told() {
        for text in
            ["s3://", "gs:///x", "http://", "nonsense", "", "ftp://h/x", "s3://b/../c//d", "file:///x"]
        {
            let error = Location::parse(text).map(|l| l.show("")).unwrap_err();
            assert!(matches!(error, RemoteError::Location { .. }), "{text}: {error}");
        }
        assert_eq!(file_url("file:///a%20b/c").unwrap(), Some(PathBuf::from("/a b/c")));
        assert_eq!(file_url("s3://b/c").unwrap(), None);
        assert!(file_url("file://elsewhere/c").is_err());
    }
}
