//! MQTT sessions, 3.1.1 and 5: two faces on one listener.
//!
//! - The *device API*: topics of Hono's MQTT adapter, consumers of telemetry. Clean sessions, no wills, QoS 0 and 1.
//! - *Messaging*: every other topic, as far as the tenant has declared an address there; see [`crate::broker`].
//!
//! A session takes one packet at a time and says in a [`Flow`](crate::flow::Flow) how to go on. It writes its own answers
//! to the connection's output; whatever concerns others goes through the [`Plane`](crate::plane::Plane).

mod alias;
mod answers;
mod connect;
mod content;
mod device_bag;
mod device_errors;
mod device_publish;
mod device_subscribe;
mod farewell;
mod publish;
mod reply;
mod session;
mod subscribe;
mod topics;

pub(crate) use connect::Counted;
pub(crate) use content::{Alias, Content, Recipient};
pub(crate) use device_errors::{Failure, Sequel};
pub(crate) use reply::{put_disconnect, put_pubcomp, put_pubrel};
pub(crate) use session::{Outgoing, Session};
pub(crate) use topics::{
    PublishTopic, TopicError, decode_request_id, is_response_status, parse_publish,
};
