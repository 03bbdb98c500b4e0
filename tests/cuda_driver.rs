//! What a real device does when it is pushed: memory that runs out, code that is refused, things dropped in any order while copies are on their way, a context that dies.
//! Without a device every test says so and ends.

mod common;

use std::sync::Arc;

use common::Random;
use common::cuda::{alone, beside, device_or_skip, small_backend};
use vastgrid::backend::{Access, Backend, ReserveSpec, Staging};
use vastgrid::cuda::{
    Arg, CudaConfig, CudaReservation, CudaStaging, CudaTicket, Device, DeviceBuffer, Event, Module,
    PinnedBuffer, Stream,
};
use vastgrid::{BackendError, CudaBackend, Prepared};

const MIB: u64 = 1 << 20;

/// Stores a number at an address.
const STORE: &str = "
.version 6.3
.target sm_75
.address_size 64
.visible .entry touch(.param .u64 at, .param .u32 value)
{
    .reg .b64 %a;
    .reg .b64 %g;
    .reg .b32 %v;
    ld.param.u64 %a, [at];
    ld.param.u32 %v, [value];
    cvta.to.global.u64 %g, %a;
    st.global.u32 [%g], %v;
    ret;
}
";

/// Bytes that a seed stands for.
fn random(bytes: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(usize::try_from(bytes).unwrap() + 8);
    while (out.len() as u64) < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(usize::try_from(bytes).unwrap());
    out
}

/// A reservation with `pages` mapped pages of `page_bytes`, ready to be written.
fn mapped(b: &CudaBackend, pages: u64, page_bytes: u64) -> CudaReservation {
    let r = b.reserve(ReserveSpec { bytes: pages * page_bytes, page_bytes, expected_pages: pages }).unwrap();
    for page in 0..pages {
        b.map(&r, page * page_bytes, b.create(page_bytes).unwrap()).map_err(|refused| refused.error).unwrap();
    }
    b.set_access(&r, 0..pages * page_bytes, Access::ReadWrite).unwrap();
    r
}

fn staged(b: &CudaBackend, r: &CudaReservation, offset: u64, bytes: &[u8]) -> CudaStaging {
    let mut staging = b.stage(r, offset..offset + bytes.len() as u64).unwrap();
    staging.bytes_mut().copy_from_slice(bytes);
    staging
}

fn begin(b: &CudaBackend, r: &CudaReservation, offset: u64, bytes: &[u8]) -> CudaTicket {
    b.submit(r, staged(b, r, offset, bytes)).unwrap()
}

fn read(b: &CudaBackend, r: &CudaReservation, offset: u64, bytes: u64) -> Vec<u8> {
    let mut out = vec![0xEE; usize::try_from(bytes).unwrap()];
    b.read(r, offset, &mut out).unwrap();
    out
}

#[test]
fn there_is_no_device_of_a_number_that_nobody_has() {
    for ordinal in [-1, 4096, i32::MAX] {
        let error = Device::open(ordinal).unwrap_err();
        assert!(
            matches!(error, BackendError::NoDevice { .. } | BackendError::NoDriver { .. }),
            "{ordinal}: {error}"
        );
    }
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let devices = Device::count().unwrap();
    let error = Device::open(devices).unwrap_err();
    assert!(
        matches!(error, BackendError::NoDevice { ordinal, devices: d } if ordinal == devices && d == devices),
        "{error}"
    );
    assert!(Device::driver_version().unwrap() >= 11_000);
    let (free, total) = device.memory().unwrap();
    assert!(free <= total && total > 0 && device.multiprocessors() > 0 && !device.name().is_empty());
    assert_eq!(device.ordinal(), 0);
    assert!(device.can_access(&device.clone()).unwrap());
    println!("{device}, driver {}, {free} of {total} bytes free", Device::driver_version().unwrap());
}

#[test]
fn memory_runs_out_for_real_and_all_works_again_after() {
    let Some(device) = device_or_skip() else { return };
    let _alone = alone();
    let b = small_backend(device.clone());
    let page_bytes = b.caps().granularity_bytes;
    let r = mapped(&b, 2, page_bytes);
    b.wait(begin(&b, &r, 0, &random(page_bytes, 1))).unwrap();

    // Most of the card in large pieces, then the rest in pages.
    let (free, _) = device.memory().unwrap();
    let piece = (free / 8).next_power_of_two() / 2;
    let mut large = Vec::new();
    while let Ok(buffer) = DeviceBuffer::new(&device, piece) {
        large.push(buffer);
        assert!(large.len() < 64, "more memory than there is");
    }
    let mut pages = Vec::new();
    for bytes in [64 * MIB, page_bytes] {
        let error = loop {
            match b.create(bytes.max(page_bytes)) {
                Ok(page) => pages.push(page),
                Err(error) => break error,
            }
            assert!(pages.len() < 100_000, "more memory than there is");
        };
        assert!(
            matches!(error, BackendError::OutOfMemory { call: "cuMemCreate", bytes: b } if b == bytes.max(page_bytes)),
            "{error}"
        );
    }
    let error = DeviceBuffer::new(&device, 64 * MIB).unwrap_err();
    assert!(matches!(error, BackendError::OutOfMemory { call: "cuMemAlloc", .. }), "{error}");
    println!("full with {} buffers and {} pages", large.len(), pages.len());

    // What is there goes on working on a full card.
    assert!(read(&b, &r, 0, page_bytes) == random(page_bytes, 1));
    b.wait(begin(&b, &r, page_bytes, &random(page_bytes, 2))).unwrap();
    assert!(read(&b, &r, page_bytes, page_bytes) == random(page_bytes, 2));
    let page = b.unmap(&r, 0).unwrap();
    b.map(&r, 0, page).map_err(|refused| refused.error).unwrap();
    b.set_access(&r, 0..page_bytes, Access::ReadWrite).unwrap();
    assert!(read(&b, &r, 0, page_bytes) == random(page_bytes, 1));

    for page in pages {
        b.destroy(page).unwrap();
    }
    drop(large);
    let more = mapped(&b, 8, page_bytes);
    b.wait(begin(&b, &more, 7 * page_bytes, &random(page_bytes, 3))).unwrap();
    assert!(read(&b, &more, 7 * page_bytes, page_bytes) == random(page_bytes, 3));
}

#[test]
fn code_that_the_driver_refuses_is_an_error_with_its_reason() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let refused = |ptx: &str| match Module::load(&device, ptx) {
        Err(BackendError::Ptx { name, code, log }) => (name, code, log),
        other => panic!("{other:?}"),
    };
    let (name, _, log) = refused(".version 6.3\n.target sm_75\n.address_size 64\nthis is no code\n");
    assert!(name == "CUDA_ERROR_INVALID_PTX" && !log.is_empty(), "{name}: {log:?}");
    let (name, code, log) = refused(&STORE.replace(".version 6.3", ".version 99.9"));
    assert!(name == "CUDA_ERROR_UNSUPPORTED_PTX_VERSION" && code == 222, "{name} ({code}): {log}");
    assert_eq!(refused("a\0b").0, "CUDA_ERROR_INVALID_PTX");
    let module = Module::load(&device, STORE).unwrap();
    for name in ["nobody", "a\0b", ""] {
        let error = module.function(name).unwrap_err();
        assert!(
            matches!(&error, BackendError::Driver { call: "cuModuleGetFunction", .. }),
            "{name:?}: {error}"
        );
    }
}

#[test]
#[expect(unsafe_code, reason = "launches a kernel")]
fn kernels_run_in_the_order_of_their_stream() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let stream = Stream::new(&device).unwrap();
    let buffer = DeviceBuffer::new(&device, 4096).unwrap();
    let function = Module::load(&device, STORE).unwrap().function("touch").unwrap();
    buffer.fill(&stream, 0xAB).unwrap();
    let (before, value) = (Event::timed(&stream).unwrap(), 0x0403_0201u32);
    let args = (buffer.address() + 8, value);
    // SAFETY: the kernel takes an address and a number, and writes four bytes inside the buffer, which lives until the stream is done.
    unsafe { function.launch(&stream, [1; 3], [1; 3], 0, &[Arg::new(&args.0), Arg::new(&args.1)]) }.unwrap();
    let after = Event::timed(&stream).unwrap();
    after.wait().unwrap();
    assert!(after.is_done().unwrap() && after.elapsed_ms(&before).unwrap() >= 0.0);
    assert!(stream.record().unwrap().elapsed_ms(&before).is_err(), "an event without a time has none");
    let mut out = [0u8; 16];
    buffer.copy_to_host(&stream, &mut out).unwrap();
    assert_eq!(out, [171, 171, 171, 171, 171, 171, 171, 171, 1, 2, 3, 4, 171, 171, 171, 171]);
    // SAFETY: an empty grid runs nothing.
    let error =
        unsafe { function.launch(&stream, [0; 3], [1; 3], 0, &[Arg::new(&args.0), Arg::new(&args.1)]) };
    assert!(matches!(error, Err(BackendError::Driver { call: "cuLaunchKernel", code: 1, .. })), "{error:?}");
}

#[test]
fn buffers_take_what_fits_and_no_more() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let stream = Stream::new(&device).unwrap();
    assert!(DeviceBuffer::new(&device, 0).is_err() && PinnedBuffer::new(&device, 0).is_err());
    let buffer = DeviceBuffer::new(&device, 1000).unwrap();
    let bytes = random(1000, 5);
    buffer.copy_from_host(&stream, &bytes).unwrap();
    let mut part = vec![0; 100];
    buffer.copy_to_host_at(&stream, 900, &mut part).unwrap();
    assert_eq!(part, bytes[900..]);
    buffer.copy_from_host_at(&stream, 1000, &[]).unwrap();
    for (offset, length) in [(901, 100), (1001, 0), (u64::MAX, 2)] {
        let error = buffer.copy_from_host_at(&stream, offset, &bytes[..length]).unwrap_err();
        assert!(matches!(error, BackendError::OutOfRange { .. }), "{error}");
    }
    let mut pinned = PinnedBuffer::new(&device, 4096).unwrap();
    assert!(pinned.len() == 4096 && pinned.iter().all(|b| *b == 0) && pinned.device_address() != 0);
    pinned[..1000].copy_from_slice(&bytes);
    buffer.fill(&stream, 0).unwrap();
    buffer.copy_from_host(&stream, &pinned[..1000]).unwrap();
    let mut back = vec![0; 1000];
    buffer.copy_to_host(&stream, &mut back).unwrap();
    assert_eq!(back, bytes);
}

#[test]
#[expect(unsafe_code, reason = "takes raw handles")]
fn handles_of_others_are_used_and_left_alone() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    // SAFETY: the context is that of `device`, which lives until the process ends.
    let same = unsafe { Device::from_raw_context(device.as_raw_context()) }.unwrap();
    assert!(same.is_same(&device) && same.ordinal() == device.ordinal());
    let stream = Stream::new(&device).unwrap();
    // SAFETY: `stream` outlives it.
    let borrowed = unsafe { Stream::from_raw(&same, stream.as_raw()) };
    let buffer = DeviceBuffer::new(&same, 64).unwrap();
    buffer.copy_from_host(&borrowed, &[7; 64]).unwrap();
    borrowed.wait_event(&stream.record().unwrap()).unwrap();
    drop((borrowed, same));
    let mut out = [0; 64];
    buffer.copy_to_host(&stream, &mut out).unwrap();
    assert_eq!(out, [7; 64]);
    let b = CudaBackend::on(device, CudaConfig { copy_streams: 0, ..CudaConfig::default() }).unwrap();
    assert_eq!(b.copy_streams().count(), 1);
}

#[test]
fn a_dropped_ticket_leaves_its_copy_and_its_range_alone() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let b = small_backend(device);
    let r = mapped(&b, 2, 2 * MIB);
    for round in 0..50 {
        let bytes = random(2 * MIB, round);
        drop(begin(&b, &r, 0, &bytes));
        // Wanted at once: the copy is waited for, not refused and not overtaken.
        assert!(read(&b, &r, 0, 2 * MIB) == bytes, "round {round}");
        drop(begin(&b, &r, 0, &bytes));
        drop(begin(&b, &r, MIB, &random(MIB, round + 1000)));
        let page = b.unmap(&r, 0).unwrap();
        b.map(&r, 0, page).map_err(|refused| refused.error).unwrap();
        b.set_access(&r, 0..2 * MIB, Access::Read).unwrap();
        assert!(read(&b, &r, MIB, MIB) == random(MIB, round + 1000), "round {round}");
        b.set_access(&r, 0..2 * MIB, Access::ReadWrite).unwrap();
    }
    // A ticket that somebody has: the range is busy until it says that it is done.
    let ticket = begin(&b, &r, 0, &random(2 * MIB, 1));
    let refused = b.unmap(&r, 0).err();
    assert!(
        matches!(refused, Some(BackendError::Busy { .. }) | None),
        "in use, or done so soon: {refused:?}"
    );
    b.wait(ticket).unwrap();
}

#[test]
fn dropping_in_any_order_while_copies_are_on_their_way_harms_nothing() {
    let Some(device) = device_or_skip() else { return };
    let _alone = alone();
    for order in 0..12 {
        let b = small_backend(device.clone());
        let other = mapped(&b, 4, 2 * MIB);
        let r = mapped(&b, 8, 2 * MIB);
        let bytes = random(2 * MIB, order);
        let tickets: Vec<_> = (0..8).map(|page| begin(&b, &r, page * 2 * MIB, &bytes)).collect();
        let late = begin(&b, &other, 0, &bytes);
        let filling = b.stage(&other, 2 * MIB..4 * MIB).unwrap();
        match order % 6 {
            0 => drop((b, r, tickets, other, late, filling)),
            1 => drop((r, tickets, filling, b, late, other)),
            2 => drop((tickets, r, late, other, filling, b)),
            3 => drop((late, b, tickets, filling, other, r)),
            4 => drop((other, r, filling, late, tickets, b)),
            _ => {
                drop((tickets, r));
                b.wait(late).unwrap();
                assert!(read(&b, &other, 0, 2 * MIB) == bytes);
                drop((b, filling, other));
            }
        }
    }
}

#[test]
fn free_memory_is_after_as_it_was_before() {
    let Some(device) = device_or_skip() else { return };
    let _alone = alone();
    let cycle = |rounds: u64| {
        let b = small_backend(device.clone());
        let stream = Stream::new(&device).unwrap();
        for round in 0..rounds {
            let r = mapped(&b, 16, 2 * MIB);
            drop(begin(&b, &r, 0, &random(64 << 10, round)));
            let ticket = begin(&b, &r, 2 * MIB, &random(MIB, round));
            let spare = b.unmap(&r, 30 * MIB).unwrap();
            let buffer = DeviceBuffer::new(&device, 8 * MIB).unwrap();
            buffer.fill(&stream, 1).unwrap();
            let module = Module::load(&device, STORE).unwrap();
            if round % 2 == 0 {
                b.wait(ticket).unwrap();
                b.destroy(spare).unwrap();
            }
            drop((module, stream.record().unwrap()));
        }
    };
    // Whatever the driver takes for itself, it takes once.
    cycle(3);
    let (before, _) = device.memory().unwrap();
    cycle(60);
    let (after, _) = device.memory().unwrap();
    println!("free before {before}, after {after}");
    assert!(after.saturating_add(32 * MIB) >= before, "{} bytes are gone", before - after);
}

#[test]
fn mappings_are_left_for_pages_that_come_back_and_go_with_their_memory() {
    let Some(device) = device_or_skip() else { return };
    let _alone = alone();
    let config = CudaConfig { staging_bytes: 16 << 20, kept_mappings: 6, ..CudaConfig::default() };
    let b = CudaBackend::on(device.clone(), config).unwrap();
    let r = mapped(&b, 8, 2 * MIB);
    let other = mapped(&b, 1, 16 * MIB);
    let (before, _) = device.memory().unwrap();
    let numbers: Vec<_> = (0..8).map(|page| b.shows(&r, page * 2 * MIB)).collect();
    let move_page = |from: u64, to: u64| {
        let page = b.unmap(&r, from * 2 * MIB).unwrap();
        assert_eq!(b.page_number(&page), b.shows(&r, from * 2 * MIB), "left where it was");
        page_at(&b, &r, to, page);
    };
    // Two pages, back and forth through an address that is free.
    let held = b.unmap(&r, 7 * 2 * MIB).unwrap();
    for round in 0..20 {
        for (from, to) in [(0, 7), (7, 0)] {
            move_page(from, to);
            let bytes = random(MIB, round * 8 + from);
            b.wait(begin(&b, &r, to * 2 * MIB, &bytes)).unwrap();
            assert!(read(&b, &r, to * 2 * MIB, MIB) == bytes, "round {round}");
            assert!(b.read(&r, from * 2 * MIB, &mut [0; 8]).is_err(), "nobody reads where nothing is mapped");
        }
    }
    assert_eq!(b.shows(&r, 0), numbers[0]);
    // The address that others were mapped at meanwhile shows them; mapping the page there again really maps it.
    page_at(&b, &r, 7, held);
    assert_eq!(b.shows(&r, 14 * MIB), numbers[7]);
    let bytes = random(2 * MIB, 99);
    b.wait(begin(&b, &r, 14 * MIB, &bytes)).unwrap();
    assert!(read(&b, &r, 14 * MIB, 2 * MIB) == bytes);
    // No more than the limit, whatever goes.
    let pages: Vec<_> = (0..8).map(|page| b.unmap(&r, page * 2 * MIB).unwrap()).collect();
    assert_eq!(b.kept_mappings(), 6);
    // Access is what was asked for, also where the driver was told before.
    for (at, page) in pages.into_iter().enumerate() {
        b.map(&r, at as u64 * 2 * MIB, page).map_err(|refused| refused.error).unwrap();
        assert!(b.stage(&r, at as u64 * 2 * MIB..at as u64 * 2 * MIB + 64).is_err(), "no access yet");
    }
    b.set_access(&r, 0..16 * MIB, Access::ReadWrite).unwrap();
    assert!(read(&b, &r, 14 * MIB, 2 * MIB) == bytes, "contents stay with the page");
    // Large pages are really unmapped.
    let large = b.unmap(&other, 0).unwrap();
    assert_eq!((b.shows(&other, 0), b.kept_mappings()), (None, 0));
    b.destroy(large).unwrap();
    // Destroying or dropping a page takes what was left of it along, and its memory comes free.
    let (first, second) = (b.unmap(&r, 0).unwrap(), b.unmap(&r, 2 * MIB).unwrap());
    assert_eq!(b.kept_mappings(), 2);
    b.destroy(first).unwrap();
    drop(second);
    assert_eq!((b.kept_mappings(), b.shows(&r, 0)), (0, None));
    let (after, _) = device.memory().unwrap();
    assert!(after >= before + 18 * MIB, "{before} bytes free before, {after} after three pages went");
    // So does dropping the addresses.
    let survivor = b.unmap(&r, 4 * MIB).unwrap();
    assert_eq!(b.kept_mappings(), 1);
    drop(r);
    assert_eq!(b.kept_mappings(), 0);
    let r = b.reserve(ReserveSpec { bytes: 4 * MIB, page_bytes: 2 * MIB, expected_pages: 2 }).unwrap();
    page_at(&b, &r, 1, survivor);
    b.wait(begin(&b, &r, 2 * MIB, &bytes)).unwrap();
    assert!(read(&b, &r, 2 * MIB, 2 * MIB) == bytes);
}

fn page_at(b: &CudaBackend, r: &CudaReservation, at: u64, page: vastgrid::cuda::CudaPage) {
    b.map(r, at * 2 * MIB, page).map_err(|refused| refused.error).unwrap();
    b.set_access(r, at * 2 * MIB..(at + 1) * 2 * MIB, Access::ReadWrite).unwrap();
}

#[test]
fn sixteen_threads_share_a_small_ring_and_every_byte_arrives() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    for staging_bytes in [0, 256 << 10, 4 << 20] {
        let b = CudaBackend::on(device.clone(), CudaConfig { staging_bytes, ..CudaConfig::default() });
        let b = b.unwrap();
        let r = mapped(&b, 16, 2 * MIB);
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (b, r) = (&b, &r);
                scope.spawn(move || writes_and_reads_its_own_page(b, r, thread));
            }
        });
        assert!(b.staging_bytes() <= staging_bytes, "{} of {staging_bytes}", b.staging_bytes());
        assert!(staging_bytes == 0 || b.staging_bytes() > 0);
    }
}

/// Pieces of all sizes at all places of one page, some copied from a slice that is ready, some tickets dropped; then the page is what was written last.
fn writes_and_reads_its_own_page(b: &CudaBackend, r: &CudaReservation, thread: u64) {
    let mut dice = Random::new(thread + 1);
    let at = thread * 2 * MIB;
    let mut expected = random(2 * MIB, thread);
    b.wait(begin(b, r, at, &expected)).unwrap();
    let mut tickets: Vec<CudaTicket> = Vec::new();
    for round in 0..150 {
        let bytes = 1 << (4 + dice.below(17));
        let start = dice.below(2 * MIB / bytes) * bytes;
        let contents = random(bytes, thread << 32 | round);
        let place = at + start..at + start + bytes;
        let there = usize::try_from(start).unwrap();
        if dice.below(4) == 0 {
            // Everything that is on its way is asked for, so that ranges may overlap.
            tickets.drain(..).for_each(|ticket| b.wait(ticket).unwrap());
            let prepared: Arc<dyn Prepared> = Arc::new(contents.clone());
            b.wait(b.submit_prepared(r, place, prepared).unwrap()).unwrap();
        } else {
            tickets.drain(..).for_each(drop);
            tickets.push(begin(b, r, place.start, &contents));
            while dice.below(3) == 0 && !b.poll(&tickets[0]).unwrap() {}
        }
        expected[there..there + contents.len()].copy_from_slice(&contents);
    }
    tickets.drain(..).for_each(|ticket| b.wait(ticket).unwrap());
    assert!(read(b, r, at, 2 * MIB) == expected, "thread {thread}");
}

#[test]
fn staging_never_waits_for_who_is_filling() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    common::within_20_s(move || {
        let config = CudaConfig { staging_bytes: 4 << 20, ..CudaConfig::default() };
        let b = CudaBackend::on(device, config).unwrap();
        let r = mapped(&b, 4, 2 * MIB);
        // One thread has more in hand than the ring holds, as sources that read other arrays do.
        let held: Vec<_> = (0..8).map(|i| b.stage(&r, i * MIB..(i + 1) * MIB).unwrap()).collect();
        assert_eq!(held.iter().filter(|staging| staging.is_pinned()).count(), 4);
        let tickets: Vec<_> = held.into_iter().rev().map(|staging| b.submit(&r, staging).unwrap()).collect();
        for ticket in tickets {
            b.wait(ticket).unwrap();
        }
        // All of it came back: another size is cut from the same memory.
        let large = b.stage(&r, 0..2 * MIB).unwrap();
        assert!(large.is_pinned());
    });
}

/// Page-locked bytes that count who still has them.
#[derive(Debug)]
struct Tile(PinnedBuffer, #[expect(dead_code, reason = "counted, not read")] Arc<()>);

impl Prepared for Tile {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn prepared_bytes_are_copied_from_where_they_are_and_let_go_after() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let b = small_backend(device.clone());
    let r = mapped(&b, 4, 2 * MIB);
    let count = Arc::new(());
    for page in 0..4u64 {
        let mut pinned = PinnedBuffer::new(&device, 2 << 20).unwrap();
        pinned.copy_from_slice(&random(2 * MIB, page));
        let tile: Arc<dyn Prepared> = Arc::new(Tile(pinned, Arc::clone(&count)));
        let place = page * 2 * MIB..(page + 1) * 2 * MIB;
        for wrong in [place.start..place.end - 1, place.start..place.start, place.start + 1..place.end + 1] {
            let refused = b.submit_prepared(&r, wrong, Arc::clone(&tile));
            assert!(refused.is_err(), "{refused:?}");
        }
        let ticket = b.submit_prepared(&r, place, tile).unwrap();
        if page % 2 == 0 { b.wait(ticket).unwrap() } else { drop(ticket) }
    }
    assert_eq!(b.staging_bytes(), 0, "nothing was staged");
    for page in 0..4 {
        assert!(read(&b, &r, page * 2 * MIB, 2 * MIB) == random(2 * MIB, page), "page {page}");
    }
    assert_eq!((Arc::strong_count(&count), b.copies_in_flight()), (1, 0), "all of them were let go");
    let heap: Arc<dyn Prepared> = Arc::new(random(MIB, 9));
    b.wait(b.submit_prepared(&r, 0..MIB, heap).unwrap()).unwrap();
    assert!(read(&b, &r, 0, MIB) == random(MIB, 9));
}

#[test]
fn what_is_another_backends_is_refused() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    let (a, b) = (small_backend(device.clone()), small_backend(device));
    let r = mapped(&a, 1, 2 * MIB);
    let owner = |error: Option<BackendError>| {
        assert!(matches!(error, Some(BackendError::WrongOwner { .. })), "{error:?}");
    };
    owner(b.unmap(&r, 0).err());
    owner(b.stage(&r, 0..64).err());
    owner(b.read(&r, 0, &mut [0; 8]).err());
    owner(b.set_access(&r, 0..2 * MIB, Access::Read).err());
    let ticket = begin(&a, &r, 0, &[1; 64]);
    owner(b.poll(&ticket).err());
    owner(b.wait(ticket).err());
    owner(b.destroy(a.create(2 * MIB).unwrap()).err());
    let mine = mapped(&b, 1, 2 * MIB);
    owner(b.submit(&mine, staged(&a, &r, 0, &[2; 64])).err());
    owner(b.release(mine).err());
    owner(b.release(r).err());
}

/// Run by the test below in a process of its own: the context dies for the whole process.
const CHILD: &str = "VASTGRID_TEST_LOSES_ITS_DEVICE";

#[test]
fn a_lost_device_is_told_as_such_and_nothing_panics() {
    let Some(device) = device_or_skip() else { return };
    let _beside = beside();
    if std::env::var_os(CHILD).is_some() {
        loses_its_device(&device);
        return;
    }
    let me = std::env::current_exe().unwrap();
    let run = std::process::Command::new(me)
        .args(["--exact", "a_lost_device_is_told_as_such_and_nothing_panics", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && text.contains("lost, as it should be"), "{}: {text}", run.status);
}

#[expect(unsafe_code, reason = "launches a kernel that goes wrong")]
fn loses_its_device(device: &Device) {
    // Where mappings are left in place the kernel would find memory.
    let config = CudaConfig { staging_bytes: 16 << 20, kept_mappings: 0, ..CudaConfig::default() };
    let b = CudaBackend::on(device.clone(), config).unwrap();
    let r = mapped(&b, 2, 2 * MIB);
    let unmapped = b.unmap(&r, 2 * MIB).unwrap();
    let on_its_way = begin(&b, &r, 0, &random(MIB, 1));
    let filling = staged(&b, &r, MIB, &[1; 64]);
    let stream = Stream::new(device).unwrap();
    let function = Module::load(device, STORE).unwrap().function("touch").unwrap();
    let (at, value) = (b.base_address(&r) + 2 * MIB, 1u32);
    // SAFETY: it writes where nothing is mapped, which harms nobody but this process' context: that is the test.
    unsafe { function.launch(&stream, [1; 3], [1; 3], 0, &[Arg::new(&at), Arg::new(&value)]) }.unwrap();
    let lost = |error: Option<BackendError>, what: &str| {
        let fatal = error.as_ref().is_some_and(BackendError::is_fatal);
        assert!(fatal, "{what}: {error:?}");
    };
    lost(stream.synchronize().err(), "synchronize");
    let again = stream.synchronize().unwrap_err();
    assert!(again.to_string().contains("the device is lost: CUDA_ERROR_ILLEGAL_ADDRESS (700)"), "{again}");
    // The copy may have been made before the context died.
    println!("the copy on its way: {:?}", b.wait(on_its_way));
    lost(b.submit(&r, filling).and_then(|ticket| b.wait(ticket)).err(), "submit and wait");
    lost(b.read(&r, 0, &mut [0; 8]).err(), "read");
    lost(DeviceBuffer::new(device, 4096).err(), "cuMemAlloc");
    println!("create: {:?}", b.create(2 * MIB).map(drop));
    println!("unmap: {:?}", b.unmap(&r, 0).map(drop));
    println!("available: {:?}", b.available_bytes());
    drop((unmapped, r, stream, function, b));
    println!("lost, as it should be");
}
