//! Times kernels that do the same work in turn, on one stream, and compares what they give. Knows nothing of what they do.

use vastgrid::BackendError;
use vastgrid::cuda::{Arg, Event, Function, Stream};

use super::median;

/// A launch that can be repeated.
pub(crate) struct Kernel<'a> {
    pub(crate) name: String,
    pub(crate) function: Function,
    pub(crate) grid: [u32; 3],
    pub(crate) block: u32,
    /// The values of its parameters.
    pub(crate) args: Vec<Arg<'a>>,
}

impl Kernel<'_> {
    #[expect(unsafe_code, reason = "launching a kernel is")]
    fn launch(&self, stream: &Stream) -> Result<(), BackendError> {
        // SAFETY: whoever lists the arguments lists those of the kernel; the frame and the buffers behind them outlive the race, which waits for every launch.
        unsafe { self.function.launch(stream, self.grid, [self.block, 1, 1], 0, &self.args) }
    }

    /// Seconds for each of some launches, one after the other.
    fn time(&self, stream: &Stream, launches: u32) -> Result<f64, BackendError> {
        let start = Event::timed(stream)?;
        for _ in 0..launches {
            self.launch(stream)?;
        }
        let end = Event::timed(stream)?;
        end.wait()?;
        Ok(f64::from(end.elapsed_ms(&start)?) / 1e3 / f64::from(launches))
    }
}

/// What came of a kernel.
pub(crate) struct Time {
    pub(crate) name: String,
    /// Items in a second.
    pub(crate) rate: f64,
}

/// One piece of work and who does it.
pub(crate) struct Race<'a> {
    pub(crate) items: f64,
    pub(crate) rounds: usize,
    pub(crate) kernels: Vec<Kernel<'a>>,
    /// Makes ready for a launch whose result is looked at.
    pub(crate) clear: &'a dyn Fn() -> Result<(), BackendError>,
    /// Says what is wrong with the result of the last launch, if anything is.
    pub(crate) check: &'a mut dyn FnMut() -> Result<(), String>,
}

impl Race<'_> {
    /// Checks every kernel's result, then times those that are right in turn, `rounds` times after a warm-up, and prints the medians. What fails or is wrong is told and left out.
    pub(crate) fn run(self, stream: &Stream) -> Vec<Time> {
        let Self { items, rounds, kernels, clear, check } = self;
        let rounds = super::rounds(rounds);
        let mut running = Vec::new();
        for kernel in kernels {
            let done = clear().and_then(|()| kernel.time(stream, 1)).map_err(|error| error.to_string());
            match done
                .and_then(|_| check())
                .and_then(|()| kernel.time(stream, 2).map_err(|error| error.to_string()))
            {
                // Enough launches to make the events' own time small.
                Ok(seconds) => running.push((kernel, (2e-3 / seconds).clamp(1.0, 64.0) as u32, Vec::new())),
                Err(wrong) => println!("{:<28} FAILED: {wrong}", kernel.name),
            }
        }
        for _ in 0..rounds {
            for (kernel, launches, times) in &mut running {
                match kernel.time(stream, *launches) {
                    Ok(seconds) => times.push(seconds),
                    Err(error) => println!("{:<28} FAILED: {error}", kernel.name),
                }
            }
        }
        running.retain(|(_, _, times)| times.len() == rounds);
        running
            .into_iter()
            .map(|(kernel, _, mut times)| {
                let seconds = median(&mut times);
                let rate = items / seconds;
                println!(
                    "{:<28} {:9.3} ms, {:8.2} G/s ({:.2} to {:.2})",
                    kernel.name,
                    seconds * 1e3,
                    rate / 1e9,
                    items / times[times.len() - 1] / 1e9,
                    items / times[0] / 1e9,
                );
                Time { name: kernel.name, rate }
            })
            .collect()
    }
}

/// Prints how the fastest whose name begins with one of `ours` compares to the fastest of `theirs`.
pub(crate) fn compare(label: &str, times: &[Time], ours: &[&str], theirs: &[&str], target: Option<f64>) {
    let fastest = |of: &[&str]| {
        let named = times.iter().filter(|t| of.iter().any(|prefix| t.name.starts_with(prefix)));
        named.max_by(|a, b| a.rate.total_cmp(&b.rate))
    };
    let (Some(a), Some(b)) = (fastest(ours), fastest(theirs)) else {
        println!("    {label}: nothing to compare");
        return;
    };
    let ratio = a.rate / b.rate;
    let verdict = match target {
        Some(target) if ratio >= target => format!(", target {target:.2} reached"),
        Some(target) => format!(", BELOW the target of {target:.2}"),
        None => String::new(),
    };
    println!(
        "    {label}: {ratio:.2} x ({} {:.1} G/s, {} {:.1} G/s{verdict})",
        a.name,
        a.rate / 1e9,
        b.name,
        b.rate / 1e9
    );
}
