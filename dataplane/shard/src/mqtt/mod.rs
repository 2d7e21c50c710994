//! MQTT sessions: the device API of Hono's MQTT adapter, and consumers of telemetry.
//!
//! A session takes one packet at a time and says in a [`Flow`] how to go on. It writes its own answers to the connection's
//! output; whatever concerns others goes through the [`Plane`](crate::plane::Plane).
//!
//! Deliberately not here: MQTT 5, QoS 2, wills, retained messages, stored sessions.

mod connect;
mod publish;
mod session;
mod subscribe;
mod topics;

pub(crate) use session::{Outgoing, Session};
pub(crate) use topics::{decode_request_id, is_response_status};
