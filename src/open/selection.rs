//! Owns [`Selection`]: which of several volumes is meant. Knows nothing of formats.

/// Which of the volumes in a file, a folder or a store is read: by default the first image that is no label, or else the first array; its first time and first channel.
///
/// ```
/// use vastgrid::open::Selection;
///
/// let third_channel = Selection { channel: 2, ..Selection::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The [`Entry`](super::Entry) of that name.
    pub entry: Option<String>,
    /// The point in time.
    pub time: u64,
    /// The channel.
    pub channel: u64,
    /// Places along further axes that a Zarr array or image has, by [their names](super::EntryAxis::name); those that are not in it are at 0.
    pub others: Vec<(String, u64)>,
    /// The level, 0 = full resolution. A pyramid has all of them.
    pub level: usize,
}
