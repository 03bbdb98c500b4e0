//! Owns [`Fault`]: what can be wrong with an object of a store, apart from what the system or a codec says. Knows nothing of where it was met.

use crate::source::guarded;

/// Why something could not be read, in whoever's words.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with an object of a store.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("an object of {actual_bytes} bytes, of at most {most_bytes}")]
    TooLarge { actual_bytes: u64, most_bytes: u64 },
    #[error("{expected_bytes} bytes are needed, {actual_bytes} are there")]
    Length { expected_bytes: u64, actual_bytes: u64 },
    #[error("not a regular file")]
    NoFile,
    #[error("the name {0:?} leads out of the store, or nowhere")]
    Name(String),
    #[error("codec {codec}: decodes to more than the {expected_bytes} bytes that the chunk shape says")]
    Longer { codec: &'static str, expected_bytes: u64 },
    #[error(
        "codec {codec}: decodes to {actual_bytes} bytes, not the {expected_bytes} that the chunk shape says"
    )]
    Shorter { codec: &'static str, expected_bytes: u64, actual_bytes: u64 },
    #[error("codec {codec}: {source}")]
    Codec { codec: String, source: Cause },
    #[error(
        "the shard's index puts inner chunk {inner:?} at {offset_bytes} + {bytes} bytes, but the shard has {shard_bytes}, and an inner chunk at most {most_bytes}"
    )]
    Index { inner: Vec<u64>, offset_bytes: u64, bytes: u64, shard_bytes: u64, most_bytes: u64 },
    #[error("a shard of {shard_bytes} bytes has no room for its index of {index_bytes}")]
    NoIndex { shard_bytes: u64, index_bytes: u64 },
    #[error("the extension {0:?} is not supported")]
    Extension(String),
    #[error("chunks of {0:?} voxels are beyond 64 bits")]
    Chunk(Vec<u64>),
    #[error("no {0} there")]
    Nothing(&'static str),
}

/// Calls into `zarrs`: a panic there is an error.
pub(super) fn caught<R>(call: impl FnOnce() -> Result<R, Cause>) -> Result<R, Cause> {
    // The cause passes beside the guard, whose errors are those of sources.
    let mut cause: Option<Cause> = None;
    let result = guarded(|| Ok(call().map_err(|failed| cause = Some(failed)).ok()));
    match (result, cause) {
        (Ok(Some(result)), _) => Ok(result),
        (_, Some(cause)) => Err(cause),
        (Err(panicked), None) => Err(panicked.into()),
        (Ok(None), None) => Err(Fault::Nothing("reason").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_pass_and_panics_become_some() {
        assert_eq!(caught(|| Ok(7)).unwrap(), 7);
        let failed = caught(|| Err::<(), _>(Fault::NoFile.into())).unwrap_err();
        assert!(failed.downcast_ref::<Fault>().is_some());
        let panicked = caught(|| -> Result<(), Cause> { panic!("so it goes") }).unwrap_err();
        assert!(panicked.to_string().contains("so it goes"), "{panicked}");
    }
}
