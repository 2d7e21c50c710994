//! Why a request was refused, and the status that says so.

/// A request that cannot be served; the connection has to be closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no request, or one that could be read in two ways.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The request line and header fields are over the limit.
    #[error("the request head is over the limit: send fewer or shorter header fields")]
    HeadTooLarge,
    /// The body is over the limit.
    #[error("the request body is over the limit: send a smaller message")]
    BodyTooLarge,
    /// An expectation other than 100-continue (RFC 9110 section 10.1.1).
    #[error("the expectation is not supported: leave out the Expect field")]
    ExpectationFailed,
    /// A transfer coding other than chunked (RFC 9112 section 6.1).
    #[error("the transfer coding is not supported: use chunked or Content-Length")]
    UnsupportedTransferEncoding,
    /// A protocol version other than HTTP/1.0 and HTTP/1.1.
    #[error("the HTTP version is not supported: use HTTP/1.1")]
    VersionNotSupported,
}

impl DecodeError {
    /// The status code of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::BodyTooLarge => 413,
            Self::ExpectationFailed => 417,
            Self::HeadTooLarge => 431,
            Self::UnsupportedTransferEncoding => 501,
            Self::VersionNotSupported => 505,
        }
    }
}
