//! A client that reads what it is sent, and answers it or not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use fulcrum_mqtt::{
    DecodeContext, Decoded, EncodeError, Packet, Properties, ProtocolLevel, QoS, ReasonCode,
    decode, encode_packet, encode_pingreq,
};

/// The node answers within this, whatever the machine is busy with.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Time for the node to answer a client that does not wait for it.
const A_MOMENT: Duration = Duration::from_micros(100);

const PACKET_BYTES_MAX: usize = 1 << 20;

/// How much is read before the client goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// What is there.
    Some,
    /// Until the node has answered a CONNECT or a PINGREQ, or has closed.
    UntilServed,
    /// Until the node has closed.
    UntilClosed,
}

pub(super) struct Client {
    socket: TcpStream,
    level: ProtocolLevel,
    /// What it told the node it takes.
    packet_max: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    closed: bool,
}

impl Client {
    pub(super) fn open(address: SocketAddr, level: ProtocolLevel, packet_max: usize) -> Self {
        let socket = TcpStream::connect(address).expect("the node takes connections");
        socket.set_nodelay(true).expect("a socket option");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let packet_max = if packet_max == 0 { PACKET_BYTES_MAX } else { packet_max };
        let (input, output) = (Vec::new(), Vec::new());
        Self { socket, level, packet_max, input, output, closed: false }
    }

    /// Whether the node has closed the connection.
    pub(super) fn is_gone(&self) -> bool {
        self.closed
    }

    /// Queues a packet, if it can be written: `false` when it cannot.
    pub(super) fn send(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> bool {
        encode(&mut self.output).is_ok()
    }

    /// Queues bytes nobody encoded.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Sends what is queued but for its last bytes, which the node waits for.
    pub(super) fn cut(&mut self, bytes: usize) {
        let kept = self.output.len().saturating_sub(bytes);
        let rest = self.output.split_off(kept);
        self.flush();
        self.output = rest;
    }

    fn flush(&mut self) {
        // The node may have closed: reading says so.
        let _ = self.socket.write_all(&self.output);
        self.output.clear();
    }

    /// Sends what is queued, reads, and answers what is to be answered.
    pub(super) fn answer(&mut self, reading: Reading) {
        self.flush();
        let now = reading == Reading::Some;
        if now {
            std::thread::sleep(A_MOMENT);
        }
        self.socket.set_nonblocking(now).expect("a socket option");
        let mut buffer = [0; 16 * 1024];
        while !self.closed {
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.closed = true;
                    assert!(self.input.is_empty(), "an end within {:02x?}", self.input);
                }
                Ok(bytes) => self.input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    assert!(now, "the node is silent: {reading:?}");
                    break;
                }
                // What was still on its way is gone then.
                Err(_) => self.closed = true,
            }
            let served = self.take_packets();
            self.flush();
            if served && reading == Reading::UntilServed {
                break;
            }
        }
        self.socket.set_nonblocking(false).expect("a socket option");
    }

    /// Whether an answer to CONNECT or PINGREQ was among them.
    fn take_packets(&mut self) -> bool {
        let context = DecodeContext { level: Some(self.level), packet_bytes_max: PACKET_BYTES_MAX };
        let mut served = false;
        let mut read = 0;
        loop {
            let packet = match decode(&self.input[read..], &context) {
                Ok(Decoded::Packet { packet, used }) => {
                    assert!(used <= self.packet_max, "{used} bytes for {packet:?}");
                    read += used;
                    packet
                }
                Ok(Decoded::NeedMore { .. }) => break,
                Err(error) => panic!("the node sent {:02x?}: {error}", &self.input[read..]),
            };
            served |= matches!(packet, Packet::ConnAck(_) | Packet::PingResp);
            if let Some(answer) = answer_to(&packet) {
                encode_packet(&answer, self.level, &mut self.output).expect("an answer is short");
            }
        }
        self.input.drain(..read);
        served
    }

    /// Sees that the node still answers.
    pub(super) fn ping(&mut self, what: &str) {
        encode_pingreq(&mut self.output);
        self.expect_served(what);
    }

    /// Reads the answer to CONNECT or PINGREQ.
    pub(super) fn expect_served(&mut self, what: &str) {
        self.answer(Reading::UntilServed);
        assert!(!self.closed, "{what}");
    }

    /// Ends the connection: at once, or so that all the node has to say is read.
    pub(super) fn hang_up(mut self, at_once: bool) {
        self.flush();
        if !at_once {
            let _ = self.socket.shutdown(Shutdown::Write);
            self.answer(Reading::UntilClosed);
        }
    }
}

fn answer_to<'a>(packet: &Packet<'a>) -> Option<Packet<'a>> {
    let (reason, properties) = (ReasonCode::SUCCESS, Properties::EMPTY);
    match packet {
        Packet::Publish(publish) => {
            let packet_id = publish.packet_id?;
            Some(match publish.qos {
                QoS::ExactlyOnce => Packet::PubRec { packet_id, reason, properties },
                _ => Packet::PubAck { packet_id, reason, properties },
            })
        }
        Packet::PubRec { packet_id, reason: ReasonCode::SUCCESS, .. } => {
            Some(Packet::PubRel { packet_id: *packet_id, reason, properties })
        }
        Packet::PubRel { packet_id, .. } => {
            Some(Packet::PubComp { packet_id: *packet_id, reason, properties })
        }
        _ => None,
    }
}
