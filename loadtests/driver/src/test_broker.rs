//! A broker for the driver's own tests: exact topics, QoS 0 and 1, one thread for each connection,
//! and faults on demand.

use fulcrum_mqtt::{
    ConnectReturnCode, DecodeContext, Decoded, Packet, ProtocolLevel, ReasonCode, decode,
    encode_connack, encode_packet, encode_puback, encode_suback,
};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the broker does wrong.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Drops each n-th message of a connection instead of forwarding or acknowledging it.
    pub drops_each: Option<u64>,
    /// Forwards each n-th message of a connection twice.
    pub repeats_each: Option<u64>,
    /// Refuses every CONNECT.
    pub refuses: bool,
    /// Closes a publisher's connection at its n-th message.
    pub closes_at: Option<u64>,
}

type Subscriptions = Arc<Mutex<HashMap<String, TcpStream>>>;

/// Starts the broker on an ephemeral port, which is returned. Its threads end with the process.
pub fn start(faults: Faults) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let subscriptions = Subscriptions::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, subscriptions) = (stream.unwrap(), subscriptions.clone());
            std::thread::spawn(move || serve(stream, &subscriptions, faults));
        }
    });
    port
}

fn serve(mut stream: TcpStream, subscriptions: &Subscriptions, faults: Faults) -> Option<()> {
    let mut context = DecodeContext { level: None, packet_bytes_max: 1 << 20 };
    let (mut unread, mut chunk, mut count) = (Vec::new(), [0; 65_536], 0_u64);
    loop {
        let mut at = 0;
        while let Decoded::Packet { packet, used } = decode(&unread[at..], &context).ok()? {
            at += used;
            let mut answer = Vec::new();
            match packet {
                Packet::Connect(_) => {
                    context.level = Some(ProtocolLevel::V311);
                    let code = match faults.refuses {
                        true => ConnectReturnCode::NotAuthorized,
                        false => ConnectReturnCode::Accepted,
                    };
                    encode_connack(false, code, &mut answer);
                }
                Packet::Subscribe(subscribe) => {
                    let filter = subscribe.filters().next()?.filter.to_owned();
                    subscriptions.lock().unwrap().insert(filter, stream.try_clone().unwrap());
                    encode_suback(subscribe.packet_id, &[ReasonCode::SUCCESS], &mut answer).ok()?;
                }
                Packet::Publish(publish) => {
                    count += 1;
                    if faults.closes_at == Some(count) {
                        return None;
                    }
                    if faults.drops_each.is_some_and(|each| count.is_multiple_of(each)) {
                        continue;
                    }
                    if let Some(packet_id) = publish.packet_id {
                        encode_puback(packet_id, &mut answer);
                    }
                    let mut forward = Vec::new();
                    encode_packet(&packet, ProtocolLevel::V311, &mut forward).ok()?;
                    if faults.repeats_each.is_some_and(|each| count.is_multiple_of(each)) {
                        forward.extend_from_within(..);
                    }
                    if let Some(to) = subscriptions.lock().unwrap().get_mut(publish.topic) {
                        to.write_all(&forward).ok()?;
                    }
                }
                _ => {}
            }
            stream.write_all(&answer).ok()?;
        }
        unread.drain(..at);
        let read = stream.read(&mut chunk).ok().filter(|&read| read > 0)?;
        unread.extend_from_slice(&chunk[..read]);
    }
}
