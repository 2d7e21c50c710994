//! Connections come and go: attach, detach, take-over, the end of a session.

use std::sync::Arc;
use std::time::Instant;

use crate::{AttachRefused, Ended, Log, SessionKey, Sessions, Will};

/// Who connects, and with which wishes.
#[derive(Debug)]
pub struct Attach<'a> {
    /// The client's tenant.
    pub tenant: &'a Arc<str>,
    /// The client identifier, assigned by the server where the client sent none.
    pub client_id: &'a str,
    /// The login. A session belongs to the one that made it.
    pub principal: &'a str,
    /// Clean Start [MQTT-3.1.2-4], or Clean Session of 3.1.1.
    pub clean_start: bool,
    /// Session expiry interval in seconds, cut to [`Limits::session_expiry_max_s`](crate::Limits). 0 ends the session
    /// with the connection. For 3.1.1: `u32::MAX` for Clean Session 0, else 0.
    pub expiry_s: u32,
    /// The client's receive maximum; 0 counts as 65535, as for 3.1.1.
    pub receive_max: u16,
    /// The connection; unique among those this shard has.
    pub link: u64,
    /// The will of this connection.
    pub will: Option<Will>,
}

/// A session has its connection.
#[derive(Debug)]
pub struct Attached {
    /// The session's key. It stays the same as long as the session lives.
    pub key: SessionKey,
    /// Session Present [MQTT-3.2.2-2], [MQTT-3.2.2-3].
    pub present: bool,
    /// The older connection; it gets DISCONNECT 0x8E and is closed [MQTT-3.1.4-3].
    pub taken_over: Option<u64>,
    /// The older session, which this connection did not continue.
    pub ended: Option<Ended>,
    /// The older connection's will, where the session continues and the will had no delay.
    pub will_due: Option<Will>,
    /// CONNACK leaves when this is durable.
    pub ticket: Option<u64>,
}

/// How a connection ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Leave {
    /// False after DISCONNECT with reason 0x00, which drops the will [MQTT-3.14.4-3].
    pub keep_will: bool,
    /// The session expiry interval of the DISCONNECT, where it had one.
    pub expiry_s: Option<u32>,
}

/// A connection is gone.
#[derive(Debug, Default)]
pub struct Detached {
    /// The session, if it ended with its connection.
    pub ended: Option<Ended>,
    /// The will to publish now, if the session lives on.
    pub will_due: Option<Will>,
}

impl Sessions {
    /// Gives a client its session: the one it has, or a new one. A refusal changes nothing.
    ///
    /// # Errors
    /// See [`AttachRefused`].
    pub fn attach(
        &mut self,
        log: &mut (impl Log + ?Sized),
        who: Attach<'_>,
        now: Instant,
        now_ms: u64,
    ) -> Result<Attached, AttachRefused> {
        let _ = (log, who, now, now_ms);
        Err(AttachRefused::TooManySessions)
    }

    /// A connection is gone: starts the session's expiry and the will's delay [MQTT-3.1.3-9]. Does nothing unless
    /// `link` is the session's connection.
    pub fn detach(
        &mut self,
        log: &mut (impl Log + ?Sized),
        key: SessionKey,
        link: u64,
        how: Leave,
        now: Instant,
        now_ms: u64,
    ) -> Detached {
        let _ = (log, key, link, how, now, now_ms);
        Detached::default()
    }

    /// Ends a session by decision of the node or its operator, connected or not.
    pub fn end(&mut self, log: &mut (impl Log + ?Sized), key: SessionKey) -> Option<Ended> {
        let _ = (log, key);
        None
    }

    /// Ends every session a principal has: its login was taken away.
    pub fn forget_principal(
        &mut self,
        log: &mut (impl Log + ?Sized),
        tenant: &str,
        principal: &str,
    ) -> Vec<Ended> {
        let _ = (log, tenant, principal);
        Vec::new()
    }

    /// Ends every session of a tenant and drops what it retained: the tenant was deleted.
    pub fn forget_tenant(&mut self, log: &mut (impl Log + ?Sized), tenant: &str) -> Vec<Ended> {
        let _ = (log, tenant);
        Vec::new()
    }
}
