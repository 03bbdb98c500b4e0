//! Owns the question of who stays and who goes: what the policy as it is built moves, beside others and the least that could be moved. Nothing is timed here: all of it is counted, and the same for
//! the same seed.
//!
//! Pictures ask for pages, most urgent first. Of each picture everybody is asked for as much as the budget holds, which is all that can be there at once, and for all of that together: what is there
//! is met before anything goes for what is not. (*LRU, want by want* is told of one page at a time, in order, as a plain cache would be.) Budgets are parts of all pages that are ever wanted, or, where a camera
//! makes the pictures, of what the largest of them wants.
//!
//! | figure | of what |
//! | --- | --- |
//! | hit rate | wants that were there |
//! | moved | bytes of pages that were loaded |
//! | stalls | pictures for which anything had to be loaded |
//! | of Belady's | what is moved, over the least that could be |
//!
//! | file | owns |
//! | --- | --- |
//! | `traces`, `recorded` | what is asked for |
//! | `lru`, `clock`, `sieve`, `s3_fifo`, `two_queues`, `belady` | a policy each |
//! | `as_built` | what this crate does |
//! | `check` | whether the policies are what their papers say |
//! | `found` | figures, curves and verdicts |

mod as_built;
mod belady;
mod check;
mod clock;
mod found;
mod lists;
mod lru;
mod random;
mod recorded;
mod s3_fifo;
mod sieve;
mod traces;
mod two_queues;

use crate::suite::{Context, Failure};

use found::Found;
use traces::Asked;

/// A cache of so many pages, which are numbers.
trait Policy {
    /// Whether a page is there.
    fn has(&self, page: u32) -> bool;

    /// A page is wanted: whether it was there. Now it is.
    fn want(&mut self, page: u32) -> bool;
}

/// Makes a policy, for so many pages out of so many.
type Make = fn(usize, usize) -> Box<dyn Policy>;

/// All that can be had without knowing what comes.
const POLICIES: [(&str, Make); 5] = [
    ("LRU", |pages, distinct| Box::new(lru::Lru::new(pages, distinct))),
    ("CLOCK", |pages, distinct| Box::new(clock::Clock::new(pages, distinct))),
    ("SIEVE", |pages, distinct| Box::new(sieve::Sieve::new(pages, distinct))),
    ("S3-FIFO", |pages, distinct| Box::new(s3_fifo::S3Fifo::new(pages, distinct))),
    ("2Q", |pages, distinct| Box::new(two_queues::TwoQueues::new(pages, distinct))),
];

/// What came of pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    wants: u64,
    loads: u64,
    /// Pictures for which anything had to be loaded.
    stalls: u64,
}

impl Moved {
    fn enter(&mut self, wants: u64, loads: u64) {
        self.wants += wants;
        self.loads += loads;
        self.stalls += u64::from(loads > 0);
    }
}

/// Asks for each picture as a whole.
fn by_picture(pictures: &[&[u32]], policy: &mut dyn Policy) -> Moved {
    let mut moved = Moved::default();
    let mut missing = Vec::new();
    for picture in pictures {
        missing.clear();
        for &page in *picture {
            if policy.has(page) {
                policy.want(page);
            } else {
                missing.push(page);
            }
        }
        for &page in &missing {
            policy.want(page);
        }
        moved.enter(picture.len() as u64, missing.len() as u64);
    }
    moved
}

/// Asks for one page after the other.
fn by_want(pictures: &[&[u32]], policy: &mut dyn Policy) -> Moved {
    let mut moved = Moved::default();
    for picture in pictures {
        let loads = picture.iter().filter(|&&page| !policy.want(page)).count();
        moved.enter(picture.len() as u64, loads as u64);
    }
    moved
}

/// Compares policies.
///
/// # Errors
/// A policy that is not what it is said to be, or an array that does not do as it says.
pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let seed = context.seed;
    check::check(seed, context.pick(100, 300, 1000))?;
    let (rounds, pictures) = context.pick((1, 120), (3, 300), (8, 400));
    let mut found = Found::default();
    for asked in recorded::flights(context.traces)? {
        compare(context, &asked, &mut found)?;
    }
    for round in 0..rounds {
        for asked in traces::synthetic(seed.wrapping_add(round), pictures) {
            compare(context, &asked, &mut found)?;
        }
    }
    context.note(
        "Belady's optimum is of whole pictures, resident at once, as the array and LRU keep them; the other policies may evict for the end of a picture what its beginning wanted, so that near its size they move less than that"
            .to_owned(),
    );
    found.enter(context);
    Ok(())
}

/// Everybody at every budget, for one sequence of pictures.
fn compare(context: &Context<'_>, asked: &Asked, found: &mut Found) -> Result<(), Failure> {
    let budgets = context.pick(
        &[4, 15, 16][..],
        &[1, 2, 4, 8, 12, 15, 16, 24, 32],
        &[1, 2, 3, 4, 6, 8, 10, 12, 14, 15, 16, 20, 24, 32],
    );
    for &sixteenths in budgets {
        let pages = asked.pages(sixteenths);
        if context.stops() {
            return Ok(());
        }
        // With room for everything all do the same.
        if pages > asked.distinct {
            continue;
        }
        let within = asked.within(pages);
        let best = belady::belady(&within, pages, asked.distinct);
        let mut enter = |policy: &'static str, moved: Moved| {
            // Of others a page may go for the rest of the picture that wants it: they might do with less.
            let is_whole = [found::AS_BUILT, "LRU"].contains(&policy);
            if is_whole && moved.loads < best.loads || moved.wants != best.wants {
                return Err(format!(
                    "{}, {pages} pages: {policy} has {moved:?}, and the optimum {best:?}",
                    asked.name
                ));
            }
            found.note(asked, sixteenths, policy, moved, best);
            Ok(())
        };
        enter("Belady", best)?;
        enter(found::AS_BUILT, as_built::as_built(asked, &within, pages)?)?;
        for (name, make) in POLICIES {
            enter(name, by_picture(&within, &mut *make(pages, asked.distinct)))?;
        }
        let mut lru = lru::Lru::new(pages, asked.distinct);
        enter("LRU, want by want", by_want(&within, &mut lru))?;
    }
    Ok(())
}
