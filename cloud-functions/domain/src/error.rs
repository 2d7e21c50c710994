//! What an operation can answer instead of its result.

use crate::store::StoreError;

/// Why an operation was refused. The text goes to the client: what happened, to what, what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a rule of form (400).
    #[error("{0}")]
    Invalid(String),
    /// Nobody, or nobody known (401).
    #[error("{0}")]
    Unauthorized(&'static str),
    /// Somebody known who may not (403).
    #[error("{0}")]
    Forbidden(String),
    /// No such thing (404).
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or differently (409).
    #[error("{0}")]
    Exists(String),
    /// `If-Match` names another version (412).
    #[error("it was changed meanwhile: read it again and repeat with the new ETag in If-Match")]
    Stale,
    /// A limit of the service (429).
    #[error("{0}")]
    Limit(String),
    /// Too many writers on one thing (503).
    #[error("too many changes at once: repeat the request in a moment")]
    Busy,
    /// The store does not answer (503); the cause is for the log.
    #[error("the store does not answer: repeat the request in a moment")]
    Unavailable(String),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Error::Busy,
            StoreError::Unavailable(cause) => Error::Unavailable(cause),
        }
    }
}

impl Error {
    pub(crate) fn invalid(error: impl std::fmt::Display) -> Error {
        Error::Invalid(error.to_string())
    }
}
