//! Owns [`Launcher`]: kernels that are given a block of bytes and give one back, several of them under way. Knows nothing of what they compute.
//!
//! ```text
//! input  (page-locked) --copy--> input (device) --kernels--> output (device) --copy--> result (page-locked)     all on one stream; nobody waits but who looks
//! ```
//!
//! Memory of launches that are over is used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::About;
use super::{Arg, Device, DeviceBuffer, Event, Function, Module, PinnedBuffer, Stream};
use crate::error::BackendError;

/// Memory of launches that are over, kept for the next ones: as many of them.
const KEPT: usize = 4;

/// Launches kernels and brings back what they wrote.
#[derive(Debug)]
pub(crate) struct Launcher {
    stream: Stream,
    idle: Arc<Mutex<Vec<Slot>>>,
    functions: Mutex<HashMap<String, Arc<Function>>>,
}

/// The memory of one launch.
#[derive(Debug)]
struct Slot {
    staged: PinnedBuffer,
    input: DeviceBuffer,
    output: DeviceBuffer,
    back: PinnedBuffer,
}

/// A kernel, by name, and how many of its threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
}

/// What is launched.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The code that has the kernels.
    pub(crate) ptx: &'a str,
    /// One after the other, all with the same parameter.
    pub(crate) steps: &'a [Step<'a>],
    /// What they read.
    pub(crate) input: &'a [u8],
    /// Size of what they write.
    pub(crate) output_bytes: usize,
    /// How much of that, from its beginning on, comes back.
    pub(crate) result_bytes: usize,
    /// From where on that is zero at first.
    pub(crate) zero_from: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Launcher {
    /// A launcher with a stream of its own.
    ///
    /// # Errors
    /// The driver's refusal.
    pub(crate) fn new(device: &Device) -> Result<Self, BackendError> {
        Ok(Self { stream: Stream::new(device)?, idle: Arc::default(), functions: Mutex::default() })
    }

    /// The stream that everything is put on.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Puts kernels on the stream. They have one parameter, by value, which `parameter` makes from the addresses of input and output.
    ///
    /// The parameter may hold other addresses: whoever makes it sees to it that what lies there stays until the stream has come so far, as the views of an open frame do.
    ///
    /// # Errors
    /// The driver's refusal; [`BackendError::Ptx`].
    pub(crate) fn launch<P: bytemuck::NoUninit>(
        &self,
        what: &Launch<'_>,
        parameter: impl FnOnce(u64, u64) -> P,
    ) -> Result<Flight, BackendError> {
        let functions = what.steps.iter().map(|step| self.function(what.ptx, step.kernel));
        let functions = functions.collect::<Result<Vec<_>, _>>()?;
        let mut slot = self.slot(what)?;
        let staged = slot.staged.get_mut(..what.input.len());
        staged.unwrap_or_default().copy_from_slice(what.input);
        let parameter = parameter(slot.input.address(), slot.output.address());
        let begun = self.begin(&functions, what, &slot, &Arg::new(&parameter));
        let done = begun.and_then(|()| self.stream.record()).inspect_err(|_| {
            // Nothing tells when the device is done with the slot's memory but the stream itself.
            let _ = self.stream.synchronize();
        })?;
        let idle = Arc::clone(&self.idle);
        Ok(Flight { slot: Some(slot), done, result_bytes: what.result_bytes, idle })
    }

    fn begin(
        &self,
        functions: &[Arc<Function>],
        what: &Launch<'_>,
        slot: &Slot,
        parameter: &Arg<'_>,
    ) -> Result<(), BackendError> {
        let (stream, device) = (&self.stream, self.stream.device());
        // SAFETY: the slot belongs to the flight, which waits before it gives it back; if this fails the caller waits.
        unsafe { slot.input.begin_copy_from_pinned(stream, 0, &slot.staged, 0..what.input.len()) }?;
        let _current = device.enter()?;
        let zeros = what.output_bytes.saturating_sub(what.zero_from) as u64;
        if zeros > 0 {
            let from = slot.output.address() + what.zero_from as u64;
            device.driver().fill(from, 0, stream.raw(), About::bytes(zeros))?;
        }
        for (function, step) in functions.iter().zip(what.steps) {
            // SAFETY: the kernels of `ptx` have one parameter of this type, and touch the slot's memory, which lives as said above, and what the parameter's maker keeps.
            unsafe { function.launch(stream, step.grid, step.block, 0, std::slice::from_ref(parameter)) }?;
        }
        let (to, from) = (slot.back.start().as_ptr(), slot.output.address());
        // SAFETY: so many bytes at least, of page-locked memory that nobody else looks at until the flight is over.
        unsafe { device.driver().copy_out(to, from, stream.raw(), About::bytes(what.result_bytes as u64)) }
    }

    /// A kernel, of code that is loaded when one of it is first asked for.
    fn function(&self, ptx: &str, name: &str) -> Result<Arc<Function>, BackendError> {
        let mut functions = lock(&self.functions);
        if let Some(function) = functions.get(name) {
            return Ok(Arc::clone(function));
        }
        let module = Module::load(self.stream.device(), ptx)?;
        let entries = ptx.lines().filter_map(|line| line.trim_start().strip_prefix(".visible .entry "));
        for entry in entries.map(|entry| entry.trim_end_matches('(')) {
            functions.insert(entry.to_owned(), Arc::new(module.function(entry)?));
        }
        match functions.get(name) {
            Some(function) => Ok(Arc::clone(function)),
            None => module.function(name).map(Arc::new),
        }
    }

    /// Memory for a launch: used before, where that is large enough.
    fn slot(&self, what: &Launch<'_>) -> Result<Slot, BackendError> {
        let (input_bytes, output_bytes) = (what.input.len(), what.output_bytes);
        let fits = |slot: &Slot| {
            slot.staged.len() >= input_bytes
                && slot.output.bytes() >= output_bytes as u64
                && slot.back.len() >= what.result_bytes
        };
        let mut idle = lock(&self.idle);
        let found = idle.iter().position(fits).map(|at| idle.swap_remove(at));
        // One that is too small would never be used again.
        let small = if found.is_none() { idle.pop() } else { None };
        drop(idle);
        drop(small);
        if let Some(slot) = found {
            return Ok(slot);
        }
        let device = self.stream.device();
        let room = |bytes: usize| bytes.max(1).next_multiple_of(1 << 16);
        let (input, output) = (room(input_bytes), room(output_bytes));
        Ok(Slot {
            staged: PinnedBuffer::new(device, input)?,
            input: DeviceBuffer::new(device, input as u64)?,
            output: DeviceBuffer::new(device, output as u64)?,
            back: PinnedBuffer::new(device, room(what.result_bytes))?,
        })
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Kernels may still use its functions.
        let _ = self.stream.synchronize();
    }
}

/// A launch under way. Dropping it waits for it.
#[derive(Debug)]
pub(crate) struct Flight {
    slot: Option<Slot>,
    done: Event,
    result_bytes: usize,
    idle: Arc<Mutex<Vec<Slot>>>,
}

impl Flight {
    /// Whether the output is there.
    ///
    /// # Errors
    /// The device is lost.
    pub(crate) fn is_done(&self) -> Result<bool, BackendError> {
        self.done.is_done()
    }

    /// The output, once it is there.
    ///
    /// # Errors
    /// The device is lost.
    pub(crate) fn wait(&self) -> Result<&[u8], BackendError> {
        self.done.wait()?;
        Ok(self.slot.as_ref().and_then(|slot| slot.back.get(..self.result_bytes)).unwrap_or_default())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // A device that is lost uses no memory any more; its slot is of no use either.
        let over = self.done.wait();
        let Some(slot) = self.slot.take() else { return };
        let mut idle = lock(&self.idle);
        if over.is_ok() && idle.len() < KEPT {
            idle.push(slot);
        }
    }
}
