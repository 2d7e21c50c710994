//! Getting a connection ready, blocking and one after the other: nothing of it is measured.

use crate::error::LoadError;
use crate::settings::{Login, Target};
use fulcrum_mqtt::{
    Connect, DecodeContext, Decoded, Packet, Properties, ProtocolLevel, QoS, decode,
    encode_connect, encode_disconnect, encode_subscribe,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A slow password hash of the broker under test must fit in.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Answers of a broker in the handshake are a few bytes.
const ANSWER_BYTES_MAX: usize = 1 << 16;

/// Who connects, for CONNECT and for messages.
pub struct Client<'a> {
    /// Client identifier.
    pub id: String,
    /// User and password.
    pub login: &'a Login,
    /// What `{i}` is in the user's name.
    pub index: usize,
    /// Whether the session ends with the connection.
    pub clean_session: bool,
}

/// Connects and waits for the acceptance. The stream is blocking.
///
/// # Errors
/// No connection, no answer, or a refusal.
pub fn connect(target: &Target, client: &Client<'_>) -> Result<TcpStream, LoadError> {
    let address = format!("{}:{}", target.host, target.port);
    let prepared = TcpStream::connect(&address).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(stream)
    });
    let mut stream = prepared.map_err(|source| LoadError::Connect { address, source })?;
    let username =
        client.login.username.as_ref().map(|name| name.render(client.index, &target.tenant));
    let packet = Connect {
        level: ProtocolLevel::V311,
        clean_session: client.clean_session,
        keep_alive_s: target.keep_alive_s,
        client_id: &client.id,
        will: None,
        username: username.as_deref(),
        password: client.login.password.as_deref().map(str::as_bytes),
        properties: Properties::EMPTY,
    };
    let mut out = Vec::new();
    encode_connect(&packet, &mut out).map_err(|source| not_encoded(client, source))?;
    exchange(&mut stream, &out, client, "CONNACK", |packet| match packet {
        Packet::ConnAck(answer) if answer.code.is_accepted() => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(stream)
}

/// Subscribes and waits for the grant.
///
/// # Errors
/// No answer, or a refusal.
pub fn subscribe(
    stream: &mut TcpStream,
    client: &Client<'_>,
    filter: &str,
    qos: QoS,
) -> Result<(), LoadError> {
    let mut out = Vec::new();
    encode_subscribe(1, &[(filter, qos)], &mut out)
        .map_err(|source| not_encoded(client, source))?;
    exchange(stream, &out, client, "SUBACK", |packet| match packet {
        Packet::SubAck(answer) if answer.codes.iter().all(|code| code.as_u8() <= 2) => Ok(()),
        other => Err(format!("{filter}: {other:?}")),
    })
}

/// Leaves a session behind that is subscribed to `filter` with QoS 1.
///
/// # Errors
/// As [`connect`] and [`subscribe`].
pub fn leave_offline_session(
    target: &Target,
    login: &Login,
    filter: &str,
) -> Result<(), LoadError> {
    let client = Client { id: "load-offline".to_owned(), login, index: 0, clean_session: false };
    let mut stream = connect(target, &client)?;
    subscribe(&mut stream, &client, filter, QoS::AtLeastOnce)?;
    let mut out = Vec::new();
    encode_disconnect(&mut out);
    stream.write_all(&out).map_err(|source| unanswered(&client, "orderly end", source))
}

/// Sends `request` and judges the one packet that comes back.
fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    client: &Client<'_>,
    wanted: &'static str,
    judge: impl Fn(&Packet<'_>) -> Result<(), String>,
) -> Result<(), LoadError> {
    stream.write_all(request).map_err(|source| unanswered(client, wanted, source))?;
    let context =
        DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max: ANSWER_BYTES_MAX };
    let mut bytes = Vec::new();
    loop {
        // The exact number of bytes of the answer: what follows belongs to the measured stream.
        let at_least = match decode(&bytes, &context) {
            Ok(Decoded::Packet { packet, .. }) => {
                return judge(&packet)
                    .map_err(|reason| LoadError::Refused { client: client.id.clone(), reason });
            }
            Ok(Decoded::NeedMore { at_least }) => at_least,
            Err(error) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, error);
                return Err(unanswered(client, wanted, source));
            }
        };
        let start = bytes.len();
        bytes.resize(at_least, 0);
        stream
            .read_exact(&mut bytes[start..])
            .map_err(|source| unanswered(client, wanted, source))?;
    }
}

fn unanswered(client: &Client<'_>, wanted: &'static str, source: io::Error) -> LoadError {
    LoadError::Handshake { client: client.id.clone(), wanted, source }
}

fn not_encoded(client: &Client<'_>, source: fulcrum_mqtt::EncodeError) -> LoadError {
    LoadError::Encode { client: client.id.clone(), source }
}
