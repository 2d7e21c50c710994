//! What a command request must look like, and the command made of it.

use crate::Error;
use fulcrum_contract::CommandId;
use fulcrum_contract::commands::{Command, CommandRequest};

/// Largest payload of a command, in bytes: it is kept in a store's item and in the edge's memory.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Longest subject and media type, in bytes: the subject is a level of an MQTT topic.
const TEXT_BYTES_MAX: usize = 255;

pub(super) fn check(request: &CommandRequest) -> Result<(), Error> {
    let subject = &request.subject;
    let topic_special = |c: char| c.is_control() || matches!(c, '+' | '#');
    if subject.is_empty() || subject.len() > TEXT_BYTES_MAX || subject.contains(topic_special) {
        return Err(Error::Invalid(
            "'subject' must have 1 to 255 bytes, without control characters, '+' and '#'"
                .to_owned(),
        ));
    }
    if let Some(content_type) = &request.content_type
        && (content_type.len() > TEXT_BYTES_MAX || content_type.contains(char::is_control))
    {
        return Err(Error::Invalid(
            "'contentType' must be a media type of at most 255 bytes".to_owned(),
        ));
    }
    if request.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the payload has {} bytes, a command takes at most {PAYLOAD_BYTES_MAX}",
            request.payload.len()
        )));
    }
    Ok(())
}

pub(super) fn command(
    request: &CommandRequest,
    id: &CommandId,
    sequence: u64,
    now_ms: u64,
) -> Command {
    let within_ms = request.deliver_within_s.map(|within_s| u64::from(within_s) * 1000);
    Command {
        id: id.clone(),
        sequence,
        subject: request.subject.clone(),
        response_required: request.response_required,
        content_type: request.content_type.clone(),
        payload: request.payload.clone(),
        created_ms: now_ms,
        deliver_by_ms: within_ms.map(|within_ms| now_ms.saturating_add(within_ms)),
    }
}
