//! Owns [`PastCache`] and [`Tail`]: what is appended to files, collected until it is worth a write past the system's cache, by threads of its own. Knows nothing of what files they are.
//!
//! ```text
//! append ---> tail, one buffer for each file ---> queue ---> threads: one write for a buffer ---> storage
//!                                                               |
//!                 what could not be written past the cache <----+   is written through it by whoever appends next, or finishes, and gets the error
//! ```

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::OFlags;

use crate::source::direct_alignment;

/// What is written at once.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// Where buffers begin in memory: all file systems take that, or say so.
const ALIGN: usize = 4096;

/// Threads that wait for the storage.
const THREADS: usize = 4;

/// Buffers that are waiting for a thread, or being written, at most.
pub(super) const UNDER_WAY: usize = 2 * THREADS;

/// What files share that are written past the cache.
#[derive(Debug)]
pub(super) struct PastCache {
    most_tails: usize,
    tails: AtomicUsize,
    spare: Arc<Spare>,
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl PastCache {
    /// Takes so much memory at most; `None` where that is too little, or no thread could be started.
    pub(super) fn new(most_bytes: u64) -> Option<Self> {
        let most_buffers = usize::try_from(most_bytes / BUFFER_BYTES as u64).ok()?;
        let most_tails = most_buffers.checked_sub(UNDER_WAY).filter(|&tails| tails > 0)?;
        let (jobs, waiting) = sync_channel(UNDER_WAY - THREADS);
        let (spare, waiting) = (Arc::new(Spare::default()), Arc::new(Mutex::new(waiting)));
        let tails = AtomicUsize::new(0);
        let mut past = Self { most_tails, tails, spare, jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..THREADS {
            let (spare, waiting) = (past.spare.clone(), waiting.clone());
            let thread = std::thread::Builder::new().name("vastgrid-write".into());
            past.threads.push(thread.spawn(move || work(&waiting, &spare)).ok()?);
        }
        Some(past)
    }

    /// The tail of an empty file; `None` where its file system has no way past the cache, or enough files have one.
    pub(super) fn tail(self: &Arc<Self>, path: &Path) -> Option<Tail> {
        let free = |tails: usize| (tails < self.most_tails).then_some(tails + 1);
        self.tails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let Some((file, align)) = open(path) else {
            self.tails.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let shared = self.clone();
        Some(Tail { shared, file: Arc::new(file), align, end: None, offset_bytes: 0, flight: Arc::default() })
    }

    /// Has a thread write a buffer.
    fn send(&self, job: Job) {
        let unsent = match &self.jobs {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        // Without the threads nothing is written past the cache.
        if let Some(Job { part, flight, .. }) = unsent {
            flight.landed(Err(part));
        }
    }
}

impl Drop for PastCache {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // After a panic there nobody waits for what it wrote.
            let _ = thread.join();
        }
    }
}

/// Opens a file so that writes go past the cache; gives what lengths and places must be multiples of. `None` where the file system cannot, or does not say what it takes.
fn open(path: &Path) -> Option<(File, usize)> {
    let past = OFlags::DIRECT.bits().cast_signed();
    let file = File::options().write(true).custom_flags(past).open(path).ok()?;
    let [memory_align, align] = direct_alignment(&file)?.map(usize::try_from);
    let (memory_align, align) = (memory_align.ok()?, align.ok()?);
    let fits = ALIGN.is_multiple_of(memory_align) && BUFFER_BYTES.is_multiple_of(align);
    fits.then_some((file, align))
}

/// Memory that is written from, aligned.
#[derive(Debug)]
struct Buffer {
    room: Vec<u8>,
    first: usize,
}

impl Buffer {
    fn new() -> Self {
        let room = vec![0; BUFFER_BYTES + ALIGN];
        let first = room.as_ptr().addr().next_multiple_of(ALIGN) - room.as_ptr().addr();
        Self { room, first }
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.room[self.first..][range]
    }

    fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.room[self.first..][range]
    }
}

/// Buffers that nobody uses: memory that was touched is not given back and touched anew.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Buffer>>);

impl Spare {
    fn take(&self) -> Buffer {
        locked(&self.0).pop().unwrap_or_else(Buffer::new)
    }

    fn put(&self, buffer: Buffer) {
        locked(&self.0).push(buffer);
    }
}

/// The beginning of a buffer, and where in the file it belongs.
#[derive(Debug)]
struct Part {
    buffer: Buffer,
    bytes: usize,
    offset_bytes: u64,
}

impl Part {
    fn as_bytes(&self) -> &[u8] {
        self.buffer.bytes(0..self.bytes)
    }
}

/// A buffer to be written.
#[derive(Debug)]
struct Job {
    part: Part,
    file: Arc<File>,
    flight: Arc<Flight>,
}

fn work(jobs: &Mutex<Receiver<Job>>, spare: &Spare) {
    loop {
        let job = locked(jobs).recv();
        let Ok(Job { part, file, flight }) = job else { return };
        match file.write_all_at(part.as_bytes(), part.offset_bytes) {
            Ok(()) => {
                spare.put(part.buffer);
                flight.landed(Ok(()));
            }
            Err(error) => {
                let offset_bytes = part.offset_bytes;
                flight.landed(Err(part));
                tracing::debug!(%error, offset_bytes, "not written past the cache, but through it");
            }
        }
    }
}

/// Buffers of one file that are under way.
#[derive(Debug, Default)]
struct Flight {
    state: Mutex<InFlight>,
    all_landed: Condvar,
}

#[derive(Debug, Default)]
struct InFlight {
    under_way: usize,
    /// Those that could not be written past the cache.
    failed: Vec<Part>,
}

impl Flight {
    fn landed(&self, outcome: Result<(), Part>) {
        let mut state = locked(&self.state);
        state.under_way -= 1;
        state.failed.extend(outcome.err());
        if state.under_way == 0 {
            self.all_landed.notify_all();
        }
    }
}

/// What could not be written.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) offset_bytes: u64,
    pub(super) bytes: usize,
    pub(super) source: io::Error,
}

/// The end of a file, of which what is not in the file yet is in memory.
#[derive(Debug)]
pub(super) struct Tail {
    shared: Arc<PastCache>,
    file: Arc<File>,
    align: usize,
    /// Bytes from `offset_bytes` on, which are in no other buffer.
    end: Option<Part>,
    /// Where the end begins: a multiple of a buffer's length.
    offset_bytes: u64,
    flight: Arc<Flight>,
}

impl Tail {
    /// Appends all of `bytes`; `cached` is the same file, written through the cache. Waits where the storage is behind.
    ///
    /// # Errors
    /// Something appended earlier could not be written: nothing is appended. What it was is kept, so that it is tried again the next time.
    pub(super) fn append(&mut self, bytes: &[u8], cached: &File) -> Result<(), Failed> {
        self.make_up(cached)?;
        let mut left = bytes;
        while !left.is_empty() {
            let offset_bytes = self.offset_bytes;
            let new = || Part { buffer: self.shared.spare.take(), bytes: 0, offset_bytes };
            let end = self.end.get_or_insert_with(new);
            let taken = left.len().min(BUFFER_BYTES - end.bytes);
            let place = end.bytes..end.bytes + taken;
            end.buffer.bytes_mut(place).copy_from_slice(&left[..taken]);
            end.bytes += taken;
            left = &left[taken..];
            if end.bytes == BUFFER_BYTES
                && let Some(part) = self.end.take()
            {
                self.offset_bytes += BUFFER_BYTES as u64;
                locked(&self.flight.state).under_way += 1;
                self.shared.send(Job { part, file: self.file.clone(), flight: self.flight.clone() });
                // What could not be written takes no more memory than it must. What cannot be written at all is told next time.
                let _ = self.make_up(cached);
            }
        }
        Ok(())
    }

    /// Has all of it in the file; not durable yet.
    ///
    /// # Errors
    /// It could not be written.
    pub(super) fn finish(&mut self, cached: &File) -> Result<(), Failed> {
        let mut state = locked(&self.flight.state);
        while state.under_way > 0 {
            state = self.flight.all_landed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.make_up(cached)?;
        let Some(end) = &self.end else { return Ok(()) };
        let aligned = end.bytes - end.bytes % self.align;
        let past = self.file.write_all_at(end.buffer.bytes(0..aligned), end.offset_bytes);
        let done = if past.is_ok() { aligned } else { 0 };
        let rest = end.buffer.bytes(done..end.bytes);
        let offset_bytes = end.offset_bytes + done as u64;
        let failed = |source| Failed { offset_bytes, bytes: rest.len(), source };
        cached.write_all_at(rest, offset_bytes).map_err(failed)
    }

    /// Writes what could not be written past the cache.
    fn make_up(&self, cached: &File) -> Result<(), Failed> {
        let mut state = locked(&self.flight.state);
        while let Some(part) = state.failed.last() {
            cached.write_all_at(part.as_bytes(), part.offset_bytes).map_err(|source| Failed {
                offset_bytes: part.offset_bytes,
                bytes: part.bytes,
                source,
            })?;
            if let Some(part) = state.failed.pop() {
                self.shared.spare.put(part.buffer);
            }
        }
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(part) = self.end.take() {
            self.shared.spare.put(part.buffer);
        }
        self.shared.tails.fetch_sub(1, Ordering::Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::is_in_memory;

    /// The first bytes of what no two places have in common.
    fn some(bytes: usize) -> Vec<u8> {
        let words = (0u32..).flat_map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 31).to_le_bytes());
        words.take(bytes).collect()
    }

    /// A tail that writes past the cache to wherever `past` leads.
    fn tail(past: File) -> Tail {
        let shared = Arc::new(PastCache::new(((UNDER_WAY + 1) * BUFFER_BYTES) as u64).unwrap());
        shared.tails.store(1, Ordering::Relaxed);
        Tail { shared, file: Arc::new(past), align: 512, end: None, offset_bytes: 0, flight: Arc::default() }
    }

    /// An empty file with a name, open for reading and writing.
    fn empty() -> (tempfile::NamedTempFile, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cached = file.reopen().unwrap();
        (file, cached)
    }

    #[test]
    fn files_that_are_appended_to_at_once_hold_what_was_appended_and_most_of_it_is_in_no_cache() {
        let most = 3;
        let past = Arc::new(PastCache::new(((UNDER_WAY + most) * BUFFER_BYTES) as u64).unwrap());
        let files: Vec<_> = (0..most).map(|_| empty()).collect();
        let Some(tails) = files.iter().map(|(file, _)| past.tail(file.path())).collect::<Option<Vec<_>>>()
        else {
            eprintln!("skipped: nothing is written past the cache of this file system");
            return;
        };
        assert!(past.tail(files[0].0.path()).is_none(), "more than there is memory for");
        let all = some((6 << 20) + 12_345);
        std::thread::scope(|scope| {
            for (nth, (mut tail, (_, cached))) in tails.into_iter().zip(&files).enumerate() {
                let all = &all[nth..];
                scope.spawn(move || {
                    let mut at = 0;
                    for length in
                        [1, 0, 4095, 300_001, BUFFER_BYTES, 3 * BUFFER_BYTES, 17].into_iter().cycle()
                    {
                        let part = &all[at..all.len().min(at + length)];
                        tail.append(part, cached).unwrap();
                        at += part.len();
                        if at == all.len() {
                            return tail.finish(cached).unwrap();
                        }
                    }
                });
            }
        });
        for (nth, (file, cached)) in files.iter().enumerate() {
            cached.sync_data().unwrap();
            rustix::fs::fadvise(cached, 0, None, rustix::fs::Advice::Random).unwrap();
            let asked = (0..6 << 20).step_by(4096).map(|at| is_in_memory(cached, at));
            if let Some(there) = asked.collect::<Option<Vec<_>>>() {
                let in_cache = there.into_iter().filter(|&there| there).count();
                assert!(in_cache <= 64, "{in_cache} OS pages of 1536 came into the cache");
            } else {
                eprintln!("skipped in part: this file system does not tell what is in memory");
            }
            assert!(fs::read(file.path()).unwrap() == all[nth..], "file {nth}");
        }
        assert!(past.tail(files[0].0.path()).is_some(), "they are done");
        assert!(locked(&past.spare.0).len() <= UNDER_WAY + most, "more memory than was given");
    }

    #[test]
    fn what_cannot_be_written_past_the_cache_is_written_through_it() {
        let (file, cached) = empty();
        // Nothing can be written there.
        let mut tail = tail(File::open(file.path()).unwrap());
        let all = some((3 << 20) + 777);
        all.chunks(200_000).for_each(|part| tail.append(part, &cached).unwrap());
        tail.finish(&cached).unwrap();
        assert!(fs::read(file.path()).unwrap() == all);
    }

    #[test]
    fn what_cannot_be_written_at_all_is_told_and_kept() {
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            eprintln!("skipped: this system has no /dev/full");
            return;
        };
        let (file, cached) = empty();
        let mut tail = tail(File::open(file.path()).unwrap());
        let all = some((5 << 20) + 5);
        let mut told = 0;
        for part in all.chunks(500_000) {
            while let Err(failed) = tail.append(part, &full) {
                assert_eq!(failed.source.kind(), io::ErrorKind::StorageFull);
                assert_eq!((failed.offset_bytes % BUFFER_BYTES as u64, failed.bytes), (0, BUFFER_BYTES));
                told += 1;
                // There is room again.
                tail.append(&[], &cached).unwrap();
            }
            while locked(&tail.flight.state).under_way > 0 {
                std::thread::yield_now();
            }
        }
        // The fifth buffer is filled by the last part.
        assert_eq!(told, 4);
        assert!(tail.finish(&full).is_err(), "neither it nor the end is in the file");
        tail.finish(&cached).unwrap();
        assert!(fs::read(file.path()).unwrap() == all);
    }

    #[test]
    fn a_tail_that_is_given_up_leaves_its_memory_to_others() {
        let (file, cached) = empty();
        let mut tail = tail(File::options().write(true).open(file.path()).unwrap());
        tail.append(&some(1000), &cached).unwrap();
        let shared = tail.shared.clone();
        drop(tail);
        assert_eq!((shared.tails.load(Ordering::Relaxed), locked(&shared.spare.0).len()), (0, 1));
        assert!(PastCache::new((UNDER_WAY * BUFFER_BYTES) as u64).is_none(), "too little");
        assert!(PastCache::new(0).is_none());
    }
}
