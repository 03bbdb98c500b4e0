//! Owns what was counted, [`Found`]: as rows, as curves for each family of traces, and as verdicts on flights.

use std::collections::BTreeMap;

use crate::report::{Axis, Row, Verdict};
use crate::say;
use crate::suite::Context;

use super::Moved;
use super::traces::{Asked, Whole};

pub(super) const AS_BUILT: &str = "as built";

/// The policies that curves and columns are of; the optimum, which all are compared with, is none.
const SHOWN: [&str; 7] = [AS_BUILT, "LRU", "CLOCK", "SIEVE", "S3-FIFO", "2Q", "LRU, want by want"];

/// How much more than the optimum the best of all may move on flights.
const TARGET: f64 = 1.25;

#[derive(Debug, Default)]
pub(super) struct Found {
    /// Traces in the order in which they came.
    traces: Vec<Kind>,
    /// By trace, 16ths of the whole, and policy.
    counted: BTreeMap<(usize, usize, &'static str), Vec<Counted>>,
}

#[derive(Debug)]
struct Kind {
    name: String,
    family: &'static str,
    is_flight: bool,
    whole: Whole,
}

/// One run of a policy.
#[derive(Clone, Copy, Debug)]
struct Counted {
    moved: Moved,
    best: Moved,
    pictures: usize,
    page_bytes: u64,
}

impl Counted {
    fn of_best(&self) -> f64 {
        self.moved.loads as f64 / self.best.loads.max(1) as f64
    }
}

impl Found {
    pub(super) fn note(
        &mut self,
        asked: &Asked,
        sixteenths: usize,
        policy: &'static str,
        moved: Moved,
        best: Moved,
    ) {
        let known = self.traces.iter().position(|kind| kind.name == asked.name);
        let trace = known.unwrap_or_else(|| {
            self.traces.push(Kind {
                name: asked.name.clone(),
                family: asked.family,
                is_flight: asked.is_flight(),
                whole: asked.whole(),
            });
            self.traces.len() - 1
        });
        let counted = Counted { moved, best, pictures: asked.pictures.len(), page_bytes: asked.page_bytes };
        self.counted.entry((trace, sixteenths, policy)).or_default().push(counted);
    }

    /// Enters everything.
    pub(super) fn enter(&self, context: &mut Context<'_>) {
        self.rows(context);
        self.table(context.suite);
        self.curves(context);
        self.verdicts(context);
    }

    /// Thousands of figures: they go into the report, and the table onto the screen.
    fn rows(&self, context: &mut Context<'_>) {
        let of = |counted: &[Counted], figure: &dyn Fn(&Counted) -> f64| counted.iter().map(figure).collect();
        for (&(trace, sixteenths, policy), counted) in &self.counted {
            let kind = &self.traces[trace];
            let settings = [
                ("asked for".to_owned(), kind.name.clone()),
                ("budget".to_owned(), budget(sixteenths, kind.whole)),
            ];
            let mut enter = |metric: &str, unit: &str, samples: Vec<f64>| {
                context.report.rows.push(Row {
                    suite: context.suite.to_owned(),
                    case: policy.to_owned(),
                    settings: settings.clone().into(),
                    metric: metric.to_owned(),
                    unit: unit.to_owned(),
                    samples,
                });
            };
            let hits = |c: &Counted| (c.moved.wants - c.moved.loads) as f64 / c.moved.wants.max(1) as f64;
            enter("hit rate", "%", of(counted, &|c| 100.0 * hits(c)));
            let mib = |c: &Counted| (c.moved.loads * c.page_bytes) as f64 / f64::from(1 << 20);
            enter("moved", "MiB", of(counted, &mib));
            let stalls = |c: &Counted| 100.0 * c.moved.stalls as f64 / c.pictures.max(1) as f64;
            enter("stalls", "% of pictures", of(counted, &stalls));
            if policy != "Belady" {
                enter("moved", "times Belady's", of(counted, &Counted::of_best));
            }
        }
    }

    fn table(&self, suite: &str) {
        say(format_args!("{suite}: bytes moved, as multiples of the least that could be"));
        let names = SHOWN.map(|name| format!("{name:>18}")).concat();
        say(format_args!("{:<26} {:<27} {:>9}{names}", "asked for", "budget", "best hits"));
        for (&(trace, sixteenths, policy), counted) in &self.counted {
            if policy != "Belady" {
                continue;
            }
            let kind = &self.traces[trace];
            let (wants, loads) =
                counted.iter().fold((0, 0), |(w, l), c| (w + c.moved.wants, l + c.moved.loads));
            let columns = SHOWN.iter().map(|policy| match self.counted.get(&(trace, sixteenths, policy)) {
                Some(counted) => format!("{:>18.3}", mean(counted.iter().map(Counted::of_best))),
                None => format!("{:>18}", "-"),
            });
            say(format_args!(
                "{:<26} {:<27} {:>7.2} %{}",
                kind.name,
                budget(sixteenths, kind.whole),
                100.0 * (wants - loads) as f64 / wants.max(1) as f64,
                columns.collect::<String>()
            ));
        }
    }

    /// For each family, what each policy moves over the budget.
    fn curves(&self, context: &mut Context<'_>) {
        let mut families: Vec<_> = self.traces.iter().map(|kind| (kind.family, kind.whole)).collect();
        families.dedup();
        families.sort_by_key(|(family, _)| *family);
        families.dedup();
        for (family, whole) in families {
            let curve = |policy: &str| {
                let mut points = BTreeMap::<usize, Vec<f64>>::new();
                for (&(trace, sixteenths, of), counted) in &self.counted {
                    if of == policy && self.traces[trace].family == family {
                        points.entry(sixteenths).or_default().extend(counted.iter().map(Counted::of_best));
                    }
                }
                let point = |(at, all): (usize, Vec<f64>)| (at as f64 / 16.0, mean(all.into_iter()));
                points.into_iter().map(point).collect::<Vec<_>>()
            };
            let curves = SHOWN.iter().map(|policy| ((*policy).to_owned(), curve(policy))).collect();
            let x = Axis { label: format!("budget, as part of {}", of_what(whole)), logarithmic: true };
            let y = Axis { label: "bytes moved, times Belady's".to_owned(), logarithmic: true };
            context.plot(
                &format!("policies-{}", family.replace(' ', "-")),
                &format!("Bytes moved for {family}"),
                (x, y),
                curves,
            );
        }
    }

    /// Whether what is moved on flights is within the target, and how far the policy as built is.
    fn verdicts(&self, context: &mut Context<'_>) {
        for recorded in [false, true] {
            let which = if recorded { "recorded flights" } else { "flights by seed" };
            let all = |policy: &str| {
                let is_meant = |trace: usize| {
                    let kind = &self.traces[trace];
                    kind.is_flight && (kind.family == "recorded flights") == recorded
                };
                let counted = self.counted.iter().filter(|((trace, sixteenths, of), _)| {
                    *of == policy && *sixteenths <= 16 && is_meant(*trace)
                });
                counted.flat_map(|(_, counted)| counted.iter().map(Counted::of_best)).collect::<Vec<_>>()
            };
            let means = SHOWN.map(|policy| (policy, mean(all(policy).into_iter())));
            let best = means.iter().filter(|(_, mean)| mean.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1));
            let Some(&(_, best)) = best else { continue };
            // Budgets far below a picture leave no choice: the mean alone would hide what there is.
            let built = all(AS_BUILT);
            let of_built = mean(built.iter().copied());
            let worst = built.into_iter().fold(of_built, f64::max);
            for (kind, value) in [("mean", of_built), ("worst", worst)] {
                let what = format!(
                    "bytes moved by the policy as built on {which}, times Belady's, {kind} of budgets up to the largest picture"
                );
                context.verdict(Verdict { what, value, target: TARGET, at_least: false });
            }
            let setting =
                [("asked for", which.to_owned()), ("budget", "up to the largest picture".to_owned())];
            context.row(AS_BUILT, &setting, ("moved", "times Belady's, each"), all(AS_BUILT));
            context.row(
                AS_BUILT,
                &setting,
                ("moved", "times the best policy's, mean"),
                vec![of_built / best],
            );
        }
    }
}

fn of_what(whole: Whole) -> &'static str {
    match whole {
        Whole::Distinct => "all pages",
        Whole::LargestPicture => "the largest picture",
    }
}

fn budget(sixteenths: usize, whole: Whole) -> String {
    format!("{sixteenths}/16 of {}", of_what(whole))
}

/// The geometric mean; not a number of nothing.
fn mean(all: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = all.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value.ln()));
    (sum / count).exp()
}
