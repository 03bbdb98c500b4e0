//! The low-level layer keeps what it promises, on the host and on a CUDA device: every argument check, one memory at many addresses, access, no holes, records that are
//! true after any sequence of calls, buffers that grow in place, and nothing left behind.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use common::cuda::{alone, open_or_skip};
use proptest::prelude::*;
use vastgrid::BackendError;
use vastgrid::cuda::Device;
use vastgrid::vmm::{Access, AddressRange, GrowableBuffer, MappingRecord, PhysicalMemory, Space};

/// Runs each test for the host, and for a CUDA device where there is one.
macro_rules! for_each_space {
    ($($test:ident),+ $(,)?) => {
        mod host {
            $(#[test]
            fn $test() {
                super::$test(&super::Space::host());
            })+
        }

        mod cuda {
            $(#[test]
            fn $test() {
                let Some(device) = super::open_or_skip(0) else { return };
                let _alone = super::alone();
                super::$test(&super::Space::cuda(&device).unwrap());
            })+
        }
    };
}

for_each_space!(
    sizes_and_alignments_are_checked_before_anything_is_made,
    every_wrong_offset_is_refused_and_changes_nothing,
    ranges_know_their_addresses,
    one_memory_shows_the_same_bytes_at_every_address,
    access_is_for_exactly_the_range_that_was_named,
    memory_outlives_its_owner_while_it_is_mapped,
    memory_keeps_its_contents_from_address_to_address,
    copies_cross_mappings,
    copies_of_one_memory_are_ordered_whatever_the_address,
    alignments_are_kept,
    records_are_true_after_any_sequence_of_calls,
    buffers_grow_and_shrink_in_place,
    buffers_say_when_they_are_full,
    a_buffer_takes_few_pieces,
);

fn granule(space: &Space) -> u64 {
    space.granularity_bytes()
}

/// A range of so many granules.
fn reserve(space: &Space, granules: u64) -> AddressRange {
    space.reserve(granules * granule(space), 1).unwrap()
}

/// Memory of so many granules.
fn create(space: &Space, granules: u64) -> PhysicalMemory {
    space.create(granules * granule(space)).unwrap()
}

/// Maps at a granule, readable and writable.
fn map(range: &mut AddressRange, at: u64, memory: &PhysicalMemory) {
    let offset = at * granule(range.space());
    range.map(offset, memory).unwrap();
    range.set_access(offset..offset + memory.bytes(), Access::ReadWrite, &[]).unwrap();
}

fn read(range: &AddressRange, offset: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0xEE; bytes];
    range.read(offset, &mut out).unwrap();
    out
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

macro_rules! refused {
    ($call:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $call.map(|_| ()).unwrap_err();
        assert!(matches!(error, $pattern $(if $guard)?), "{error:?}");
        assert!(!error.to_string().is_empty());
    }};
}

fn sizes_and_alignments_are_checked_before_anything_is_made(space: &Space) {
    let g = granule(space);
    assert!(g.is_power_of_two() && space.recommended_granularity_bytes().is_multiple_of(g));
    refused!(space.reserve(0, g), BackendError::ZeroSize { call: "reserve" });
    refused!(space.reserve(g, 0), BackendError::Alignment { align_bytes: 0, .. });
    refused!(space.reserve(g, 3), BackendError::Alignment { align_bytes: 3, .. });
    refused!(space.reserve(g, g + g / 2), BackendError::Alignment { .. });
    refused!(space.reserve(g + 1, g), BackendError::Misaligned { call: "reserve", .. });
    refused!(space.reserve(g / 2, g), BackendError::Misaligned { .. });
    refused!(space.reserve((1 << 46) + g, g), BackendError::ReserveSize { max_bytes, .. } if max_bytes == 1 << 46);
    refused!(space.reserve(u64::MAX - u64::MAX % g, g), BackendError::ReserveSize { .. });
    refused!(space.create(0), BackendError::ZeroSize { call: "create" });
    refused!(space.create(g - 1), BackendError::Misaligned { call: "create", bytes, granularity_bytes, .. } if (bytes, granularity_bytes) == (g - 1, g));
    refused!(space.create(u64::MAX), BackendError::Misaligned { .. });
    // No machine has this much.
    refused!(space.create(1 << 50), BackendError::OutOfMemory { bytes, .. } if bytes == 1 << 50);
}

fn every_wrong_offset_is_refused_and_changes_nothing(space: &Space) {
    let g = granule(space);
    let mut range = reserve(space, 8);
    let (one, two) = (create(space, 1), create(space, 2));
    map(&mut range, 2, &two);
    map(&mut range, 4, &one);
    let before = range.mappings();

    refused!(range.map(1, &one), BackendError::Misaligned { call: "map", offset_bytes: 1, .. });
    refused!(range.map(8 * g, &one), BackendError::OutOfRange { call: "map", .. });
    refused!(range.map(7 * g, &two), BackendError::OutOfRange { .. });
    refused!(range.map(u64::MAX - g + 1, &two), BackendError::OutOfRange { .. });
    refused!(range.map(2 * g, &one), BackendError::AlreadyMapped { offset_bytes, .. } if offset_bytes == 2 * g);
    refused!(range.map(3 * g, &one), BackendError::AlreadyMapped { .. });
    refused!(range.map(g, &two), BackendError::AlreadyMapped { offset_bytes, .. } if offset_bytes == 2 * g);

    refused!(range.unmap(2 * g, 0), BackendError::ZeroSize { call: "unmap" });
    refused!(range.unmap(2 * g + 1, g), BackendError::Misaligned { .. });
    refused!(range.unmap(2 * g, 1), BackendError::Misaligned { .. });
    refused!(range.unmap(0, g), BackendError::NotMapped { offset_bytes: 0, .. });
    refused!(range.unmap(2 * g, g), BackendError::CutsMapping { call: "unmap", .. });
    refused!(range.unmap(3 * g, 2 * g), BackendError::CutsMapping { .. });
    refused!(range.unmap(2 * g, 4 * g), BackendError::NotMapped { offset_bytes, .. } if offset_bytes == 5 * g);
    refused!(range.unmap(7 * g, 2 * g), BackendError::OutOfRange { .. });
    refused!(range.unmap(2 * g, u64::MAX - g + 1), BackendError::OutOfRange { .. });

    let mut set = |from: u64, to: u64| range.set_access(Range { start: from, end: to }, Access::Read, &[]);
    refused!(set(2 * g, 2 * g), BackendError::ZeroSize { call: "set_access" });
    refused!(set(4 * g, 2 * g), BackendError::ZeroSize { .. });
    refused!(set(2 * g + 1, 4 * g), BackendError::Misaligned { .. });
    refused!(set(2 * g, 6 * g), BackendError::NotMapped { offset_bytes, .. } if offset_bytes == 5 * g);
    refused!(set(0, 8 * g), BackendError::NotMapped { offset_bytes: 0, .. });
    refused!(set(2 * g, 3 * g), BackendError::CutsMapping { .. });
    refused!(set(3 * g, 5 * g), BackendError::CutsMapping { .. });
    refused!(set(4 * g, 9 * g), BackendError::OutOfRange { .. });

    let mut byte = [0];
    refused!(range.read(8 * g, &mut byte), BackendError::OutOfRange { call: "read", .. });
    refused!(range.read(u64::MAX, &mut byte), BackendError::OutOfRange { .. });
    refused!(range.read(0, &mut byte), BackendError::NotMapped { .. });
    refused!(range.write(5 * g - 1, &[1, 2]), BackendError::NotMapped { offset_bytes, .. } if offset_bytes == 5 * g);
    assert_eq!(range.mappings(), before);
}

fn ranges_know_their_addresses(space: &Space) {
    let g = granule(space);
    let (range, other) = (reserve(space, 4), reserve(space, 4));
    let (base, end) = (range.base(), range.end());
    assert_eq!((end - base, range.bytes(), base % g), (4 * g, 4 * g, 0));
    assert!(range.contains(base) && range.contains(end - 1));
    assert!(
        !range.contains(end) && !range.contains(base - 1) && !range.contains(0) && !range.contains(u64::MAX)
    );
    assert!(!range.contains(other.base()) && !other.contains(base));
    assert!(range.to_string().contains(&format!("{base:#x}")), "{range}");
    assert_eq!(range.space().device(), space.device());
    assert_eq!(range.as_ptr().is_some(), space.device().is_none());
    let memory = create(space, 2);
    assert_eq!((memory.bytes(), memory.device()), (2 * g, space.device()));
    assert!(memory.to_string().contains(&memory.id().to_string()), "{memory}");
    assert_ne!(memory.id(), create(space, 2).id());
}

fn one_memory_shows_the_same_bytes_at_every_address(space: &Space) {
    let g = granule(space);
    let memory = create(space, 1);
    let (mut range, mut elsewhere) = (reserve(space, 8), reserve(space, 2));
    map(&mut range, 1, &memory);
    map(&mut range, 6, &memory);
    map(&mut elsewhere, 1, &memory);
    let (a, b) = (noise(1, 1000), noise(2, 1000));
    range.write(g, &a).unwrap();
    assert_eq!(read(&range, 6 * g, 1000), a);
    assert_eq!(read(&elsewhere, g, 1000), a);
    elsewhere.write(g + 500, &b).unwrap();
    assert_eq!(read(&range, g + 500, 1000), b);
    assert_eq!(read(&range, 6 * g, 500), a[..500]);
    range.unmap(g, g).unwrap();
    assert_eq!(read(&range, 6 * g + 500, 1000), b);
}

fn access_is_for_exactly_the_range_that_was_named(space: &Space) {
    let g = granule(space);
    let mut range = reserve(space, 6);
    let pieces: Vec<_> = (0..4).map(|_| create(space, 1)).collect();
    for (at, memory) in (1..).zip(&pieces) {
        range.map(at * g, memory).unwrap();
    }
    refused!(range.read(g, &mut [0]), BackendError::NoAccess { offset_bytes, .. } if offset_bytes == g);
    range.set_access(g..5 * g, Access::ReadWrite, &[]).unwrap();
    range.write(g, &noise(3, 100)).unwrap();
    range.set_access(2 * g..4 * g, Access::Read, &[]).unwrap();
    range.set_access(3 * g..4 * g, Access::None, &[]).unwrap();
    let access: Vec<_> = range.mappings().iter().map(|r| r.access).collect();
    assert_eq!(access, [Access::ReadWrite, Access::Read, Access::None, Access::ReadWrite]);
    range.read(2 * g, &mut [0]).unwrap();
    refused!(range.write(2 * g, &[0]), BackendError::NoAccess { call: "write", .. });
    refused!(range.read(4 * g - 1, &mut [0, 0]), BackendError::NoAccess { .. });
    refused!(range.write(2 * g - 1, &[9, 9]), BackendError::NoAccess { .. });
    // Access comes back, and the contents were never gone.
    range.set_access(g..5 * g, Access::Read, &[]).unwrap();
    assert_eq!(read(&range, g, 100), noise(3, 100));
    // Mapping again starts without access.
    range.unmap(g, g).unwrap();
    range.map(g, &pieces[0]).unwrap();
    refused!(range.read(g, &mut [0]), BackendError::NoAccess { .. });
}

fn memory_outlives_its_owner_while_it_is_mapped(space: &Space) {
    let mut range = reserve(space, 2);
    let memory = create(space, 1);
    map(&mut range, 1, &memory);
    let g = granule(space);
    range.write(g, &noise(4, 100)).unwrap();
    drop(memory);
    assert_eq!(read(&range, g, 100), noise(4, 100));
}

fn memory_keeps_its_contents_from_address_to_address(space: &Space) {
    let g = granule(space);
    let mut range = reserve(space, 9);
    let memory = create(space, 2);
    let contents = noise(5, usize::try_from(2 * g).unwrap());
    map(&mut range, 0, &memory);
    range.write(0, &contents).unwrap();
    for at in [3, 7, 2, 5] {
        let from = range.mappings()[0].offset_bytes;
        range.unmap(from, 2 * g).unwrap();
        assert!(range.mappings().is_empty());
        map(&mut range, at, &memory);
        assert_eq!(read(&range, at * g, contents.len()), contents);
    }
}

fn copies_cross_mappings(space: &Space) {
    let g = granule(space);
    let mut range = reserve(space, 8);
    let parts: Vec<_> = [2, 1, 3].into_iter().map(|granules| create(space, granules)).collect();
    for (at, memory) in [1, 3, 4].into_iter().zip(&parts) {
        map(&mut range, at, memory);
    }
    let contents = noise(6, usize::try_from(6 * g - 20).unwrap());
    range.write(g + 10, &contents).unwrap();
    assert_eq!(read(&range, g + 10, contents.len()), contents);
    range.read(8 * g, &mut []).unwrap();
    range.write(0, &[]).unwrap();
}

fn copies_of_one_memory_are_ordered_whatever_the_address(space: &Space) {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let granules = ((1 << 20) / granule(space)).max(1);
    let memory = shared(create(space, granules));
    let (mut here, mut there) = (shared(reserve(space, granules)), shared(reserve(space, granules)));
    map(&mut here, 0, &memory);
    map(&mut there, 0, &memory);
    let bytes = 1 << 20;
    here.write(0, &vec![0; bytes]).unwrap();
    let rounds: u32 = 300;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                here.write(0, &vec![round.to_le_bytes()[0]; bytes]).unwrap();
            }
        });
        for _ in 0..rounds {
            let seen = read(&there, 0, bytes);
            assert!(seen.iter().all(|byte| *byte == seen[0]), "half of one write, half of another");
        }
    });
}

fn alignments_are_kept(space: &Space) {
    let g = granule(space);
    for shift in 0..40 {
        let range = space.reserve(g, 1 << shift).unwrap();
        assert_eq!(range.base() % (1 << shift), 0, "{range}");
        assert_eq!((range.base() % g, range.bytes()), (0, g));
    }
    // More than there are addresses.
    let _ = space.reserve(g, 1 << 63).unwrap_err();
}

/// What a user may ask of a range, in granules, right or wrong.
#[derive(Clone, Debug)]
enum Op {
    Map { at: u64, memory: usize },
    Unmap { at: u64, granules: u64 },
    SetAccess { at: u64, granules: u64, access: Access },
    Write { at: u64, granules: u64, seed: u64 },
    Read { at: u64, granules: u64 },
}

const PLACES: u64 = 12;
const SIZES: [u64; 4] = [1, 1, 2, 3];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (at, granules) = (|| 0..PLACES + 1, || 0..5u64);
    let access = prop_oneof![1 => Just(Access::None), 1 => Just(Access::Read), 4 => Just(Access::ReadWrite)];
    let op = prop_oneof![
        4 => (at(), 0..SIZES.len()).prop_map(|(at, memory)| Op::Map { at, memory }),
        2 => (at(), granules()).prop_map(|(at, granules)| Op::Unmap { at, granules }),
        4 => (at(), granules(), access).prop_map(|(at, granules, access)| Op::SetAccess { at, granules, access }),
        2 => (at(), granules(), any::<u64>()).prop_map(|(at, granules, seed)| Op::Write { at, granules, seed }),
        2 => (at(), granules()).prop_map(|(at, granules)| Op::Read { at, granules }),
    ];
    prop::collection::vec(op, 1..60)
}

/// What is where, granule by granule: the naive way.
#[derive(Debug, Default)]
struct Naive {
    /// Granule of the range: memory, granule in it, access.
    places: BTreeMap<u64, (usize, u64, Access)>,
    /// Memory and granule in it: a byte that all of it holds.
    contents: BTreeMap<(usize, u64), u8>,
}

impl Naive {
    fn all(&self, at: u64, granules: u64, holds: impl Fn(Access) -> bool) -> bool {
        (at..at + granules).all(|p| self.places.get(&p).is_some_and(|(.., access)| holds(*access)))
    }

    /// Whether these granules are whole mappings, and some.
    fn whole(&self, at: u64, granules: u64) -> bool {
        let last = |p: u64| self.places.get(&p).is_some_and(|(memory, part, _)| part + 1 == SIZES[*memory]);
        granules > 0 && self.all(at, granules, |_| true) && self.places[&at].1 == 0 && last(at + granules - 1)
    }

    fn records(&self, memories: &[PhysicalMemory], g: u64) -> Vec<(u64, u64, String, Access)> {
        let firsts = self.places.iter().filter(|(_, (_, part, _))| *part == 0);
        let record = |(at, (memory, _, access)): (&u64, &(usize, u64, Access))| {
            (at * g, SIZES[*memory] * g, memories[*memory].id().to_string(), *access)
        };
        firsts.map(record).collect()
    }
}

fn run_ops(space: &Space, ops: &[Op]) {
    let g = granule(space);
    let mut range = reserve(space, PLACES);
    let memories: Vec<_> = SIZES.iter().map(|granules| create(space, *granules)).collect();
    let mut naive = Naive::default();
    for op in ops {
        match *op {
            Op::Map { at, memory } => {
                let places = at..at + SIZES[memory];
                let fits = places.end <= PLACES && places.clone().all(|p| !naive.places.contains_key(&p));
                assert_eq!(range.map(at * g, &memories[memory]).is_ok(), fits, "{op:?}");
                if fits {
                    naive.places.extend((0..).zip(places).map(|(part, p)| (p, (memory, part, Access::None))));
                }
            }
            Op::Unmap { at, granules } => {
                let whole = naive.whole(at, granules);
                assert_eq!(range.unmap(at * g, granules * g).is_ok(), whole, "{op:?}");
                if whole {
                    naive.places.retain(|p, _| !(at..at + granules).contains(p));
                }
            }
            Op::SetAccess { at, granules, access } => {
                let whole = naive.whole(at, granules);
                let set = range.set_access(at * g..(at + granules) * g, access, &[]);
                assert_eq!(set.is_ok(), whole, "{op:?}");
                if whole {
                    naive.places.range_mut(at..at + granules).for_each(|(_, place)| place.2 = access);
                }
            }
            Op::Write { at, granules, seed } => {
                let allowed = naive.all(at, granules, |access| access == Access::ReadWrite);
                let value = |p: u64| seed.wrapping_mul(2 * p + 1).to_be_bytes()[1];
                let bytes: Vec<u8> = (at..at + granules)
                    .flat_map(|p| std::iter::repeat_n(value(p), usize::try_from(g).unwrap()))
                    .collect();
                let inside = at + granules <= PLACES;
                assert_eq!(range.write(at * g, &bytes).is_ok(), allowed && inside, "{op:?}");
                if allowed && inside {
                    for p in at..at + granules {
                        let (memory, part, _) = naive.places[&p];
                        naive.contents.insert((memory, part), value(p));
                    }
                }
            }
            Op::Read { at, granules } => {
                let allowed =
                    naive.all(at, granules, |access| access != Access::None) && at + granules <= PLACES;
                let mut out = vec![0; usize::try_from(granules * g).unwrap()];
                assert_eq!(range.read(at * g, &mut out).is_ok(), allowed, "{op:?}");
                if allowed {
                    for (p, bytes) in (at..).zip(out.chunks(usize::try_from(g).unwrap())) {
                        let (memory, part, _) = naive.places[&p];
                        if let Some(value) = naive.contents.get(&(memory, part)) {
                            assert!(bytes.iter().all(|byte| byte == value), "{op:?}: granule {p}");
                        }
                    }
                }
            }
        }
        let seen = |r: MappingRecord| (r.offset_bytes, r.bytes, r.physical.to_string(), r.access);
        let records: Vec<_> = range.mappings().into_iter().map(seen).collect();
        assert_eq!(records, naive.records(&memories, g), "{op:?}");
    }
}

fn records_are_true_after_any_sequence_of_calls(space: &Space) {
    let cases = if space.device().is_some() { 24 } else { 200 };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(ops in ops())| run_ops(space, &ops));
}

fn buffers_grow_and_shrink_in_place(space: &Space) {
    let mut buffer = GrowableBuffer::new(space, 1 << 36).unwrap();
    let base = buffer.base();
    let mut model: Vec<u8> = Vec::new();
    assert!(buffer.is_empty() && buffer.capacity_bytes() == 0 && buffer.max_bytes() == 1 << 36);
    for step in 0..60_u64 {
        let random = noise(step, 8);
        let size = usize::from(random[0]) * usize::from(random[1]) * 20;
        if random[2] < 60 {
            let len = model.len() / 2 + usize::from(random[3]);
            let len = len.min(model.len());
            buffer.resize(len as u64).unwrap();
            model.truncate(len);
        } else if random[2] < 90 {
            let old = model.len();
            buffer.resize((old + size) as u64).unwrap();
            let more = noise(step + 1000, size);
            buffer.write(old as u64, &more).unwrap();
            model.extend(more);
        } else {
            let more = noise(step + 2000, size);
            buffer.append(&more).unwrap();
            model.extend(more);
        }
        let mut out = vec![0; model.len()];
        buffer.read(0, &mut out).unwrap();
        assert!(out == model, "step {step}");
        assert_eq!((buffer.base(), buffer.len_bytes()), (base, model.len() as u64));
        assert!(buffer.capacity_bytes() >= buffer.len_bytes());
        let mapped: u64 = buffer.range().mappings().iter().map(|r| r.bytes).sum();
        assert_eq!(mapped, buffer.capacity_bytes());
    }
    buffer.resize(0).unwrap();
    assert!(buffer.range().mappings().is_empty() && buffer.capacity_bytes() == 0);
    buffer.append(b"again").unwrap();
    assert_eq!(buffer.base(), base);
}

fn buffers_say_when_they_are_full(space: &Space) {
    let g = granule(space);
    let max = 3 * g + 5;
    let mut buffer = GrowableBuffer::new(space, max).unwrap();
    let contents = noise(8, usize::try_from(max).unwrap());
    buffer.append(&contents).unwrap();
    refused!(buffer.append(&[1]), BackendError::OutOfRange { call: "append", reserved_bytes, .. } if reserved_bytes == max);
    refused!(buffer.resize(max + 1), BackendError::OutOfRange { call: "resize", .. });
    refused!(buffer.resize(u64::MAX), BackendError::OutOfRange { .. });
    refused!(buffer.read(max, &mut [0]), BackendError::OutOfRange { .. });
    refused!(buffer.write(u64::MAX, &[0]), BackendError::OutOfRange { .. });
    let mut out = vec![0; contents.len()];
    buffer.read(0, &mut out).unwrap();
    assert!(out == contents && buffer.len_bytes() == max);
    refused!(GrowableBuffer::new(space, 0), BackendError::ZeroSize { .. });
    refused!(GrowableBuffer::new(space, u64::MAX), BackendError::ReserveSize { .. });
}

fn a_buffer_takes_few_pieces(space: &Space) {
    let mut buffer = GrowableBuffer::new(space, 1 << 36).unwrap();
    let step = space.recommended_granularity_bytes();
    for granules in 1..=200 {
        buffer.resize(granules * step).unwrap();
        assert!(buffer.capacity_bytes() <= granules * step * 9 / 8 + step, "{buffer}");
    }
    assert!(buffer.range().mappings().len() < 40, "{}", buffer.range().mappings().len());
}

#[test]
fn a_device_gets_all_its_memory_back() {
    let Some(device) = open_or_skip(0) else { return };
    let _alone = alone();
    let space = Space::cuda(&device).unwrap();
    let round = || {
        let mut range = reserve(&space, 64);
        let memories: Vec<_> = (0..16).map(|_| create(&space, 2)).collect();
        for (at, memory) in (0..).zip(&memories) {
            map(&mut range, at * 4, memory);
        }
        map(&mut range, 2, &memories[5]);
        refused!(range.map(0, &memories[0]), BackendError::AlreadyMapped { .. });
        range.unmap(4 * granule(&space), 2 * granule(&space)).unwrap();
        drop(memories);
        let mut buffer = GrowableBuffer::new(&space, 1 << 36).unwrap();
        buffer.resize(100 << 20).unwrap();
    };
    // The first round lets the driver set up what it keeps.
    round();
    let (before, _) = device.memory().unwrap();
    for _ in 0..20 {
        round();
    }
    assert_eq!(device.memory().unwrap().0, before);
}

#[test]
fn numbers_that_no_device_has_are_refused() {
    for ordinal in [-1, i32::MIN, i32::MAX] {
        let error = Device::open(ordinal).unwrap_err();
        let absent = matches!(error, BackendError::NoDriver { .. });
        assert!(absent || matches!(error, BackendError::NoDevice { .. }), "{error:?}");
    }
}

#[test]
fn host_and_device_memory_do_not_mix() {
    let Some(device) = open_or_skip(0) else { return };
    let _alone = alone();
    let (host, cuda) = (Space::host(), Space::cuda(&device).unwrap());
    let bytes = granule(&cuda);
    let (of_host, of_cuda) = (host.create(bytes).unwrap(), cuda.create(bytes).unwrap());
    refused!(host.reserve(bytes, 1).unwrap().map(0, &of_cuda), BackendError::WrongOwner { call: "map", .. });
    refused!(cuda.reserve(bytes, 1).unwrap().map(0, &of_host), BackendError::WrongOwner { call: "map", .. });
    // To name the range's own device says the same as to name none.
    let mut of_addresses = host.reserve(bytes, 1).unwrap();
    map(&mut of_addresses, 0, &of_host);
    refused!(
        of_addresses.set_access(0..bytes, Access::Read, &[&device]),
        BackendError::WrongOwner { call: "set_access", .. }
    );
    let mut range = reserve(&cuda, 1);
    range.map(0, &of_cuda).unwrap();
    range.set_access(0..bytes, Access::ReadWrite, &[&device, &device]).unwrap();
    range.write(0, &[1, 2]).unwrap();
    let records = range.mappings();
    assert_eq!(
        (records[0].access, records[0].device, records[0].peers.len()),
        (Access::ReadWrite, Some(0), 0)
    );
}

#[test]
fn memory_of_two_devices_lies_in_one_range() {
    let (Some(a), Some(b)) = (open_or_skip(0), open_or_skip(1)) else { return };
    let _alone = alone();
    let (space, other) = (Space::cuda(&a).unwrap(), Space::cuda(&b).unwrap());
    let g = granule(&space).max(granule(&other));
    let mut range = space.reserve(4 * g, g).unwrap();
    let (near, far) = (space.create(g).unwrap(), other.create(g).unwrap());
    range.map(0, &near).unwrap();
    range.map(g, &far).unwrap();
    let set = range.set_access(0..2 * g, Access::ReadWrite, &[&a, &b]);
    if let Err(error @ BackendError::DeviceUnsupported { .. }) = set {
        assert!(range.mappings().iter().all(|r| r.access == Access::None && r.peers.is_empty()));
        eprintln!("skipped: the two CUDA devices cannot reach each other ({error})");
        return;
    }
    set.unwrap();
    let contents = noise(9, usize::try_from(2 * g - 100).unwrap());
    range.write(50, &contents).unwrap();
    assert_eq!(read(&range, 50, contents.len()), contents);
    let records = range.mappings();
    assert_eq!([records[0].device, records[1].device], [Some(0), Some(1)]);
    assert!(records.iter().all(|r| r.access == Access::ReadWrite && r.peers == [(1, Access::ReadWrite)]));

    // The same memory in a range of the other device, which sees what was written here.
    let mut theirs = other.reserve(2 * g, g).unwrap();
    map(&mut theirs, 0, &far);
    assert_eq!(read(&theirs, 0, 1000), contents[usize::try_from(g - 50).unwrap()..][..1000]);

    // Whoever is not named keeps what they may do.
    range.set_access(0..2 * g, Access::Read, &[&b]).unwrap();
    range.write(0, &[7]).unwrap();
    assert!(range.mappings().iter().all(|r| r.access == Access::ReadWrite && r.peers == [(1, Access::Read)]));
    range.set_access(g..2 * g, Access::None, &[]).unwrap();
    refused!(range.read(g, &mut [0]), BackendError::NoAccess { .. });
    assert_eq!(read(&theirs, 0, 1000), contents[usize::try_from(g - 50).unwrap()..][..1000]);
}
