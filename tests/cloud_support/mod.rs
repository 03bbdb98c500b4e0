//! What the tests of remote stores need: packaged servers that they start, and a proxy between client and server that does what lines and servers do to each other.

pub(crate) mod proxy;
pub(crate) mod servers;
