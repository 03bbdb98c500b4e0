//! Owns [`BlockTable`]: words on the device that the host changes and kernels read, in blocks that have memory only where a word was ever set. Knows addresses and words, not
//! what they mean.
//!
//! ```text
//! table     [ block 0 | block 1 | block 2 | .. ]      8 bytes each
//!                |         |         |
//!                v         v         v
//!              words      zero      zero              what is not in use points at one block of zeros
//! ```
//!
//! All changes go through one stream of the table's own, so that an older state never overwrites a newer one, whatever streams the readers use: these wait for the event of
//! the latest change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Arg, Device, DeviceBuffer, Event, Function, Module, PinnedBuffer, Stream, kernels};
use crate::error::BackendError;

/// Blocks that are allocated together.
const ARENA_BLOCKS: u64 = 31;

/// Stores that one launch makes at most.
const STORES: usize = 4096;

/// Marked words that one look brings back at most; the rest comes with the next.
const MARKED: u32 = 4096;

/// A word to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// The block.
    pub(crate) block: u64,
    /// Where in it, in words.
    pub(crate) word: u64,
    /// What it becomes.
    pub(crate) value: u64,
}

/// An address and a word, as the kernels take and give them.
type Pair = [u64; 2];
const PAIR_BYTES: usize = size_of::<Pair>();

/// Words by block.
#[derive(Debug)]
pub(crate) struct BlockTable {
    device: Device,
    stream: Stream,
    store: Function,
    collect: Function,
    block_words: u64,
    blocks: u64,
    /// Words of a block that kernels mark: which, the kernel that looks for them knows.
    marks: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: DeviceBuffer,
    /// What entries of blocks point at that are not in use.
    _zero: DeviceBuffer,
    arenas: Vec<DeviceBuffer>,
    left_in_arena: u64,
    in_use: BTreeMap<u64, u64>,
    buffer: PinnedBuffer,
    /// When the device has read the buffer.
    read: Option<Event>,
}

impl BlockTable {
    /// A table of so many blocks of so many words, none of which is in use. `marks` words of each are what kernels mark: every fourth, from the third on.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(crate) fn new(
        device: &Device,
        blocks: u64,
        block_words: u64,
        marks: u64,
    ) -> Result<Self, BackendError> {
        let module = Module::load(device, kernels::MIRROR)?;
        let stream = Stream::new(device)?;
        let zero = DeviceBuffer::new(device, block_words * 8)?;
        zero.fill(&stream, 0)?;
        let table = DeviceBuffer::new(device, blocks * 8)?;
        let entries: Vec<u64> = (0..blocks).map(|_| zero.address()).collect();
        table.copy_from_host(&stream, bytemuck::cast_slice(&entries))?;
        let buffer = PinnedBuffer::new(device, STORES * PAIR_BYTES)?;
        let state = State {
            table,
            _zero: zero,
            arenas: Vec::new(),
            left_in_arena: 0,
            in_use: BTreeMap::new(),
            buffer,
            read: None,
        };
        Ok(Self {
            device: device.clone(),
            store: module.function("vg_patch")?,
            collect: module.function("vg_collect_dirty")?,
            stream,
            block_words,
            blocks,
            marks,
            state: Mutex::new(state),
        })
    }

    /// Address of the table.
    pub(crate) fn address(&self) -> u64 {
        self.lock().table.address()
    }

    /// Sets words, once all earlier changes are made, in no order among themselves. Blocks that were not in use are, all zero but for these, and in the table first.
    ///
    /// # Errors
    /// The driver's refusal; some of the words may be set then.
    pub(crate) fn store(&self, stores: &[Store]) -> Result<(), BackendError> {
        let mut state = self.lock();
        // Blocks count as in use once the table says so on the device.
        let mut fresh = BTreeMap::new();
        let mut pairs = Vec::with_capacity(stores.len());
        for store in stores {
            if store.block >= self.blocks || store.word >= self.block_words {
                let (offset_bytes, bytes) = (store.word * 8, 8);
                let reserved_bytes = self.block_words * 8;
                return Err(BackendError::OutOfRange { call: "store", offset_bytes, bytes, reserved_bytes });
            }
            let known = state.in_use.get(&store.block).or_else(|| fresh.get(&store.block)).copied();
            let block = match known {
                Some(address) => address,
                None => *fresh.entry(store.block).or_insert(self.take(&mut state)?),
            };
            pairs.push([block + store.word * 8, store.value]);
        }
        let table = state.table.address();
        let entries: Vec<_> = fresh.iter().map(|(block, address)| [table + block * 8, *address]).collect();
        self.send(&mut state, &entries)?;
        state.in_use.extend(fresh);
        self.send(&mut state, &pairs)
    }

    /// Stands for all changes so far.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(crate) fn changed(&self) -> Result<Event, BackendError> {
        self.stream.record()
    }

    /// Begins to look which words kernels marked, once `after` have come; the marks are taken off.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(crate) fn collect(&self, after: &[Event]) -> Result<Collected, BackendError> {
        for event in after {
            self.stream.wait_event(event)?;
        }
        let out = PinnedBuffer::new(&self.device, (MARKED as usize + 1) * PAIR_BYTES)?;
        let mut collected = Collected { out, blocks: None, done: None };
        self.look(&mut collected)?;
        Ok(collected)
    }

    /// What [`BlockTable::collect`] began: the marked words, as the number of the word among those of all blocks, and its value; and whether that is all. `None` while it is
    /// under way. Where it is not all, the next call begins the next look.
    ///
    /// # Errors
    /// The device is lost, or a look could not be begun: nothing that was marked is forgotten then, and the next call tries again.
    pub(crate) fn collected(
        &self,
        collected: &mut Collected,
    ) -> Result<Option<(Vec<Pair>, bool)>, BackendError> {
        match &collected.done {
            Some(done) if done.is_done()? => {}
            Some(_) => return Ok(None),
            None => return self.look(collected).map(|()| None),
        }
        let out = &collected.out;
        let count = u32::from_le_bytes([out[0], out[1], out[2], out[3]]);
        let held = count.min(MARKED) as usize;
        let pairs = out[PAIR_BYTES..].chunks_exact(PAIR_BYTES).take(held);
        let marked = pairs.map(bytemuck::pod_read_unaligned).collect();
        let complete = count <= MARKED;
        if !complete {
            // Not begun here: what this look found has to be told even where the next one cannot be begun.
            collected.done = None;
        }
        Ok(Some((marked, complete)))
    }

    fn look(&self, collected: &mut Collected) -> Result<(), BackendError> {
        let state = self.lock();
        collected.out[..8].fill(0);
        if state.in_use.is_empty() {
            collected.done = Some(self.stream.record()?);
            return Ok(());
        }
        let addresses = state.in_use.values().copied();
        let firsts = state.in_use.keys().map(|block| block * self.marks);
        let words: Vec<u64> = addresses.chain(firsts).collect();
        let mut list = PinnedBuffer::new(&self.device, words.len() * 8)?;
        list.copy_from_slice(bytemuck::cast_slice(&words));
        let count = u32::try_from(state.in_use.len()).unwrap_or(u32::MAX);
        let blocks = list.device_address();
        let firsts = blocks + state.in_use.len() as u64 * 8;
        let counter = collected.out.device_address();
        let pairs = counter + PAIR_BYTES as u64;
        let args = [
            Arg::new(&blocks),
            Arg::new(&firsts),
            Arg::new(&count),
            Arg::new(&pairs),
            Arg::new(&counter),
            Arg::new(&MARKED),
        ];
        let threads = u32::try_from(u64::from(count) * self.marks).unwrap_or(u32::MAX);
        collected.done = Some(self.launch(&self.collect, threads, &args)?);
        collected.blocks = Some(list);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for one more block, all zero.
    fn take(&self, state: &mut State) -> Result<u64, BackendError> {
        let block_bytes = self.block_words * 8;
        if state.left_in_arena == 0 {
            let arena = DeviceBuffer::new(&self.device, ARENA_BLOCKS * block_bytes)?;
            arena.fill(&self.stream, 0)?;
            state.arenas.push(arena);
            state.left_in_arena = ARENA_BLOCKS;
        }
        let arena = state.arenas.last().map_or(0, DeviceBuffer::address);
        let address = arena + (ARENA_BLOCKS - state.left_in_arena) * block_bytes;
        state.left_in_arena -= 1;
        Ok(address)
    }

    fn send(&self, state: &mut State, pairs: &[Pair]) -> Result<(), BackendError> {
        for pairs in pairs.chunks(STORES) {
            if let Some(read) = state.read.take() {
                read.wait()?;
            }
            let bytes: &[u8] = bytemuck::cast_slice(pairs);
            state.buffer[..bytes.len()].copy_from_slice(bytes);
            let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
            let source = state.buffer.device_address();
            state.read = Some(self.launch(&self.store, count, &[Arg::new(&source), Arg::new(&count)])?);
        }
        Ok(())
    }

    /// Has one of the two kernels run, a thread for each of `count`. The event is done when the kernel is; where there is none, the kernel is done, or the device is lost.
    fn launch(&self, kernel: &Function, count: u32, args: &[Arg<'_>]) -> Result<Event, BackendError> {
        const THREADS: u32 = 128;
        let grid = [count.div_ceil(THREADS), 1, 1];
        // SAFETY: both kernels touch what they are given: pinned memory that lives until the event that follows, and words of the table and of blocks, which live as long as this
        // does and whose streams are done by then (`Drop`).
        unsafe { kernel.launch(&self.stream, grid, [THREADS, 1, 1], 0, args) }?;
        self.stream.record().inspect_err(|_| {
            // Nothing tells when the kernel is done with that memory but the stream itself.
            let _ = self.stream.synchronize();
        })
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        // What is under way reads memory that goes now. A device that is lost does nothing any more.
        let _ = self.stream.synchronize();
    }
}

/// A look at the marks, under way.
#[derive(Debug)]
pub(crate) struct Collected {
    /// The count, in the place of a pair, and then as many pairs.
    out: PinnedBuffer,
    /// What the kernel reads.
    blocks: Option<PinnedBuffer>,
    done: Option<Event>,
}

impl Drop for Collected {
    fn drop(&mut self) {
        // A look that nobody wants any more still writes here. Long over, but where a frame's end failed.
        if let Some(done) = &self.done {
            let _ = done.wait();
        }
    }
}
