//! Owns what a failure of `object_store` means: whether to try again, and what to tell people, without addresses (they may hold secrets). Knows nothing of what was asked for.

use std::error::Error;
use std::io;
use std::time::Duration;

use object_store::client::HttpError;

use super::watched::Status;

/// What follows from a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may pass: ask again, not before this time.
    Again(Option<Duration>),
    /// The object is not there.
    Missing,
    /// The store does not allow it.
    Refused,
    /// The object is another than the one that was asked for.
    Changed,
    /// The server sends whole objects only.
    NoRanges,
    /// The server did not understand, or cannot do it like this.
    NotLikeThis,
    /// Asking again would not help.
    Final,
}

/// A failure, judged.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) verdict: Verdict,
    pub(super) text: String,
}

impl Cause {
    /// Of something that may pass.
    pub(super) fn again(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Again(None), text: text.into() }
    }

    /// Of a client's error.
    pub(super) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let verdict = match error {
            E::NotFound { .. } => Verdict::Missing,
            E::Precondition { .. } => Verdict::Changed,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Verdict::Refused,
            E::NotSupported { .. } => Verdict::NoRanges,
            E::Generic { .. } => of_chain(error),
            _ => Verdict::Final,
        };
        Self { verdict, text: text(error) }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn of_chain(error: &(dyn Error + 'static)) -> Verdict {
    if let Some(status) = chain(error).find_map(|error| error.downcast_ref::<Status>()) {
        return of_status(status);
    }
    // What was sent is no TLS, or a certificate is wrong: rustls says so as invalid data, and the next handshake would say the same.
    let distrusted = chain(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| [Some(error), within(error)].into_iter().flatten().any(is_invalid));
    let on_the_way = chain(error).any(|error| error.is::<HttpError>());
    if on_the_way && distrusted { Verdict::Final } else { Verdict::Again(None) }
}

fn is_invalid(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// An error of the system's kind that is wrapped in another: the chain leaves it out.
fn within(error: &io::Error) -> Option<&io::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_status(status: &Status) -> Verdict {
    match status.code {
        401 | 403 => Verdict::Refused,
        408 | 429 | 500 | 502..=504 | 506..=599 => Verdict::Again(status.retry_after),
        // What servers answer to a range that they do not understand, among others.
        400 | 416 | 501 => Verdict::NotLikeThis,
        _ => Verdict::Final,
    }
}

/// What the whole chain says, each thing once, and nothing that has an address in it.
fn text(error: &object_store::Error) -> String {
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    let mut said: Vec<&str> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let repeats_the_next = texts.get(i + 1).is_some_and(|next| text.contains(next.as_str()));
        if !repeats_the_next && !text.contains("://") {
            said.push(text.trim_end());
        }
    }
    if said.is_empty() { "no cause was given".into() } else { said.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_each_thing_once_and_no_address() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let http = HttpError::new(object_store::client::HttpErrorKind::Connect, refused);
        let error = object_store::Error::Generic { store: "S3", source: Box::new(http) };
        let cause = Cause::of(&error);
        assert_eq!(cause.text, "connection refused");
        assert_eq!(cause.verdict, Verdict::Again(None));
        let error =
            object_store::Error::Generic { store: "S3", source: "GET https://host/?key=secret".into() };
        assert_eq!(Cause::of(&error).text, "no cause was given");
    }
}
