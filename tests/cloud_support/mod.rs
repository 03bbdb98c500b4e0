//! What the tests of remote stores need: packaged servers that they start, and a proxy between client and server that does what lines and servers do to each other.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use vastgrid::source::RemoteOptions;

pub(crate) mod proxy;
pub(crate) mod servers;

/// Impatient, so that what fails for good does so soon.
pub(crate) fn impatient() -> RemoteOptions {
    RemoteOptions {
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_millis(400),
        request_timeout: Duration::from_secs(2),
        attempts: 3,
        first_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
        ..RemoteOptions::anonymous()
    }
}

/// As somebody who has credentials for the S3 server.
pub(crate) fn s3_options(port: u16) -> RemoteOptions {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    RemoteOptions {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: Some("us-east-1".into()),
        anonymous: false,
        settings: vec![set("aws_access_key_id", "somebody"), set("aws_secret_access_key", "s3cret")],
        ..impatient()
    }
}

/// A seed that no earlier run had.
pub(crate) fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = u64::from(now.subsec_nanos()) << 20 ^ now.as_secs();
    println!("seed {seed}");
    seed
}
