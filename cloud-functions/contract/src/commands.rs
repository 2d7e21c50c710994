//! Commands from applications to devices, and what becomes of them.

use crate::ids::{CommandId, DeviceId, TenantId};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/commands/{tenant}/{device}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandRequest {
    /// The command's name.
    pub subject: String,
    /// Whether the device is to answer. Default false: one-way.
    #[serde(default)]
    pub response_required: bool,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Payload, Base64.
    #[serde(default, with = "crate::base64_bytes")]
    pub payload: Vec<u8>,
    /// Seconds until an undelivered command expires; none means it waits for the device however long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_within_s: Option<u32>,
    /// Id given by the application, so that a repeated request makes no second command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
}

/// A command as the feed carries it to the edge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Its id; also the correlation id of the response.
    pub id: CommandId,
    /// Order among the commands of one device.
    pub sequence: u64,
    /// The command's name.
    pub subject: String,
    /// Whether the device is to answer.
    pub response_required: bool,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Payload, Base64.
    #[serde(default, with = "crate::base64_bytes")]
    pub payload: Vec<u8>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch after which it is not delivered any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by_ms: Option<u64>,
}

/// What has become of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandState {
    /// Kept by the cloud side; no edge is known to have the device.
    Stored,
    /// On its way to, or waiting on, the device's edge node.
    Queued,
    /// The device has taken it.
    Delivered,
    /// The device has answered with a status of 2xx.
    Succeeded,
    /// The device has answered with a status of 4xx or 5xx.
    Failed,
    /// Nobody took it in time.
    Expired,
}

impl CommandState {
    /// Whether nothing more will happen. A one-way command ends with `Delivered`.
    pub fn is_final(self, response_required: bool) -> bool {
        match self {
            CommandState::Stored | CommandState::Queued => false,
            CommandState::Delivered => !response_required,
            CommandState::Succeeded | CommandState::Failed | CommandState::Expired => true,
        }
    }
}

/// Status codes a `command_status` frame carries.
pub mod delivery_status {
    /// The device has taken the command.
    pub const DELIVERED: u16 = 200;
    /// The command's time was over before the device could take it.
    pub const EXPIRED: u16 = 410;
}

/// Answer to sending or looking up a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandView {
    /// Its id.
    pub id: CommandId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its device.
    pub device: DeviceId,
    /// Its name.
    pub subject: String,
    /// Whether the device is to answer.
    pub response_required: bool,
    /// What has become of it.
    pub state: CommandState,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The answer, once there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<CommandResponse>,
}

/// A device's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandResponse {
    /// 200-299 or 400-599.
    pub status: u16,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Payload, Base64.
    #[serde(default, with = "crate::base64_bytes")]
    pub payload: Vec<u8>,
}
