//! Owns [`Prepared`]: a tile's bytes that are in memory already, so that nobody need copy them before they are put in place.

use std::fmt::Debug;

/// A whole tile's bytes, ready in memory.
///
/// ```
/// use std::sync::Arc;
/// use vastgrid::Prepared;
///
/// let tile: Arc<dyn Prepared> = Arc::new(vec![7u8; 4096]);
/// assert_eq!(tile.bytes().len(), 4096);
/// ```
pub trait Prepared: Send + Sync + Debug {
    /// The bytes, in the tile's own layout: voxels densely, x fastest, then y, then z. The same memory and contents for as long as the value lives.
    fn bytes(&self) -> &[u8];
}

impl<C: AsRef<[u8]> + Send + Sync + Debug> Prepared for C {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}
