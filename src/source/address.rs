//! Owns what is an address, and no path. Knows nothing of what addresses there are.

/// Whether `text` is an address: it begins with a scheme and `://`.
///
/// ```
/// assert!(vastgrid::source::is_url("s3://bucket/brain.zarr"));
/// assert!(!vastgrid::source::is_url("/data/brain.zarr"));
/// ```
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_begin_with_a_scheme() {
        for url in ["s3://b", "file:///x", "az+blob.1://x"] {
            assert!(is_url(url), "{url}");
        }
        for none in ["a/b", "://x", "1a://x", "C:/x", "a b://x", "s3:/b", ""] {
            assert!(!is_url(none), "{none}");
        }
    }
}
