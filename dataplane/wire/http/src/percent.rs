//! Percent-encoding (RFC 3986 section 2.1) and the pairs of a query.

use std::borrow::Cow;

use crate::error::DecodeError;

const MALFORMED: DecodeError = DecodeError::BadRequest("a percent-encoded text is malformed");

/// Decodes `%XX`; `+` is itself, as in a path. Decode segment by segment, after splitting at `/`:
/// an encoded slash belongs to its segment.
///
/// # Errors
/// A `%` without two hexadecimal digits, or a result that is not UTF-8.
pub fn percent_decode(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if first == b'%' {
            let (digits, behind) = behind.split_first_chunk::<2>().ok_or(MALFORMED)?;
            bytes.push(hex_digit(digits[0])? << 4 | hex_digit(digits[1])?);
            rest = behind;
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| MALFORMED)
}

/// The pairs of `name=value&name=value`, decoded; `+` is a blank, as HTML forms have it. A name
/// without `=` has the empty value; empty parts between `&` are skipped.
pub fn query_pairs(
    query: &str,
) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), DecodeError>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((form_decode(name)?, form_decode(value)?))
    })
}

/// The value of the first pair of that name.
///
/// # Errors
/// A malformed pair in front of it.
pub fn query_value<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, DecodeError> {
    for pair in query_pairs(query) {
        let (found, value) = pair?;
        if found == name {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn form_decode(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !text.contains('+') {
        return percent_decode(text);
    }
    let spaced = text.replace('+', " ");
    percent_decode(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

fn hex_digit(byte: u8) -> Result<u8, DecodeError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_and_nothing_else() {
        for (encoded, decoded) in [
            ("", ""),
            ("plain", "plain"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%2Fx%2f", "/x/"),
            ("%C3%BC", "ü"),
            ("%25", "%"),
        ] {
            assert_eq!(percent_decode(encoded).as_deref(), Ok(decoded), "{encoded}");
        }
        for malformed in ["%", "%2", "%zz", "%C3", "%ff", "a%+1", "%2ü"] {
            assert_eq!(percent_decode(malformed), Err(MALFORMED), "{malformed}");
        }
    }

    #[test]
    fn a_query_is_pairs_in_order() {
        let pairs: Vec<_> = query_pairs("hono-ttd=5&x=a+b%2B&&flag&e=&=v")
            .map(|pair| pair.expect("valid"))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let expected = [("hono-ttd", "5"), ("x", "a b+"), ("flag", ""), ("e", ""), ("", "v")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(query_value("a=1&b=2&b=3", "b"), Ok(Some(Cow::Borrowed("2"))));
        assert_eq!(query_value("a=1", "b"), Ok(None));
        assert_eq!(query_value("%=1&b=2", "b"), Err(MALFORMED));
    }
}
