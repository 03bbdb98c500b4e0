//! TIFF files written by hand: any byte order, kind, chunks and samples, at the cost of speed.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use vastgrid::source::Endian;

/// How a file is to be.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) endian: Endian,
    pub(crate) big: bool,
    pub(crate) width: u64,
    pub(crate) height: u64,
    pub(crate) pages: u64,
    pub(crate) samples: u64,
    pub(crate) planar: bool,
    /// Tiles of that size; otherwise strips of so many rows.
    pub(crate) tile: Option<[u64; 2]>,
    pub(crate) rows: u64,
    pub(crate) deflate: bool,
    pub(crate) bits: u64,
    pub(crate) format: u64,
    pub(crate) description: String,
    /// Tags besides: number, type (3, 4 or 5), values.
    pub(crate) more: Vec<(u16, u16, Vec<u64>)>,
    /// Chunks that are left out, with 0 for both numbers.
    pub(crate) missing: Option<u64>,
    /// Bytes between a page's chunks.
    pub(crate) gap: usize,
}

impl Spec {
    pub(crate) fn new(width: u64, height: u64, pages: u64) -> Self {
        Self {
            endian: Endian::Little,
            big: false,
            width,
            height,
            pages,
            samples: 1,
            planar: false,
            tile: None,
            rows: height,
            deflate: false,
            bits: 16,
            format: 1,
            description: String::new(),
            more: Vec::new(),
            missing: None,
            gap: 0,
        }
    }

    fn number(&self, number: u64, bytes: usize) -> Vec<u8> {
        match self.endian {
            Endian::Little => number.to_le_bytes()[..bytes].to_vec(),
            Endian::Big => number.to_be_bytes()[8 - bytes..].to_vec(),
        }
    }

    /// The file, where `sample(x, y, page, sample)` are the bits of a sample.
    pub(crate) fn write(&self, sample: impl Fn(u64, u64, u64, u64) -> u64) -> Vec<u8> {
        let mut file = if self.endian == Endian::Little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend(self.number(if self.big { 43 } else { 42 }, 2));
        if self.big {
            file.extend([self.number(8, 2), self.number(0, 2)].concat());
        }
        // Where the offset of the next directory goes.
        let mut link = file.len();
        file.extend(self.number(0, self.offset_bytes()));
        for page in 0..self.pages {
            let chunks = self.chunks(page, &sample, &mut file);
            let description = self.description.as_bytes();
            let entries = self.entries(&chunks, if page == 0 { description } else { b"" });
            let at = self.directory(entries, &mut file);
            let offset = self.number(at.0 as u64, self.offset_bytes());
            file[link..link + offset.len()].copy_from_slice(&offset);
            link = at.1;
        }
        file
    }

    fn offset_bytes(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    /// Appends a page's chunks; returns where each is and how long.
    fn chunks(
        &self,
        page: u64,
        sample: &impl Fn(u64, u64, u64, u64) -> u64,
        file: &mut Vec<u8>,
    ) -> Vec<(u64, u64)> {
        let [width, height] = self.tile.unwrap_or([self.width, self.rows]);
        let mut chunks = Vec::new();
        for plane in 0..if self.planar { self.samples } else { 1 } {
            for down in 0..self.height.div_ceil(height) {
                for across in 0..self.width.div_ceil(width) {
                    if self.missing.is_some_and(|every| (across + down + page).is_multiple_of(every)) {
                        chunks.push((0, 0));
                        continue;
                    }
                    let rows =
                        if self.tile.is_some() { height } else { height.min(self.height - down * height) };
                    let mut bytes = Vec::new();
                    for y in down * height..down * height + rows {
                        for x in across * width..across * width + width {
                            for s in if self.planar { plane..plane + 1 } else { 0..self.samples } {
                                let inside = x < self.width && y < self.height;
                                let bits = if inside { sample(x, y, page, s) } else { 0xeeee };
                                bytes.extend(self.number(bits, self.bits as usize / 8));
                            }
                        }
                    }
                    if self.deflate {
                        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                        encoder.write_all(&bytes).unwrap();
                        bytes = encoder.finish().unwrap();
                    }
                    chunks.push((file.len() as u64, bytes.len() as u64));
                    file.extend(bytes);
                    file.resize(file.len() + self.gap, 0xee);
                }
            }
        }
        chunks
    }

    fn entries(&self, chunks: &[(u64, u64)], description: &[u8]) -> Vec<(u16, u16, Vec<u64>)> {
        const SHORT: u16 = 3;
        const LONG: u16 = 4;
        let long = if self.big { 16 } else { LONG };
        let (offsets, bytes): (Vec<u64>, Vec<u64>) = chunks.iter().copied().unzip();
        let mut entries = vec![
            (256, LONG, vec![self.width]),
            (257, LONG, vec![self.height]),
            (258, SHORT, vec![self.bits; self.samples as usize]),
            (259, SHORT, vec![if self.deflate { 8 } else { 1 }]),
            (262, SHORT, vec![1]),
            (277, SHORT, vec![self.samples]),
            (284, SHORT, vec![if self.planar { 2 } else { 1 }]),
            (339, SHORT, vec![self.format; self.samples as usize]),
        ];
        match self.tile {
            Some([width, height]) => entries.extend([
                (322, LONG, vec![width]),
                (323, LONG, vec![height]),
                (324, long, offsets),
                (325, long, bytes),
            ]),
            None => {
                entries.extend([(273, long, offsets), (278, LONG, vec![self.rows]), (279, long, bytes)]);
            }
        }
        if !description.is_empty() {
            entries.push((270, 2, description.iter().map(|b| u64::from(*b)).chain([0]).collect()));
        }
        for extra in &self.more {
            entries.retain(|entry| entry.0 != extra.0);
            entries.push(extra.clone());
        }
        entries.sort_by_key(|entry| entry.0);
        entries
    }

    /// Appends a directory; returns where it is, and where the offset of the next one goes.
    fn directory(&self, entries: Vec<(u16, u16, Vec<u64>)>, file: &mut Vec<u8>) -> (usize, usize) {
        let mut bytes = self.number(entries.len() as u64, if self.big { 8 } else { 2 });
        for (tag, kind, values) in entries {
            let each = match kind {
                1 | 2 | 7 => 1,
                3 => 2,
                // A fraction (5) is given as its two numbers.
                4 | 5 => 4,
                16 => 8,
                other => panic!("{other}"),
            };
            let count = values.len() as u64 / if kind == 5 { 2 } else { 1 };
            let mut data: Vec<u8> = values.iter().flat_map(|v| self.number(*v, each)).collect();
            if data.len() > self.offset_bytes() {
                let at = file.len() as u64;
                file.extend(&data);
                data = self.number(at, self.offset_bytes());
            }
            data.resize(self.offset_bytes(), 0);
            bytes.extend([self.number(tag.into(), 2), self.number(kind.into(), 2)].concat());
            bytes.extend(self.number(count, self.offset_bytes()));
            bytes.extend(data);
        }
        bytes.extend(self.number(0, self.offset_bytes()));
        let at = file.len();
        file.extend(bytes);
        (at, file.len() - self.offset_bytes())
    }
}
