//! A device over MQTT 3.1.1: readings out, commands in.
//!
//! A small client on the project's own codec, because a ready-made one hides which PUBACK belongs to which message.

use super::device::{ANSWER_TIMEOUT, Broken, Device, Phase};
use fulcrum_mqtt::{
    ConnAckCode, Connect, DecodeContext, Decoded, Packet, Properties, ProtocolLevel, QoS, decode,
    encode_connect, encode_disconnect, encode_pingreq, encode_puback, encode_publish_parts,
    encode_subscribe,
};
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Events a device has under way at a time.
const WINDOW: usize = 8;
/// Every so many readings the device asks whether its telemetry is taken (QoS 1).
const ASK_EVERY: u64 = 4;
/// How long it does not ask after it was refused.
const UNASKED: Duration = Duration::from_secs(4);
const KEEP_ALIVE_S: u16 = 30;
const PACKET_BYTES_MAX: usize = 256 * 1024;
const COMMAND_FILTER: &str = "command///req/#";

/// What a packet identifier was given to.
enum Sent {
    Event(u64),
    Telemetry,
    Response,
}

/// What the node said, as far as a device cares.
enum Incoming {
    Connected,
    Refused(String),
    Subscribed { granted: bool },
    Acknowledged(u16),
    Command { topic: String, payload: Vec<u8>, packet_id: Option<u16> },
    Other,
}

/// One connection from its beginning to its end; `Ok` when the device was told to stop.
pub async fn connection(device: &mut Device) -> Result<(), Broken> {
    let mut wire = Wire::connect(device).await?;
    device.connected();
    let ended = session(&mut wire, device).await;
    let unanswered = wire.sent.values().filter(|(sent, _)| matches!(sent, Sent::Telemetry)).count();
    if ended.is_err() && unanswered > 0 {
        device.ledger.lock().telemetry.refused += unanswered as u64;
        send_unasked(device);
    }
    ended
}

/// A device that asked whether its telemetry is taken, and was refused, does not ask for a while.
fn send_unasked(device: &mut Device) {
    device.unasked_until = Some(Instant::now() + UNASKED);
}

async fn session(wire: &mut Wire, device: &mut Device) -> Result<(), Broken> {
    wire.resend_pending(device).await?;
    let mut tick = interval(device.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pinged = Instant::now();
    loop {
        while let Some(incoming) = wire.next()? {
            wire.handle(incoming, device).await?;
        }
        tokio::select! {
            read = wire.fill() => read?,
            _ = tick.tick() => match device.phase() {
                Phase::Run if device.pending.len() < WINDOW => wire.send_reading(device).await?,
                Phase::Run | Phase::Drain => {}
                Phase::Stop => return wire.disconnect().await,
            },
        }
        wire.check_progress(device)?;
        if pinged.elapsed() > Duration::from_secs(u64::from(KEEP_ALIVE_S) / 2) {
            pinged = Instant::now();
            wire.send(|out| {
                encode_pingreq(out);
                Ok(())
            })
            .await?;
        }
    }
}

struct Wire {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    last_packet_id: u16,
    sent: HashMap<u16, (Sent, Instant)>,
}

impl Wire {
    async fn connect(device: &Device) -> Result<Wire, Broken> {
        let stream =
            timeout(ANSWER_TIMEOUT, TcpStream::connect(device.node)).await.map_err(no_answer)??;
        stream.set_nodelay(true)?;
        let mut wire = Wire {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            last_packet_id: 0,
            sent: HashMap::new(),
        };
        let connect = Connect {
            level: ProtocolLevel::V311,
            clean_session: true,
            keep_alive_s: KEEP_ALIVE_S,
            client_id: device.series.device.as_str(),
            will: None,
            username: Some(&device.username),
            password: Some(device.password.as_bytes()),
            properties: Properties::default(),
        };
        wire.send(|out| encode_connect(&connect, out)).await?;
        match wire.expect().await? {
            Incoming::Connected => {}
            Incoming::Refused(reason) => {
                return Err(Broken(format!("connection refused: {reason}")));
            }
            _ => return Err(Broken("something else than CONNACK came first".to_owned())),
        }
        let packet_id = wire.packet_id();
        wire.send(|out| encode_subscribe(packet_id, &[(COMMAND_FILTER, QoS::AtLeastOnce)], out))
            .await?;
        // Commands that wait for the device may come before the SUBACK.
        loop {
            match wire.expect().await? {
                Incoming::Subscribed { granted: true } => return Ok(wire),
                Incoming::Subscribed { granted: false } => {
                    return Err(Broken("the subscription for commands was refused".to_owned()));
                }
                incoming => wire.handle_command(incoming, device).await?,
            }
        }
    }

    async fn expect(&mut self) -> Result<Incoming, Broken> {
        loop {
            if let Some(incoming) = self.next()? {
                return Ok(incoming);
            }
            timeout(ANSWER_TIMEOUT, self.fill()).await.map_err(no_answer)??;
        }
    }

    async fn resend_pending(&mut self, device: &mut Device) -> Result<(), Broken> {
        for n in device.pending.clone() {
            self.send_event(device, n, true).await?;
        }
        Ok(())
    }

    /// One reading as telemetry and as an event; or, in turn, as telemetry whose acceptance is asked for.
    ///
    /// MQTT 3.1.1 has no refusal of a message: the node ends the connection. So a device asks only while no event is
    /// under way whose acknowledgement that would take.
    async fn send_reading(&mut self, device: &mut Device) -> Result<(), Broken> {
        let telemetry = device.next_telemetry();
        let payload = device.series.payload(telemetry);
        let asks = telemetry.is_multiple_of(ASK_EVERY)
            && device.pending.is_empty()
            && device.unasked_until.is_none_or(|until| until < Instant::now());
        if asks {
            let packet_id = self.packet_id();
            self.sent.insert(packet_id, (Sent::Telemetry, Instant::now()));
            let qos = QoS::AtLeastOnce;
            return self
                .send(|out| {
                    encode_publish_parts(
                        out,
                        "telemetry",
                        qos,
                        Some(packet_id),
                        false,
                        false,
                        &payload,
                    )
                })
                .await;
        }
        self.send(|out| {
            encode_publish_parts(out, "telemetry", QoS::AtMostOnce, None, false, false, &payload)
        })
        .await?;
        let n = device.next_event();
        self.send_event(device, n, false).await
    }

    async fn send_event(&mut self, device: &Device, n: u64, again: bool) -> Result<(), Broken> {
        let packet_id = self.packet_id();
        self.sent.insert(packet_id, (Sent::Event(n), Instant::now()));
        device.ledger.lock().attempt(n);
        let payload = device.series.payload(n);
        let qos = QoS::AtLeastOnce;
        self.send(|out| {
            encode_publish_parts(out, "event", qos, Some(packet_id), false, again, &payload)
        })
        .await
    }

    async fn handle(&mut self, incoming: Incoming, device: &mut Device) -> Result<(), Broken> {
        let Incoming::Acknowledged(packet_id) = incoming else {
            return self.handle_command(incoming, device).await;
        };
        match self.sent.remove(&packet_id) {
            Some((Sent::Event(n), _)) => device.acknowledged(n),
            Some((Sent::Response, _)) => device.ledger.lock().commands_answered += 1,
            Some((Sent::Telemetry, _)) => {}
            None => {
                return Err(Broken(format!("PUBACK for packet {packet_id}, which was never sent")));
            }
        }
        Ok(())
    }

    /// Answers `command///req/{req-id}/{name}`; a one-way command has no req-id and gets no answer.
    async fn handle_command(&mut self, incoming: Incoming, device: &Device) -> Result<(), Broken> {
        let Incoming::Command { topic, payload, packet_id } = incoming else { return Ok(()) };
        if let Some(packet_id) = packet_id {
            self.send(|out| {
                encode_puback(packet_id, out);
                Ok(())
            })
            .await?;
        }
        let mut segments = topic.split('/').skip(4);
        let (request, name) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        if request.is_empty() {
            return Ok(());
        }
        let received = String::from_utf8_lossy(&payload);
        let answer = json!({"device": device.series.device, "command": name, "received": received})
            .to_string();
        let response_id = self.packet_id();
        self.sent.insert(response_id, (Sent::Response, Instant::now()));
        let topic = format!("command///res/{request}/200");
        let payload = answer.as_bytes();
        self.send(|out| {
            encode_publish_parts(
                out,
                &topic,
                QoS::AtLeastOnce,
                Some(response_id),
                false,
                false,
                payload,
            )
        })
        .await
    }

    /// A node that owes an answer for too long is treated as gone. Unanswered telemetry is refused telemetry.
    fn check_progress(&mut self, device: &Device) -> Result<(), Broken> {
        let mut stuck = false;
        self.sent.retain(|_, (sent, at)| {
            let late = at.elapsed() > ANSWER_TIMEOUT;
            match sent {
                Sent::Telemetry if late => {
                    device.ledger.lock().telemetry.refused += 1;
                    false
                }
                _ => {
                    stuck |= late;
                    true
                }
            }
        });
        if stuck { Err(Broken("an acknowledgement is overdue".to_owned())) } else { Ok(()) }
    }

    fn packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if !self.sent.contains_key(&self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }

    async fn send(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), fulcrum_mqtt::EncodeError>,
    ) -> Result<(), Broken> {
        self.outbox.clear();
        encode(&mut self.outbox).map_err(|error| Broken(error.to_string()))?;
        timeout(ANSWER_TIMEOUT, self.stream.write_all(&self.outbox)).await.map_err(no_answer)??;
        Ok(())
    }

    async fn disconnect(&mut self) -> Result<(), Broken> {
        self.send(|out| {
            encode_disconnect(out);
            Ok(())
        })
        .await
    }

    /// Reads what is there; cancelling it loses nothing.
    async fn fill(&mut self) -> Result<(), Broken> {
        match self.stream.read_buf(&mut self.inbox).await? {
            0 => Err(Broken("the node closed the connection".to_owned())),
            _ => Ok(()),
        }
    }

    fn next(&mut self) -> Result<Option<Incoming>, Broken> {
        let context =
            DecodeContext { level: Some(ProtocolLevel::V311), packet_bytes_max: PACKET_BYTES_MAX };
        let decoded = decode(&self.inbox, &context)
            .map_err(|error| Broken(format!("the node sent no valid MQTT: {error}")))?;
        let Decoded::Packet { packet, used } = decoded else { return Ok(None) };
        let incoming = match packet {
            Packet::ConnAck(ack) if ack.code.is_accepted() => Incoming::Connected,
            Packet::ConnAck(ack) => Incoming::Refused(match ack.code {
                ConnAckCode::V311(code) => format!("{code:?}"),
                ConnAckCode::V5(code) => format!("{code:?}"),
            }),
            Packet::PubAck { packet_id, .. } => Incoming::Acknowledged(packet_id),
            Packet::SubAck(ack) => {
                Incoming::Subscribed { granted: ack.codes.iter().all(|code| !code.is_error()) }
            }
            Packet::Publish(publish) => Incoming::Command {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                packet_id: publish.packet_id,
            },
            _ => Incoming::Other,
        };
        self.inbox.drain(..used);
        Ok(Some(incoming))
    }
}

fn no_answer(_: tokio::time::error::Elapsed) -> Broken {
    Broken(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
}
