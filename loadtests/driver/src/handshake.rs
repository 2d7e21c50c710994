//! What a client says before it is ready: CONNECT, and SUBSCRIBE if it is a subscriber.

use crate::error::LoadError;
use crate::plan::Plan;
use crate::settings::Protocol;
use crate::wire::level;
use fulcrum_mqtt::{
    Connect, EncodeError, Properties, Property, PropertyBuffer, PropertyOwner, ProtocolLevel,
    SubscribeFilter, SubscribeOptions, encode_connect, encode_subscribe, v5,
};

/// How long a session outlives its connection if it does, in seconds (MQTT 5; 3.1.1 has no end).
const SESSION_EXPIRY_S: u32 = 3_600;
/// A client of the driver has one SUBSCRIBE.
const PACKET_ID: u16 = 1;

/// What a connection is for. The numbers are indices in the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher(u32),
    Subscriber(u32),
    Idle,
    /// Subscribes, leaves, and comes not back.
    Offline,
}

impl Role {
    /// What `{role}` stands for.
    pub fn text(self) -> &'static str {
        match self {
            Self::Publisher(_) => "p",
            Self::Subscriber(_) => "s",
            Self::Idle => "c",
            Self::Offline => "offline",
        }
    }
}

/// Client identifier of client `number`.
pub fn client_id(plan: &Plan, role: Role, number: usize) -> String {
    plan.client_id.render(number, &plan.tenant, role.text())
}

/// Appends the CONNECT of client `number`.
///
/// # Errors
/// Names that no packet can carry.
pub fn connect(plan: &Plan, role: Role, number: usize, out: &mut Vec<u8>) -> Result<(), LoadError> {
    let id = client_id(plan, role, number);
    let login = match role {
        Role::Publisher(_) | Role::Idle => &plan.publisher,
        Role::Subscriber(_) | Role::Offline => &plan.subscriber,
    };
    let username =
        login.username.as_ref().map(|name| name.render(number, &plan.tenant, role.text()));
    let stays = role == Role::Offline || plan.persistent;
    let mut properties = PropertyBuffer::new(PropertyOwner::Connect);
    if stays && plan.protocol == Protocol::V5 {
        properties
            .push(Property::SessionExpiryInterval(SESSION_EXPIRY_S))
            .map_err(|source| not_encoded(&id, source))?;
    }
    let packet = Connect {
        level: level(plan.protocol),
        clean_session: !stays,
        keep_alive_s: plan.keep_alive_s,
        client_id: &id,
        will: None,
        username: username.as_deref(),
        // 3.1.1 has no password without a user.
        password: username.as_ref().and(login.password.as_deref()).map(str::as_bytes),
        properties: properties.properties(),
    };
    encode_connect(&packet, out).map_err(|source| not_encoded(&id, source))
}

/// Appends the SUBSCRIBE of client `number`, if it has one to send; says whether it has.
///
/// # Errors
/// A filter that is none.
pub fn subscribe(
    plan: &Plan,
    role: Role,
    number: usize,
    out: &mut Vec<u8>,
) -> Result<bool, LoadError> {
    let filter = match role {
        Role::Publisher(_) | Role::Idle => return Ok(false),
        Role::Subscriber(_) => {
            let filter = plan.filter.render(number, &plan.tenant, role.text());
            match plan.pattern {
                crate::settings::Pattern::Shared => format!("$share/load/{filter}"),
                _ => filter,
            }
        }
        Role::Offline => match &plan.offline_filter {
            Some(filter) => filter.render(number, &plan.tenant, role.text()),
            None => return Ok(false),
        },
    };
    let encoded = match level(plan.protocol) {
        ProtocolLevel::V5 => {
            let options = SubscribeOptions::qos(plan.qos);
            let filters = [SubscribeFilter { filter: &filter, options }];
            v5::encode_subscribe(PACKET_ID, Properties::EMPTY, filters, out)
        }
        _ => encode_subscribe(PACKET_ID, &[(&filter, plan.qos)], out),
    };
    encoded.map(|()| true).map_err(|source| not_encoded(&filter, source))
}

fn not_encoded(client: &str, source: EncodeError) -> LoadError {
    LoadError::Encode { client: client.to_owned(), source }
}
