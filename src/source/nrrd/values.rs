//! Owns the values of NRRD fields: types, numbers, lists, vectors and quoted strings. Knows nothing of which field holds which.

use crate::source::Endian;
use crate::source::bad::Bad;
use crate::voxel::ScalarType;

/// The scalar type of that name.
///
/// **Source**: the aliases of the format's definition, section 5, field `type`.
pub(super) fn scalar_type(name: &str) -> Result<ScalarType, Bad> {
    let normal = name.to_ascii_lowercase().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let refused = match normal.as_str() {
        "signed char" | "int8" | "int8_t" => return Ok(ScalarType::I8),
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => return Ok(ScalarType::U8),
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
            return Ok(ScalarType::I16);
        }
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => {
            return Ok(ScalarType::U16);
        }
        "int" | "signed int" | "int32" | "int32_t" => return Ok(ScalarType::I32),
        "uint" | "unsigned int" | "uint32" | "uint32_t" => return Ok(ScalarType::U32),
        "float" => return Ok(ScalarType::F32),
        "double" => return Ok(ScalarType::F64),
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t"
        | "ulonglong"
        | "unsigned long long"
        | "unsigned long long int"
        | "uint64"
        | "uint64_t" => "64-bit integers are not read",
        "block" => "blocks of bytes are no scalars",
        "char" => "may be signed or not: must be `signed char` or `unsigned char`",
        _ => "no type of this format",
    };
    Err(Bad::new("type", name, refused))
}

pub(super) fn endian(value: &str) -> Result<Endian, Bad> {
    match value.to_ascii_lowercase().as_str() {
        "little" => Ok(Endian::Little),
        "big" => Ok(Endian::Big),
        _ => Err(Bad::new("endian", value, "must be `little` or `big`")),
    }
}

/// Vectors `(a,b,...)`, or `none` for an axis that has none.
pub(super) fn vectors(field: &'static str, value: &str) -> Result<Vec<Option<Vec<f64>>>, Bad> {
    let bad = || Bad::new(field, value, "must be vectors such as (1,0,0), or none");
    let mut vectors = Vec::new();
    let mut rest = value.trim_ascii();
    while !rest.is_empty() {
        if let Some(after) = rest.get(..4).filter(|s| s.eq_ignore_ascii_case("none")).map(|_| &rest[4..]) {
            vectors.push(None);
            rest = after;
        } else {
            let (inside, after) = rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(bad)?;
            let vector: Result<Vec<f64>, _> = inside.split(',').map(|n| n.trim_ascii().parse()).collect();
            vectors.push(Some(vector.map_err(|_| bad())?));
            rest = after;
        }
        rest = rest.trim_ascii_start();
    }
    Ok(vectors)
}

/// Strings in double quotes, in which `\"` stands for a quote.
pub(super) fn quoted(field: &'static str, value: &str) -> Result<Vec<String>, Bad> {
    let bad = || Bad::new(field, value, "must be strings in double quotes");
    let mut strings = Vec::new();
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            continue;
        }
        if c != '"' {
            return Err(bad());
        }
        let mut string = String::new();
        loop {
            match chars.next().ok_or_else(bad)? {
                '"' => break,
                '\\' if chars.next_if_eq(&'"').is_some() => string.push('"'),
                c => string.push(c),
            }
        }
        strings.push(string);
    }
    Ok(strings)
}

/// Whether a file's name is a pattern for many, such as `slice-%03d.raw 1 100 1`.
pub(super) fn is_pattern(name: &[u8]) -> bool {
    let Some(at) = name.iter().position(|&b| b == b'%') else { return false };
    let after = name[at + 1..].trim_ascii();
    let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
    after.get(digits) == Some(&b'd') && after[digits..].contains(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_many_names() {
        assert_eq!(scalar_type("Unsigned  Short int"), Ok(ScalarType::U16));
        assert_eq!(scalar_type("int8_t"), Ok(ScalarType::I8));
        for none in ["char", "block", "uint64", "float16", ""] {
            assert_eq!(scalar_type(none).unwrap_err().value, none);
        }
    }

    #[test]
    fn vectors_may_be_absent_spaced_or_broken() {
        let v = vectors("space directions", " none (1, 2.5 ,-3e2)(nan,0,0) NONE").unwrap();
        assert_eq!((v.len(), &v[1], &v[3]), (4, &Some(vec![1.0, 2.5, -300.0]), &None));
        for broken in ["(1,2", "1,2)", "(1,,2)", "()", "non", "\u{e9}\u{e9}\u{e9}", "(1)x"] {
            assert!(vectors("space directions", broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn quotes_can_be_quoted() {
        assert_eq!(quoted("units", r#""mm" "" "a \" b\c""#).unwrap(), ["mm", "", r#"a " b\c"#]);
        for broken in [r#""mm"#, "mm", r#""a" b"#, r#""a\""#] {
            assert!(quoted("units", broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn numbers_of_files_are_seen() {
        assert!(is_pattern(b"slice-%03d.raw 1 100 1"));
        assert!(!is_pattern(b"100% done.raw"));
        assert!(!is_pattern(b"plain.raw"));
        assert!(!is_pattern(b"a%d.raw"), "a single file may be called so");
    }
}
