//! The policy without any memory.

use super::*;
use crate::layout::PageId;

fn key(page: u64) -> PageKey {
    PageKey { array: 1, page: PageId(page) }
}

fn need(page: u64, bytes: u64) -> Need {
    Need { key: key(page), bytes, shown: None, copies: false }
}

/// Plans, carries out and places the pages, each stamped with its own number.
fn commit(r: &mut Residency, pages: &[u64]) -> Plan {
    let needs: Vec<_> = pages.iter().map(|&p| need(p, 10)).collect();
    let plan = r.plan(&needs, &|k: PageKey| k.page.0, |_, _| true).unwrap();
    r.confirm(&plan);
    for n in &needs {
        r.loaded(n.key, n.bytes, n.key.page.0);
    }
    plan
}

#[test]
fn creates_within_the_budget_then_evicts_the_least_recently_used() {
    let mut r = Residency::new(35);
    let plan = commit(&mut r, &[1, 2, 3]);
    assert_eq!((plan.create.len(), plan.victims.len(), r.used()), (3, 0, 30));
    let plan = commit(&mut r, &[4, 5]);
    assert_eq!(plan.victims.iter().map(|v| v.key.page.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((plan.create.len(), r.used()), (0, 30));
}

#[test]
fn a_later_stamp_saves_a_page_without_any_call() {
    let mut r = Residency::new(30);
    commit(&mut r, &[1, 2, 3]);
    let stamps = |k: PageKey| if k.page.0 == 1 { 9 } else { k.page.0 };
    let plan = r.plan(&[need(4, 10)], &stamps, |_, _| true).unwrap();
    assert_eq!(plan.victims[0].key, key(2));
    r.abandon(&plan);
    // All touched: the one touched first goes.
    let plan = r.plan(&[need(4, 10)], &|k: PageKey| 100 - k.page.0, |_, _| true).unwrap();
    assert_eq!(plan.victims[0].key, key(3));
}

#[test]
fn pins_hold_and_what_cannot_go_is_named() {
    let mut r = Residency::new(30);
    commit(&mut r, &[1, 2, 3]);
    r.pin(key(1), 10, true);
    r.pin(key(2), 10, true);
    r.hold(key(3), 10, true);
    let err = r.plan(&[need(4, 10)], &|k: PageKey| k.page.0, |_, _| true).unwrap_err();
    assert_eq!(err, NoRoom { needed_bytes: 10, pinned_bytes: 20, busy_bytes: 10, spared_bytes: 0 });
    r.unhold(key(3), true, 3);
    let err = r.plan(&[need(4, 10)], &|k: PageKey| k.page.0, |_, _| false).unwrap_err();
    assert_eq!(err, NoRoom { needed_bytes: 10, pinned_bytes: 20, busy_bytes: 0, spared_bytes: 10 });
    r.unpin(key(1), true, 1);
    assert_eq!(commit(&mut r, &[4]).victims.len(), 1);
    assert_eq!(r.used(), 30);
}

#[test]
fn a_failed_or_abandoned_plan_changes_nothing() {
    let mut r = Residency::new(40);
    commit(&mut r, &[1, 2]);
    r.add_idle(20);
    let before = r.used();
    assert!(r.plan(&[need(3, 10), need(4, 100)], &|k: PageKey| k.page.0, |_, _| true).is_err());
    assert_eq!(r.used(), before);
    let plan = r.plan(&[need(3, 10), need(4, 20), need(5, 10)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
    r.abandon(&plan);
    assert_eq!(r.used(), before);
    let plan = r.plan(&[need(3, 20)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
    assert_eq!((plan.take_idle.as_slice(), plan.victims.len()), ([20].as_slice(), 0));
}

#[test]
fn pages_of_other_sizes_make_room_too() {
    let mut r = Residency::new(30);
    commit(&mut r, &[1, 2, 3]);
    let plan = r.plan(&[need(9, 25)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
    assert_eq!((plan.victims.len(), plan.create.as_slice()), (3, [25].as_slice()));
    r.confirm(&plan);
    assert_eq!(r.used(), 25);
}

#[test]
fn shrinking_takes_waiting_pages_first() {
    let mut r = Residency::new(100);
    commit(&mut r, &[1, 2, 3]);
    r.add_idle(10);
    let plan = r.plan_shrink(20, &|k: PageKey| k.page.0, |_, _| true).unwrap();
    assert_eq!((plan.destroy_idle.len(), plan.victims.len()), (1, 1));
    r.confirm(&plan);
    assert_eq!(r.used(), 20);
    r.pin(key(2), 10, true);
    r.pin(key(3), 10, true);
    let err = r.plan_shrink(10, &|k: PageKey| k.page.0, |_, _| true).unwrap_err();
    assert_eq!((err.needed_bytes, err.pinned_bytes), (10, 20));
    assert_eq!(r.used(), 20);
}

#[test]
fn the_lazy_order_hits_nearly_as_often_as_the_exact_one() {
    // A wandering working set, somewhat larger than the budget.
    let mut next = random(7);
    let trace: Vec<u64> = (0..20_000u64).map(|i| i / 100 + next(8) * next(16)).collect();
    let exact = {
        let (mut cache, mut hits) = (::lru::LruCache::new(64.try_into().unwrap()), 0u32);
        for &page in &trace {
            hits += u32::from(cache.get(&page).is_some());
            cache.put(page, ());
        }
        hits
    };
    for takes_what_is_shown in [false, true] {
        let (hits, came_back) = replay(&trace, 64, takes_what_is_shown);
        println!(
            "{hits} hits against {exact} of exact LRU; {came_back} pages came back to memory that they had before"
        );
        assert!(hits * 100 >= exact * 99, "{hits} hits against {exact} of exact LRU");
    }
}

/// Numbers below the one that it is given.
fn random(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    }
}

/// Hits of a trace, and how many pages came back to memory that their addresses still showed, by preference or by chance.
fn replay(trace: &[u64], pages: u64, takes_what_is_shown: bool) -> (u32, u32) {
    let (mut r, mut hits, mut came_back) = (Residency::new(pages), 0u32, 0u32);
    let mut stamps: HashMap<u64, u64> = HashMap::default();
    let mut resident = std::collections::HashSet::new();
    // Which memory an address shows, and who has it.
    let (mut shows, mut holders) = (HashMap::<u64, u64>::default(), HashMap::<u64, u64>::default());
    for (time, &page) in (1..).zip(trace) {
        stamps.insert(page, time);
        if resident.contains(&page) {
            hits += 1;
            continue;
        }
        let shown = shows.get(&page).filter(|_| takes_what_is_shown).map(|memory| key(holders[memory]));
        let plan =
            r.plan(&[Need { shown, ..need(page, 1) }], &|k: PageKey| stamps[&k.page.0], |_, _| true).unwrap();
        r.confirm(&plan);
        plan.victims.iter().for_each(|v| assert!(resident.remove(&v.key.page.0)));
        let memory = plan.victims.first().map_or(holders.len() as u64, |v| shows[&v.key.page.0]);
        came_back += u32::from(shows.insert(page, memory) == Some(memory));
        holders.insert(memory, page);
        r.loaded(key(page), 1, time);
        resident.insert(page);
    }
    (hits, came_back)
}

#[test]
fn pages_come_back_to_their_memory_where_the_volume_is_read_again_and_again() {
    let mut next = random(3);
    let trace: Vec<u64> = (0..20_000).map(|_| next(256)).collect();
    let ((plain, by_chance), (hits, came_back)) = (replay(&trace, 64, false), replay(&trace, 64, true));
    assert!(by_chance < 500, "{by_chance}");
    assert!(came_back * 4 > (20_000 - hits) * 3, "{came_back} of {} misses", 20_000 - hits);
    assert!(hits * 100 > plain * 98, "{hits} hits, {plain} without the preference");
}

#[test]
fn a_page_that_could_not_be_unmapped_stays_with_whoever_holds_it() {
    let mut r = Residency::new(20);
    commit(&mut r, &[1, 2]);
    for page in [1, 2] {
        r.take_out(key(page), 10);
    }
    let busy = r.plan(&[need(3, 10)], &|k: PageKey| k.page.0, |_, _| true).unwrap_err();
    assert_eq!((busy.busy_bytes, busy.spared_bytes), (20, 0), "on their way out");
    r.hold(key(1), 10, false);
    r.not_unmapped(key(1), 10);
    r.not_unmapped(key(2), 10);
    let plan = r.plan(&[need(3, 10)], &|k: PageKey| k.page.0, |_, _| true).unwrap();
    assert_eq!(plan.victims.iter().map(|v| v.key).collect::<Vec<_>>(), [key(2)], "not the one that is held");
    r.abandon(&plan);
    assert_eq!((r.busy(|_| false), r.busy(|k| k == key(1))), (10, 0));
    r.unhold(key(1), true, 7);
    assert_eq!(
        r.plan(&[need(3, 10), need(4, 10)], &|k: PageKey| k.page.0, |_, _| true).unwrap().victims.len(),
        2
    );
}

#[test]
fn memory_that_an_address_still_shows_is_taken_where_its_page_is_old() {
    let mut r = Residency::new(40);
    commit(&mut r, &[1, 2, 3, 4]);
    let shows = |page: u64, shown: u64| Need { shown: Some(key(shown)), ..need(page, 10) };
    let victims = |plan: &Plan| plan.victims.iter().map(|v| v.key.page.0).collect::<Vec<_>>();
    let stamps = |k: PageKey| k.page.0;
    // Not of the youngest quarter: it goes, out of turn.
    let plan = r.plan(&[shows(5, 2)], &stamps, |_, _| true).unwrap();
    assert_eq!(victims(&plan), [2]);
    r.abandon(&plan);
    // Of the youngest quarter, used since it was placed, not there, or not to go: the oldest goes.
    let mut r = Residency::new(40);
    commit(&mut r, &[1, 2, 3, 4]);
    for (shown, used_since, stays) in [(4, 0, 0), (2, 2, 0), (77, 0, 0), (2, 0, 2)] {
        let stamps = |k: PageKey| if k.page.0 == used_since { 99 } else { k.page.0 };
        let plan = r.plan(&[shows(5, shown)], &stamps, |k, _| k.page.0 != stays).unwrap();
        assert_eq!(victims(&plan), [1], "{shown}, {used_since}, {stays}");
        r.abandon(&plan);
        r = Residency::new(40);
        commit(&mut r, &[1, 2, 3, 4]);
    }
    // One need takes what the other is shown: both have a victim all the same.
    let plan = r.plan(&[shows(5, 1), shows(6, 1)], &stamps, |_, _| true).unwrap();
    assert_eq!(victims(&plan), [1, 2]);
}

#[test]
fn preferring_what_is_shown_costs_hardly_a_hit_where_some_pages_are_wanted_more_than_others() {
    for pages in [64, 256] {
        let (mut plain, mut hits, mut misses, mut came_back) = (0, 0, 0, 0);
        for seed in 0..4 {
            let mut next = random(seed);
            // The smaller its number, the more often a page is wanted.
            let mut skewed = || (0..3).fold(1024, |most, _| next(most).max(1));
            let trace: Vec<u64> = (0..50_000).map(|_| skewed()).collect();
            let (with, back) = replay(&trace, pages, true);
            plain += replay(&trace, pages, false).0;
            hits += with;
            misses += 50_000 - with;
            came_back += back;
        }
        println!(
            "{pages} pages: {hits} hits, {plain} without the preference; {came_back} of {misses} misses came back"
        );
        assert!(hits * 100 >= plain * 97, "{hits} hits, {plain} without the preference");
        assert!(came_back * 5 > misses, "{came_back} of {misses} misses");
    }
}

/// A box of 6^3 pages that walks through 16^3, each of its pages asked for at each step.
fn walk(steps: u64, mut next: impl FnMut(u64) -> u64) -> Vec<u64> {
    let mut at = [5u64; 3];
    let mut trace = Vec::new();
    for _ in 0..steps {
        let axis = usize::try_from(next(3)).unwrap();
        at[axis] = (at[axis] + 2 * next(2)).saturating_sub(1).min(10);
        let page = |i: u64| ((at[2] + i / 36) * 16 + at[1] + i / 6 % 6) * 16 + at[0] + i % 6;
        trace.extend((0..216).map(page));
    }
    trace
}

#[test]
fn a_walk_whose_pages_come_round_in_turn_keeps_its_hits_and_what_follows_comes_back() {
    let mut next = random(5);
    let steps = walk(600, &mut next);
    let ((plain, _), (hits, _)) = (replay(&steps, 256, false), replay(&steps, 256, true));
    println!("{hits} hits of a walk of {}, {plain} without the preference", steps.len());
    assert!(hits * 100 >= plain * 99, "{hits} hits, {plain} without the preference");
    // What was learnt there does not last.
    let anywhere: Vec<u64> = (0..60_000).map(|_| next(4096)).collect();
    let both: Vec<u64> = steps.iter().chain(&anywhere).copied().collect();
    let (of_both, came_back) = replay(&both, 256, true);
    let misses = u32::try_from(anywhere.len()).unwrap() - (of_both - hits);
    assert!(came_back * 3 > misses * 2, "{came_back} of {misses} misses");
}

#[test]
fn plans_that_come_to_nothing_teach_nothing() {
    let mut r = Residency::new(640);
    commit(&mut r, &(1..=64).collect::<Vec<_>>());
    let shows = |page: u64, shown: u64| Need { shown: Some(key(shown)), ..need(page, 10) };
    let stamps = |k: PageKey| k.page.0;
    for _ in 0..1000 {
        // One that is abandoned, and one that may not go.
        let plan = r.plan(&[shows(99, 2)], &stamps, |_, _| true).unwrap();
        r.abandon(&plan);
        let plan = r.plan(&[shows(99, 2)], &stamps, |k, _| k.page.0 != 2).unwrap();
        assert_eq!(plan.victims[0].key, key(1));
        r.abandon(&plan);
    }
    // Of the youngest quarter still.
    let plan = r.plan(&[shows(99, 54)], &stamps, |_, _| true).unwrap();
    assert_ne!(plan.victims[0].key, key(54));
}

#[test]
fn what_is_wanted_goes_last_whatever_the_order_says() {
    let mut r = Residency::new(60);
    commit(&mut r, &[1, 2, 3, 4, 5, 6]);
    // Wanted at 20 are 2, 3 and 5; the others were used after they were placed as well, but before that.
    let stamps = |k: PageKey| if [2, 3, 5].contains(&k.page.0) { 20 } else { 10 };
    r.keep_since(20);
    let gone = |r: &mut Residency| {
        let plan = r.plan(&[need(9, 10)], &stamps, |_, _| true).unwrap();
        r.confirm(&plan);
        plan.victims[0].key.page.0
    };
    let mut first: Vec<_> = (0..3).map(|_| gone(&mut r)).collect();
    first.sort_unstable();
    assert_eq!(first, [1, 4, 6]);
    // Where nothing else is left they go all the same, the oldest first.
    assert_eq!(gone(&mut r), 2);
}
