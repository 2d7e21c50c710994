//! What happens to a publish of the device API that fails (Hono's MQTT adapter, error handling).
//!
//! A report goes to the device if it has subscribed to errors; then the message's `on-error` decides whether the
//! connection ends, the message is acknowledged as if it had been taken, or it is left unanswered. A failure is often
//! known only later, so what is needed then is kept with the message that waits for its answer.
//!
//! Deliberately not here: what ends a connection whatever the message says. A device, gateway or tenant that is disabled
//! or deleted is evicted.

use super::content::{Alias, Content, Recipient};
use super::device_bag::Bag;
use super::device_subscribe::ErrorSubscription;
use super::session::Session;
use super::topics::{Endpoint, ErrorFilter, Scope, split_bag};
use crate::flow::Flow;
use crate::identity::Refusal;
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use crate::turn::Turn;
use fulcrum_mqtt::{Properties, Publish, QoS, ReasonCode};
use std::sync::Arc;

/// What a message's `on-error` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum OnError {
    /// Ignore if the device sees its errors, disconnect if not.
    #[default]
    Default,
    /// The connection ends.
    Disconnect,
    /// The message is acknowledged all the same.
    Ignore,
    /// The message is not acknowledged, the connection goes on.
    SkipAck,
}

impl OnError {
    /// The mode of that name; the default for a name nobody knows.
    pub(crate) fn named(name: &str) -> OnError {
        match name {
            "disconnect" => OnError::Disconnect,
            "ignore" => OnError::Ignore,
            "skip-ack" => OnError::SkipAck,
            _ => OnError::Default,
        }
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    status: u16,
    text: &'static str,
    /// The reason in a DISCONNECT.
    reason: ReasonCode,
}

impl Failure {
    /// Nobody takes telemetry now, or the consumer has not.
    pub(crate) const NO_CONSUMER: Failure = Failure {
        status: 503,
        text: "no consumer has taken the message; send it again later",
        reason: ReasonCode::UNSPECIFIED_ERROR,
    };
    /// The node's store is full or has failed.
    pub(crate) const NOT_STORED: Failure = Failure {
        status: 503,
        text: "the message cannot be stored now; send it again later",
        reason: ReasonCode::QUOTA_EXCEEDED,
    };
    /// No endpoint for devices.
    pub(crate) const UNKNOWN_ENDPOINT: Failure = Failure {
        status: 404,
        text: "no such endpoint: publish to telemetry, event or command/…/res/…",
        reason: ReasonCode::TOPIC_NAME_INVALID,
    };
    /// QoS 2.
    pub(crate) const QOS_NOT_SUPPORTED: Failure = Failure {
        status: 400,
        text: "QoS 2 is not supported here: use 0 or 1",
        reason: ReasonCode::QOS_NOT_SUPPORTED,
    };
    /// An event at QoS 0.
    pub(crate) const EVENT_QOS: Failure = Failure {
        status: 400,
        text: "events are stored: use QoS 1",
        reason: ReasonCode::QOS_NOT_SUPPORTED,
    };
    /// Nothing, without a content type.
    pub(crate) const EMPTY: Failure = Failure {
        status: 400,
        text: "an empty message needs a content-type",
        reason: ReasonCode::PAYLOAD_FORMAT_INVALID,
    };
    /// An empty notification that is not empty.
    pub(crate) const NOT_EMPTY: Failure = Failure {
        status: 400,
        text: "an empty notification must not have a payload",
        reason: ReasonCode::PAYLOAD_FORMAT_INVALID,
    };
    /// Properties that do not fit.
    pub(crate) const PROPERTIES_TOO_LONG: Failure = Failure {
        status: 400,
        text: "the message's properties are too long",
        reason: ReasonCode::PACKET_TOO_LARGE,
    };
    /// A request id nobody gave out.
    pub(crate) const REQUEST_ID: Failure = Failure {
        status: 400,
        text: "the request id is not one of a command",
        reason: ReasonCode::TOPIC_NAME_INVALID,
    };
    /// Another tenant's address.
    pub(crate) const OTHER_TENANT: Failure = Failure {
        status: 403,
        text: "the topic names another tenant",
        reason: ReasonCode::NOT_AUTHORIZED,
    };

    /// A topic that is not as it must be.
    pub(crate) fn malformed(text: &'static str) -> Failure {
        Failure { status: 400, text, reason: ReasonCode::TOPIC_NAME_INVALID }
    }

    /// The registry does not let the gateway act for the device.
    pub(crate) fn refused(refusal: Refusal) -> Failure {
        let (text, reason) = match refusal {
            Refusal::Unavailable => (refusal.text(), ReasonCode::SERVER_BUSY),
            _ => (refusal.text(), ReasonCode::NOT_AUTHORIZED),
        };
        Failure { status: refusal.http_status(), text, reason }
    }
}

/// What is to be known about a message when it fails.
#[derive(Clone, Debug)]
pub(crate) struct Concern {
    endpoint: Endpoint,
    on_error: OnError,
    more: Option<Box<More>>,
}

/// What few messages have.
#[derive(Clone, Debug)]
struct More {
    /// The device, where it is not the publisher itself.
    device: Option<Arc<str>>,
    correlation: Option<Box<str>>,
}

impl Concern {
    /// Of a message to `topic`; `device` where that is not the publisher itself.
    pub(super) fn new(
        topic: &str,
        on_error: OnError,
        correlation: Option<&str>,
        device: Option<&Arc<str>>,
    ) -> Concern {
        let more = (correlation.is_some() || device.is_some()).then(|| {
            Box::new(More { device: device.cloned(), correlation: correlation.map(Into::into) })
        });
        Concern { endpoint: Endpoint::of_topic(topic), on_error, more }
    }
}

/// What is to become of a message that failed, after the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sequel {
    /// The connection ends, with this reason where the protocol has a word for it.
    End(ReasonCode),
    /// The message is acknowledged.
    Acknowledge,
    /// It is not.
    Nothing,
}

impl Session {
    /// A publish failed before anything was done with it.
    pub(super) fn fail_publish(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
        concern: &Concern,
        failure: Failure,
    ) -> Flow {
        turn.plane.metrics.messages_refused.add(1);
        tracing::debug!(topic = publish.topic, failure.status, failure.text, "publish refused");
        let now_ms = turn.plane.now_ms;
        let Some(output) = turn.output() else { return Flow::End };
        match self.report(concern, publish.packet_id, failure, now_ms, output) {
            Sequel::End(reason) => self.end_with(turn, reason),
            Sequel::Acknowledge => {
                self.answer_publish(turn, publish, ReasonCode::UNSPECIFIED_ERROR)
            }
            Sequel::Nothing => Flow::Next,
        }
    }

    /// A publish to no endpoint of the device API, by a device that has nothing else to publish to.
    pub(super) fn fail_unknown_endpoint(
        &mut self,
        turn: &mut Turn<'_, '_>,
        publish: &Publish<'_>,
    ) -> Flow {
        let (_, bag) = split_bag(publish.topic);
        let concern = Bag::parse(bag, publish.properties).concern(publish.topic, None);
        self.fail_publish(turn, publish, &concern, Failure::UNKNOWN_ENDPOINT)
    }

    /// A message that waited for its answer has failed: reports it, and answers it unless the connection is to end.
    pub(crate) fn waiting_publish_failed(
        &mut self,
        packet_id: u16,
        concern: &Concern,
        failure: Failure,
        now_ms: u64,
        output: &mut Vec<u8>,
    ) -> Sequel {
        let sequel = self.report(concern, Some(packet_id), failure, now_ms, output);
        match sequel {
            Sequel::Acknowledge => self.settle(packet_id, ReasonCode::UNSPECIFIED_ERROR, output),
            Sequel::Nothing => self.leave_unanswered(packet_id, output),
            Sequel::End(_) => {}
        }
        sequel
    }

    /// Writes the report, if somebody is to see it, and says what is to follow.
    fn report(
        &mut self,
        concern: &Concern,
        packet_id: Option<u16>,
        failure: Failure,
        now_ms: u64,
        output: &mut Vec<u8>,
    ) -> Sequel {
        let device = concern.more.as_ref().and_then(|more| more.device.as_deref());
        let subscription = self.error_subscription_for(device);
        let has_subscription = subscription.is_some();
        if let (Some(subscription), Some(principal)) = (subscription, self.principal()) {
            let ErrorSubscription { filter, id } = subscription;
            let correlation = concern.more.as_ref().and_then(|more| more.correlation.as_deref());
            let correlation = match (correlation, packet_id) {
                (Some(correlation), _) => correlation.to_owned(),
                (None, Some(packet_id)) => packet_id.to_string(),
                (None, None) => "-1".to_owned(),
            };
            let device = device.unwrap_or(&principal.name);
            let topic = filter.report_topic(device, concern.endpoint, &correlation, failure.status);
            let body = report_body(failure, &correlation, now_ms);
            let content = Content::of_packet(&topic, body.as_bytes(), false, Properties::EMPTY);
            let to = Recipient::at_most_once(self.level, false, id.as_slice(), Alias::None);
            // A topic too long for a packet is the publisher's doing: it does without the report.
            let _ = self.write_plain(&content, &to, output);
        }
        match concern.on_error {
            OnError::Default if has_subscription => Sequel::Acknowledge,
            OnError::Default | OnError::Disconnect => Sequel::End(failure.reason),
            OnError::Ignore => Sequel::Acknowledge,
            OnError::SkipAck => Sequel::Nothing,
        }
    }

    /// Writes a message of the device API as it is; false, and nothing written, if it is none the protocol or the peer
    /// takes [MQTT-3.1.2-24].
    pub(crate) fn write_plain(
        &self,
        content: &Content<'_>,
        to: &Recipient<'_>,
        output: &mut Vec<u8>,
    ) -> bool {
        let before = output.len();
        let encoded = content.encode(to, output);
        let fits = output.len() - before <= self.packet_bytes_max as usize;
        if encoded.is_err() || !fits {
            output.truncate(before);
        }
        encoded.is_ok() && fits
    }

    /// Whether the client is told of errors about `device`.
    pub(super) fn sees_errors_of(&self, device: &str) -> bool {
        self.error_subscription_for(Some(device)).is_some()
    }

    /// The subscription that is for errors about `device`, or the connection's own device.
    fn error_subscription_for(&self, device: Option<&str>) -> Option<&ErrorSubscription> {
        let known = &self.device.as_ref()?.errors;
        let own = &*self.principal.as_ref()?.name;
        let about = Scope::Device(device.unwrap_or(own)).among(own);
        let exact = known.iter().find(|one| one.filter.scope().among(own) == about);
        exact.or_else(|| known.iter().find(|one| one.filter.scope() == Scope::All))
    }

    /// Subscribes to error reports; the last of several for the same devices wins. Reports go out at QoS 0.
    pub(super) fn subscribe_errors(&mut self, wanted: ErrorSubscription) -> ReasonCode {
        let Some(principal) = &self.principal else { return ReasonCode::UNSPECIFIED_ERROR };
        let filter = &wanted.filter;
        if !filter.tenant().is_empty() && *filter.tenant() != *principal.tenant {
            return ReasonCode::NOT_AUTHORIZED;
        }
        let own = principal.name.clone();
        let errors = &mut self.device.get_or_insert_default().errors;
        let same = |known: &ErrorSubscription| {
            known.filter.scope().among(&own) == wanted.filter.scope().among(&own)
        };
        match errors.iter().position(same) {
            Some(place) => errors[place] = wanted,
            None if errors.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX => {
                return ReasonCode::QUOTA_EXCEEDED;
            }
            None => errors.push(wanted),
        }
        ReasonCode::granted(QoS::AtMostOnce)
    }

    /// Ends a subscription to error reports; whether it was there.
    pub(super) fn unsubscribe_errors(&mut self, filter: &ErrorFilter) -> bool {
        let Some(face) = &mut self.device else { return false };
        let place = face.errors.iter().position(|known| known.filter == *filter);
        if let Some(place) = place {
            face.errors.swap_remove(place);
        }
        place.is_some()
    }
}

/// The report's JSON.
fn report_body(failure: Failure, correlation: &str, now_ms: u64) -> String {
    let Failure { status, text, .. } = failure;
    let (text, correlation) = (json_string(text), json_string(correlation));
    let timestamp = iso_time(now_ms);
    format!(
        "{{\"code\":{status},\"message\":{text},\"timestamp\":\"{timestamp}\",\"correlation-id\":{correlation}}}"
    )
}

fn json_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// A moment in ISO 8601, UTC, to the millisecond.
fn iso_time(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = date_of(days);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day so many days after 1 January 1970. Years are counted from March here, so that the leap day is the
/// last of its year.
fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (era, of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_json_whatever_the_correlation_id_holds() {
        let body = report_body(Failure::EVENT_QOS, "a\"\\\n", 0);
        assert_eq!(
            body,
            r#"{"code":400,"message":"events are stored: use QoS 1","timestamp":"1970-01-01T00:00:00.000Z","correlation-id":"a\"\\\u000a"}"#
        );
    }

    #[test]
    fn moments_are_written_in_the_calendar() {
        for (ms, expected) in [
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(iso_time(ms), expected);
        }
    }

    #[test]
    fn an_unknown_error_mode_is_the_default() {
        assert_eq!(OnError::named("skip-ack"), OnError::SkipAck);
        assert_eq!(OnError::named("Ignore"), OnError::Default);
        assert_eq!(OnError::named("default"), OnError::Default);
    }
}
