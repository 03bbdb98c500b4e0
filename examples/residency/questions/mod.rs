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
    on: On,
    pub(crate) run: fn(&mut Context<'_>) -> Result<(), Failure>,
}

/// Every question, in the order in which they are answered.
const ALL: &[Question] = &[
    // First: what other questions leave in the heap would be taken for what was there before.
    Question { name: "memory", on: On::Host, run: memory::run },
    Question { name: "memory", on: On::Cuda, run: memory::run },
    Question { name: "calls", on: On::Host, run: calls_host::run },
    Question { name: "calls", on: On::Cuda, run: calls_cuda::run },
    Question { name: "schemes", on: On::Host, run: schemes::run },
    Question { name: "schemes", on: On::Cuda, run: schemes::run },
    Question { name: "ageing", on: On::Host, run: ageing::run },
    Question { name: "ageing", on: On::Cuda, run: ageing::run },
    Question { name: "scaling", on: On::Host, run: scaling::run },
    Question { name: "scaling", on: On::Cuda, run: scaling::run },
    Question { name: "scaling", on: On::Model, run: scaling::run },
    Question { name: "policies", on: On::Model, run: policies::run },
];

/// Those that can be asked there.
pub(crate) fn on(on: On) -> impl Iterator<Item = &'static Question> {
    ALL.iter().filter(move |question| question.on == on)
}
