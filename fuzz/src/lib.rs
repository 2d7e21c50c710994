//! The fuzz targets, each a module with `run`: libFuzzer calls it through `fuzz_targets/`, and `tests/corpora.rs` calls
//! it with the kept inputs on any compiler.
//!
//! A target that finds something panics. What each holds is said at its top.

pub mod amqp_connection;
pub mod amqp_frame;
pub mod amqp_message;
#[path = "../../dataplane/wire/amqp/tests/rebuild/mod.rs"]
mod amqp_rebuild;
pub mod amqp_value;
pub mod frame_decode;
pub mod http_decode;
pub mod journal_recover;
pub mod mqtt_decode;
pub mod mqtt_encode;
pub mod packets;
pub mod proxy;
pub mod script;
pub mod seeds;
pub mod session;
pub mod session_records;
pub mod topics;
pub mod transport;
pub mod websocket;

/// A target's name, which is also the folder of its corpus, and what takes an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 15] = [
    ("amqp_connection", amqp_connection::run),
    ("amqp_frame", amqp_frame::run),
    ("amqp_message", amqp_message::run),
    ("amqp_value", amqp_value::run),
    ("frame_decode", frame_decode::run),
    ("http_decode", http_decode::run),
    ("journal_recover", journal_recover::run),
    ("mqtt_decode", mqtt_decode::run),
    ("mqtt_encode", mqtt_encode::run),
    ("proxy", proxy::run),
    ("session", session::run),
    ("session_records", session_records::run),
    ("topics", topics::run),
    ("transport", transport::run),
    ("websocket", websocket::run),
];
