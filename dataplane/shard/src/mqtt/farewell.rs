//! DISCONNECT, and AUTH on an open connection.

use super::connect::JWT_METHOD;
use super::session::Session;
use crate::connections::Hold;
use crate::flow::Flow;
use crate::identity::{Adapter, Login, Password, Principal, Refusal};
use crate::ports::Ticket;
use crate::turn::Turn;
use fulcrum_mqtt::{
    Properties, Property, PropertyBuffer, PropertyOwner, ProtocolLevel, ReasonCode, v5,
};

impl Session {
    /// The client leaves. The will is dropped if it says "normal disconnection" [MQTT-3.1.2-10] [MQTT5-3.14.4-3].
    pub(super) fn take_disconnect(
        &mut self,
        turn: &mut Turn<'_, '_>,
        reason: ReasonCode,
        properties: Properties<'_>,
    ) -> Flow {
        let expiry_s = properties.iter().find_map(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        });
        let was_durable = turn.plane.broker.sessions.is_durable(self.session);
        if !was_durable && expiry_s.is_some_and(|seconds| seconds > 0) {
            // A session that was to end with its connection cannot be kept now (MQTT 5, 3.14.2.2.2).
            return self.break_off(turn, ReasonCode::PROTOCOL_ERROR);
        }
        let normal =
            self.level == ProtocolLevel::V311 || reason == ReasonCode::NORMAL_DISCONNECTION;
        self.leave.keep_will = !normal;
        self.leave.expiry_s = expiry_s;
        Flow::End
    }

    /// The client shows a fresh token before the old one is over (MQTT 5, 4.12.1).
    pub(super) fn take_auth(
        &mut self,
        turn: &mut Turn<'_, '_>,
        reason: ReasonCode,
        properties: Properties<'_>,
    ) -> Flow {
        let (mut method, mut data) = (None, None);
        for property in &properties {
            match property {
                Property::AuthenticationMethod(name) => method = Some(name),
                Property::AuthenticationData(shown) => data = Some(shown.0),
                _ => {}
            }
        }
        // The method is the one of the CONNECT [MQTT5-4.12.1-1]; without one there is no AUTH [MQTT5-4.12.0-6].
        let same = self.shows_tokens && method == Some(JWT_METHOD);
        let (true, ReasonCode::REAUTHENTICATE, Some(token)) = (same, reason, data) else {
            return self.break_off(turn, ReasonCode::PROTOCOL_ERROR);
        };
        let login = Login::Password {
            username: String::new(),
            password: Password::new(token),
            client_id: self.client_id_of(turn.plane).unwrap_or_default(),
        };
        let ticket = Ticket(turn.wire.key.0);
        match turn.plane.registry.authenticate(ticket, Adapter::Mqtt, login) {
            Ok(None) => {
                self.asking_since = Some(turn.plane.now);
                Flow::Hold(Hold::Registry)
            }
            Ok(Some(principal)) => match self.authenticated_again(turn, Ok(principal)) {
                true => Flow::Next,
                false => Flow::End,
            },
            Err(_) => self.end_with(turn, ReasonCode::SERVER_BUSY),
        }
    }

    /// The registry's answer to that. False: the connection ends.
    pub(super) fn authenticated_again(
        &mut self,
        turn: &mut Turn<'_, '_>,
        result: Result<Principal, Refusal>,
    ) -> bool {
        self.asking_since = None;
        let same = |fresh: &Principal| {
            self.principal().is_some_and(|known| {
                known.tenant == fresh.tenant && known.name == fresh.name && known.role == fresh.role
            })
        };
        match result {
            Ok(fresh) if same(&fresh) => {
                // What was found out under the old rights is found out again.
                self.route = None;
                turn.plane.prune_subscriptions(self.session, &fresh.messaging);
                self.admit(turn.plane, fresh);
                turn.plane.watching.push(turn.wire.key);
                let mut properties = PropertyBuffer::new(PropertyOwner::Auth);
                // One property, permitted there.
                let _ = properties.push(Property::AuthenticationMethod(JWT_METHOD));
                if let Some(output) = turn.output() {
                    let properties = properties.properties();
                    let _ = v5::encode_auth(ReasonCode::SUCCESS, properties, output);
                }
                true
            }
            refused => {
                if let Err(refusal) = refused {
                    turn.plane.count_refusal(refusal);
                }
                self.end_with(turn, ReasonCode::NOT_AUTHORIZED);
                false
            }
        }
    }
}
