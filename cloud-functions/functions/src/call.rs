//! A request taken apart: path segments, query, who is asking, body.

use crate::State;
use crate::reply::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fulcrum_domain::Error;
use fulcrum_domain::access::{Presented, Principal};
use fulcrum_domain::edges::Edge;
use fulcrum_domain::registry::{IfMatch, Page};
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{HeaderMap, HeaderName, Method};
use lambda_http::{Body, Request};
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// Largest page of a search, as in Hono.
const PAGE_SIZE_MAX: usize = 200;
/// Page size where none is asked for, as in Hono.
const PAGE_SIZE: usize = 30;

/// One request.
pub struct Call {
    /// Its method.
    pub method: Method,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// Takes `request` apart; refuses a path or query whose percent-encoding is broken.
    pub fn new(request: Request) -> Result<Call, Refusal> {
        let (head, body) = request.into_parts();
        let broken = || Error::Invalid("the percent-encoding of the URL is broken".to_owned());
        let path = head.uri.path().trim_start_matches('/');
        let segments: Option<Vec<_>> = path.split('/').map(|part| decode(part, false)).collect();
        let pairs = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let query: Option<Vec<_>> = pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name, true)?, decode(value, true)?))
            })
            .collect();
        let body = match body {
            Body::Text(text) => Bytes::from(text),
            Body::Binary(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        Ok(Call {
            method: head.method,
            segments: segments.ok_or_else(broken)?,
            query: query.ok_or_else(broken)?,
            headers: head.headers,
            body,
        })
    }

    /// The path's segments behind `/v1`.
    pub fn path(&self) -> Vec<&str> {
        self.segments.iter().skip(1).map(String::as_str).collect()
    }

    /// Who is asking: an operator or an application.
    pub async fn principal(&self, state: &State) -> Result<Principal, Refusal> {
        let header = self.header(AUTHORIZATION).unwrap_or_default();
        let (scheme, value) = header.split_once(' ').unwrap_or_default();
        let basic = Some(value.trim()).filter(|_| scheme.eq_ignore_ascii_case("basic"));
        let basic = basic.and_then(|value| STANDARD.decode(value).ok());
        let basic = basic.and_then(|value| String::from_utf8(value).ok());
        let presented = match basic.as_deref().and_then(|value| value.split_once(':')) {
            Some((username, password)) => Presented::Basic { username, password },
            None if scheme.eq_ignore_ascii_case("bearer") => Presented::Bearer(value.trim()),
            None => Presented::Nothing,
        };
        Ok(state.cloud.authenticate(presented).await?)
    }

    /// The operator who is asking; refuses everybody else.
    pub async fn operator(&self, state: &State) -> Result<(), Refusal> {
        Ok(self.principal(state).await?.require_operator()?)
    }

    /// The edge node that is asking, which must be the one the path names.
    pub async fn edge(&self, state: &State, id: &str) -> Result<Edge, Refusal> {
        let id = parse(id)?;
        let header = self.header(AUTHORIZATION).unwrap_or_default();
        let (scheme, token) = header.split_once(' ').unwrap_or_default();
        let token = if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" };
        Ok(state.cloud.authenticate_edge(&id, token, state.now_ms()).await?)
    }

    /// The JSON body. An empty body needs no media type and is `None`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<Option<T>, Refusal> {
        if self.body.is_empty() {
            return Ok(None);
        }
        if !self.has_content_type("application/json") {
            return Err(Error::Invalid(
                "the body needs 'Content-Type: application/json'".to_owned(),
            )
            .into());
        }
        let document = serde_json::from_slice(&self.body).map_err(|error| {
            Error::Invalid(format!("the body is not what it should be: {error}"))
        })?;
        Ok(Some(document))
    }

    /// The JSON body, which must be there.
    pub fn required_json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let missing = || Error::Invalid("the request needs a JSON body".to_owned());
        Ok(self.json()?.ok_or_else(missing)?)
    }

    /// The body if it has the media type.
    pub fn body_of_type(&self, media_type: &str) -> Result<Bytes, Refusal> {
        if self.has_content_type(media_type) {
            return Ok(self.body.clone());
        }
        Err(Error::Invalid(format!("the body needs 'Content-Type: {media_type}'")).into())
    }

    /// What `If-Match` says.
    pub fn if_match(&self) -> IfMatch {
        IfMatch(self.header(IF_MATCH).map(str::to_owned))
    }

    /// A query parameter as text.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter as a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let invalid =
            |text| Error::Invalid(format!("'{name}={text}' is not a number in its range"));
        self.query(name).map(|text| text.parse().map_err(|_| invalid(text).into())).transpose()
    }

    /// `pageSize` and `pageOffset`.
    pub fn page(&self) -> Result<Page, Refusal> {
        let size = self.number("pageSize")?.unwrap_or(PAGE_SIZE);
        if size > PAGE_SIZE_MAX {
            return Err(Error::Invalid(format!("'pageSize' must be 0 to {PAGE_SIZE_MAX}")).into());
        }
        Ok(Page { size, offset: self.number("pageOffset")?.unwrap_or(0) })
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn has_content_type(&self, wanted: &str) -> bool {
        let given = self.header(CONTENT_TYPE).unwrap_or_default();
        let media_type = given.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case(wanted)
    }
}

/// Parses an identifier of the path.
pub fn parse<T: FromStr<Err = fulcrum_contract::IdError>>(text: &str) -> Result<T, Refusal> {
    Ok(text
        .parse()
        .map_err(|error: fulcrum_contract::IdError| Error::Invalid(error.to_string()))?)
}

/// Undoes percent-encoding; in a query, `+` is a space.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>()?;
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                decoded.push((digit(0)? * 16 + digit(1)?) as u8);
                rest = behind;
            }
            b'+' if query => decoded.push(b' '),
            byte => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_and_a_broken_one_refused() {
        assert_eq!(decode("urn%3Adev%3d1", false).as_deref(), Some("urn:dev=1"));
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
        for broken in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decode(broken, false), None, "{broken}");
        }
    }

    #[test]
    fn a_slash_in_an_encoded_segment_does_not_split_it() {
        let request = http::Request::get("/v1/devices/a%2Fb/c?x=1&y=a%26b").body(Body::Empty);
        let call = Call::new(request.unwrap()).ok().unwrap();
        assert_eq!(call.path(), ["devices", "a/b", "c"]);
        assert_eq!((call.query("x"), call.query("y")), (Some("1"), Some("a&b")));
    }
}
