//! The policy without any memory.

use super::*;
use crate::layout::PageId;

fn key(page: u64) -> PageKey {
    PageKey { array: 1, page: PageId(page) }
}

fn need(page: u64, bytes: u64) -> Need {
    Need { key: key(page), bytes }
}

/// Plans, carries out and places the pages, each stamped with its own number.
fn commit(r: &mut Residency, pages: &[u64]) -> Plan {
    let needs: Vec<_> = pages.iter().map(|&p| need(p, 10)).collect();
    let plan = r.plan(&needs, |k| k.page.0, |_, _| true).unwrap();
    r.confirm(&plan);
    for n in &needs {
        r.hold(n.key, n.bytes);
        r.unhold(n.key, true, n.key.page.0);
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
    let plan = r.plan(&[need(4, 10)], stamps, |_, _| true).unwrap();
    assert_eq!(plan.victims[0].key, key(2));
    r.abandon(&plan);
    // All touched: the one touched first goes.
    let plan = r.plan(&[need(4, 10)], |k| 100 - k.page.0, |_, _| true).unwrap();
    assert_eq!(plan.victims[0].key, key(3));
}

#[test]
fn pins_hold_and_what_cannot_go_is_named() {
    let mut r = Residency::new(30);
    commit(&mut r, &[1, 2, 3]);
    r.pin(key(1), 10);
    r.pin(key(2), 10);
    r.hold(key(3), 10);
    let err = r.plan(&[need(4, 10)], |k| k.page.0, |_, _| true).unwrap_err();
    assert_eq!(err, NoRoom { needed_bytes: 10, pinned_bytes: 20, busy_bytes: 10, spared_bytes: 0 });
    r.unhold(key(3), true, 3);
    let err = r.plan(&[need(4, 10)], |k| k.page.0, |_, _| false).unwrap_err();
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
    assert!(r.plan(&[need(3, 10), need(4, 100)], |k| k.page.0, |_, _| true).is_err());
    assert_eq!(r.used(), before);
    let plan = r.plan(&[need(3, 10), need(4, 20), need(5, 10)], |k| k.page.0, |_, _| true).unwrap();
    r.abandon(&plan);
    assert_eq!(r.used(), before);
    let plan = r.plan(&[need(3, 20)], |k| k.page.0, |_, _| true).unwrap();
    assert_eq!((plan.take_idle.as_slice(), plan.victims.len()), ([20].as_slice(), 0));
}

#[test]
fn pages_of_other_sizes_make_room_too() {
    let mut r = Residency::new(30);
    commit(&mut r, &[1, 2, 3]);
    let plan = r.plan(&[need(9, 25)], |k| k.page.0, |_, _| true).unwrap();
    assert_eq!((plan.victims.len(), plan.create.as_slice()), (3, [25].as_slice()));
    r.confirm(&plan);
    assert_eq!(r.used(), 25);
}

#[test]
fn shrinking_takes_waiting_pages_first() {
    let mut r = Residency::new(100);
    commit(&mut r, &[1, 2, 3]);
    r.add_idle(10);
    let plan = r.plan_shrink(20, |k| k.page.0, |_, _| true).unwrap();
    assert_eq!((plan.destroy_idle.len(), plan.victims.len()), (1, 1));
    r.confirm(&plan);
    assert_eq!(r.used(), 20);
    r.pin(key(2), 10);
    r.pin(key(3), 10);
    let err = r.plan_shrink(10, |k| k.page.0, |_, _| true).unwrap_err();
    assert_eq!((err.needed_bytes, err.pinned_bytes), (10, 20));
    assert_eq!(r.used(), 20);
}

#[test]
fn the_lazy_order_hits_nearly_as_often_as_the_exact_one() {
    // A wandering working set, somewhat larger than the budget.
    let mut seed = 7u64;
    let mut next = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let trace: Vec<u64> = (0..20_000u64).map(|i| i / 100 + next(8) * next(16)).collect();
    let exact = {
        let (mut cache, mut hits) = (::lru::LruCache::new(64.try_into().unwrap()), 0u32);
        for &page in &trace {
            hits += u32::from(cache.get(&page).is_some());
            cache.put(page, ());
        }
        hits
    };
    let (mut r, mut hits) = (Residency::new(64), 0u32);
    let mut stamps: HashMap<u64, u64> = HashMap::new();
    let mut resident = std::collections::HashSet::new();
    for (time, &page) in (1..).zip(&trace) {
        stamps.insert(page, time);
        if resident.contains(&page) {
            hits += 1;
            continue;
        }
        let plan = r.plan(&[need(page, 1)], |k| stamps[&k.page.0], |_, _| true).unwrap();
        r.confirm(&plan);
        plan.victims.iter().for_each(|v| assert!(resident.remove(&v.key.page.0)));
        r.hold(key(page), 1);
        r.unhold(key(page), true, time);
        resident.insert(page);
    }
    assert!(hits * 100 >= exact * 99, "{hits} hits against {exact} of exact LRU");
}

#[test]
fn a_page_that_could_not_be_unmapped_stays_with_whoever_holds_it() {
    let mut r = Residency::new(20);
    commit(&mut r, &[1, 2]);
    for page in [1, 2] {
        r.take_out(key(page), 10);
    }
    let busy = r.plan(&[need(3, 10)], |k| k.page.0, |_, _| true).unwrap_err();
    assert_eq!((busy.busy_bytes, busy.spared_bytes), (20, 0), "on their way out");
    r.hold(key(1), 10);
    r.not_unmapped(key(1), 10);
    r.not_unmapped(key(2), 10);
    let plan = r.plan(&[need(3, 10)], |k| k.page.0, |_, _| true).unwrap();
    assert_eq!(plan.victims.iter().map(|v| v.key).collect::<Vec<_>>(), [key(2)], "not the one that is held");
    r.abandon(&plan);
    assert_eq!((r.busy(|_| false), r.busy(|k| k == key(1))), (10, 0));
    r.unhold(key(1), true, 7);
    assert_eq!(r.plan(&[need(3, 10), need(4, 10)], |k| k.page.0, |_, _| true).unwrap().victims.len(), 2);
}
