//! Owns what every answer of a server goes through: failures keep their status, their text is cut short, listings have an end. Knows nothing of objects and retries.
//!
//! `object_store` tells one failure from another by its own types, few of which can be seen from outside, and reads a failure's text to its end whatever its length. So failures are made here into
//! errors that can be told apart ([`Status`]), before `object_store` sees them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};

/// Most of a failure's text that is read.
const MAX_FAILURE_BYTES: usize = 4096;
/// Most of a listing's page that is read: a thousand names of a kilobyte, in XML, are a few MiB.
const MAX_LISTING_BYTES: usize = 64 << 20;

/// A server's answer that is no success.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) code: u16,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    text: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}{}", self.code, self.text)
    }
}

impl std::error::Error for Status {}

/// Makes clients whose answers are watched.
#[derive(Debug)]
pub(super) struct Watched;

impl HttpConnector for Watched {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        ReqwestConnector::default().connect(options).map(|client| HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Service {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default();
            let lists = query.contains("list-type=2") || query.contains("comp=list");
            let token = request.method().as_str() == "PUT" && request.uri().path() == "/latest/api/token";
            let answer = self.0.execute(request).await?;
            let code = answer.status().as_u16();
            if lists && code < 300 {
                return whole(answer).await;
            }
            if code < 400 || token {
                return possible(answer);
            }
            failure(code, answer).await
        })
    }
}

/// `object_store` adds 1 to the end of an answer's range, which the last number of 64 bits does not bear.
fn possible(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
    let beyond = range.is_some_and(|range| range.contains(&format!("-{}/", u64::MAX)));
    if beyond {
        let told = std::io::Error::other("the answer's range ends beyond 64 bits");
        return Err(HttpError::new(HttpErrorKind::Decode, told));
    }
    Ok(answer)
}

/// A listing's page, read to its end here, where there is a limit.
async fn whole(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = answer.into_parts();
    let page = read(body, MAX_LISTING_BYTES + 1).await?;
    if page.len() > MAX_LISTING_BYTES {
        let text = format!(": a page of a listing is longer than {MAX_LISTING_BYTES} bytes");
        let status = Status { code: parts.status.as_u16(), retry_after: None, text };
        return Err(HttpError::new(HttpErrorKind::Decode, status));
    }
    Ok(HttpResponse::from_parts(parts, page.into()))
}

/// An error of what is no success. Of what object stores say in the way of an answer (not there, exists already, is another version) the answer is left, but short.
async fn failure(code: u16, answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = answer.into_parts();
    // What cannot be read of a failure's text changes nothing about the failure.
    let body = read(body, MAX_FAILURE_BYTES).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let store_is_missing = ["NoSuchBucket", "ContainerNotFound"].iter().any(|name| body.contains(name));
    if matches!(code, 404 | 409 | 412) && !(code == 404 && store_is_missing) {
        return Ok(HttpResponse::from_parts(parts, body.into()));
    }
    let retry_after = parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let reason = parts.status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    let text = format!("{reason}{}", said(&body).map(|said| format!(": {said}")).unwrap_or_default());
    let status = Status { code, retry_after: retry_after.map(Duration::from_secs), text };
    Err(HttpError::new(HttpErrorKind::Unknown, status))
}

async fn read(body: HttpResponseBody, most: usize) -> Result<Vec<u8>, HttpError> {
    let mut parts = body.bytes_stream();
    let mut read = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part?;
        read.extend_from_slice(&part[..part.len().min(most - read.len())]);
        if read.len() == most {
            break;
        }
    }
    Ok(read)
}

/// What a failure's text says in short: code and message of an object store's XML, or a plain line.
fn said(body: &str) -> Option<String> {
    let between = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(text, _)| text.trim())
    };
    if let Some(code) = between("Code") {
        return Some(between("Message").map_or(code.to_owned(), |message| format!("{code}: {message}")));
    }
    let line = body.trim().lines().next()?;
    let plain = !line.starts_with(['<', '{']) && !line.contains(char::is_control);
    plain.then(|| line.chars().take(160).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_in_short_what_its_text_says() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>";
        assert_eq!(said(xml).unwrap(), "SlowDown: Reduce your rate.");
        assert_eq!(said("<Code>Only</Code>").unwrap(), "Only");
        assert_eq!(said("  no such thing\nmore").unwrap(), "no such thing");
        assert_eq!(said("<html><body>no</body></html>"), None);
        assert_eq!(said("\u{1}\u{2}"), None);
        assert_eq!(said(""), None);
        assert!(said(&"x".repeat(4000)).unwrap().len() == 160);
    }
}
