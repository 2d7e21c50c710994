//! Answers: JSON documents, empty successes, refusals.

use fulcrum_contract::ErrorBody;
use fulcrum_domain::Error;
use fulcrum_domain::registry::{Etag, Listed};
use http::header::{
    ALLOW, CONTENT_TYPE, ETAG, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, Response, StatusCode};
use lambda_http::Body;
use serde::Serialize;
use std::convert::Infallible;

/// What a handler answers: always a response.
pub type Answer = Result<Response<Body>, Infallible>;

/// A response, or why there is none.
pub type Outcome = Result<Response<Body>, Refusal>;

/// Why a request was not done.
pub enum Refusal {
    /// The rules refused it.
    Rule(Error),
    /// No function has this path.
    NoSuchPath,
    /// The path has no such method; these it has.
    Method(&'static str),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Rule(error)
    }
}

/// Makes the answer of an outcome.
pub fn answer(outcome: Outcome) -> Answer {
    Ok(outcome.unwrap_or_else(refusal))
}

fn refusal(refusal: Refusal) -> Response<Body> {
    let error = match refusal {
        Refusal::Rule(error) => error,
        Refusal::NoSuchPath => {
            return error_body(StatusCode::NOT_FOUND, "there is nothing at this path");
        }
        Refusal::Method(allowed) => {
            let text = format!("the path takes {allowed} only");
            let response = error_body(StatusCode::METHOD_NOT_ALLOWED, &text);
            return with_header(response, ALLOW, allowed);
        }
    };
    if let Error::Unavailable(cause) = &error {
        tracing::error!(cause, "the store failed");
    }
    let status = match &error {
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Exists(_) => StatusCode::CONFLICT,
        Error::Stale => StatusCode::PRECONDITION_FAILED,
        Error::Limit(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::Busy | Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let response = error_body(status, &error.to_string());
    match status {
        StatusCode::UNAUTHORIZED => {
            with_header(response, WWW_AUTHENTICATE, "Basic realm=\"fulcrum\", Bearer")
        }
        StatusCode::SERVICE_UNAVAILABLE => with_header(response, RETRY_AFTER, "1"),
        _ => response,
    }
}

/// A refusal in the API's form.
pub fn error_body(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &ErrorBody { error: text.to_owned() })
}

/// A JSON document.
pub fn json<T: Serialize>(status: StatusCode, document: &T) -> Response<Body> {
    let text = serde_json::to_string(document).expect("answers are plain data with text keys");
    let mut response = Response::new(Body::Text(text));
    *response.status_mut() = status;
    with_header(response, CONTENT_TYPE, "application/json")
}

/// 204.
pub fn done() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds the document's version.
pub fn with_etag(response: Response<Body>, etag: Etag) -> Response<Body> {
    with_header(response, ETAG, &etag.to_string())
}

/// Adds where the new thing is: relative, as Hono has it.
pub fn with_location(response: Response<Body>, location: &str) -> Response<Body> {
    with_header(response, LOCATION, location)
}

fn with_header(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    // Values are made of identifiers and constants: all of them header text.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// An entry of a list: its id beside its document's members.
#[derive(Serialize)]
pub struct Named<T> {
    id: String,
    #[serde(flatten)]
    document: T,
}

#[derive(Serialize)]
struct List<T> {
    total: usize,
    result: Vec<T>,
}

/// A list in the registry's form; nothing found is 404, as in Hono.
pub fn list<T: Serialize>(listed: Listed<T>) -> Outcome {
    let Listed { total, result } = listed;
    if total == 0 {
        return Err(Error::NotFound("nothing was found".to_owned()).into());
    }
    Ok(json(StatusCode::OK, &List { total, result }))
}

/// A list of documents with their ids.
pub fn named_list<T: Serialize>(listed: Listed<(String, T)>) -> Outcome {
    let name = |(id, document)| Named { id, document };
    let result = listed.result.into_iter().map(name).collect();
    list(Listed { total: listed.total, result })
}
