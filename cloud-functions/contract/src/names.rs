//! Distinguished names of X.509 subjects and issuers, in one spelling.
//!
//! The registry is given names as text (RFC 2253: most specific part first), certificates hold them as DER. Both become
//! a [`DistinguishedName`], whose text is the same whenever the names are: keywords in capitals, no blanks around
//! separators, one way of escaping, parts of a multi-valued part in order. Values are compared letter by letter, as
//! Hono does. A value that is not a string is kept as `#` and its DER in hexadecimal.

use std::fmt;
use x509_parser::prelude::{FromDer as _, X509Name};

/// Longest name in bytes of text or DER.
pub const NAME_BYTES_MAX: usize = 1024;

/// A distinguished name, most specific part first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DistinguishedName {
    parts: Vec<Vec<Attribute>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Attribute {
    /// Dotted decimal.
    oid: String,
    value: Value,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Value {
    Text(String),
    /// Tag, length and content of what is not a string.
    Der(Vec<u8>),
}

/// Why something is not a distinguished name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a distinguished name: write it as in RFC 2253, for example CN=device-1,O=ACME,C=DE")]
pub struct NameError;

const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";
const ORGANIZATIONAL_UNIT: &str = "2.5.4.11";

/// Attribute types with a name. The first name of a type that RFC 2253 names is how it is written.
const KEYWORDS: [(&str, &str); 23] = [
    ("CN", COMMON_NAME),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("S", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", ORGANIZATION),
    ("OU", ORGANIZATIONAL_UNIT),
    ("C", "2.5.4.6"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("SN", "2.5.4.4"),
    ("SURNAME", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("T", "2.5.4.12"),
    ("TITLE", "2.5.4.12"),
    ("GIVENNAME", "2.5.4.42"),
    ("INITIALS", "2.5.4.43"),
    ("GENERATION", "2.5.4.44"),
    ("DNQ", "2.5.4.46"),
    ("DNQUALIFIER", "2.5.4.46"),
    ("E", "1.2.840.113549.1.9.1"),
    ("EMAIL", "1.2.840.113549.1.9.1"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];
/// How many of [`KEYWORDS`] are RFC 2253's own.
const WRITTEN_KEYWORDS: usize = 10;

impl DistinguishedName {
    /// Reads text in RFC 2253's form; quoted values, `;` and blanks around separators are understood too.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(NameError);
        }
        let mut parts = vec![Vec::new()];
        for (attribute, separator) in Reader(text).attributes()? {
            let part = parts.last_mut().ok_or(NameError)?;
            part.push(attribute);
            if matches!(separator, Some(',' | ';')) {
                parts.push(Vec::new());
            }
        }
        Ok(Self::ordered(parts))
    }

    /// Reads a `Name` from DER.
    pub fn from_der(der: &[u8]) -> Result<Self, NameError> {
        match X509Name::from_der(der) {
            Ok(([], name)) => Self::from_x509(&name),
            _ => Err(NameError),
        }
    }

    pub(crate) fn from_x509(name: &X509Name<'_>) -> Result<Self, NameError> {
        if name.as_raw().len() > NAME_BYTES_MAX {
            return Err(NameError);
        }
        let mut parts = Vec::new();
        for part in name.iter() {
            let attributes = part.iter().map(|one| {
                let header = &one.attr_value().header;
                let tag =
                    u8::try_from(header.tag().0).ok().filter(|tag| *tag < 31).ok_or(NameError)?;
                let first = (header.class() as u8) << 6 | u8::from(header.constructed()) << 5 | tag;
                let value = value_of(first, one.attr_value().data);
                Ok(Attribute { oid: one.attr_type().to_id_string(), value })
            });
            parts.push(attributes.collect::<Result<Vec<_>, _>>()?);
        }
        parts.reverse();
        if parts.is_empty() { Err(NameError) } else { Ok(Self::ordered(parts)) }
    }

    fn ordered(mut parts: Vec<Vec<Attribute>>) -> Self {
        parts.iter_mut().for_each(|part| part.sort());
        DistinguishedName { parts }
    }

    /// The most specific common name.
    pub fn common_name(&self) -> Option<&str> {
        self.text_of(COMMON_NAME)
    }

    /// The most specific organisation.
    pub fn organization(&self) -> Option<&str> {
        self.text_of(ORGANIZATION)
    }

    /// The most specific organisational unit.
    pub fn organizational_unit(&self) -> Option<&str> {
        self.text_of(ORGANIZATIONAL_UNIT)
    }

    fn text_of(&self, oid: &str) -> Option<&str> {
        self.parts.iter().flatten().find_map(|attribute| match &attribute.value {
            Value::Text(text) if attribute.oid == oid => Some(text.as_str()),
            _ => None,
        })
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            for (nth, attribute) in part.iter().enumerate() {
                f.write_str(match (index, nth) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => "+",
                })?;
                attribute.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = KEYWORDS[..WRITTEN_KEYWORDS].iter().find(|(_, oid)| *oid == self.oid);
        write!(f, "{}=", known.map_or(self.oid.as_str(), |(keyword, _)| keyword))?;
        match &self.value {
            Value::Text(text) => escape(text, f),
            Value::Der(der) => {
                f.write_str("#")?;
                der.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let last = text.chars().count().saturating_sub(1);
    for (index, letter) in text.chars().enumerate() {
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => write!(f, "\\{letter}")?,
            '#' if index == 0 => f.write_str("\\#")?,
            ' ' if index == 0 || index == last => f.write_str("\\ ")?,
            letter if letter.is_control() => {
                let mut buffer = [0; 4];
                for byte in letter.encode_utf8(&mut buffer).bytes() {
                    write!(f, "\\{byte:02x}")?;
                }
            }
            letter => write!(f, "{letter}")?,
        }
    }
    Ok(())
}

/// A value by the first byte of its DER: the string types are text, whatever their encoding.
fn value_of(tag: u8, content: &[u8]) -> Value {
    let text = match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString.
        12 | 18 | 19 | 22 | 26 => std::str::from_utf8(content).ok().map(str::to_owned),
        // TeletexString: read as Latin-1, as most do.
        20 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString.
        30 if content.len().is_multiple_of(2) => {
            let units: Vec<u16> =
                content.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    };
    text.map_or_else(|| Value::Der(with_head(tag, content)), Value::Text)
}

/// Tag and length in front of the content again; a name's length fits in two bytes.
fn with_head(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let length = content.len();
    match length {
        0..=0x7f => der.push(length as u8),
        0x80..=0xff => der.extend([0x81, length as u8]),
        _ => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend_from_slice(content);
    der
}

/// What is left of the text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    /// Each attribute with the separator behind it.
    fn attributes(mut self) -> Result<Vec<(Attribute, Option<char>)>, NameError> {
        let mut attributes = Vec::new();
        loop {
            let oid = self.attribute_type()?;
            let value = self.value()?;
            let separator = self.0.chars().next();
            attributes.push((Attribute { oid, value }, separator));
            let Some(separator) = separator else { return Ok(attributes) };
            self.0 = &self.0[separator.len_utf8()..];
        }
    }

    fn attribute_type(&mut self) -> Result<String, NameError> {
        let (name, rest) = self.0.split_once('=').ok_or(NameError)?;
        self.0 = rest.trim_start_matches(' ');
        let name = name.trim_matches(' ').to_ascii_uppercase();
        let dotted = name.strip_prefix("OID.").unwrap_or(&name);
        if let Some((_, oid)) = KEYWORDS.iter().find(|(keyword, _)| *keyword == name) {
            return Ok((*oid).to_owned());
        }
        let number = |arc: &str| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
        if dotted.contains('.') && dotted.split('.').all(number) {
            return Ok(dotted.to_owned());
        }
        Err(NameError)
    }

    /// Reads up to the separator, which stays.
    fn value(&mut self) -> Result<Value, NameError> {
        if let Some(hex) = self.0.strip_prefix('#') {
            let end = hex.find([',', ';', '+']).unwrap_or(hex.len());
            let der = from_hex(hex[..end].trim_end_matches(' ')).ok_or(NameError)?;
            self.0 = &hex[end..];
            return from_der(&der);
        }
        let bytes = match self.0.strip_prefix('"') {
            Some(quoted) => self.quoted(quoted)?,
            None => self.plain()?,
        };
        String::from_utf8(bytes).map(Value::Text).map_err(|_| NameError)
    }

    fn quoted(&mut self, text: &str) -> Result<Vec<u8>, NameError> {
        let mut value = Vec::new();
        let mut rest = text.as_bytes();
        loop {
            match rest {
                [b'"', behind @ ..] => {
                    let used = text.len() - behind.len();
                    let length = self.0.len() - text.len() + used;
                    self.0 = self.0[length..].trim_start_matches(' ');
                    let ends = self.0.is_empty() || self.0.starts_with([',', ';', '+']);
                    return if ends { Ok(value) } else { Err(NameError) };
                }
                [b'\\', behind @ ..] => rest = unescape(behind, &mut value)?,
                [byte, behind @ ..] => {
                    value.push(*byte);
                    rest = behind;
                }
                [] => return Err(NameError),
            }
        }
    }

    fn plain(&mut self) -> Result<Vec<u8>, NameError> {
        let mut value = Vec::new();
        // Blanks behind this are only there because of the separator.
        let mut kept = 0;
        let mut rest = self.0.as_bytes();
        loop {
            match rest {
                [] | [b',' | b';' | b'+', ..] => {
                    self.0 = &self.0[self.0.len() - rest.len()..];
                    value.truncate(kept);
                    return Ok(value);
                }
                [b'"', ..] => return Err(NameError),
                [b'\\', behind @ ..] => {
                    rest = unescape(behind, &mut value)?;
                    kept = value.len();
                }
                [byte, behind @ ..] => {
                    value.push(*byte);
                    rest = behind;
                    if *byte != b' ' {
                        kept = value.len();
                    }
                }
            }
        }
    }
}

/// What is behind a backslash: two hexadecimal digits, or one character that stands for itself.
fn unescape<'a>(rest: &'a [u8], value: &mut Vec<u8>) -> Result<&'a [u8], NameError> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match rest {
        [high, low, behind @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
            let byte = digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4 | low) as u8);
            value.extend(byte);
            Ok(behind)
        }
        [byte, behind @ ..] if byte.is_ascii() && !byte.is_ascii_alphanumeric() => {
            value.push(*byte);
            Ok(behind)
        }
        _ => Err(NameError),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|two| (two[0] << 4 | two[1]) as u8).collect())
}

/// A value's DER, with a length in one, two or three bytes.
fn from_der(der: &[u8]) -> Result<Value, NameError> {
    let (tag, content) = match der {
        [tag, length @ 0..=0x7f, content @ ..] if content.len() == usize::from(*length) => {
            (tag, content)
        }
        [tag, 0x81, length @ 0x80..=0xff, content @ ..]
            if content.len() == usize::from(*length) =>
        {
            (tag, content)
        }
        [tag, 0x82, high @ 1..=0xff, low, content @ ..]
            if content.len() == usize::from(*high) << 8 | usize::from(*low) =>
        {
            (tag, content)
        }
        _ => return Err(NameError),
    };
    Ok(value_of(*tag, content))
}

#[cfg(test)]
mod tests;
