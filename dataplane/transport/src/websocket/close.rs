//! Close codes (RFC 6455 section 7.4).

use crate::TransportError;

pub(super) const NORMAL: u16 = 1000;
pub(super) const PROTOCOL_ERROR: u16 = 1002;
pub(super) const UNSUPPORTED: u16 = 1003;
pub(super) const INVALID_TEXT: u16 = 1007;
pub(super) const TOO_BIG: u16 = 1009;

/// A client's close frame: its code, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Close(Option<u16>);

impl Close {
    /// The answer repeats the code (section 5.5.1).
    pub(super) fn answer(self) -> Option<u16> {
        self.0
    }
}

pub(super) fn check_close_payload(payload: &[u8]) -> Result<Close, TransportError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Close(None)),
            _ => Err(violation("a close frame has half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    // The others are reserved, or must not appear in a frame (1004, 1005, 1006, 1015).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(violation("a close frame has a code that cannot be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(TransportError::WebSocket {
            code: INVALID_TEXT,
            reason: "a close frame's text is not UTF-8",
        });
    }
    Ok(Close(Some(code)))
}

pub(super) fn violation(reason: &'static str) -> TransportError {
    TransportError::WebSocket { code: PROTOCOL_ERROR, reason }
}
