//! A whole node of two shards, on rings and sockets, whose client does what the input says: a CONNECT, then packets
//! of every kind, raw bytes, and answers to what it is sent, until it hangs up.
//!
//! Held: no panic; every packet the node sends can be read by the other end and is no larger than it asked for; a
//! client that hangs up is let go; a second client is served all the while; connections return to those that are there.
//!
//! The node lives through a whole run, with what earlier inputs left in it: sessions, retained messages, wills. So an
//! input may need those before it to show the same again. Every [`LIVES`] inputs the node is started again over its
//! journals.

mod client;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fulcrum_mqtt::{
    Connect, Properties, Property, PropertyBuffer, PropertyOwner, ProtocolLevel, QoS,
    SubscribeFilter, SubscribeOptions, Will, encode_connect, v5,
};
use tempfile::TempDir;

use crate::packets::{self, KINDS, Kind, make};
use crate::script::Script;
use client::{Client, PATIENCE, Reading};
use harness::{Node, client_id_for};

#[path = "../../dataplane/shard/tests/harness/mod.rs"]
#[allow(missing_docs, unreachable_pub, reason = "a test's")]
pub mod harness;

/// Inputs a node serves before it is started again.
const LIVES: u32 = 1000;

/// Things a client does at most.
const ACTIONS_MAX: usize = 100;

/// What clients send most.
const USUAL: [Kind; 8] = [
    Kind::Publish,
    Kind::Subscribe,
    Kind::Publish,
    Kind::PubRel,
    Kind::Unsubscribe,
    Kind::PubAck,
    Kind::PubRec,
    Kind::PubComp,
];

struct World {
    node: Node,
    witness: Client,
    served: u32,
    folder: TempDir,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// Takes one input.
pub fn run(input: &[u8]) {
    // After a failed input the world is what it was, and the next one says so.
    let mut place = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = match place.take() {
        Some(world) if world.served < LIVES => world,
        Some(world) => world.again(),
        None => World::new(folder()),
    };
    world.served += 1;
    world.serve(&mut Script::new(input));
    *place = Some(world);
}

/// In memory where that is possible: what a disk costs is not the question here.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

impl World {
    fn new(folder: TempDir) -> Self {
        let node = Node::start(folder.path(), 2);
        let mut witness = Client::open(node.mqtt[0], ProtocolLevel::V5, 0);
        let id = client_id_for(node.mqtt[0], "chat-witness@acme");
        let connect = Connect {
            level: ProtocolLevel::V5,
            clean_session: true,
            keep_alive_s: 0,
            client_id: &id,
            will: None,
            username: Some("chat-witness@acme"),
            password: Some(b"secret"),
            properties: Properties::default(),
        };
        witness.send(|out| encode_connect(&connect, out));
        witness.expect_served("the witness connects");
        let all = SubscribeFilter { filter: "#", options: SubscribeOptions::qos(QoS::ExactlyOnce) };
        witness.send(|out| v5::encode_subscribe(1, Properties::EMPTY, [all], out));
        witness.ping("the witness subscribes to everything");
        Self { node, witness, served: 0, folder }
    }

    /// The same world after a night.
    fn again(self) -> Self {
        let Self { node, witness, folder, .. } = self;
        drop(witness);
        node.stop();
        Self::new(folder)
    }

    fn serve(&mut self, script: &mut Script<'_>) {
        let head = script.byte();
        let level = if head & 1 == 0 { ProtocolLevel::V311 } else { ProtocolLevel::V5 };
        let address = self.node.mqtt[usize::from(head >> 1 & 1)];
        let mut client = connected(address, level, head, script);
        for _ in 0..ACTIONS_MAX {
            if script.is_over() || client.is_gone() {
                break;
            }
            match script.byte() % 16 {
                0 => client.raw(script.bytes()),
                1 => client.cut(usize::from(script.byte())),
                2 | 3 => client.answer(Reading::Some),
                4 => {
                    let kind = script.one_of(&KINDS);
                    make(script, kind, level, |made| {
                        client.send(|out| made.encode(level, out));
                    });
                }
                _ => {
                    let kind = script.one_of(&USUAL);
                    make(script, kind, level, |made| {
                        client.send(|out| made.encode(level, out));
                    });
                }
            }
        }
        client.hang_up(script.flag());
        self.witness.ping("a second client is served");
        let begun = Instant::now();
        while self.node.total(|metrics| metrics.connections.value()) != 1 {
            assert!(begun.elapsed() < PATIENCE, "a connection that has ended is still counted");
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// A client whose CONNECT is on its way. `head` says who it is and what it wants.
fn connected(
    address: std::net::SocketAddr,
    level: ProtocolLevel,
    head: u8,
    script: &mut Script<'_>,
) -> Client {
    let username = match head >> 4 & 3 {
        0 | 1 => "chat@acme",
        2 => "dev@acme",
        _ => "app-chat@acme",
    };
    let client_id = ["one", "two", "", "a/b"][usize::from(head >> 6)];
    let durable = head & 4 != 0 && !client_id.is_empty();
    let is_v5 = level == ProtocolLevel::V5;
    let of_connect = match is_v5 {
        true => connect_properties(durable, script),
        false => PropertyBuffer::new(PropertyOwner::Connect),
    };
    let of_will = match is_v5 {
        true => packets::property_block(script, PropertyOwner::Will),
        false => PropertyBuffer::new(PropertyOwner::Will),
    };
    let will: Option<Will<'_>> = (head & 8 != 0).then(|| packets::will(script, &of_will));
    let connect = Connect {
        level,
        clean_session: if is_v5 { script.flag() } else { !durable },
        keep_alive_s: 0,
        client_id,
        will,
        username: Some(username),
        password: Some(b"secret"),
        properties: of_connect.properties(),
    };
    let packet_max = of_connect.properties().iter().find_map(|one| match one {
        Property::MaximumPacketSize(bytes) => Some(bytes as usize),
        _ => None,
    });
    let mut client = Client::open(address, level, packet_max.unwrap_or(0));
    if !client.send(|out| encode_connect(&connect, out)) {
        // The topic of the will is none.
        client.send(|out| encode_connect(&Connect { will: None, ..connect }, out));
    }
    client.answer(Reading::UntilServed);
    client
}

fn connect_properties(durable: bool, script: &mut Script<'_>) -> PropertyBuffer {
    let mut block = PropertyBuffer::new(PropertyOwner::Connect);
    let wishes = script.byte();
    let mut wish = |wished: bool, property: Property<'_>| {
        if wished {
            block.push(property).expect("each once");
        }
    };
    wish(durable, Property::SessionExpiryInterval(60));
    wish(wishes & 1 != 0, Property::ReceiveMaximum(1 + u16::from(wishes >> 6)));
    wish(wishes & 2 != 0, Property::TopicAliasMaximum(u16::from(wishes >> 4)));
    // No smaller than a CONNACK with an assigned client identifier: whether that is kept from a client is not held yet.
    wish(wishes & 4 != 0, Property::MaximumPacketSize(24 + u32::from(wishes)));
    wish(wishes & 8 != 0, Property::RequestProblemInformation(wishes & 16 != 0));
    wish(wishes & 32 != 0, Property::RequestResponseInformation(true));
    wish(wishes == 0xFF, Property::AuthenticationMethod("m"));
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;
    use fulcrum_shard::ShardMetrics;

    type Counter = fn(&ShardMetrics) -> u64;

    /// A target whose clients are turned away at the door would hold anything.
    #[test]
    fn the_seeds_get_far_into_the_node() {
        for seed in seeds::of("session") {
            run(&seed);
        }
        let place = WORLD.lock().expect("no seed broke the world");
        let node = &place.as_ref().expect("seeds were served").node;
        let reached: [(&str, Counter); 5] = [
            ("published", |metrics| metrics.messages_received.value()),
            ("delivered", |metrics| metrics.messages_sent.value()),
            ("retained", |metrics| metrics.retained_messages.value()),
            ("kept sessions", |metrics| metrics.sessions_disconnected.value()),
            ("broke the protocol", |metrics| metrics.protocol_errors.value()),
        ];
        for (what, counter) in reached {
            assert!(node.total(counter) > 0, "no seed: {what}");
        }
    }
}
