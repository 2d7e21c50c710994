//! A checked set of settings. Nothing behind it can be out of range.

use crate::error::LoadError;
use crate::net::PORTS_PER_SOURCE;
use crate::settings::{Carrier, Pattern, Protocol, Settings};
use crate::template::Template;
use crate::wire::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use fulcrum_mqtt::QoS;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One local address has about 28000 ports to give; some are left for others.
const CONNECTIONS_UNBOUND: usize = 20_000;
/// 254 addresses of 127.0.0.0/24 have more, but no machine this is meant for has the memory.
const CONNECTIONS_MAX: usize = 2_000_000;
/// Each subscriber follows each publisher's sequence.
const STREAMS_MAX: usize = 4_000_000;

/// How messages are timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loop {
    /// At most so many in flight from each publisher.
    Closed { window: u16 },
    /// So many a second in all, whatever comes back.
    Open { per_second: f64 },
}

/// Who connects.
#[derive(Clone)]
pub struct Login {
    /// `None`: anonymous.
    pub username: Option<Template>,
    /// Never in output.
    pub password: Option<String>,
}

/// A checked set of settings.
pub struct Plan {
    pub pattern: Pattern,
    pub protocol: Protocol,
    pub carrier: Carrier,
    pub address: IpAddr,
    pub port: u16,
    pub ws_path: String,
    /// Given if, and only if, the carrier has TLS.
    pub ca: Option<PathBuf>,
    pub server_name: String,
    /// What `{tenant}` stands for.
    pub tenant: String,
    pub publisher: Login,
    pub subscriber: Login,
    pub client_id: Template,
    pub topic: Template,
    pub filter: Template,
    pub offline_filter: Option<Template>,
    pub publishers: usize,
    pub subscribers: usize,
    /// Of idle and storm; else 0.
    pub idle_connections: usize,
    pub timing: Loop,
    pub payload_bytes: usize,
    pub qos: QoS,
    pub retain: bool,
    pub persistent: bool,
    /// Longer than the run, because the driver sends no PINGREQ, and not 0, which some brokers
    /// refuse.
    pub keep_alive_s: u16,
    pub sources: u8,
    pub connect_window: usize,
    pub connect_rate_per_s: Option<f64>,
    pub threads: usize,
    pub measured: Duration,
    pub warmup: Duration,
    pub busy_poll: bool,
    pub server_pid: Option<u32>,
}

impl Plan {
    /// Fills in what was left out and checks the whole.
    ///
    /// # Errors
    /// A setting that is missing, out of range, or means nothing together with another.
    pub fn new(settings: Settings) -> Result<Self, LoadError> {
        let pattern = settings.pattern.ok_or(LoadError::Setting {
            name: "pattern",
            value: "(none)".to_owned(),
            expected: "pairs, fan-in, fan-out, shared, ingest, idle or storm, as a flag or in the scenario",
        })?;
        let (publishers, subscribers, idle_connections) = counts(pattern, &settings)?;
        let qos = qos(pattern, settings.qos)?;
        let topic = settings.topic_template.unwrap_or_else(|| "bench/{i}".to_owned());
        let filter = settings.filter_template.unwrap_or_else(|| match pattern {
            Pattern::Pairs => topic.clone(),
            // One publisher, one topic; with several, the subscribers want all of them.
            Pattern::FanOut if publishers == 1 => topic.replace("{i}", "0"),
            _ => "bench/#".to_owned(),
        });
        let template =
            |name, text: Option<String>| text.map(|text| Template::parse(name, &text)).transpose();
        let publisher = Login {
            username: template("username-template", settings.username_template)?,
            password: settings.password,
        };
        let subscriber = Login {
            username: template(
                "subscriber-username-template",
                settings.subscriber_username_template,
            )?
            .or_else(|| publisher.username.clone()),
            password: settings.subscriber_password.or_else(|| publisher.password.clone()),
        };
        let client_id = settings.client_id_template.unwrap_or_else(|| "load-{role}{i}".to_owned());
        let measured = seconds("seconds", settings.seconds.unwrap_or(5.0), 0.1)?;
        let warmup = seconds("warmup", settings.warmup.unwrap_or(1.0), 0.0)?;
        let host = settings.host.unwrap_or_else(|| "127.0.0.1".to_owned());
        let address = host.parse().map_err(|_| LoadError::Setting {
            name: "host",
            value: host.clone(),
            expected: "an IP address",
        })?;
        let connections = publishers + subscribers + idle_connections;
        let plan = Self {
            pattern,
            protocol: settings.protocol.unwrap_or(Protocol::V311),
            carrier: settings.carrier.unwrap_or(Carrier::Tcp),
            address,
            port: settings.port.unwrap_or(1883),
            ws_path: settings.ws_path.unwrap_or_else(|| "/mqtt".to_owned()),
            ca: settings.ca,
            server_name: settings.server_name.unwrap_or_else(|| "localhost".to_owned()),
            tenant: settings.tenant.unwrap_or_else(|| "bench".to_owned()),
            publisher,
            subscriber,
            client_id: Template::parse("client-id-template", &client_id)?,
            topic: Template::parse("topic-template", &topic)?,
            filter: Template::parse("filter-template", &filter)?,
            // An empty one takes back what the scenario says.
            offline_filter: template(
                "offline-filter",
                settings.offline_filter.filter(|filter| !filter.is_empty()),
            )?,
            publishers,
            subscribers,
            idle_connections,
            timing: timing(pattern, settings.rate, settings.window)?,
            payload_bytes: payload_bytes(settings.payload.unwrap_or(128))?,
            qos,
            retain: settings.retain.unwrap_or(false),
            persistent: settings.persistent.unwrap_or(false),
            keep_alive_s: u16::try_from((warmup + measured).as_secs() + 600).unwrap_or(u16::MAX),
            sources: sources(settings.sources, connections)?,
            connect_window: within(
                "connect-window",
                settings.connect_window.unwrap_or(64),
                100_000,
            )?,
            connect_rate_per_s: rate("connect-rate", settings.connect_rate)?,
            threads: within("threads", settings.threads.unwrap_or(1), 64)?,
            measured,
            warmup,
            busy_poll: settings.busy_poll.unwrap_or(!matches!(pattern, Pattern::Idle)),
            server_pid: None,
        };
        plan.check_combinations()?;
        Ok(plan)
    }

    /// All connections of the run.
    pub fn connections(&self) -> usize {
        self.publishers + self.subscribers + self.idle_connections
    }

    /// Whether messages flow at all.
    pub fn has_traffic(&self) -> bool {
        self.publishers > 0
    }

    /// How many deliveries a message has.
    pub fn copies(&self) -> u64 {
        match self.pattern {
            Pattern::Pairs | Pattern::Shared => 1,
            Pattern::FanIn | Pattern::FanOut => self.subscribers as u64,
            Pattern::Ingest | Pattern::Idle | Pattern::Storm => 0,
        }
    }

    /// Messages in flight from each publisher, in a closed loop.
    pub fn window(&self) -> Option<u16> {
        match self.timing {
            Loop::Closed { window } => Some(window),
            Loop::Open { .. } => None,
        }
    }

    /// Messages a second in all, in an open loop.
    pub fn rate_per_s(&self) -> Option<f64> {
        match self.timing {
            Loop::Closed { .. } => None,
            Loop::Open { per_second } => Some(per_second),
        }
    }

    fn check_combinations(&self) -> Result<(), LoadError> {
        let wrong =
            |name, value: String, expected| Err(LoadError::Setting { name, value, expected });
        let has_tls = matches!(self.carrier, Carrier::Tls | Carrier::Wss);
        if has_tls && self.ca.is_none() {
            return wrong("ca", "(none)".to_owned(), "the authority of the broker's certificate");
        }
        if self.protocol == Protocol::Bare
            && (self.pattern != Pattern::Pairs
                || self.qos != QoS::AtMostOnce
                || self.carrier != Carrier::Tcp
                || self.threads != 1)
        {
            return wrong(
                "protocol",
                "bare".to_owned(),
                "pairs with QoS 0 over TCP from one thread: there is no broker in a bare loop",
            );
        }
        // Of the fan patterns, a message's publisher and its subscribers may be in different
        // threads, which tell each other nothing while the load runs.
        let crosses_threads = match self.pattern {
            Pattern::Shared => true,
            Pattern::FanIn | Pattern::FanOut => self.window().is_some(),
            _ => false,
        };
        if self.threads > 1 && crosses_threads {
            return wrong(
                "threads",
                self.threads.to_string(),
                "1 for a shared subscription, and for fan-in and fan-out in a closed loop",
            );
        }
        if self.streams() > STREAMS_MAX {
            return wrong(
                "subscribers",
                self.subscribers.to_string(),
                "at most 4000000 when multiplied by the publishers each one follows",
            );
        }
        Ok(())
    }

    fn streams(&self) -> usize {
        match self.pattern {
            Pattern::Pairs => self.subscribers,
            _ => self.subscribers.saturating_mul(self.publishers),
        }
    }
}

/// Publishers, subscribers, idle connections.
fn counts(pattern: Pattern, settings: &Settings) -> Result<(usize, usize, usize), LoadError> {
    let (publishers, subscribers) = (settings.publishers, settings.subscribers);
    let refused = |name, given: Option<usize>, expected| match given {
        None => Ok(()),
        Some(value) => Err(LoadError::Setting { name, value: value.to_string(), expected }),
    };
    let counted = |name, given: Option<usize>| within(name, given.unwrap_or(1), CONNECTIONS_MAX);
    if matches!(pattern, Pattern::Idle | Pattern::Storm) {
        let nothing = "nothing: idle and storm have `connections`, on which nothing is sent";
        refused("publishers", publishers, nothing)?;
        refused("subscribers", subscribers, nothing)?;
        let connections = settings.connections.unwrap_or(1_000);
        return Ok((0, 0, within("connections", connections, CONNECTIONS_MAX)?));
    }
    refused("connections", settings.connections, "nothing: give publishers and subscribers")?;
    let publishers = counted("publishers", publishers)?;
    let subscribers = match pattern {
        Pattern::Pairs => {
            let other = subscribers.filter(|&count| count != publishers);
            refused("subscribers", other, "nothing: pairs have as many as publishers")?;
            publishers
        }
        Pattern::Ingest => {
            refused("subscribers", subscribers, "nothing: ingest has none")?;
            0
        }
        _ => counted("subscribers", subscribers)?,
    };
    Ok((publishers, subscribers, 0))
}

fn timing(
    pattern: Pattern,
    rate_per_s: Option<f64>,
    window: Option<u16>,
) -> Result<Loop, LoadError> {
    let has_traffic = !matches!(pattern, Pattern::Idle | Pattern::Storm);
    match (rate("rate", rate_per_s)?, window) {
        (Some(per_second), None) if has_traffic => Ok(Loop::Open { per_second }),
        (None, window) if has_traffic && window != Some(0) => {
            Ok(Loop::Closed { window: window.unwrap_or(1) })
        }
        (None, None) => Ok(Loop::Closed { window: 1 }),
        (rate, window) => Err(LoadError::Setting {
            name: "rate, window",
            value: format!("{rate:?}, {window:?}"),
            expected: "a rate (open loop) or a window of 1 to 65535 (closed loop); idle and storm have neither",
        }),
    }
}

fn qos(pattern: Pattern, level: Option<u8>) -> Result<QoS, LoadError> {
    let level = level.unwrap_or(0);
    match QoS::from_u8(level) {
        Some(QoS::AtMostOnce) if pattern == Pattern::Ingest => {}
        Some(qos) => return Ok(qos),
        None => {}
    }
    Err(LoadError::Setting {
        name: "qos",
        value: level.to_string(),
        expected: "0, 1 or 2; 1 or 2 for ingest, where nothing but acknowledgements comes back",
    })
}

fn sources(given: Option<u8>, connections: usize) -> Result<u8, LoadError> {
    match given {
        None if connections <= CONNECTIONS_UNBOUND => Ok(1),
        None => Ok(u8::try_from(connections.div_ceil(PORTS_PER_SOURCE)).unwrap_or(254).min(254)),
        Some(count @ 1..=254) => Ok(count),
        Some(count) => Err(LoadError::Setting {
            name: "sources",
            value: count.to_string(),
            expected: "1 to 254",
        }),
    }
}

fn within(name: &'static str, count: usize, most: usize) -> Result<usize, LoadError> {
    if (1..=most).contains(&count) {
        return Ok(count);
    }
    let expected = "at least 1, and no more than one machine can bear";
    Err(LoadError::Setting { name, value: count.to_string(), expected })
}

fn payload_bytes(bytes: usize) -> Result<usize, LoadError> {
    if (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(LoadError::Setting {
        name: "payload",
        value: bytes.to_string(),
        expected: "24 (time, sequence and publisher are in it) to 1048576 bytes",
    })
}

fn rate(name: &'static str, rate: Option<f64>) -> Result<Option<f64>, LoadError> {
    match rate {
        None => Ok(None),
        Some(rate) if (0.01..=1e8).contains(&rate) => Ok(Some(rate)),
        Some(rate) => Err(LoadError::Setting {
            name,
            value: rate.to_string(),
            expected: "so many a second in all, 0.01 to 100000000",
        }),
    }
}

fn seconds(name: &'static str, value: f64, least: f64) -> Result<Duration, LoadError> {
    if value >= least && value <= 3_600.0 {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(LoadError::Setting {
        name,
        value: value.to_string(),
        expected: "seconds, no more than an hour, and not so short that nothing is measured",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Plan {
        Plan::new(toml::from_str(text).unwrap()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_message_has_as_many_deliveries_as_its_pattern_says() {
        for (text, copies) in [
            ("pattern = 'pairs'\npublishers = 8", 1),
            ("pattern = 'fan-in'\npublishers = 8", 1),
            ("pattern = 'fan-out'\nsubscribers = 8", 8),
            ("pattern = 'shared'\nsubscribers = 8", 1),
            ("pattern = 'ingest'\nqos = 1", 0),
        ] {
            assert_eq!(plan_of(text).copies(), copies, "{text}");
        }
    }

    #[test]
    fn many_connections_come_from_several_addresses() {
        assert_eq!(plan_of("pattern = 'idle'").sources, 1);
        assert_eq!(plan_of("pattern = 'idle'\nconnections = 100000").sources, 7);
    }

    #[test]
    fn one_publisher_that_fans_out_is_subscribed_by_its_topic() {
        let plan = plan_of("pattern = 'fan-out'\nsubscribers = 3\ntopic-template = 'x/{i}'");
        assert_eq!(plan.filter.render(2, "t", "s"), "x/0");
    }

    #[test]
    fn subscribers_log_in_as_publishers_do_unless_told_otherwise() {
        let plan = plan_of("pattern = 'pairs'\nusername-template = 'u{i}'\npassword = 'x'");
        assert_eq!(plan.subscriber.username.unwrap().render(4, "t", "s"), "u4");
        assert_eq!(plan.subscriber.password.as_deref(), Some("x"));
    }
}
