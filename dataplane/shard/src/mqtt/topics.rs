//! Topics of the device API (Hono's MQTT adapter), taken apart.

use fulcrum_frame::Class;

/// What a publish to a topic means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PublishTopic<'a> {
    /// Telemetry or an event.
    Message { class: Class, address: Address<'a> },
    /// The answer to a command.
    Response { address: Address<'a>, request_id: &'a str, status: u16 },
}

/// Why a topic of the device API cannot be published to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TopicError {
    /// Its first level is none of the endpoints devices publish to.
    UnknownEndpoint,
    /// The endpoint is known, what follows is not as it must be; says how.
    Malformed(&'static str),
}

/// An endpoint as the publisher spelled it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    /// `telemetry`.
    Telemetry,
    /// `t`.
    TelemetryShort,
    /// `event`.
    Event,
    /// `e`.
    EventShort,
    /// `command/…/res/…`.
    Response,
    /// `c/…/s/…`.
    ResponseShort,
    /// Anything else.
    Unknown,
}

impl Endpoint {
    /// The endpoint of a topic devices publish to.
    pub(crate) fn of_topic(topic: &str) -> Endpoint {
        let path = split_bag(topic).0;
        match path.split('/').next().unwrap_or_default() {
            "telemetry" => Endpoint::Telemetry,
            "t" => Endpoint::TelemetryShort,
            "event" => Endpoint::Event,
            "e" => Endpoint::EventShort,
            "command" => Endpoint::Response,
            "c" => Endpoint::ResponseShort,
            _ => Endpoint::Unknown,
        }
    }

    /// Its name in the topic of an error report.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Endpoint::Telemetry => "telemetry",
            Endpoint::TelemetryShort => "t",
            Endpoint::Event => "event",
            Endpoint::EventShort => "e",
            Endpoint::Response => "command-response",
            Endpoint::ResponseShort => "c-s",
            Endpoint::Unknown => "unknown",
        }
    }
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

/// A topic's path and its property bag, which starts at the last `/?`; empty without one.
pub(crate) fn split_bag(topic: &str) -> (&str, &str) {
    topic.rsplit_once("/?").unwrap_or((topic, ""))
}

/// Takes the path of a publish topic apart.
pub(crate) fn parse_publish(path: &str) -> Result<PublishTopic<'_>, TopicError> {
    let (endpoint, behind) = path.split_once('/').unwrap_or((path, ""));
    let class = match endpoint {
        "telemetry" | "t" => Class::Telemetry,
        "event" | "e" => Class::Event,
        "command" | "c" => return parse_response(behind),
        _ => return Err(TopicError::UnknownEndpoint),
    };
    let mut levels = behind.split('/');
    let (tenant, device) = (levels.next().unwrap_or(""), levels.next().unwrap_or(""));
    if levels.next().is_some() {
        return Err(TopicError::Malformed("a message topic ends with the device"));
    }
    Ok(PublishTopic::Message { class, address: Address { tenant, device }.checked()? })
}

/// What follows `command/`: tenant, device, `res|s`, request id, status.
fn parse_response(behind: &str) -> Result<PublishTopic<'_>, TopicError> {
    let mut levels = behind.split('/');
    let mut next = || levels.next();
    let (Some(tenant), Some(device), Some("res" | "s"), Some(request_id), Some(status), None) =
        (next(), next(), next(), next(), next(), next())
    else {
        return Err(TopicError::Malformed(
            "a command response's topic is command/[tenant]/[device]/res/{request id}/{status}",
        ));
    };
    let status = status.parse().ok().filter(|status| is_response_status(*status));
    let Some(status) = status else {
        return Err(TopicError::Malformed(
            "the status of a command response is 200 to 299 or 400 to 599",
        ));
    };
    if request_id.is_empty() {
        return Err(TopicError::Malformed("a one-way command is not answered"));
    }
    let address = Address { tenant, device }.checked()?;
    Ok(PublishTopic::Response { address, request_id, status })
}

impl<'a> Address<'a> {
    /// A tenant without a device names nobody (Hono, common rules: 400).
    fn checked(self) -> Result<Address<'a>, TopicError> {
        match !self.tenant.is_empty() && self.device.is_empty() {
            true => Err(TopicError::Malformed("a topic that names the tenant names a device")),
            false => Ok(self),
        }
    }
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

/// Whose commands or errors a subscription is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope<'a> {
    /// The subscriber's own.
    Own,
    /// One device's.
    Device(&'a str),
    /// Those of all devices the subscriber is a gateway of.
    All,
}

impl<'a> Scope<'a> {
    /// The same for a subscriber named `own`: what is its own has one name.
    pub(crate) fn among(self, own: &str) -> Scope<'a> {
        match self {
            Scope::Device(device) if device == own => Scope::Own,
            other => other,
        }
    }

    fn of_level(level: &'a str) -> Option<Scope<'a>> {
        match level {
            "" => Some(Scope::Own),
            "+" => Some(Scope::All),
            device => is_plain(device).then_some(Scope::Device(device)),
        }
    }
}

fn is_plain(level: &str) -> bool {
    !level.contains(['+', '#'])
}

/// A command subscription; remembers the spelling, which the command topics repeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CommandFilter {
    endpoint: &'static str,
    tenant: Box<str>,
    /// Empty or `+` or a device.
    device: Box<str>,
    request: &'static str,
}

impl CommandFilter {
    /// Takes a filter apart: exactly five levels, `command|c`, tenant or empty, device, `+` or empty, `req|q`, `#`.
    pub(crate) fn parse(filter: &str) -> Option<CommandFilter> {
        let levels: Vec<&str> = filter.splitn(6, '/').collect();
        let [endpoint, tenant, device, request, "#"] = levels[..] else { return None };
        let endpoint = ["command", "c"].into_iter().find(|known| *known == endpoint)?;
        let request = ["req", "q"].into_iter().find(|known| *known == request)?;
        Scope::of_level(device)?;
        is_plain(tenant).then(|| CommandFilter {
            endpoint,
            tenant: tenant.into(),
            device: device.into(),
            request,
        })
    }

    /// The tenant the filter names; empty where it leaves it out.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Whose commands it is for.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope::of_level(&self.device).unwrap_or(Scope::Own)
    }

    /// The topic a command for `device` is published to. The device's level is filled where the filter filled it, and
    /// where the command goes `through_gateway`. A one-way command has an empty request id.
    pub(crate) fn command_topic(
        &self,
        device: &str,
        through_gateway: bool,
        request_id: &str,
        subject: &str,
    ) -> String {
        let CommandFilter { endpoint, tenant, request, .. } = self;
        let device = if through_gateway || !self.device.is_empty() { device } else { "" };
        format!("{endpoint}/{tenant}/{device}/{request}/{request_id}/{subject}")
    }
}

/// An error subscription; remembers the spelling, which the report's topics repeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ErrorFilter {
    endpoint: &'static str,
    tenant: Box<str>,
    device: Box<str>,
}

impl ErrorFilter {
    /// Takes a filter apart: exactly four levels, `error|e`, tenant or empty, device, `+` or empty, `#`.
    pub(crate) fn parse(filter: &str) -> Option<ErrorFilter> {
        let levels: Vec<&str> = filter.splitn(5, '/').collect();
        let [endpoint, tenant, device, "#"] = levels[..] else { return None };
        let endpoint = ["error", "e"].into_iter().find(|known| *known == endpoint)?;
        Scope::of_level(device)?;
        is_plain(tenant).then(|| ErrorFilter {
            endpoint,
            tenant: tenant.into(),
            device: device.into(),
        })
    }

    /// The tenant the filter names; empty where it leaves it out.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Whose errors it is for.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope::of_level(&self.device).unwrap_or(Scope::Own)
    }

    /// The topic of a report about a message of `device`. Characters a topic cannot have are percent-encoded in the
    /// correlation id.
    pub(crate) fn report_topic(
        &self,
        device: &str,
        endpoint: Endpoint,
        correlation: &str,
        status: u16,
    ) -> String {
        use std::fmt::Write;
        let named = if self.device.is_empty() { "" } else { device };
        let mut topic = format!("{}/{}/{named}/{}/", self.endpoint, self.tenant, endpoint.as_str());
        for character in correlation.chars() {
            match character {
                '+' | '#' | '\0'..='\x1f' | '\x7f' => {
                    // Writing to a string cannot fail.
                    let _ = write!(topic, "%{:02X}", u32::from(character));
                }
                plain => topic.push(plain),
            }
        }
        let _ = write!(topic, "/{status}");
        topic
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
        let message = |class, tenant, device| {
            Ok(PublishTopic::Message { class, address: Address { tenant, device } })
        };
        for own in ["telemetry", "t", "telemetry/", "t//"] {
            assert_eq!(parse_publish(own), message(Class::Telemetry, "", ""), "{own}");
        }
        assert_eq!(parse_publish("e/acme/d1"), message(Class::Event, "acme", "d1"));
        assert_eq!(parse_publish("event//d1"), message(Class::Event, "", "d1"));
        for (topic, tenant, device) in
            [("command///res/003abc/204", "", ""), ("c/acme/d1/s/003abc/204", "acme", "d1")]
        {
            let address = Address { tenant, device };
            let response = PublishTopic::Response { address, request_id: "003abc", status: 204 };
            assert_eq!(parse_publish(topic), Ok(response), "{topic}");
        }
    }

    #[test]
    fn the_property_bag_starts_at_the_last_slash_and_question_mark() {
        assert_eq!(split_bag("event/?a=b"), ("event", "a=b"));
        assert_eq!(split_bag("event//d/?x/?a=b"), ("event//d/?x", "a=b"));
        assert_eq!(split_bag("event?a=b"), ("event?a=b", ""));
        assert_eq!(split_bag("event/?"), ("event", ""));
    }

    #[test]
    fn topics_outside_the_device_api_are_unknown_and_others_malformed() {
        for topic in ["telemetries", "", "/telemetry", "error//x", "command_response/a", "control"]
        {
            assert_eq!(parse_publish(topic), Err(TopicError::UnknownEndpoint), "{topic}");
        }
        let malformed = [
            "telemetry/acme",
            "telemetry/acme/",
            "t/a/b/c",
            "command///res/003abc/302",
            "command///res/003abc/x",
            "command///res//200",
            "command///req/x/200",
            "command///res/x/200/y",
            "command/acme//res/003abc/200",
            "command",
        ];
        for topic in malformed {
            let error = parse_publish(topic);
            assert!(matches!(error, Err(TopicError::Malformed(_))), "{topic}: {error:?}");
        }
    }

    #[test]
    fn an_endpoint_keeps_its_spelling() {
        for (topic, name) in [
            ("telemetry", "telemetry"),
            ("t//d", "t"),
            ("event/?a=b", "event"),
            ("e", "e"),
            ("command///res/x/200", "command-response"),
            ("c///s/x/200", "c-s"),
            ("error", "unknown"),
            ("weather/here", "unknown"),
        ] {
            assert_eq!(Endpoint::of_topic(topic).as_str(), name, "{topic}");
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
        let topic = |filter: &str, through_gateway| {
            let filter = CommandFilter::parse(filter)?;
            Some(filter.command_topic("d1", through_gateway, "003abc", "set"))
        };
        for (filter, through_gateway, expected) in [
            ("command///req/#", false, "command///req/003abc/set"),
            ("c//d1/q/#", false, "c//d1/q/003abc/set"),
            ("command/acme/d1/req/#", false, "command/acme/d1/req/003abc/set"),
            ("command/acme//req/#", false, "command/acme//req/003abc/set"),
            ("c//+/req/#", true, "c//d1/req/003abc/set"),
            ("command/acme/+/q/#", true, "command/acme/d1/q/003abc/set"),
        ] {
            assert_eq!(topic(filter, through_gateway).as_deref(), Some(expected), "{filter}");
        }
        for wrong in [
            "command/#",
            "command///req",
            "command///req/+",
            "command/+/d/req/#",
            "command//d+/req/#",
            "command////req/#",
            "command///req/#/x",
            "commands///req/#",
        ] {
            assert_eq!(topic(wrong, false), None, "{wrong}");
        }
    }

    #[test]
    fn a_report_topic_repeats_the_spelling_of_the_filter() {
        let topic = |filter: &str, correlation: &str| {
            let filter = ErrorFilter::parse(filter)?;
            Some(filter.report_topic("d1", Endpoint::EventShort, correlation, 400))
        };
        for (filter, expected) in [
            ("error///#", "error///e/7/400"),
            ("e///#", "e///e/7/400"),
            ("error//+/#", "error//d1/e/7/400"),
            ("e/acme/d1/#", "e/acme/d1/e/7/400"),
        ] {
            assert_eq!(topic(filter, "7").as_deref(), Some(expected), "{filter}");
        }
        assert_eq!(topic("e///#", "a+#\nb").as_deref(), Some("e///e/a%2B%23%0Ab/400"));
        for wrong in ["error/#", "error//#", "error////#", "error/+//#", "error///+"] {
            assert_eq!(topic(wrong, "7"), None, "{wrong}");
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
