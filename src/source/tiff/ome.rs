//! Owns the little that is read of the OME-XML of a TIFF file: the size and the order of its first image, its channels, and which page each plane is. Knows nothing of pages.
//!
//! **Source**: the OME-TIFF specification, <https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html>.

use super::units;
use super::xml::{Tag, Tags};

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
    /// Size of a voxel along x, y and z, in one unit where that can be.
    pub(super) spacing: [Option<f64>; 3],
    /// Of each; micrometres where the file has a size and does not say.
    pub(super) units: [Option<String>; 3],
    pub(super) time_step: Option<f64>,
    /// Seconds where the file has a step and does not say.
    pub(super) time_unit: Option<String>,
    pub(super) channel: Vec<OmeChannel>,
    /// Pages and the planes that begin there.
    pub(super) runs: Vec<Run>,
    /// Another file that some of its planes are in.
    elsewhere: Option<String>,
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

/// What this file is called, by others and by itself.
struct Own<'a> {
    name: &'a str,
    uuid: Option<String>,
}

impl Ome {
    /// `None`: no OME-XML, or none of an image. `name` is that of the file.
    ///
    /// # Errors
    /// The reason why what it says of the first image is of no use.
    pub(super) fn parse(description: &[u8], name: &str) -> Result<Option<Self>, String> {
        // The rest of large ones is of no interest to whoever tells whether this is one.
        let start = &description[..description.len().min(2048)];
        if !start.windows(4).any(|bytes| bytes == b"<OME") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(description);
        let mut own = Own { name, uuid: None };
        let mut found: Option<Self> = None;
        let mut images = 0;
        for tag in Tags::of(&text).take(MOST_TAGS) {
            images += usize::from(tag.name() == "Image");
            match tag.name() {
                "OME" if own.uuid.is_none() => own.uuid = tag.get("UUID"),
                "BinaryOnly" => {
                    let other = tag.get("MetadataFile").unwrap_or_else(|| "another file".into());
                    return Err(format!("what the planes are is said in {other}"));
                }
                "Pixels" if found.is_none() => {
                    let pixels = Self::of_pixels(&tag);
                    found = Some(pixels.ok_or("the image has no sizes, or no order of dimensions")?);
                }
                // Of the first image only.
                name if images <= 1 => {
                    if let Some(ome) = &mut found {
                        ome.add(name, &tag, &own);
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn of_pixels(tag: &Tag<'_>) -> Option<Self> {
        let size = |name| tag.number(name).filter(|n| *n > 0);
        let length = |name: &str| tag.get(name)?.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
        let order = tag.get("DimensionOrder")?;
        let order: Vec<char> = order.strip_prefix("XY")?.chars().collect();
        let order: [char; 3] = order.try_into().ok()?;
        if !['Z', 'C', 'T'].iter().all(|axis| order.contains(axis)) {
            return None;
        }
        let along = |axis: &str| {
            let length = length(&format!("PhysicalSize{axis}"))?;
            let unit = tag.get(&format!("PhysicalSize{axis}Unit"));
            Some((length, unit.map_or_else(|| "um".into(), |unit| units::name(&unit))))
        };
        let (spacing, units) = units::in_one_unit(["X", "Y", "Z"].map(along));
        let time_step = length("TimeIncrement");
        let time_unit = tag.get("TimeIncrementUnit").map_or_else(|| "s".into(), |unit| units::name(&unit));
        Some(Self {
            size: [size("SizeX")?, size("SizeY")?, size("SizeZ")?],
            times: size("SizeT")?,
            channels: size("SizeC")?,
            order,
            spacing,
            units,
            time_step,
            time_unit: time_step.map(|_| time_unit),
            channel: Vec::new(),
            runs: Vec::new(),
            elsewhere: None,
        })
    }

    fn add(&mut self, name: &str, tag: &Tag<'_>, own: &Own<'_>) {
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
            // Writers name the file in which a plane is even where that is this one.
            "UUID" if self.elsewhere.is_none() => self.elsewhere = own.other(tag),
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

    /// The page of each plane, in the order z, then channel, then time. `channels` are those that have pages of their own.
    ///
    /// # Errors
    /// The reason why they are not all among `pages` pages.
    pub(super) fn pages(&self, pages: u64, channels: u64) -> Result<Vec<u64>, String> {
        const NONE: u64 = u64::MAX;
        if let Some(other) = &self.elsewhere {
            return Err(format!("planes are in {other}"));
        }
        let planes = self.size[2].checked_mul(channels).and_then(|n| n.checked_mul(self.times));
        let planes = planes.filter(|planes| *planes <= pages).ok_or_else(|| {
            let (z, t) = (self.size[2], self.times);
            format!("there are planes of {z} z, {channels} c and {t} t in {pages} pages that are alike")
        })?;
        let mut page_at = vec![NONE; usize::try_from(planes).unwrap_or(0)];
        let all = [Run { page: 0, first: [0; 3], pages: None }];
        // No file tells of a plane more than a few times, but one made to hang whoever reads it.
        let mut left = planes.saturating_mul(4);
        for run in if self.runs.is_empty() { &all[..] } else { &self.runs } {
            let sizes = [self.size[2], channels, self.times];
            let [z, c, t] = run.first;
            if (0..3).any(|axis| run.first[axis] >= sizes[axis]) {
                return Err(format!("a plane is at z {z}, c {c}, t {t}"));
            }
            let first = self.place(run.first, channels);
            let count = run.pages.unwrap_or(u64::MAX).min(planes.saturating_sub(first));
            left = left.checked_sub(count).ok_or("planes are there many times")?;
            for n in 0..count {
                let page = run.page.checked_add(n).filter(|p| *p < pages);
                let page = page.ok_or_else(|| {
                    format!("planes from z {z}, c {c}, t {t} on are beyond the {pages} pages that are alike")
                })?;
                if let Some(at) = usize::try_from(first + n).ok().and_then(|plane| page_at.get_mut(plane)) {
                    *at = page;
                }
            }
        }
        let mut sorted = Vec::with_capacity(page_at.len());
        for t in 0..self.times {
            for c in 0..channels {
                for z in 0..self.size[2] {
                    let place = usize::try_from(self.place([z, c, t], channels)).ok();
                    let page = place.and_then(|place| page_at.get(place)).filter(|page| **page != NONE);
                    let page = page.ok_or_else(|| format!("the plane z {z}, c {c}, t {t} has no page"))?;
                    sorted.push(*page);
                }
            }
        }
        Ok(sorted)
    }
}

impl Own<'_> {
    /// The other file that a `UUID` names. Files are renamed, and keep their UUID; or copied from one that was written without.
    fn other(&self, tag: &Tag<'_>) -> Option<String> {
        let (name, uuid) = (tag.get("FileName"), tag.text());
        let is_own = self.uuid.as_ref().is_some_and(|own| own.trim().eq_ignore_ascii_case(&uuid));
        if is_own || name.as_deref().is_some_and(|name| name.rsplit(['/', '\\']).next() == Some(self.name)) {
            return None;
        }
        name.or((!uuid.is_empty()).then_some(uuid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Ome {
        Ome::parse(text.as_bytes(), "v.ome.tif").unwrap().unwrap()
    }

    const TEXT: &str = r#"<?xml version="1.0"?><!-- <Pixels SizeX="9"> --><OME xmlns="a>b"><Image ID='Image:0' Name="a &lt;b&gt; &#181;">
        <Pixels DimensionOrder="XYCZT" SizeX="5" SizeY = "4" SizeZ="3" SizeC="2" SizeT="2" PhysicalSizeX="0.5" PhysicalSizeXUnit="&#xB5;m" PhysicalSizeZ="1e0" Type="uint16">
        <Channel ID="Channel:0:0" Name="DAPI" Color="65535"/><ome:Channel Color="-16776961"/>
        <TiffData IFD="6" FirstT="1" PlaneCount="6"/><TiffData FirstT="0" PlaneCount="6"/></Pixels></Image>
        <Image><Pixels SizeX="1"/><TiffData IFD="99"/></Image></OME>"#;

    #[test]
    fn the_first_image_is_read() {
        let ome = parsed(TEXT);
        assert_eq!((ome.size, ome.times, ome.channels, ome.order), ([5, 4, 3], 2, 2, ['C', 'Z', 'T']));
        assert_eq!(ome.spacing, [Some(0.5), None, Some(1.0)]);
        assert_eq!(ome.units, [Some("um".into()), None, Some("um".into())]);
        assert_eq!((ome.runs.len(), &ome.elsewhere, ome.time_step, &ome.time_unit), (2, &None, None, &None));
        assert_eq!(ome.channel[0], OmeChannel { name: Some("DAPI".into()), colour: Some([0, 0, 255]) });
        assert_eq!(ome.channel[1], OmeChannel { name: None, colour: Some([255, 0, 0]) });
        // Channels are fastest; asked for by z, then channel, then time.
        assert_eq!(ome.pages(12, 2).unwrap(), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        let error = ome.pages(11, 2).unwrap_err();
        assert_eq!(error, "there are planes of 3 z, 2 c and 2 t in 11 pages that are alike");
    }

    #[test]
    fn planes_that_nobody_tells_of_go_in_order() {
        let text = TEXT.replace("<TiffData", "<Other");
        let ome = parsed(&text);
        assert_eq!(ome.pages(12, 2).unwrap(), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        let one = TEXT.replace(r#"<TiffData IFD="6" FirstT="1" PlaneCount="6"/>"#, "");
        assert_eq!(parsed(&one).pages(12, 2).unwrap_err(), "the plane z 0, c 0, t 1 has no page");
    }

    #[test]
    fn planes_are_elsewhere_only_where_neither_name_nor_uuid_is_the_files_own() {
        let elsewhere = |root: &str, plane: &str| {
            let text = TEXT.replace("<OME ", &format!("<OME {root} "));
            let text = text.replace("PlaneCount=\"6\"/>", &format!("PlaneCount=\"6\">{plane}</TiffData>"));
            parsed(&text).elsewhere
        };
        let own = r#"UUID="urn:uuid:1B85""#;
        for (root, plane) in [
            ("", r#"<UUID FileName="v.ome.tif">urn:uuid:1b85</UUID>"#),
            ("", r#"<UUID FileName="C:\data\v.ome.tif"/>"#),
            (own, r#"<UUID FileName="before-it-was-renamed.tif"> urn:uuid:1b85 </UUID>"#),
            (own, "<UUID>urn:uuid:1b85</UUID>"),
            (own, "<UUID></UUID>"),
        ] {
            assert_eq!(elsewhere(root, plane), None, "{root} {plane}");
        }
        for (root, plane, other) in [
            ("", r#"<UUID FileName="w.ome.tif"/>"#, "w.ome.tif"),
            (own, r#"<UUID FileName="w.ome.tif">urn:uuid:1b86</UUID>"#, "w.ome.tif"),
            (own, "<UUID>urn:uuid:1b86</UUID>", "urn:uuid:1b86"),
        ] {
            assert_eq!(elsewhere(root, plane).as_deref(), Some(other), "{root} {plane}");
        }
    }

    #[test]
    fn units_are_made_one_and_kept_where_they_cannot() {
        let with = |units: &str| parsed(&TEXT.replace("PhysicalSizeZ=", &format!("{units} PhysicalSizeZ=")));
        let ome =
            with(r#"PhysicalSizeY="250" PhysicalSizeYUnit="nm" PhysicalSizeZUnit="mm" TimeIncrement="5""#);
        assert_eq!(ome.spacing, [Some(0.5), Some(0.25), Some(1000.0)]);
        assert_eq!(ome.units, [(); 3].map(|()| Some("um".to_owned())));
        assert_eq!((ome.time_step, ome.time_unit.as_deref()), (Some(5.0), Some("s")));
        let ome = with(r#"PhysicalSizeZUnit="pixel" TimeIncrement="5" TimeIncrementUnit="min""#);
        assert_eq!((ome.spacing[2], ome.units[2].as_deref()), (Some(1.0), Some("pixel")));
        assert_eq!(ome.time_unit.as_deref(), Some("min"));
        // What is no UTF-8 is read as far as it is.
        let latin = [&b"<OME><Pixels DimensionOrder='XYZCT' SizeX='1' SizeY='1' SizeZ='1' SizeC='1' SizeT='1' PhysicalSizeX='2' PhysicalSizeXUnit='"[..], b"\xb5m'>"].concat();
        assert_eq!(Ome::parse(&latin, "v").unwrap().unwrap().units[0].as_deref(), Some("um"));
    }

    #[test]
    fn what_is_of_no_image_is_none_and_what_cannot_be_is_told() {
        for none in ["", "ImageJ=1", "<OME>", "<OME><Image/></OME>"] {
            assert_eq!(Ome::parse(none.as_bytes(), "v"), Ok(None), "{none}");
        }
        for bad in [
            r#"<OME><Pixels DimensionOrder="XYZCT" SizeX="1"/>"#,
            r#"<OME><Pixels DimensionOrder="XYZZT" SizeX="1" SizeY="1" SizeZ="1" SizeC="1" SizeT="1"/>"#,
            r#"<OME><Pixels DimensionOrder="XYZCT" SizeX="0" SizeY="1" SizeZ="1" SizeC="1" SizeT="1"/>"#,
            r#"<OME><BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:1"/></OME>"#,
        ] {
            let error = Ome::parse(bad.as_bytes(), "v").unwrap_err();
            assert!(error.contains("no sizes") || error.contains("set.companion.ome"), "{bad}: {error}");
        }
    }
}
