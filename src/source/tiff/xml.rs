//! Owns the start tags of a text of XML, and their attributes. Knows nothing of what they mean.
//!
//! Not a parser: start tags are gone through in order, and whatever else there is, is passed over.

/// The start tags of a text.
pub(super) struct Tags<'a> {
    rest: &'a str,
}

/// What is between `<` and `>`.
pub(super) struct Tag<'a> {
    inside: &'a str,
    /// The text after it, up to the next tag.
    text: &'a str,
}

impl<'a> Tags<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text }
    }
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
                let text = self.rest.split('<').next().unwrap_or_default();
                return Some(Tag { inside: &after[..end], text });
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
    pub(super) fn name(&self) -> &str {
        let name = self.inside.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default();
        name.rsplit(':').next().unwrap_or_default()
    }

    /// An attribute's value.
    pub(super) fn get(&self, name: &str) -> Option<String> {
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

    /// The text after it, without what is around it.
    pub(super) fn text(&self) -> String {
        unescaped(self.text.trim())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
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
        if let Some(c) = c {
            out.push(c);
            rest = &rest[reference.len() + 2..];
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_told_from_text_that_looks_like_them() {
        let tag = Tag {
            inside: r#"Pixels A="B='x' C=9" Ca='1' C = "&unknown; &amp;#65;" D=7"#,
            text: " a &lt; b ",
        };
        assert_eq!(tag.get("C").as_deref(), Some("&unknown; &#65;"));
        assert_eq!((tag.get("B"), tag.get("D"), tag.number("Ca")), (None, None, Some(1)));
        assert_eq!(tag.text(), "a < b");
        assert_eq!(unescaped("&#x110000;&#65;&;&"), "&#x110000;A&;&");
    }
}
