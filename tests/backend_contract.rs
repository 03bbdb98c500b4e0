//! One contract for every backend: what the trait promises, checked through the trait alone.

mod common;

use std::sync::{Mutex, PoisonError};

use common::cuda::backend_or_skip;

use vastgrid::BackendError;
use vastgrid::backend::{
    Access, Backend, Checked, Faulty, HostAddressable, HostBackend, HostConfig, HostMoves, ModelBackend,
    ModelConfig, Refused, ReserveSpec, Staging,
};

/// A fixed sequence of bytes that differs for every seed and does not repeat within a page.
fn random(bytes: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(usize::try_from(bytes).unwrap()).collect()
}

fn reserve<B: Backend>(b: &B, pages: u64, page_bytes: u64) -> B::Reservation {
    b.reserve(ReserveSpec { bytes: pages * page_bytes, page_bytes, expected_pages: pages.min(16) }).unwrap()
}

fn map<B: Backend>(b: &B, r: &B::Reservation, offset: u64, page: B::Page, page_bytes: u64) {
    b.map(r, offset, page).map_err(|refused| refused.error).unwrap();
    b.set_access(r, offset..offset + page_bytes, Access::ReadWrite).unwrap();
}

fn write<B: Backend>(b: &B, r: &B::Reservation, offset: u64, bytes: &[u8]) {
    let mut staging = b.stage(r, offset..offset + bytes.len() as u64).unwrap();
    assert_eq!(staging.bytes_mut().len(), bytes.len());
    staging.bytes_mut().copy_from_slice(bytes);
    let ticket = b.submit(r, staging).unwrap();
    b.wait(ticket).unwrap();
}

fn read<B: Backend>(b: &B, r: &B::Reservation, offset: u64, bytes: u64) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(bytes).unwrap()];
    b.read(r, offset, &mut out).unwrap();
    out
}

fn data_comes_back<B: Backend>(b: &B, page_bytes: u64) {
    let r = reserve(b, 8, page_bytes);
    let quarter = page_bytes / 4;
    for (seed, at) in [(1, 0), (2, 3), (3, 7)] {
        map(b, &r, at * page_bytes, b.create(page_bytes).unwrap(), page_bytes);
        for part in 0..4 {
            write(b, &r, at * page_bytes + part * quarter, &random(quarter, seed * 4 + part));
        }
    }
    for (seed, at) in [(1, 0), (2, 3), (3, 7)] {
        for part in 0..4 {
            let got = read(b, &r, at * page_bytes + part * quarter, quarter);
            assert!(got == random(quarter, seed * 4 + part), "page {at}, part {part}");
        }
    }
    // A read across two pages that lie side by side.
    map(b, &r, page_bytes, b.create(page_bytes).unwrap(), page_bytes);
    write(b, &r, page_bytes, &random(page_bytes, 9));
    let across = read(b, &r, page_bytes - 64, 128);
    assert_eq!(across[..64], random(quarter, 7)[random(quarter, 7).len() - 64..]);
    assert_eq!(across[64..], random(page_bytes, 9)[..64]);
    b.read(&r, 5 * page_bytes, &mut []).unwrap();
}

fn contents_follow_the_page<B: Backend>(b: &B, page_bytes: u64) {
    let r = reserve(b, 8, page_bytes);
    let other = reserve(b, 8, page_bytes);
    let at = |i: u64| i * page_bytes;
    let contents = random(page_bytes, 1);
    map(b, &r, at(1), b.create(page_bytes).unwrap(), page_bytes);
    write(b, &r, at(1), &contents);
    // Elsewhere and back, untouched: as a batch that is undone.
    let page = b.unmap(&r, at(1)).unwrap();
    map(b, &r, at(2), page, page_bytes);
    let page = b.unmap(&r, at(2)).unwrap();
    map(b, &r, at(1), page, page_bytes);
    assert!(read(b, &r, at(1), page_bytes) == contents, "back again");
    // Elsewhere, read there; then in another reservation.
    let page = b.unmap(&r, at(1)).unwrap();
    map(b, &r, at(5), page, page_bytes);
    assert!(read(b, &r, at(5), page_bytes) == contents, "elsewhere");
    let page = b.unmap(&r, at(5)).unwrap();
    map(b, &other, at(0), page, page_bytes);
    assert!(read(b, &other, at(0), page_bytes) == contents, "in another reservation");
    // Another page takes the place where this one's memory may linger.
    let page = b.unmap(&other, at(0)).unwrap();
    map(b, &other, at(0), b.create(page_bytes).unwrap(), page_bytes);
    write(b, &other, at(0), &random(page_bytes, 2));
    map(b, &other, at(7), page, page_bytes);
    assert!(read(b, &other, at(7), page_bytes) == contents, "displaced");
    assert!(read(b, &other, at(0), page_bytes) == random(page_bytes, 2));
    // Mapped elsewhere first, and only then is the old place taken.
    let page = b.unmap(&other, at(7)).unwrap();
    map(b, &r, at(3), page, page_bytes);
    map(b, &other, at(7), b.create(page_bytes).unwrap(), page_bytes);
    write(b, &other, at(7), &random(page_bytes, 3));
    assert!(read(b, &r, at(3), page_bytes) == contents, "displaced while mapped");
    // The reservation where its memory lingers ends.
    let page = b.unmap(&r, at(3)).unwrap();
    b.release(r).unwrap();
    map(b, &other, at(4), page, page_bytes);
    assert!(read(b, &other, at(4), page_bytes) == contents, "after its reservation ended");
    assert!(read(b, &other, at(7), page_bytes) == random(page_bytes, 3));
}

fn values_are_set_and_found<B: Backend>(b: &B, page_bytes: u64) {
    let r = reserve(b, 4, page_bytes);
    let piece = page_bytes / 16;
    for at in [0, 1, 3] {
        map(b, &r, at * page_bytes, b.create(page_bytes).unwrap(), page_bytes);
        write(b, &r, at * page_bytes, &random(page_bytes, at + 1));
    }
    for length in [1, 2, 4, 8, 16, 32, 64] {
        let long = random(length, 7 + length);
        let short = |bytes: u64| random(bytes, 3).repeat(usize::try_from(length / bytes).unwrap());
        // What the whole of it repeats, what a part of it does, and zeros; one after the other, as a request has them set.
        let values = [
            long,
            short(1),
            short(length.min(2)),
            short(length.min(4)),
            vec![0; usize::try_from(length).unwrap()],
        ];
        let places: Vec<_> =
            (0..values.len() as u64).map(|i| i % 2 * 3 * page_bytes + (3 + i) * piece).collect();
        let set = |(&at, value): (&u64, &Vec<u8>)| b.fill(&r, at..at + piece, value).unwrap();
        let tickets: Vec<_> = places.iter().zip(&values).map(set).collect();
        for ticket in tickets {
            b.wait(ticket).unwrap();
        }
        let mut asked = places.clone();
        asked.extend([page_bytes, page_bytes + piece]);
        let found = b.one_values(&r, &asked, piece, length).unwrap();
        for ((value, &at), found) in values.iter().zip(&places).zip(&found) {
            assert!(read(b, &r, at, piece) == value.repeat(usize::try_from(piece / length).unwrap()));
            assert_eq!(found.as_deref(), Some(value.as_slice()), "{length} bytes");
        }
        assert_eq!(found[values.len()..], [None, None]);
        // One byte that differs, anywhere.
        for (i, at) in (0u64..).zip(&places) {
            let odd = (i * 7919 + length * 31) % piece;
            let byte = read(b, &r, at + odd, 1)[0];
            let mut whole = read(b, &r, *at, piece);
            whole[usize::try_from(odd).unwrap()] = !byte;
            write(b, &r, *at, &whole);
        }
        assert_eq!(b.one_values(&r, &places, piece, length).unwrap(), vec![None; places.len()]);
    }
    // What lies around is as it was.
    assert!(read(b, &r, page_bytes, page_bytes) == random(page_bytes, 2));
    assert!(read(b, &r, 0, 3 * piece) == random(page_bytes, 1)[..usize::try_from(3 * piece).unwrap()]);
    assert_eq!(b.one_values(&r, &[], piece, 4).unwrap(), []);
    for value in [&[][..], &[1, 2, 3]] {
        assert!(matches!(b.fill(&r, 0..piece, value), Err(BackendError::CutsMapping { .. })));
    }
    assert!(matches!(
        b.fill(&r, 2 * page_bytes..2 * page_bytes + piece, &[0]),
        Err(BackendError::NotMapped { .. })
    ));
    assert!(matches!(b.one_values(&r, &[2 * page_bytes], piece, 4), Err(BackendError::NotMapped { .. })));
}

/// The engine's cycle, with the contents of every mapped page known at every step.
fn recycling_mixes_nothing_up<B: Backend>(b: &B, page_bytes: u64) {
    let (places, pages) = (24u64, 6usize);
    let r = reserve(b, places, page_bytes);
    let mut mapped: Vec<(u64, u64)> = Vec::new();
    let mut idle: Vec<B::Page> = (0..pages).map(|_| b.create(page_bytes).unwrap()).collect();
    for step in 0..200u64 {
        let place = (step * 7 + step / 5 * 11) % places;
        if mapped.iter().any(|m| m.0 == place) {
            continue;
        }
        if idle.is_empty() || step % 13 == 0 && !mapped.is_empty() {
            let (victim, seed) = mapped.remove(usize::try_from(step).unwrap() * 5 % mapped.len());
            assert!(
                read(b, &r, victim * page_bytes, page_bytes / 2) == random(page_bytes / 2, seed),
                "step {step}"
            );
            let page = b.unmap(&r, victim * page_bytes).unwrap();
            if step % 26 == 0 { b.destroy(page).unwrap() } else { idle.push(page) }
        }
        let page = if step % 3 == 0 && idle.len() > 1 {
            idle.remove(0)
        } else {
            idle.pop().unwrap_or_else(|| b.create(page_bytes).unwrap())
        };
        map(b, &r, place * page_bytes, page, page_bytes);
        write(b, &r, place * page_bytes, &random(page_bytes / 2, step + 100));
        mapped.push((place, step + 100));
    }
    for (place, seed) in mapped {
        assert!(read(b, &r, place * page_bytes, page_bytes / 2) == random(page_bytes / 2, seed));
    }
}

macro_rules! refused {
    ($outcome:expr, $pattern:pat) => {{
        let error = $outcome.err().expect(stringify!($outcome must be refused));
        assert!(matches!(error, $pattern), "{}: {error}", stringify!($outcome));
    }};
}

fn what_a_driver_refuses_is_refused<B: Backend>(b: &B, page_bytes: u64) {
    use BackendError as E;
    let granularity = b.caps().granularity_bytes;
    let spec = |bytes, page_bytes| ReserveSpec { bytes, page_bytes, expected_pages: 1 };
    refused!(b.reserve(spec(0, page_bytes)), E::ReserveSize { .. });
    refused!(b.reserve(spec(page_bytes + page_bytes / 2, page_bytes)), E::ReserveSize { .. });
    refused!(b.reserve(spec(1 << 47, page_bytes)), E::ReserveSize { .. });
    refused!(b.reserve(spec(1 << 20, 0)), E::Misaligned { .. });
    refused!(b.reserve(spec(3 * granularity, 3 * granularity)), E::Misaligned { .. });
    refused!(b.reserve(spec(granularity, granularity / 2)), E::Misaligned { .. });
    for bytes in [0, granularity / 2, granularity * 3, u64::MAX] {
        refused!(b.create(bytes), E::Misaligned { .. });
    }
    let r = reserve(b, 4, page_bytes);
    let mut page = b.create(page_bytes).unwrap();
    let offsets = [page_bytes / 2, 4 * page_bytes, u64::MAX - page_bytes + 1];
    for offset in offsets {
        let Refused { error, page: back } = b.map(&r, offset, page).expect_err("refused");
        assert!(matches!(error, E::Misaligned { .. } | E::OutOfRange { .. }), "{error}");
        page = back;
    }
    b.map(&r, 0, page).map_err(|refused| refused.error).unwrap();
    let second = b.create(page_bytes).unwrap();
    let Refused { error, page: second } = b.map(&r, 0, second).expect_err("mapped already");
    assert!(matches!(error, E::AlreadyMapped { offset_bytes: 0, .. }), "{error}");
    let large = b.create(page_bytes * 2).unwrap();
    refused!(b.map(&r, page_bytes * 2, large).map_err(|refused| refused.error), E::Misaligned { .. });
    refused!(b.stage(&r, 0..page_bytes), E::NoAccess { .. });
    refused!(b.read(&r, 0, &mut [0; 8]), E::NoAccess { .. });
    b.map(&r, 2 * page_bytes, second).map_err(|refused| refused.error).unwrap();
    refused!(b.set_access(&r, 0..3 * page_bytes, Access::ReadWrite), E::NotMapped { .. });
    refused!(b.stage(&r, 0..page_bytes), E::NoAccess { .. });
    refused!(b.set_access(&r, 0..page_bytes / 2, Access::ReadWrite), E::CutsMapping { .. });
    refused!(b.set_access(&r, 0..5 * page_bytes, Access::ReadWrite), E::OutOfRange { .. });
    b.set_access(&r, 0..page_bytes, Access::ReadWrite).unwrap();
    write(b, &r, 0, &random(page_bytes, 1));
    refused!(b.stage(&r, 8..8), E::CutsMapping { .. });
    refused!(b.stage(&r, page_bytes..page_bytes + 8), E::NotMapped { .. });
    refused!(b.stage(&r, page_bytes - 8..page_bytes + 8), E::NotMapped { .. });
    refused!(b.read(&r, page_bytes - 8, &mut [0; 16]), E::NotMapped { .. });
    refused!(b.read(&r, 4 * page_bytes - 8, &mut [0; 16]), E::OutOfRange { .. });
    refused!(b.read(&r, u64::MAX, &mut [0; 16]), E::OutOfRange { .. });
    refused!(b.unmap(&r, page_bytes), E::NotMapped { .. });
    refused!(b.unmap(&r, page_bytes / 2), E::CutsMapping { .. });
    refused!(b.unmap(&r, 4 * page_bytes), E::OutOfRange { .. });
    let staging = b.stage(&r, 0..page_bytes / 2).unwrap();
    refused!(b.stage(&r, page_bytes / 4..page_bytes), E::Busy { .. });
    refused!(b.read(&r, page_bytes / 4, &mut [0; 8]), E::Busy { .. });
    refused!(b.unmap(&r, 0), E::Busy { .. });
    drop(staging);
    b.set_access(&r, 0..page_bytes, Access::Read).unwrap();
    assert!(
        read(b, &r, page_bytes / 2, 64)
            == random(page_bytes, 1)[usize::try_from(page_bytes / 2).unwrap()..][..64]
    );
    refused!(b.stage(&r, 0..page_bytes), E::NoAccess { .. });
    b.unmap(&r, 0).unwrap();
    refused!(b.unmap(&r, 0), E::NotMapped { .. });
    refused!(b.release(r), E::WrongOwner { .. });
    // None of that keeps the backend from working.
    data_comes_back(b, page_bytes);
}

fn a_huge_reservation_costs_nothing<B: Backend>(b: &B, page_bytes: u64) {
    // Half of all addresses that there are: two such tests at once might not fit.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = 1 << 46;
    let r = b.reserve(ReserveSpec { bytes, page_bytes, expected_pages: 4 }).unwrap();
    for offset in [0, bytes / 2, bytes - page_bytes] {
        map(b, &r, offset, b.create(page_bytes).unwrap(), page_bytes);
        write(b, &r, offset, &random(4096, offset + 1));
    }
    for offset in [0, bytes / 2, bytes - page_bytes] {
        assert!(read(b, &r, offset, 4096) == random(4096, offset + 1));
    }
    let base = b.base_address(&r);
    assert!(base.is_multiple_of(page_bytes), "{base:x}");
    drop(r);
    b.release(b.reserve(ReserveSpec { bytes, page_bytes, expected_pages: 4 }).unwrap()).unwrap();
}

fn shared_memory_is_one<B: Backend>(b: &B, page_bytes: u64) {
    use BackendError as E;
    let (r, other) = (reserve(b, 8, page_bytes), reserve(b, 8, page_bytes));
    let at = |i: u64| i * page_bytes;
    let (contents, half) = (random(page_bytes, 1), page_bytes / 2);
    map(b, &r, at(1), b.create(page_bytes).unwrap(), page_bytes);
    write(b, &r, at(1), &contents);
    if !b.caps().shares {
        refused!(b.share(&r, at(1)), E::CannotShare { .. });
        let Refused { error, page } =
            b.replace(&r, at(1), b.create(page_bytes).unwrap()).expect_err("it shares nothing");
        assert!(matches!(error, E::CannotShare { .. }), "{error}");
        b.destroy(page).unwrap();
        return;
    }
    let read_only = |r: &B::Reservation, i: u64, page: B::Page| {
        b.map(r, at(i), page).map_err(|refused| refused.error).unwrap();
        b.set_access(r, at(i)..at(i + 1), Access::Read).unwrap();
    };
    refused!(b.share(&r, at(2)), E::NotMapped { .. });
    refused!(b.share(&r, half), E::CutsMapping { .. });
    refused!(b.share(&r, at(8)), E::OutOfRange { .. });
    let staging = b.stage(&r, at(1)..at(1) + half).unwrap();
    refused!(b.share(&r, at(1)), E::Busy { .. });
    drop(staging);
    write(b, &r, at(1), &contents);
    // In another reservation and in the same.
    read_only(&other, 4, b.share(&r, at(1)).unwrap());
    read_only(&r, 5, b.share(&other, at(4)).unwrap());
    for (r, i) in [(&r, 1), (&other, 4), (&r, 5)] {
        assert!(read(b, r, at(i), page_bytes) == contents);
    }
    // A copy in the place of one of them.
    let small = b.create(page_bytes * 2).unwrap();
    let Refused { error, page: small } = b.replace(&other, at(4), small).expect_err("another size");
    assert!(matches!(error, E::Misaligned { .. }), "{error}");
    let Refused { error, page: small } = b.replace(&other, at(3), small).expect_err("nothing is there");
    assert!(matches!(error, E::NotMapped { .. } | E::Misaligned { .. }), "{error}");
    b.destroy(small).unwrap();
    refused!(b.stage(&other, at(4)..at(5)), E::NoAccess { .. });
    let old = b.replace(&other, at(4), b.create(page_bytes).unwrap()).map_err(|r| r.error).unwrap();
    assert!(read(b, &other, at(4), page_bytes) == contents);
    b.set_access(&other, at(4)..at(5), Access::ReadWrite).unwrap();
    write(b, &other, at(4) + half, &random(half, 2));
    assert!(read(b, &other, at(4), half) == contents[..usize::try_from(half).unwrap()], "it stays as it was");
    assert!(read(b, &other, at(4) + half, half) == random(half, 2));
    assert!(read(b, &r, at(1), page_bytes) == contents && read(b, &r, at(5), page_bytes) == contents);
    // What was there is a page like any other, and may be given back while others have its memory.
    read_only(&other, 6, old);
    assert!(read(b, &other, at(6), page_bytes) == contents);
    b.destroy(b.unmap(&other, at(6)).unwrap()).unwrap();
    b.destroy(b.unmap(&r, at(1)).unwrap()).unwrap();
    assert!(read(b, &r, at(5), page_bytes) == contents, "one is left");
    // The last one has it for itself, and keeps what is not written over.
    b.set_access(&r, at(5)..at(6), Access::ReadWrite).unwrap();
    write(b, &r, at(5), &random(half, 3));
    assert!(read(b, &r, at(5) + half, half) == contents[usize::try_from(half).unwrap()..]);
    // It may move, and the reservation that it came from may end.
    let page = b.unmap(&r, at(5)).unwrap();
    map(b, &r, at(1), b.create(page_bytes).unwrap(), page_bytes);
    map(b, &r, at(5), b.create(page_bytes).unwrap(), page_bytes);
    write(b, &r, at(5), &random(page_bytes, 4));
    write(b, &r, at(1), &random(page_bytes, 5));
    map(b, &other, at(0), page, page_bytes);
    assert!(read(b, &other, at(0), half) == random(half, 3));
    read_only(&other, 1, b.share(&r, at(5)).unwrap());
    drop(r);
    assert!(read(b, &other, at(1), page_bytes) == random(page_bytes, 4));
    assert!(read(b, &other, at(0) + half, half) == contents[usize::try_from(half).unwrap()..]);
    // Pages that are recycled and copied over and over mix nothing up.
    b.destroy(b.unmap(&other, at(4)).unwrap()).unwrap();
    let r = reserve(b, 8, page_bytes);
    let mut idle = vec![b.create(page_bytes).unwrap(), b.create(page_bytes).unwrap()];
    for round in 0..40u64 {
        let (from, to) = (round % 3, 3 + round % 5);
        map(b, &r, at(from), idle.remove(0), page_bytes);
        write(b, &r, at(from), &random(page_bytes, round));
        read_only(&other, to, b.share(&r, at(from)).unwrap());
        let old = b.replace(&r, at(from), idle.remove(0)).map_err(|r| r.error).unwrap();
        b.set_access(&r, at(from)..at(from + 1), Access::ReadWrite).unwrap();
        b.destroy(old).unwrap();
        write(b, &r, at(from), &random(half, round + 100));
        assert!(read(b, &other, at(to), page_bytes) == random(page_bytes, round), "round {round}");
        assert!(read(b, &r, at(from), half) == random(half, round + 100), "round {round}");
        idle.extend([b.unmap(&other, at(to)).unwrap(), b.unmap(&r, at(from)).unwrap()]);
        if round % 4 == 0 {
            idle.swap(0, 1);
        }
        if to == 4 {
            b.destroy(idle.remove(0)).unwrap();
            idle.push(b.create(page_bytes).unwrap());
        }
    }
}

fn addresses_show_what_was_submitted<B: HostAddressable>(b: &B, page_bytes: u64) {
    let r = reserve(b, 8, page_bytes);
    map(b, &r, 5 * page_bytes, b.create(page_bytes).unwrap(), page_bytes);
    write(b, &r, 5 * page_bytes, &random(page_bytes, 1));
    let page = b.unmap(&r, 5 * page_bytes).unwrap();
    map(b, &r, 2 * page_bytes, page, page_bytes);
    write(b, &r, 2 * page_bytes, &random(page_bytes, 2));
    let address = usize::try_from(b.base_address(&r) + 2 * page_bytes).unwrap();
    let length = usize::try_from(page_bytes).unwrap();
    #[expect(unsafe_code, reason = "what HostAddressable is for")]
    // SAFETY: the page is mapped there with access, nothing is staged, and `b` is host-addressable.
    let seen =
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(address), length) };
    assert!(seen == random(page_bytes, 2));
}

macro_rules! contract {
    ($($name:ident: $backend:expr, $page_bytes:expr $(, $host:ident)?;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn data_comes_back() { super::data_comes_back(&$backend, $page_bytes); }
            #[test]
            fn contents_follow_the_page() { super::contents_follow_the_page(&$backend, $page_bytes); }
            #[test]
            fn recycling_mixes_nothing_up() { super::recycling_mixes_nothing_up(&$backend, $page_bytes); }
            #[test]
            fn what_a_driver_refuses_is_refused() { super::what_a_driver_refuses_is_refused(&$backend, $page_bytes); }
            #[test]
            fn a_huge_reservation_costs_nothing() { super::a_huge_reservation_costs_nothing(&$backend, $page_bytes); }
            #[test]
            fn values_are_set_and_found() { super::values_are_set_and_found(&$backend, $page_bytes); }
            #[test]
            fn shared_memory_is_one() { super::shared_memory_is_one(&$backend, $page_bytes); }
            $(contract!(@$host $backend, $page_bytes);)?
        }
    )*};
    (@host $backend:expr, $page_bytes:expr) => {
        #[test]
        fn addresses_show_what_was_submitted() { super::addresses_show_what_was_submitted(&$backend, $page_bytes); }
    };
}

/// The same for backends that may not be there.
macro_rules! contract_where_there_is_one {
    ($($name:ident: $backend:expr, $page_bytes:expr;)*) => {$(
        contract_where_there_is_one!(@ $name, $backend, $page_bytes,
            data_comes_back contents_follow_the_page recycling_mixes_nothing_up what_a_driver_refuses_is_refused a_huge_reservation_costs_nothing
            values_are_set_and_found shared_memory_is_one);
    )*};
    (@ $name:ident, $backend:expr, $page_bytes:expr, $($property:ident)*) => {
        mod $name {
            use super::*;
            $(
                #[test]
                fn $property() {
                    if let Some(backend) = $backend { super::$property(&backend, $page_bytes); }
                }
            )*
        }
    };
}

contract_where_there_is_one! {
    cuda_2m: backend_or_skip(), 2 << 20;
    cuda_8m: backend_or_skip(), 8 << 20;
    checked_cuda_2m: backend_or_skip().map(Checked::new), 2 << 20;
    checked_cuda_8m: backend_or_skip().map(Checked::new), 8 << 20;
    faulty_cuda_2m: backend_or_skip().map(Faulty::new), 2 << 20;
    both_around_cuda: backend_or_skip().map(|b| Checked::new(Faulty::new(b))), 4 << 20;
}

fn asynchronous() -> ModelBackend {
    ModelBackend::new(ModelConfig { asynchronous: true, polls_until_done: Some(3), ..ModelConfig::default() })
}

fn demand_zero() -> HostBackend {
    moving(HostMoves::Nothing)
}

fn moving(moves: HostMoves) -> HostBackend {
    HostBackend::with_config(HostConfig { moves, ..HostConfig::default() })
}

fn shareable() -> HostBackend {
    HostBackend::shareable()
}

contract! {
    model: ModelBackend::default(), 4096;
    model_large_pages: ModelBackend::new(ModelConfig { granularity_bytes: 2 << 20, ..ModelConfig::default() }), 2 << 20;
    model_asynchronous: asynchronous(), 64 << 10;
    checked_model: Checked::new(ModelBackend::default()), 64 << 10;
    checked_model_asynchronous: Checked::new(asynchronous()), 64 << 10;
    faulty_model: Faulty::new(ModelBackend::default()), 64 << 10;
    host_4k: HostBackend::new(), 4096, host;
    host_16k: HostBackend::new(), 16 << 10, host;
    host_64k: HostBackend::new(), 64 << 10, host;
    host_1m: HostBackend::new(), 1 << 20, host;
    host_2m: HostBackend::new(), 2 << 20, host;
    host_8m: HostBackend::new(), 8 << 20, host;
    host_1m_moved_pages: moving(HostMoves::Pages), 1 << 20, host;
    host_4k_moved_mappings: moving(HostMoves::Mappings), 4096, host;
    host_64k_moved_mappings: moving(HostMoves::Mappings), 64 << 10, host;
    host_2m_moved_mappings: moving(HostMoves::Mappings), 2 << 20, host;
    host_4k_demand_zero: demand_zero(), 4096, host;
    host_2m_demand_zero: demand_zero(), 2 << 20, host;
    checked_host_64k_moved_mappings: Checked::new(moving(HostMoves::Mappings)), 64 << 10, host;
    checked_host_4k_demand_zero: Checked::new(demand_zero()), 4096, host;
    checked_host_4k: Checked::new(HostBackend::new()), 4096, host;
    checked_host_64k: Checked::new(HostBackend::new()), 64 << 10, host;
    checked_host_2m: Checked::new(HostBackend::new()), 2 << 20, host;
    faulty_host: Faulty::new(HostBackend::new()), 64 << 10, host;
    model_that_shares_nothing: ModelBackend::new(ModelConfig { shares: false, ..ModelConfig::default() }), 4096;
    shareable_host_4k: shareable(), 4096, host;
    shareable_host_64k: shareable(), 64 << 10, host;
    shareable_host_2m: shareable(), 2 << 20, host;
    checked_shareable_host_4k: Checked::new(shareable()), 4096, host;
    checked_shareable_host_2m: Checked::new(Faulty::new(shareable())), 2 << 20, host;
    both_around_host: Checked::new(Faulty::new(HostBackend::new())), 16 << 10, host;
}
