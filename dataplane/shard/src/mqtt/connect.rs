//! CONNECT: who is it, and may it.

use super::session::{Phase, Session};
use crate::connections::{Hold, Key};
use crate::flow::Flow;
use crate::identity::{Adapter, Login, Password, Principal, Refusal};
use crate::message::PeerMessage;
use crate::plane::Plane;
use crate::ports::Ticket;
use fulcrum_mqtt::{
    Connect, ConnectReturnCode, Properties, ProtocolLevel, ReasonCode, encode_connack, v5,
};
use fulcrum_ring::{ConnectionId, Io};
use fulcrum_router::{LinkId, owner};
use std::sync::Arc;
use std::time::Duration;

/// Longest client identifier, in bytes: it is kept in memory on two shards.
const CLIENT_ID_BYTES_MAX: usize = 1024;

impl Session {
    /// A will is read and ignored, as Hono does. There are no stored sessions: a client that asks for one is told
    /// "no session present" and gets a clean one.
    pub(super) fn connect(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        (key, id): (Key, ConnectionId),
        connect: &Connect<'_>,
    ) -> Flow {
        if connect.level == ProtocolLevel::V5 {
            plane.metrics.protocol_errors.add(1);
            if let Some(output) = io.output(id) {
                let reason = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
                // Fails on impossible property sets alone; this one is empty.
                let _ = v5::encode_connack(false, reason, Properties::default(), output);
            }
            return Flow::End;
        }
        if connect.client_id.len() > CLIENT_ID_BYTES_MAX {
            return refuse(io, id, ConnectReturnCode::IdentifierRejected);
        }
        if plane.draining {
            return refuse(io, id, ConnectReturnCode::ServerUnavailable);
        }
        let (Some(username), Some(password)) = (connect.username, connect.password) else {
            plane.count_refusal(Refusal::BadCredentials);
            return refuse(io, id, ConnectReturnCode::BadUserNameOrPassword);
        };
        let login = Login::Password {
            username: username.to_owned(),
            password: Password::new(password),
            client_id: connect.client_id.to_owned(),
        };
        let ticket = Ticket(key.0);
        if plane.registry.authenticate(ticket, Adapter::Mqtt, login).is_err() {
            plane.count_refusal(Refusal::Unavailable);
            return refuse(io, id, ConnectReturnCode::ServerUnavailable);
        }
        self.client_id = connect.client_id.into();
        self.keep_alive = Duration::from_secs(u64::from(connect.keep_alive_s));
        self.asked_version = plane.identity_version;
        self.phase = Phase::Authenticating { since: plane.now };
        Flow::Hold(Hold::Registry)
    }

    /// The registry's answer. False: the connection ends.
    pub(crate) fn authenticated(
        &mut self,
        plane: &mut Plane,
        io: &mut Io<'_>,
        (key, id): (Key, ConnectionId),
        result: Result<Principal, Refusal>,
    ) -> bool {
        let principal = match result {
            Ok(principal) => principal,
            Err(refusal) => {
                plane.count_refusal(refusal);
                refuse(io, id, connack_code(refusal));
                return false;
            }
        };
        if !self.client_id.is_empty() {
            let (tenant, client_id) = (principal.tenant.clone(), self.client_id.clone());
            plane.claim(tenant, client_id, plane.link(key));
        }
        self.phase = Phase::Connected(principal);
        if self.asked_version != plane.identity_version {
            // It may have been evicted before it was there.
            plane.recheck(key);
        }
        plane.metrics.connections_authenticated.add(1);
        let Some(output) = io.output(id) else { return false };
        encode_connack(false, ConnectReturnCode::Accepted, output);
        true
    }
}

impl Session {
    /// The registry has not answered in time; the connection ends.
    pub(crate) fn registry_is_silent(&self, io: &mut Io<'_>, id: ConnectionId) {
        if let Phase::Authenticating { .. } = self.phase {
            refuse(io, id, ConnectReturnCode::ServerUnavailable);
        }
        io.close(id);
    }
}

/// Codes of Hono's MQTT adapter (facts of its connection handling, 3.1.1 column).
fn connack_code(refusal: Refusal) -> ConnectReturnCode {
    match refusal {
        Refusal::BadCredentials => ConnectReturnCode::BadUserNameOrPassword,
        Refusal::Forbidden | Refusal::NotFound => ConnectReturnCode::NotAuthorized,
        Refusal::Unavailable => ConnectReturnCode::ServerUnavailable,
    }
}

fn refuse(io: &mut Io<'_>, id: ConnectionId, code: ConnectReturnCode) -> Flow {
    if let Some(output) = io.output(id) {
        encode_connack(false, code, output);
    }
    Flow::End
}

impl Plane {
    /// `link` bears the client id from now on; an older connection with it ends [MQTT-3.1.4-2].
    pub(crate) fn claim(&mut self, tenant: Arc<str>, client_id: Box<str>, link: LinkId) {
        let shard = owner(&[&tenant, &client_id], self.outbox.shards());
        if shard != self.index {
            return self.outbox.tell(shard, PeerMessage::Claim { tenant, client_id, link });
        }
        let Some(old) = self.clients.insert((tenant, client_id), link) else { return };
        if old.shard == self.index {
            self.ending.push(Key(old.key));
        } else {
            self.outbox.tell(old.shard, PeerMessage::TakenOver { link: old });
        }
    }

    /// `link` is gone.
    pub(crate) fn unclaim(&mut self, tenant: Arc<str>, client_id: Box<str>, link: LinkId) {
        let name = (tenant, client_id);
        if self.clients.get(&name) == Some(&link) {
            self.clients.remove(&name);
        }
    }
}
