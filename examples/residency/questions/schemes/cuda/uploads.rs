//! Owns copies to the device as a rival without the library would make them: from page-locked memory, by two streams in turn, so that one copy's beginning hides behind another's end; the host waits for none.

use std::time::Instant;

use vastgrid::cuda::{DeviceBuffer, PinnedBuffer, Stream};

use super::arrays::{Array3D, CopyFrom, CopyTo, begin_copy};
use super::source::Pieces;
use crate::measure::median;
use crate::suite::Failure;

/// Two streams, and the way that copies into arrays take.
#[derive(Debug)]
pub(crate) struct Uploads {
    streams: [Stream; 2],
    /// Room for a piece on each stream, where arrays are copied into from there and not from the host.
    staging: Option<[DeviceBuffer; 2]>,
    next: usize,
}

impl Uploads {
    pub(crate) fn new(stream: &Stream) -> Result<Self, Failure> {
        let device = stream.device();
        Ok(Self { streams: [Stream::new(device)?, Stream::new(device)?], staging: None, next: 0 })
    }

    /// What is copied from now on may overwrite what the stream's kernels read until now.
    pub(crate) fn begin(&self, after: &Stream) -> Result<(), Failure> {
        let read = after.record()?;
        Ok(self.streams.iter().try_for_each(|stream| stream.wait_event(&read))?)
    }

    /// What comes on the stream from now on sees what was copied.
    pub(crate) fn end(&self, before: &Stream) -> Result<(), Failure> {
        for stream in &self.streams {
            before.wait_event(&stream.record()?)?;
        }
        Ok(())
    }

    fn turn(&mut self) -> usize {
        self.next = 1 - self.next;
        self.next
    }

    /// Copies a piece to linear memory.
    pub(crate) fn put_in_buffer(
        &mut self,
        to: &DeviceBuffer,
        offset_bytes: u64,
        pieces: &Pieces,
        tile: u32,
    ) -> Result<(), Failure> {
        let turn = self.turn();
        begin_linear(&self.streams[turn], to, offset_bytes, &pieces.memory, pieces.range(tile))
    }

    /// Copies a piece into an array.
    pub(crate) fn put_in_array(
        &mut self,
        to: &Array3D,
        at: [u32; 3],
        pieces: &Pieces,
        tile: u32,
    ) -> Result<(), Failure> {
        let turn = self.turn();
        let stream = &self.streams[turn];
        let Some(staging) = &self.staging else {
            return begin_copy(
                stream,
                (CopyTo::Array(to), at),
                CopyFrom::Host(pieces.of(tile)?),
                pieces.size,
            );
        };
        // In the stream's order, so that its room is free again when the next piece comes.
        let staging = &staging[turn];
        begin_linear(stream, staging, 0, &pieces.memory, pieces.range(tile))?;
        begin_copy(stream, (CopyTo::Array(to), at), CopyFrom::Device(staging.address()), pieces.size)
    }

    /// Finds out which way into an array is faster, straight from the host or by way of linear memory of the device, and takes that from now on: says what it found. Copies the first tile's piece to `at`.
    pub(crate) fn choose(&mut self, to: &Array3D, at: [u32; 3], pieces: &Pieces) -> Result<String, Failure> {
        const COPIES: usize = 8;
        let time = |uploads: &mut Self| -> Result<f64, Failure> {
            let mut times = Vec::new();
            for _ in 0..4 {
                let start = Instant::now();
                for _ in 0..COPIES {
                    uploads.put_in_array(to, at, pieces, 0)?;
                }
                uploads.streams.iter().try_for_each(Stream::synchronize)?;
                times.push(start.elapsed().as_secs_f64() * 1e6 / COPIES as f64);
            }
            Ok(median(&times[1..]))
        };
        let straight = time(self)?;
        let (device, bytes) = (self.streams[0].device(), pieces.range(0).len() as u64);
        self.staging = Some([DeviceBuffer::new(device, bytes)?, DeviceBuffer::new(device, bytes)?]);
        let staged = time(self)?;
        if straight <= staged {
            self.staging = None;
        }
        Ok(format!(
            "a piece of {:?} voxels goes into the array in {straight:.0} us straight from the host and in {staged:.0} us by way of linear memory, of which the faster one was taken",
            pieces.size
        ))
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // Copies may still read and write what goes next.
        self.streams.iter().for_each(|stream| _ = stream.synchronize());
    }
}

#[expect(unsafe_code, reason = "copies that nobody waits for")]
fn begin_linear(
    stream: &Stream,
    to: &DeviceBuffer,
    offset_bytes: u64,
    from: &PinnedBuffer,
    range: std::ops::Range<usize>,
) -> Result<(), Failure> {
    // SAFETY: the volume's memory is never written to after it was made, and outlives every scheme, whose uploads wait when they are dropped; a table waits for its last copy before it writes or goes.
    Ok(unsafe { to.begin_copy_from_pinned(stream, offset_bytes, from, range) }?)
}

/// A word for each tile, on the host and on the device: what changed goes there in one copy.
#[derive(Debug)]
pub(crate) struct Table {
    words: PinnedBuffer,
    memory: DeviceBuffer,
    /// What the device does not have yet, as a range of words.
    changed: Option<[usize; 2]>,
    /// When the last copy was begun.
    sent: Option<vastgrid::cuda::Event>,
}

impl Table {
    /// No tile has anything.
    pub(crate) fn new(stream: &Stream, tiles: u32) -> Result<Self, Failure> {
        let bytes = tiles as usize * size_of::<u32>();
        let mut words = PinnedBuffer::new(stream.device(), bytes)?;
        words.fill(0xff);
        let memory = DeviceBuffer::new(stream.device(), bytes as u64)?;
        memory.copy_from_host(stream, &words)?;
        Ok(Self { words, memory, changed: None, sent: None })
    }

    pub(crate) fn address(&self) -> u64 {
        self.memory.address()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Changes words, and begins to tell the device, on the stream whose kernels read them.
    pub(crate) fn change(
        &mut self,
        stream: &Stream,
        changes: impl Iterator<Item = (u32, u32)>,
    ) -> Result<(), Failure> {
        // The copy before reads the same memory; it was over long ago.
        if let Some(sent) = self.sent.take() {
            sent.wait()?;
        }
        let words: &mut [u32] = bytemuck::cast_slice_mut(&mut self.words);
        for (tile, word) in changes {
            let at = tile as usize;
            *words.get_mut(at).ok_or("a tile beyond the table")? = word;
            let [first, end] = self.changed.unwrap_or([at, at + 1]);
            self.changed = Some([first.min(at), end.max(at + 1)]);
        }
        let Some([first, end]) = self.changed.take() else { return Ok(()) };
        let range = first * size_of::<u32>()..end * size_of::<u32>();
        begin_linear(stream, &self.memory, range.start as u64, &self.words, range)?;
        self.sent = Some(stream.record()?);
        Ok(())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(sent) = &self.sent {
            let _ = sent.wait();
        }
    }
}
