//! The entry points of the fuzzers, on mutations that are the same each time: seeds are small files of each format, changed by bits, cuts, repeats and numbers that tend to break readers.
//!
//! `VASTGRID_MUTATIONS=N` makes N of each seed instead of 400, from seed numbers that go on.
#![allow(clippy::cast_possible_truncation, reason = "files of a few thousand bytes")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::Random;
use common::entry::ALL;
use common::files::{fixtures, gzip};
use common::tiffs::Spec;

/// What readers have been known to stumble over, as bytes of both orders.
const NUMBERS: [u64; 9] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
const WORDS: [&str; 12] =
    ["-1", "0", "18446744073709551615", "nan", "1e999", "\n", "=", "<", "\"", "&#1114112;", "\\u", "\0"];

/// Small files and texts, each for all entry points: what is meant for another one is refused at once.
fn seeds() -> Vec<Vec<u8>> {
    let fixture = |name: &str| fs::read(fixtures().join(name)).unwrap();
    let meta = "ObjectType = Image\nNDims = 4\nCompressedData = False\nTransformMatrix = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\nOffset = 1 2 3 4\nDimSize = 5 4 3 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n";
    let stack = |spec: Spec| spec.write(|x, y, page, sample| x + y + page + sample);
    let mut nifti = fixture("nifti/pair_i16.hdr");
    nifti[344..348].copy_from_slice(b"n+1\0");
    // Of 5 x 4 x 3, with a slope.
    for (axis, size) in [5u8, 4, 3].into_iter().enumerate() {
        nifti[42 + 2 * axis] = size;
    }
    nifti[112..116].copy_from_slice(&0.5f32.to_le_bytes());
    nifti.extend([3; 4 + 120]);
    vec![
        b"NRRD0005\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nspacings: 1 1 2\nunits: \"mm\" \"mm\" \"mm\"\nencoding: raw\nkey:=a\\nb\n\n".iter().copied().chain([7; 120]).collect(),
        [b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 4 3\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (1,2,3)\nencoding: gzip\n\n".to_vec(), gzip(&[7; 60])].concat(),
        [meta.as_bytes(), &[7; 120]].concat(),
        gzip(&nifti),
        nifti,
        stack(Spec { rows: 2, samples: 2, ..Spec::new(5, 4, 2) }),
        stack(Spec { tile: Some([16, 16]), deflate: true, big: true, ..Spec::new(5, 4, 2) }),
        b"ImageJ=1.53t\nimages=6\nchannels=2\nslices=3\nframes=1\nspacing=2.5\nunit=\\u00B5m\n".to_vec(),
        br#"<?xml version="1.0"?><!-- x --><OME><Image><Pixels DimensionOrder="XYCZT" SizeX="4" SizeY="3" SizeZ="3" SizeC="2" SizeT="1" PhysicalSizeX="0.5"><Channel Name="&lt;a&#181;"/><TiffData IFD="0" PlaneCount="6"/></Pixels></Image></OME>"#.to_vec(),
    ]
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let pick = |random: &mut Random, n: usize| random.below(n.max(1) as u64) as usize;
    let at = pick(random, bytes.len() + 1);
    let last = at.min(bytes.len().saturating_sub(1));
    match random.below(7) {
        0 if !bytes.is_empty() => bytes[last] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[last] = random.below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..(at + pick(random, 24)).min(bytes.len()))),
        4 => {
            let piece = bytes[at..(at + pick(random, 48)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let (number, len) = (NUMBERS[pick(random, NUMBERS.len())], 1 << random.below(4));
            let big = random.below(2) == 1;
            for (i, byte) in bytes.iter_mut().skip(at).take(len).enumerate() {
                let ordered = if big { number.to_be_bytes()[8 - len + i] } else { number.to_le_bytes()[i] };
                *byte = ordered;
            }
        }
        _ => drop(bytes.splice(at..at, WORDS[pick(random, WORDS.len())].bytes())),
    }
}

#[test]
fn no_mutation_does_more_than_return() {
    let count = std::env::var("VASTGRID_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(400u64);
    for (number, seed) in (0u64..).zip(seeds()) {
        for round in 0..count {
            let mut random = Random::new(number << 32 | round);
            let mut bytes = seed.clone();
            // The first round is the seed itself.
            for _ in 0..if round == 0 { 0 } else { 1 + random.below(5) } {
                mutate(&mut bytes, &mut random);
            }
            for (name, entry) in ALL {
                let begun = Instant::now();
                entry(&bytes);
                let took = begun.elapsed();
                assert!(took < Duration::from_secs(20), "{name} took {took:?}: seed {number}, round {round}");
            }
        }
    }
}
