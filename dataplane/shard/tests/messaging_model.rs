//! A node against a model of what every client must have received: random connects, take-overs, subscriptions, messages,
//! wills and restarts.
//!
//! `FULCRUM_MODEL_SEED` repeats a run, `FULCRUM_MODEL_STEPS` makes it longer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

mod harness;

use fulcrum_mqtt::{ProtocolLevel, QoS, RetainHandling, SubscribeOptions};
use harness::Node;
use harness::chat::{Chat, Got, LastWords, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;
const FILTERS: [&str; 6] = ["a/b", "a/+", "a/#", "+/b", "+/b/c", "d/#"];
const TOPICS: [&str; 5] = ["a/b", "a/c", "a/b/c", "d/b", "a"];
const SHARED: [&str; 3] = ["$share/g/s/#", "$share/h/s/#", "$share/g/s/+"];

fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// What of a message is compared: topic, text, QoS, and the retain flag where it is certain.
type Seen = (String, String, u8, Option<bool>);

#[derive(Default)]
struct ModelSession {
    durable: bool,
    subscriptions: BTreeMap<&'static str, SubscribeOptions>,
    pending: Vec<Seen>,
}

struct Client {
    chat: Chat,
    session: Option<ModelSession>,
}

impl Client {
    fn is_here(&self) -> bool {
        self.chat.is_connected()
    }
}

struct World {
    dir: tempfile::TempDir,
    shards: u16,
    node: Option<Node>,
    random: Random,
    clients: Vec<Client>,
    retained: BTreeMap<&'static str, (String, u8)>,
    /// Messages to groups.
    shares: BTreeMap<String, Shares>,
    shares_got: BTreeMap<String, usize>,
    texts: usize,
    log: Vec<String>,
}

/// One copy is to come for each group.
struct Shares {
    groups: BTreeSet<&'static str>,
    /// Those that had a member whenever a session ended: the others' copies may have ended with it.
    certain: BTreeSet<&'static str>,
}

impl World {
    fn new(shards: u16, random: Random) -> World {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), shards);
        let clients = (0..CLIENTS)
            .map(|index| {
                let chat = node.chat(index % usize::from(shards), &format!("c{index}"));
                let chat = if index % 3 == 2 { chat.v311() } else { chat };
                Client { chat, session: None }
            })
            .collect();
        World {
            dir,
            shards,
            node: Some(node),
            random,
            clients,
            retained: BTreeMap::new(),
            shares: BTreeMap::new(),
            shares_got: BTreeMap::new(),
            texts: 0,
            log: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn text(&mut self) -> String {
        self.texts += 1;
        format!("m{}", self.texts)
    }

    fn step(&mut self) {
        let client = self.below(CLIENTS);
        let here = self.clients[client].is_here();
        match self.below(100) {
            0..=1 => self.restart(),
            2..=11 => self.connect(client),
            12..=17 if here => self.leave(client),
            18..=22 if here => self.break_off(client),
            23..=42 if here => self.subscribe(client),
            43..=48 if here => self.unsubscribe(client),
            49..=94 if here => self.publish(client),
            _ if !here => self.connect(client),
            _ => self.publish(client),
        }
        self.check();
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
    }

    // ---- what the clients do ----------------------------------------------------------------------------------------

    fn connect(&mut self, index: usize) {
        // A will of the older connection would be published in the middle of this.
        if self.clients[index].is_here() && self.clients[index].chat.will.is_some() {
            self.leave(index);
        }
        let (durable, clean, with_will) =
            (self.below(4) > 0, self.below(4) == 0, self.below(3) == 0);
        let words = LastWords {
            topic: TOPICS[self.below(TOPICS.len())].to_owned(),
            payload: self.text().into_bytes(),
            qos: self.below(3) as u8,
            retain: self.below(4) == 0,
            delay_s: 0,
        };
        let door = self.below(usize::from(self.shards));
        let address = self.node.as_ref().unwrap().mqtt[door];
        let client = &mut self.clients[index];
        client.chat.will = with_will.then_some(words);
        client.chat.expiry_s = if durable { 3600 } else { 0 };
        client.chat.clean = match client.chat.level {
            ProtocolLevel::V311 => !durable,
            ProtocolLevel::V5 => clean,
        };
        // What it has acknowledged is taken before the connection is another one.
        let old = client.session.take();
        let ends = old.is_some();
        let kept = old.filter(|kept| kept.durable && !client.chat.clean);
        let expected = kept.is_some();
        let line = format!("{index} connects, clean {}, durable {durable}", client.chat.clean);
        let present = client.chat.connect(address);
        assert_eq!(present, expected, "session present, {line}");
        client.session = Some(ModelSession { durable, ..kept.unwrap_or_default() });
        if ends && !expected {
            self.session_ended();
        }
        self.note(line);
        self.wait_for_links();
    }

    /// The session ends with its connection unless it is durable.
    fn gone(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.session.as_ref().is_some_and(|session| !session.durable) {
            client.session = None;
        }
        self.wait_for_links();
    }

    fn leave(&mut self, index: usize) {
        self.note(format!("{index} leaves"));
        self.clients[index].chat.leave(0);
        self.clients[index].chat.will = None;
        self.gone(index);
    }

    fn break_off(&mut self, index: usize) {
        self.note(format!("{index} breaks off"));
        self.clients[index].chat.drop_connection();
        self.gone(index);
        if let Some(will) = self.clients[index].chat.will.take() {
            let topic = TOPICS.into_iter().find(|topic| **topic == will.topic).unwrap();
            let text = String::from_utf8(will.payload).unwrap();
            self.note(format!("  its will {text} on {topic}, QoS {}", will.qos));
            self.route(index, topic, text, will.qos, will.retain);
        }
    }

    fn subscribe(&mut self, index: usize) {
        let is_v5 = self.clients[index].chat.level == ProtocolLevel::V5;
        let shared = self.below(5) == 0;
        let filter = match shared {
            true => SHARED[self.below(SHARED.len())],
            false => FILTERS[self.below(FILTERS.len())],
        };
        let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        // Copies for groups are counted, so none may be lost.
        let qos = QoS::from_u8(if shared { 1 + self.below(2) } else { self.below(3) } as u8);
        let options = match is_v5 {
            true => SubscribeOptions {
                qos: qos.unwrap(),
                no_local: !shared && self.below(4) == 0,
                retain_as_published: self.below(2) == 0,
                retain_handling: handling[self.below(3)],
            },
            false => SubscribeOptions::qos(qos.unwrap()),
        };
        self.note(format!("{index} subscribes to {filter}, {options:?}"));
        let client = &mut self.clients[index];
        let code = client.chat.subscribe_with(filter, options).unwrap();
        assert_eq!(code, options.qos.as_u8());
        let session = client.session.as_mut().unwrap();
        let existed = session.subscriptions.insert(filter, options).is_some();
        let wanted = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !existed,
            RetainHandling::DoNotSend => false,
        };
        if !wanted || shared {
            return;
        }
        for (topic, (text, qos)) in &self.retained {
            if matches(filter, topic) {
                let qos = options.qos.as_u8().min(*qos);
                session.pending.push(((*topic).to_owned(), text.clone(), qos, Some(true)));
            }
        }
    }

    fn unsubscribe(&mut self, index: usize) {
        let session = self.clients[index].session.as_ref().unwrap();
        let Some(filter) = session.subscriptions.keys().next_back().copied() else { return };
        self.note(format!("{index} unsubscribes from {filter}"));
        let client = &mut self.clients[index];
        client.chat.unsubscribe(filter);
        client.session.as_mut().unwrap().subscriptions.remove(filter);
    }

    fn publish(&mut self, index: usize) {
        let shared = self.below(5) == 0;
        let topic = if shared { "s/x" } else { TOPICS[self.below(TOPICS.len())] };
        let qos = if shared { 1 + self.below(2) } else { self.below(3) } as u8;
        let retain = !shared && self.below(4) == 0;
        let text = if retain && self.below(4) == 0 { String::new() } else { self.text() };
        self.note(format!("{index} publishes {text:?} on {topic}, QoS {qos}, retain {retain}"));
        let chat = &mut self.clients[index].chat;
        chat.publish(topic, qos, retain, text.as_bytes()).unwrap();
        chat.wait_until(Chat::owes_nothing).unwrap();
        assert!(chat.refused.is_empty());
        self.route(index, topic, text, qos, retain);
    }

    fn restart(&mut self) {
        self.note("the node restarts".to_owned());
        for index in 0..CLIENTS {
            // Who is connected at the end may or may not hear the wills of others.
            if self.clients[index].chat.will.is_some() && self.clients[index].is_here() {
                self.leave(index);
            }
        }
        self.node.take().unwrap().stop();
        for client in &mut self.clients {
            client.chat.drop_connection();
            if client.session.as_ref().is_some_and(|session| !session.durable) {
                client.session = None;
            }
        }
        self.node = Some(Node::start(self.dir.path(), self.shards));
    }

    // ---- what must come of it ---------------------------------------------------------------------------------------

    fn route(&mut self, from: usize, topic: &'static str, text: String, qos: u8, retain: bool) {
        if retain && text.is_empty() {
            self.retained.remove(topic);
        } else if retain {
            self.retained.insert(topic, (text.clone(), qos));
        }
        let mut groups = BTreeSet::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let here = client.is_here();
            let Some(session) = &mut client.session else { continue };
            let shared = session.subscriptions.keys().filter(|filter| filter.starts_with('$'));
            for filter in shared {
                let plain = filter.splitn(3, '/').nth(2).unwrap();
                if matches(plain, topic) {
                    groups.insert(*filter);
                }
            }
            let found: Vec<&SubscribeOptions> = session
                .subscriptions
                .iter()
                .filter(|(filter, options)| {
                    matches(filter, topic) && !(options.no_local && index == from)
                })
                .map(|(_, options)| options)
                .collect();
            let Some(highest) = found.iter().map(|options| options.qos.as_u8()).max() else {
                continue;
            };
            let qos = qos.min(highest);
            if here || qos > 0 {
                let flag = match found[..] {
                    [only] => Some(retain && only.retain_as_published),
                    _ => None,
                };
                session.pending.push((topic.to_owned(), text.clone(), qos, flag));
            }
        }
        if !groups.is_empty() {
            self.shares.insert(text, Shares { certain: groups.clone(), groups });
        }
    }

    /// Everybody who is here gets what is due, and nothing else.
    fn check(&mut self) {
        for index in 0..CLIENTS {
            if !self.clients[index].is_here() {
                continue;
            }
            let client = &mut self.clients[index];
            let session = client.session.as_mut().unwrap();
            let due = session.pending.len();
            let plain = |chat: &Chat| chat.got.iter().filter(|got| got.topic != "s/x").count();
            let came =
                client.chat.wait_until(|chat| plain(chat) >= due && chat.received_is_released());
            // An answer that crosses a surplus message shows it.
            let came = came.and_then(|()| client.chat.ping());
            let mut expected = std::mem::take(&mut session.pending);
            let got = std::mem::take(&mut client.chat.got);
            if let Err(gone) = came {
                self.fail(&format!("{index}: {gone:?}, of {expected:?} came {got:?}"));
            }
            for got in got {
                if got.topic == "s/x" {
                    *self.shares_got.entry(got.text()).or_default() += 1;
                } else if let Some(place) = expected.iter().position(|due| is(due, &got)) {
                    expected.swap_remove(place);
                } else {
                    self.fail(&format!("{index} got {got:?}, still due {expected:?}"));
                }
            }
            if !expected.is_empty() {
                self.fail(&format!("{index} misses {expected:?}"));
            }
        }
    }

    /// Everybody comes back; then all is delivered.
    fn finish(&mut self) {
        for index in 0..CLIENTS {
            if self.clients[index].is_here() || self.clients[index].session.is_none() {
                continue;
            }
            let address = self.node.as_ref().unwrap().mqtt[0];
            let client = &mut self.clients[index];
            (client.chat.clean, client.chat.will) = (false, None);
            assert!(client.chat.connect(address), "{index} lost its session");
        }
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(150));
            self.check();
        }
        for (text, Shares { groups, certain }) in &self.shares {
            let came = self.shares_got.get(text).copied().unwrap_or(0);
            if !(certain.len()..=groups.len()).contains(&came) {
                self.fail(&format!("{text} came {came} times to {groups:?}, {certain:?} certain"));
            }
        }
        for client in &mut self.clients {
            client.chat.drop_connection();
        }
        self.node.take().unwrap().stop();
    }

    /// Until the node knows who is connected.
    fn wait_for_links(&mut self) {
        let connected = self.clients.iter().filter(|client| client.is_here()).count() as u64;
        let node = self.node.as_ref().unwrap();
        let begun = Instant::now();
        while node.total(|metrics| metrics.sessions_connected.value()) != connected {
            assert!(begun.elapsed() < Duration::from_secs(10), "{connected} should be connected");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// What a session that ended had of its groups' messages goes to other members, where there are any.
    fn session_ended(&mut self) {
        let sessions = self.clients.iter().filter_map(|client| client.session.as_ref());
        let inhabited: BTreeSet<&str> =
            sessions.flat_map(|session| session.subscriptions.keys().copied()).collect();
        for (text, shares) in &mut self.shares {
            if self.shares_got.get(text).copied().unwrap_or(0) < shares.groups.len() {
                shares.certain.retain(|group| inhabited.contains(group));
            }
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let from = self.log.len().saturating_sub(60);
        panic!("step {}: {what}\n{}", self.log.len(), self.log[from..].join("\n"));
    }
}

fn is((topic, text, qos, retain): &Seen, got: &Got) -> bool {
    *topic == got.topic
        && *text == got.text()
        && *qos == got.qos
        && retain.is_none_or(|retain| retain == got.retain)
}

fn run(shards: u16) {
    let random = Random::from_environment("FULCRUM_MODEL_SEED");
    let steps = std::env::var("FULCRUM_MODEL_STEPS").ok().and_then(|steps| steps.parse().ok());
    let mut world = World::new(shards, random);
    for _ in 0..steps.unwrap_or(400) {
        world.step();
    }
    world.finish();
}

#[test]
fn on_one_shard_every_client_gets_what_the_model_says() {
    run(1);
}

#[test]
fn on_two_shards_every_client_gets_what_the_model_says() {
    run(2);
}
