//! Owns the tags that are read, by number and name. Knows nothing of their values.
//!
//! **Source**: TIFF, revision 6.0, appendix A; its supplements for 339, 347 and 700 on.

/// A tag of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    pub(super) id: u16,
    pub(super) name: &'static str,
}

macro_rules! tags {
    ($($konst:ident = $id:literal $name:literal),* $(,)?) => {
        $(pub(super) const $konst: Tag = Tag { id: $id, name: $name };)*
        /// The numbers of all of them.
        pub(super) const KNOWN: &[u16] = &[$($id),*];
    };
}

tags! {
    SUBFILE_TYPE = 254 "NewSubfileType",
    WIDTH = 256 "ImageWidth",
    LENGTH = 257 "ImageLength",
    BITS = 258 "BitsPerSample",
    COMPRESSION = 259 "Compression",
    PHOTOMETRIC = 262 "PhotometricInterpretation",
    FILL_ORDER = 266 "FillOrder",
    DESCRIPTION = 270 "ImageDescription",
    STRIP_OFFSETS = 273 "StripOffsets",
    SAMPLES = 277 "SamplesPerPixel",
    ROWS_PER_STRIP = 278 "RowsPerStrip",
    STRIP_BYTES = 279 "StripByteCounts",
    X_RESOLUTION = 282 "XResolution",
    Y_RESOLUTION = 283 "YResolution",
    PLANAR = 284 "PlanarConfiguration",
    RESOLUTION_UNIT = 296 "ResolutionUnit",
    PREDICTOR = 317 "Predictor",
    TILE_WIDTH = 322 "TileWidth",
    TILE_LENGTH = 323 "TileLength",
    TILE_OFFSETS = 324 "TileOffsets",
    TILE_BYTES = 325 "TileByteCounts",
    SAMPLE_FORMAT = 339 "SampleFormat",
    JPEG_TABLES = 347 "JPEGTables",
}
