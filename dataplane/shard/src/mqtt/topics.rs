//! Topics of the device API (Hono's MQTT adapter), taken apart.

use fulcrum_frame::Class;

/// What a publish to a topic means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PublishTopic<'a> {
    /// Telemetry or an event.
    Message { class: Class, address: Address<'a>, bag: &'a str },
    /// The answer to a command.
    Response { address: Address<'a>, request_id: &'a str, status: u16, bag: &'a str },
}

/// Tenant and device of a topic; empty where the topic leaves them out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Address<'a> {
    pub tenant: &'a str,
    pub device: &'a str,
}

/// Whether a topic or filter belongs to the device API: its first level is one of the API's endpoints, so no messaging
/// address can be there.
pub(crate) fn is_device_topic(topic: &str) -> bool {
    let endpoint = topic.split('/').next().unwrap_or_default();
    matches!(
        endpoint,
        "telemetry"
            | "t"
            | "event"
            | "e"
            | "command"
            | "c"
            | "command_response"
            | "cr"
            | "control"
            | "error"
    )
}

/// Takes a publish topic apart; `None` if it is not of the device API.
pub(crate) fn parse_publish(topic: &str) -> Option<PublishTopic<'_>> {
    // The property bag starts at the last "/?".
    let (path, bag) = topic.rsplit_once("/?").unwrap_or((topic, ""));
    let mut levels = path.split('/');
    let class = match levels.next()? {
        "telemetry" | "t" => Class::Telemetry,
        "event" | "e" => Class::Event,
        "command" | "c" => {
            let address = Address { tenant: levels.next()?, device: levels.next()? };
            if !matches!(levels.next()?, "res" | "s") {
                return None;
            }
            let request_id = levels.next()?;
            let status =
                levels.next()?.parse().ok().filter(|status| is_response_status(*status))?;
            if levels.next().is_some() || request_id.is_empty() {
                return None;
            }
            return Some(PublishTopic::Response { address, request_id, status, bag });
        }
        _ => return None,
    };
    let address = match (levels.next(), levels.next(), levels.next()) {
        (None, None, None) => Address::default(),
        (Some(tenant), Some(device), None) if !device.is_empty() => Address { tenant, device },
        _ => return None,
    };
    Some(PublishTopic::Message { class, address, bag })
}

/// Whether a device may answer a command with `status`: 200 to 299 or 400 to 599.
pub(crate) fn is_response_status(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=599)
}

/// Key and value pairs of a property bag, percent-decoded. Malformed pairs are left out.
pub(crate) fn bag_pairs(bag: &str) -> impl Iterator<Item = (String, String)> + '_ {
    bag.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((percent_decoded(key)?, percent_decoded(value)?)).filter(|(key, _)| !key.is_empty())
    })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push((high * 16 + low) as u8);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A device's command subscription; remembers the spelling, which the command topics repeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CommandFilter {
    endpoint: &'static str,
    tenant: String,
    device: String,
    request: &'static str,
}

impl CommandFilter {
    /// Takes a filter apart: exactly five levels, `command|c`, tenant or empty, device or empty, `req|q`, `#`.
    pub(crate) fn parse(filter: &str) -> Option<CommandFilter> {
        let levels: Vec<&str> = filter.split('/').take(6).collect();
        let [endpoint, tenant, device, request, "#"] = levels[..] else { return None };
        let endpoint = ["command", "c"].into_iter().find(|known| *known == endpoint)?;
        let request = ["req", "q"].into_iter().find(|known| *known == request)?;
        let plain = |level: &str| !level.contains(['+', '#']);
        (plain(tenant) && plain(device)).then(|| CommandFilter {
            endpoint,
            tenant: tenant.to_owned(),
            device: device.to_owned(),
            request,
        })
    }

    /// Tenant and device the filter names; empty where it leaves them out.
    pub(crate) fn address(&self) -> Address<'_> {
        Address { tenant: &self.tenant, device: &self.device }
    }

    /// The topic a command is published to. A one-way command has an empty request id.
    pub(crate) fn command_topic(&self, request_id: &str, subject: &str) -> String {
        let CommandFilter { endpoint, tenant, device, request } = self;
        format!("{endpoint}/{tenant}/{device}/{request}/{request_id}/{subject}")
    }
}

/// A filter of an application: `telemetry/{tenant}/…`, or `t` for short. The result is relative to the tenant. Events
/// are stored; an application reads them from the stream, where it can acknowledge them.
pub(crate) fn parse_application_filter(filter: &str, tenant: &str) -> Option<String> {
    let (endpoint, behind) = filter.split_once('/')?;
    let (named, device) = behind.split_once('/')?;
    let taken = matches!(endpoint, "telemetry" | "t") && named == tenant && !device.is_empty();
    taken.then(|| format!("telemetry/{device}"))
}

/// The request id a device sees: a digit (bit 0: the reply id began with the device's), two hex digits for the length
/// of the correlation id in UTF-16 units, the correlation id, the reply id (Hono's codec).
pub(crate) fn encode_request_id(correlation: &str) -> Option<String> {
    let units = correlation.encode_utf16().count();
    u8::try_from(units).ok().map(|units| format!("0{units:02x}{correlation}"))
}

/// Correlation id and reply id of a request id; `device` completes the reply id where bit 0 says so.
pub(crate) fn decode_request_id(request_id: &str, device: &str) -> Option<(String, String)> {
    let flags = request_id.chars().next()?.to_digit(10)?;
    let units = usize::from(u8::from_str_radix(request_id.get(1..3)?, 16).ok()?);
    let behind: Vec<u16> = request_id.get(3..)?.encode_utf16().collect();
    let (correlation, reply) = behind.split_at_checked(units)?;
    let correlation = String::from_utf16(correlation).ok()?;
    let reply = String::from_utf16(reply).ok()?;
    let reply = if flags & 1 == 1 { format!("{device}/{reply}") } else { reply };
    Some((correlation, reply)).filter(|(correlation, _)| !correlation.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_device_api_are_understood() {
        let message = |class, tenant, device, bag| {
            Some(PublishTopic::Message { class, address: Address { tenant, device }, bag })
        };
        assert_eq!(parse_publish("telemetry"), message(Class::Telemetry, "", "", ""));
        assert_eq!(parse_publish("t"), message(Class::Telemetry, "", "", ""));
        assert_eq!(parse_publish("e/acme/d1"), message(Class::Event, "acme", "d1", ""));
        assert_eq!(parse_publish("event//d1"), message(Class::Event, "", "d1", ""));
        let bag = "content-type=text%2Fplain";
        assert_eq!(parse_publish(&format!("event/?{bag}")), message(Class::Event, "", "", bag));
        assert_eq!(
            parse_publish("command///res/003abc/204"),
            Some(PublishTopic::Response {
                address: Address::default(),
                request_id: "003abc",
                status: 204,
                bag: ""
            })
        );
    }

    #[test]
    fn other_topics_are_not_taken() {
        let others = [
            "telemetries",
            "telemetry/acme",
            "telemetry/acme/",
            "t/a/b/c",
            "command///res/003abc/302",
            "command///res//200",
            "command///req/x/200",
            "command///res/x/200/y",
            "",
            "/telemetry",
        ];
        for topic in others {
            assert_eq!(parse_publish(topic), None, "{topic}");
        }
    }

    #[test]
    fn a_property_bag_is_decoded_and_bad_pairs_are_left_out() {
        let pairs: Vec<_> = bag_pairs("content-type=a%2Fb&x=1+2&bad&=y&z=%zz&u=%ff").collect();
        assert_eq!(
            pairs,
            [("content-type".to_owned(), "a/b".to_owned()), ("x".to_owned(), "1 2".to_owned())]
        );
    }

    #[test]
    fn a_command_topic_repeats_the_spelling_of_the_filter() {
        let topic =
            |filter: &str| CommandFilter::parse(filter).map(|f| f.command_topic("003abc", "set"));
        assert_eq!(topic("command///req/#").as_deref(), Some("command///req/003abc/set"));
        assert_eq!(topic("c//d1/q/#").as_deref(), Some("c//d1/q/003abc/set"));
        for wrong in [
            "command/#",
            "command///req",
            "command///req/+",
            "command/+/d/req/#",
            "command////req/#",
        ] {
            assert_eq!(topic(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_application_can_only_name_its_own_tenant() {
        let parse = |filter| parse_application_filter(filter, "acme");
        assert_eq!(parse("telemetry/acme/#").as_deref(), Some("telemetry/#"));
        assert_eq!(parse("t/acme/+").as_deref(), Some("telemetry/+"));
        for wrong in [
            "telemetry/rival/#",
            "telemetry/+/#",
            "telemetry/#",
            "#",
            "telemetry/acme",
            "command/acme/#",
            "event/acme/#",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn request_ids_follow_honos_codec() {
        assert_eq!(encode_request_id("abc").as_deref(), Some("003abc"));
        assert_eq!(encode_request_id(&"x".repeat(255)).map(|id| id.len()), Some(258));
        assert_eq!(encode_request_id(&"x".repeat(256)), None);
        let decode = |id| decode_request_id(id, "d1");
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(decode("103abcx1"), pair("abc", "d1/x1"));
        assert_eq!(decode("003abcx1"), pair("abc", "x1"));
        assert_eq!(decode("001äx"), pair("ä", "x"));
        for wrong in ["", "0", "0zzabc", "004abc", "x03abc", "000", "0é3abc"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
