//! What a listener's connections pass through.

use std::sync::Arc;

use crate::ServerTls;

/// What a listener's connections pass through, outermost first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The connection begins with a PROXY protocol header, version 2 or 1. Without it the connection
    /// is refused.
    pub proxy: bool,
    /// TLS, with these certificates.
    pub tls: Option<Arc<ServerTls>>,
    /// MQTT over WebSocket (RFC 6455, [MQTT-6.0.0-1]).
    pub websocket: Option<WebSocketSettings>,
}

impl Layers {
    /// Whether socket bytes are protocol bytes: such connections need no [`crate::Stack`].
    pub fn is_plain(&self) -> bool {
        !self.proxy && self.tls.is_none() && self.websocket.is_none()
    }
}

/// How a listener speaks WebSocket. The subprotocols are always `mqtt` and `mqttv3.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The path of the request's target, for instance `/mqtt`. Other paths get 404.
    pub path: Arc<str>,
    /// The largest message a client may send, in bytes, over all its fragments. Larger ones end the
    /// connection with code 1009. Nothing of this size is ever buffered: it bounds what one message may be.
    pub message_bytes_max: u64,
}

impl Default for WebSocketSettings {
    /// `/mqtt`, and messages as large as MQTT's largest packet.
    fn default() -> Self {
        Self { path: Arc::from("/mqtt"), message_bytes_max: 268_435_455 + 5 }
    }
}
