//! Owns how a view comes to be: within a frame, over an array of a backend whose memory this process can read.

use std::fmt;
use std::ops::Deref;

use crate::backend::{Backend, HostAddressable};
use crate::engine::{ArrayShared, Engine, OpenFrame};
use crate::voxel::Voxel;

use super::{Cells, View};

impl<'a, T: Voxel> View<'a, T> {
    /// What the frame shows of the array, which is one of `T`s in the frame's own pool.
    pub(crate) fn in_frame<B: HostAddressable>(
        array: &'a ArrayShared<B>,
        frame: &'a OpenFrame<'_, B>,
    ) -> Self {
        let base = frame.engine().backend.base_address(&array.reservation);
        let base = std::ptr::with_exposed_provenance(usize::try_from(base).unwrap_or(0));
        // SAFETY: the backend is `HostAddressable`: mapped pages are readable memory at the base address, which is aligned to a page. The engine sets a tile's bit only after
        // its bytes were written as `T`s, and takes its memory only after every frame has ended that was open when it cleared the bit; this one is borrowed for `'a`.
        unsafe { View::new(base, &array.layout, &array.offsets, &array.planes) }
    }
}

impl<'a, T: Voxel> Cells<'a, T> {
    /// The memory of an array, which is one of `T`s. For its one [`Writer`](crate::Writer) alone: that has the array exclusively for `'a`, so that no frame shows it, and sets open bits only of tiles that are
    /// resident and whose pages it holds.
    pub(crate) fn of<B: HostAddressable>(engine: &'a Engine<B>, array: &'a ArrayShared<B>) -> Self {
        let base = engine.backend.base_address(&array.reservation);
        let base = std::ptr::with_exposed_provenance_mut(usize::try_from(base).unwrap_or(0));
        // SAFETY: the backend is `HostAddressable`: mapped pages are readable and writable memory at the base address, which is aligned to a page; resident tiles hold `T`s. What else writes there are loads,
        // of tiles that are not resident. The rest is what the writer sees to.
        unsafe { Cells::new(base, &array.layout, &array.offsets, &array.planes) }
    }
}

/// A frame that shows one array: everything that a [`View`] can do.
pub struct ArrayFrame<'a, T: Voxel, B: Backend> {
    // Declared, and so dropped, before the frame that it lives in.
    view: View<'a, T>,
    frame: OpenFrame<'a, B>,
}

impl<'a, T: Voxel, B: HostAddressable> ArrayFrame<'a, T, B> {
    pub(crate) fn new(engine: &'a Engine<B>, array: &'a ArrayShared<B>) -> Self {
        let frame = OpenFrame::new(engine);
        let base = engine.backend.base_address(&array.reservation);
        let base = std::ptr::with_exposed_provenance(usize::try_from(base).unwrap_or(0));
        // SAFETY: as in `View::in_frame`; the view is handed out only by reference, for as long as `self`, and with it the frame, is borrowed, and it can be
        // neither copied nor taken out.
        let view = unsafe { View::new(base, &array.layout, &array.offsets, &array.planes) };
        Self { view, frame }
    }
}

impl<'a, T: Voxel, B: Backend> Deref for ArrayFrame<'a, T, B> {
    type Target = View<'a, T>;

    fn deref(&self) -> &View<'a, T> {
        &self.view
    }
}

impl<T: Voxel, B: Backend> fmt::Debug for ArrayFrame<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayFrame").field("view", &self.view).field("frame", &self.frame).finish()
    }
}
