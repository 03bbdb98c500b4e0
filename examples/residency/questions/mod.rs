//! Owns the list of questions, each in its own module: its name, where it can be asked, and what answers it.

mod ageing;
mod calls_cuda;
mod calls_host;
mod field;
mod memory;
mod policies;
mod scaling;
mod schemes;

use crate::suite::{Context, Failure, On};

/// Something to be measured.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    about: &'static str,
    on: On,
    pub(crate) run: fn(&mut Context<'_>) -> Result<(), Failure>,
}

const MEMORY: &str = "bytes of the process and of the device against the budget";
const CALLS: &str = "what each call of the system or the driver costs, by size";
const SCHEMES: &str =
    "the same tiles and path as flat addresses, page table, atlas, dense memory, files, sparse texture";
const AGEING: &str = "whether a swap gets dearer over time (full: an hour on the host, eight minutes on a device; resumed by asking again with the same --out)";
const SCALING: &str = "extents, working sets, threads, batches";
const POLICIES: &str = "LRU as built, other policies and the best that there can be, on flights";

/// Every question, in the order in which they are answered.
const ALL: &[Question] = &[
    // First: what other questions leave in the heap would be taken for what was there before.
    Question { name: "memory", about: MEMORY, on: On::Host, run: memory::run },
    Question { name: "memory", about: MEMORY, on: On::Cuda, run: memory::run },
    Question { name: "calls", about: CALLS, on: On::Host, run: calls_host::run },
    Question { name: "calls", about: CALLS, on: On::Cuda, run: calls_cuda::run },
    Question { name: "schemes", about: SCHEMES, on: On::Host, run: schemes::run },
    Question { name: "schemes", about: SCHEMES, on: On::Cuda, run: schemes::run },
    Question { name: "ageing", about: AGEING, on: On::Host, run: ageing::run },
    Question { name: "ageing", about: AGEING, on: On::Cuda, run: ageing::run },
    Question { name: "scaling", about: SCALING, on: On::Host, run: scaling::run },
    Question { name: "scaling", about: SCALING, on: On::Cuda, run: scaling::run },
    Question { name: "scaling", about: SCALING, on: On::Model, run: scaling::run },
    Question { name: "policies", about: POLICIES, on: On::Model, run: policies::run },
];

/// Those that can be asked there.
pub(crate) fn on(on: On) -> impl Iterator<Item = &'static Question> {
    ALL.iter().filter(move |question| question.on == on)
}

/// What there is to be asked, for `--help`.
pub(crate) fn list() -> String {
    let mut lines = vec!["Questions (--only), and where they can be asked:".to_owned()];
    let mut named = Vec::new();
    for Question { name, about, .. } in ALL {
        if !named.contains(name) {
            named.push(*name);
            let places = ALL.iter().filter(|other| other.name == *name).map(|other| other.on.name());
            let places = places.collect::<Vec<_>>().join(", ");
            lines.push(format!("  {name:8} {places:17} {about}"));
        }
    }
    lines.push("\nIn tables and curves 'flat' is this crate. The exit status is 1 where a question could not be answered; targets that are not met and Ctrl-C leave it at 0.".to_owned());
    lines.join("\n")
}
