//! Owns the little that is read of the OME-XML of a TIFF file: the size and the order of its first image, its channels, and which page each plane is. Knows nothing of pages.
//!
//! Not a parser of XML: start tags and their attributes are gone through in order, which is all that this needs; whatever else there is, is passed over.
//!
//! **Source**: the OME-TIFF specification, <https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html>.

/// The most start tags that are gone through: a plane has one, and a file at most 2^20 of them.
const MOST_TAGS: usize = 1 << 22;

/// What the first image says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ome {
    pub(super) size: [u64; 3],
    pub(super) times: u64,
    pub(super) channels: u64,
    /// The axes Z, C and T as the planes go, fastest first.
    pub(super) order: [char; 3],
    /// Size of a voxel along x, y and z.
    pub(super) spacing: [Option<f64>; 3],
    /// Of x; micrometres where the file does not say.
    pub(super) unit: String,
    pub(super) time_step: Option<f64>,
    pub(super) channel: Vec<OmeChannel>,
    /// Pages and the planes that begin there.
    pub(super) runs: Vec<Run>,
    /// Whether some of its planes are in other files.
    pub(super) elsewhere: bool,
    /// How many images the file has.
    pub(super) images: usize,
}

/// A channel's name and colour.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OmeChannel {
    pub(super) name: Option<String>,
    /// Red, green, blue.
    pub(super) colour: Option<[u8; 3]>,
}

/// A run of pages, for planes that go on from (z, c, t) in the image's order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) page: u64,
    pub(super) first: [u64; 3],
    /// `None`: as many as there are.
    pub(super) pages: Option<u64>,
}

impl Ome {
    /// `None`: no OME-XML, or none whose first image says how large it is.
    pub(super) fn parse(description: &[u8]) -> Option<Self> {
        // The rest of large ones is of no interest to whoever tells whether this is one.
        let text = std::str::from_utf8(description).ok()?;
        if !text.get(..text.len().min(2048)).unwrap_or(text).contains("<OME") {
            return None;
        }
        let mut found: Option<Self> = None;
        let mut images = 0;
        for tag in (Tags { rest: text }).take(MOST_TAGS) {
            images += usize::from(tag.name() == "Image");
            match tag.name() {
                "Pixels" if found.is_none() => found = Some(Self::of_pixels(&tag)?),
                // Of the first image only.
                name if images <= 1 => {
                    if let Some(ome) = &mut found {
                        ome.add(name, &tag);
                    }
                }
                _ => {}
            }
        }
        let mut ome = found?;
        ome.images = images;
        Some(ome)
    }

    fn of_pixels(tag: &Tag<'_>) -> Option<Self> {
        let size = |name| tag.number(name).filter(|n| *n > 0);
        let length = |name| tag.get(name)?.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
        let order = tag.get("DimensionOrder")?;
        let order: Vec<char> = order.strip_prefix("XY")?.chars().collect();
        let order: [char; 3] = order.try_into().ok()?;
        if !['Z', 'C', 'T'].iter().all(|axis| order.contains(axis)) {
            return None;
        }
        let unit = tag.get("PhysicalSizeXUnit").unwrap_or_else(|| "um".into());
        Some(Self {
            size: [size("SizeX")?, size("SizeY")?, size("SizeZ")?],
            times: size("SizeT")?,
            channels: size("SizeC")?,
            order,
            spacing: [length("PhysicalSizeX"), length("PhysicalSizeY"), length("PhysicalSizeZ")],
            // Micro sign and Greek mu.
            unit: if matches!(unit.as_str(), "\u{b5}m" | "\u{3bc}m") { "um".into() } else { unit },
            time_step: length("TimeIncrement"),
            channel: Vec::new(),
            runs: Vec::new(),
            elsewhere: false,
            images: 0,
        })
    }

    fn add(&mut self, name: &str, tag: &Tag<'_>) {
        match name {
            "Channel" if (self.channel.len() as u64) < self.channels => {
                let colour = tag.get("Color").and_then(|c| c.parse::<i64>().ok());
                let bytes = colour.and_then(|c| u32::try_from(c & 0xffff_ffff).ok()).map(u32::to_be_bytes);
                self.channel
                    .push(OmeChannel { name: tag.get("Name"), colour: bytes.map(|[r, g, b, _]| [r, g, b]) });
            }
            "TiffData" => {
                let number = |name| tag.number(name).unwrap_or(0);
                let page = tag.number("IFD");
                // Of a run without a page that is all, without a count one page where it has a page.
                let pages = tag.number("PlaneCount").or_else(|| page.map(|_| 1));
                let first = [number("FirstZ"), number("FirstC"), number("FirstT")];
                self.runs.push(Run { page: page.unwrap_or(0), first, pages });
            }
            "UUID" if tag.get("FileName").is_some() => self.elsewhere = true,
            _ => {}
        }
    }

    /// The place of a plane in the image's order.
    fn place(&self, [z, c, t]: [u64; 3], channels: u64) -> u64 {
        let (mut place, mut stride) = (0u64, 1u64);
        for axis in self.order {
            let (at, size) = match axis {
                'Z' => (z, self.size[2]),
                'C' => (c, channels),
                _ => (t, self.times),
            };
            place = place.saturating_add(at.saturating_mul(stride));
            stride = stride.saturating_mul(size);
        }
        place
    }

    /// The page of each plane, in the order z, then channel, then time; `None` where they are not all among `pages` pages, or are in other files.
    /// `channels` are those that have pages of their own.
    pub(super) fn pages(&self, pages: u64, channels: u64) -> Option<Vec<u64>> {
        let planes = self.size[2].checked_mul(channels)?.checked_mul(self.times)?;
        if planes > pages {
            return None;
        }
        const NONE: u64 = u64::MAX;
        let mut page_at = vec![NONE; usize::try_from(planes).ok()?];
        let all = [Run { page: 0, first: [0; 3], pages: None }];
        // No file tells of a plane more than a few times, but one made to hang whoever reads it.
        let mut left = planes.saturating_mul(4);
        for run in if self.runs.is_empty() { &all[..] } else { &self.runs } {
            let sizes = [self.size[2], channels, self.times];
            if (0..3).any(|axis| run.first[axis] >= sizes[axis]) {
                return None;
            }
            let first = self.place(run.first, channels);
            let count = run.pages.unwrap_or(u64::MAX).min(planes.saturating_sub(first));
            left = left.checked_sub(count)?;
            for n in 0..count {
                *page_at.get_mut(usize::try_from(first + n).ok()?)? =
                    run.page.checked_add(n).filter(|p| *p < pages)?;
            }
        }
        let mut sorted = Vec::with_capacity(page_at.len());
        for t in 0..self.times {
            for c in 0..channels {
                for z in 0..self.size[2] {
                    let page = *page_at.get(usize::try_from(self.place([z, c, t], channels)).ok()?)?;
                    sorted.push(Some(page).filter(|page| *page != NONE)?);
                }
            }
        }
        Some(sorted)
    }
}

/// The start tags of a text.
struct Tags<'a> {
    rest: &'a str,
}

/// What is between `<` and `>`.
struct Tag<'a> {
    inside: &'a str,
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            let begin = self.rest.find('<')?;
            let after = &self.rest[begin + 1..];
            let passed = |after: &'a str, begin: &str, end: &str| {
                after.strip_prefix(begin).map(|inside| inside.split_once(end).map_or("", |(_, rest)| rest))
            };
            let over = passed(after, "!--", "-->").or_else(|| passed(after, "![CDATA[", "]]>"));
            if let Some(rest) = over {
                self.rest = rest;
                continue;
            }
            let end = end_of_tag(after)?;
            self.rest = &after[end + 1..];
            if !after.starts_with(['/', '?', '!']) {
                return Some(Tag { inside: &after[..end] });
            }
        }
    }
}

/// Where the `>` is that ends a tag: not one within quotes.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

impl Tag<'_> {
    /// The name without the prefix of its namespace.
    fn name(&self) -> &str {
        let name = self.inside.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default();
        name.rsplit(':').next().unwrap_or_default()
    }

    /// An attribute's value.
    fn get(&self, name: &str) -> Option<String> {
        let mut rest = self.inside;
        while let Some(at) = rest.find('=') {
            let (before, after) = (rest[..at].trim_end(), rest[at + 1..].trim_start());
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, next) = after[1..].split_once(quote)?;
            if before.rsplit([' ', '\t', '\r', '\n']).next() == Some(name) {
                return Some(unescaped(value));
            }
            rest = next;
        }
        None
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// Undoes references such as `&lt;` and `&#181;`; others stay as they are.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest[1..].split_once(';').map_or("", |(name, _)| name);
        let code = match reference.strip_prefix('#') {
            Some(number) => match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => number.parse().ok(),
            },
            None => None,
        };
        let c = match reference {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => code.and_then(char::from_u32),
        };
        match c {
            Some(c) => {
                out.push(c);
                rest = &rest[reference.len() + 2..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<?xml version="1.0"?><!-- <Pixels SizeX="9"> --><OME xmlns="a>b"><Image ID='Image:0' Name="a &lt;b&gt; &#181;">
        <Pixels DimensionOrder="XYCZT" SizeX="5" SizeY = "4" SizeZ="3" SizeC="2" SizeT="2" PhysicalSizeX="0.5" PhysicalSizeXUnit="&#xB5;m" PhysicalSizeZ="1e0" Type="uint16">
        <Channel ID="Channel:0:0" Name="DAPI" Color="65535"/><ome:Channel Color="-16776961"/>
        <TiffData IFD="6" FirstT="1" PlaneCount="6"/><TiffData FirstT="0" PlaneCount="6"/></Pixels></Image>
        <Image><Pixels SizeX="1"/><TiffData IFD="99"/></Image></OME>"#;

    #[test]
    fn the_first_image_is_read() {
        let ome = Ome::parse(TEXT.as_bytes()).unwrap();
        assert_eq!((ome.size, ome.times, ome.channels, ome.order), ([5, 4, 3], 2, 2, ['C', 'Z', 'T']));
        assert_eq!((ome.spacing, ome.unit.as_str()), ([Some(0.5), None, Some(1.0)], "um"));
        assert_eq!((ome.images, ome.runs.len(), ome.elsewhere), (2, 2, false));
        assert_eq!(ome.channel[0], OmeChannel { name: Some("DAPI".into()), colour: Some([0, 0, 255]) });
        assert_eq!(ome.channel[1], OmeChannel { name: None, colour: Some([255, 0, 0]) });
        // Channels are fastest; asked for by z, then channel, then time.
        assert_eq!(ome.pages(12, 2).unwrap(), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert_eq!(ome.pages(11, 2), None, "a page too few");
    }

    #[test]
    fn planes_that_nobody_tells_of_go_in_order() {
        let text = TEXT.replace("<TiffData", "<Other");
        let ome = Ome::parse(text.as_bytes()).unwrap();
        assert_eq!(ome.pages(12, 2).unwrap(), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        let one = TEXT.replace(r#"<TiffData IFD="6" FirstT="1" PlaneCount="6"/>"#, "");
        assert_eq!(Ome::parse(one.as_bytes()).unwrap().pages(12, 2), None, "some are nowhere");
    }

    #[test]
    fn attributes_are_told_from_text_that_looks_like_them() {
        let tag = Tag { inside: r#"Pixels A="B='x' C=9" Ca='1' C = "&unknown; &amp;#65;" D=7"# };
        assert_eq!(tag.get("C").as_deref(), Some("&unknown; &#65;"));
        assert_eq!((tag.get("B"), tag.get("D"), tag.number("Ca")), (None, None, Some(1)));
        assert_eq!(unescaped("&#x110000;&#65;&;&"), "&#x110000;A&;&");
    }

    #[test]
    fn what_does_not_say_its_size_is_none() {
        for text in [
            "",
            "ImageJ=1",
            "<OME>",
            r#"<OME><Pixels DimensionOrder="XYZCT" SizeX="1"/>"#,
            r#"<OME><Pixels DimensionOrder="XYZZT" SizeX="1" SizeY="1" SizeZ="1" SizeC="1" SizeT="1"/>"#,
            r#"<OME><Pixels DimensionOrder="XYZCT" SizeX="0" SizeY="1" SizeZ="1" SizeC="1" SizeT="1"/>"#,
            r#"<OME><Pixels DimensionOrder="XYZCT" SizeX="1" SizeY="1" SizeZ="1" SizeC="1" SizeT="1""#,
        ] {
            assert_eq!(Ome::parse(text.as_bytes()), None, "{text}");
        }
    }
}
