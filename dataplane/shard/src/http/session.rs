//! One HTTP connection's state and what its requests mean.

use super::routes::{Address, Route, find};
use crate::connections::{Hold, Key};
use crate::flow::{Flow, Step};
use crate::identity::{Adapter, Authorised, Login, Password, Principal, Refusal, Role};
use crate::limits::{HTTP_IDLE_TIMEOUT, HTTP_PIPELINE_MAX};
use crate::mqtt::{decode_request_id, is_response_status};
use crate::plane::{EMPTY_NOTIFICATION, Inbound, Plane, Producer};
use crate::ports::Ticket;
use crate::stored::{NotStored, Waiter};
use crate::telemetry::{Taken, route_of, topic_of};
use crate::turn::{Turn, Wire};
use fulcrum_frame::Class;
use fulcrum_http::{
    CONTINUE, Decoded, Limits, Method, Progress, Request, basic_credentials, decode_resumed,
    encode_response, encode_response_head, query_value,
};
use fulcrum_ring::Io;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Status, and the text of the error body.
type Refused = (u16, &'static str);

/// One HTTP connection.
pub(crate) struct Session {
    progress: Progress,
    /// Who the connection speaks for, and by what that was found out.
    principal: Option<Verified>,
    /// What the registry is asked about.
    asked: Option<Shown>,
    /// The registry's version when it did not know the client's certificate.
    unknown_certificate: Option<u64>,
    /// The registry's refusal, for the request at the front.
    refusal: Option<Refusal>,
    authorised: Authorised,
    /// Answers in the order of their requests; `None` until it is known.
    answers: VecDeque<Option<Answer>>,
    /// Number of the request `answers` begins with.
    first: u64,
    asking_since: Option<Instant>,
    /// The registry's version when it was asked: its answer may be as old.
    asked_version: u64,
    /// Since when a request is arriving.
    arriving_since: Option<Instant>,
    /// The request after whose answer the connection ends.
    closes_at: Option<u64>,
}

/// What the peer shows to prove who it is.
enum Shown {
    /// The certificate of its TLS connection.
    Certificate,
    /// A value of Authorization.
    Authorization(Password),
}

struct Verified {
    shown: Shown,
    principal: Principal,
    version: u64,
}

#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    text: &'static str,
    keep_alive: bool,
    /// The request was HEAD (RFC 9110 section 9.3.2).
    without_body: bool,
}

impl Session {
    pub(crate) fn new() -> Session {
        Session {
            progress: Progress::default(),
            principal: None,
            asked: None,
            unknown_certificate: None,
            refusal: None,
            authorised: Authorised::default(),
            answers: VecDeque::new(),
            first: 0,
            asking_since: None,
            asked_version: 0,
            arriving_since: None,
            closes_at: None,
        }
    }

    /// Who it is, once that is known.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref().map(|verified| &verified.principal)
    }

    /// When the peer will have been silent, or the registry slow, for too long.
    pub(crate) fn deadline(&self, last_input: Instant, connect_timeout: Duration) -> Instant {
        match self.asking_since {
            Some(since) => since + connect_timeout,
            // However the bytes drip, a request has to be whole some day.
            None => self.arriving_since.unwrap_or(last_input) + HTTP_IDLE_TIMEOUT,
        }
    }

    /// Takes the request at the front of `bytes`.
    pub(crate) fn step(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Step {
        if self.answers.len() >= HTTP_PIPELINE_MAX {
            return Step::Again(Hold::Pipeline);
        }
        let limits =
            Limits { body_bytes_max: turn.plane.settings.message_bytes_max, ..Limits::default() };
        let before = self.progress;
        match decode_resumed(bytes, &limits, &mut self.progress) {
            Ok(Decoded::NeedMore { at_least }) => {
                self.arriving_since.get_or_insert(turn.plane.now);
                Step::NeedMore { at_least }
            }
            Ok(Decoded::ContinueExpected) => {
                // Only when nothing is to be answered first: answers go out in order.
                if let (true, Some(output)) = (self.answers.is_empty(), turn.output()) {
                    output.extend_from_slice(CONTINUE);
                }
                Step::NeedMore { at_least: bytes.len() + 1 }
            }
            Ok(Decoded::Request { request, used }) => {
                self.arriving_since = None;
                let flow = self.handle(turn, &request);
                if matches!(flow, Flow::Again(_)) {
                    self.progress = before;
                }
                Step::of(flow, used)
            }
            Err(error) => {
                turn.plane.metrics.protocol_errors.add(1);
                tracing::debug!(%error, "HTTP request refused");
                let number = self.begin();
                let text = match error {
                    fulcrum_http::DecodeError::BodyTooLarge => "the body is larger than allowed",
                    _ => "the request is not valid HTTP/1.1",
                };
                let answer = Answer::new((error.status(), text), false);
                self.complete(turn.io, &mut turn.wire, number, answer);
                Step::UsedThenHold(0, Hold::Closing)
            }
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_, '_>, request: &Request<'_>) -> Flow {
        let result = match self.prepare(turn.plane, &turn.wire, request) {
            Ok((route, device)) => self.forward(turn, request, route, device),
            Err(stop) => Err(stop),
        };
        let refused = match result {
            Ok(flow) => return flow,
            Err(Stop::Wait(hold)) => {
                if hold == Hold::Registry {
                    self.asking_since = Some(turn.plane.now);
                    self.asked_version = turn.plane.identity_version;
                }
                return Flow::Again(hold);
            }
            Err(Stop::Refuse(refused)) => refused,
        };
        let number = self.begin();
        let without_body = request.method == Method::Head;
        let answer = Answer { without_body, ..Answer::new(refused, request.keep_alive) };
        self.complete(turn.io, &mut turn.wire, number, answer);
        if request.keep_alive { Flow::Next } else { Flow::Hold(Hold::Closing) }
    }

    /// Who sends, and for which device.
    fn prepare(
        &mut self,
        plane: &mut Plane,
        wire: &Wire<'_>,
        request: &Request<'_>,
    ) -> Result<(Route, Arc<str>), Stop> {
        let Some(route) = find(request.method, request.path) else {
            let text = "no such resource: POST /telemetry, POST /event, PUT /telemetry/{tenant}/{device}, \
                        PUT /event/{tenant}/{device} or POST /command/res/{request id}";
            return Err(Stop::Refuse((404, text)));
        };
        if let Some(refusal) = self.refusal.take() {
            return Err(Stop::refusal(plane, refusal));
        }
        self.authenticate(plane, wire, request)?;
        let Some(principal) = self.principal() else {
            return Err(Stop::refusal(plane, Refusal::BadCredentials));
        };
        if principal.role != Role::Device {
            return Err(Stop::refusal(plane, Refusal::Forbidden));
        }
        let address = match &route {
            Route::Message { address, .. } | Route::Response { address, .. } => address,
        };
        let device = self.device_of(plane, wire.key, address)?;
        Ok((route, device))
    }

    /// Finds out who sends: by the client's certificate, else by Authorization (Hono's order).
    fn authenticate(
        &mut self,
        plane: &mut Plane,
        wire: &Wire<'_>,
        request: &Request<'_>,
    ) -> Result<(), Stop> {
        let value = request.header("authorization");
        let known = self.principal.as_ref().is_some_and(|verified| {
            verified.version == plane.identity_version
                && verified.principal.valid_until_ms.is_none_or(|until| plane.now_ms < until)
                && match &verified.shown {
                    Shown::Certificate => true,
                    Shown::Authorization(known) => {
                        value.is_some_and(|value| known.expose() == value.as_bytes())
                    }
                }
        });
        if known {
            return Ok(());
        }
        let by_certificate = match self.unknown_certificate {
            Some(version) if version == plane.identity_version => None,
            _ => wire.certificate_login(),
        };
        let (login, shown) = match (by_certificate, value) {
            (Some(login), _) => (login, Shown::Certificate),
            (None, Some(value)) => {
                let Some(credentials) = basic_credentials(value) else {
                    return Err(Stop::refusal(plane, Refusal::BadCredentials));
                };
                let login = Login::Password {
                    username: credentials.username.clone(),
                    password: Password::new(credentials.password().as_bytes()),
                    client_id: String::new(),
                };
                (login, Shown::Authorization(Password::new(value.as_bytes())))
            }
            (None, None) => return Err(Stop::refusal(plane, Refusal::BadCredentials)),
        };
        if !self.answers.is_empty() {
            // The answers that are out belong to another principal, maybe; ask when they are done.
            return Err(Stop::Wait(Hold::Pipeline));
        }
        match plane.registry.authenticate(Ticket(wire.key.0), Adapter::Http, login) {
            Ok(None) => {
                self.asked = Some(shown);
                Err(Stop::Wait(Hold::Registry))
            }
            Ok(Some(principal)) => {
                plane.metrics.logins_known.add(1);
                let version = plane.identity_version;
                self.principal = Some(Verified { shown, principal, version });
                Ok(())
            }
            Err(_) => Err(Stop::refusal(plane, Refusal::Unavailable)),
        }
    }

    /// The registry's answer to an authentication.
    pub(crate) fn authenticated(&mut self, result: Result<Principal, Refusal>) {
        self.asking_since = None;
        let Some(shown) = self.asked.take() else { return };
        let version = self.asked_version;
        match result {
            Ok(principal) => self.principal = Some(Verified { shown, principal, version }),
            Err(Refusal::BadCredentials) if matches!(shown, Shown::Certificate) => {
                // The request is taken again; it may say who sends by other means.
                self.principal = None;
                self.unknown_certificate = Some(version);
            }
            Err(refusal) => {
                self.principal = None;
                self.refusal = Some(refusal);
            }
        }
    }

    /// The registry's answer about a device the peer wants to act for.
    pub(crate) fn authorised(&mut self, device: String, result: Result<(), Refusal>) {
        self.asking_since = None;
        match result {
            Ok(()) => self.authorised.note(device, self.asked_version),
            Err(refusal) => self.refusal = Some(refusal),
        }
    }

    fn device_of(
        &mut self,
        plane: &mut Plane,
        key: Key,
        address: &Address,
    ) -> Result<Arc<str>, Stop> {
        let Some(principal) = self.principal() else {
            return Err(Stop::refusal(plane, Refusal::BadCredentials));
        };
        if !address.tenant.is_empty() && *address.tenant != *principal.tenant {
            return Err(Stop::refusal(plane, Refusal::Forbidden));
        }
        if address.device.is_empty() || *address.device == *principal.name {
            return Ok(principal.name.clone());
        }
        if self.authorised.holds(&address.device, plane.identity_version) {
            return Ok(address.device.as_str().into());
        }
        let (tenant, gateway) = (principal.tenant.clone(), principal.name.clone());
        let (ticket, device) = (Ticket(key.0), address.device.as_str());
        match plane.registry.authorise(ticket, Adapter::Http, &tenant, &gateway, device) {
            Ok(()) => Err(Stop::Wait(Hold::Registry)),
            Err(_) => Err(Stop::refusal(plane, Refusal::Unavailable)),
        }
    }

    fn forward(
        &mut self,
        turn: &mut Turn<'_, '_>,
        request: &Request<'_>,
        route: Route,
        device: Arc<str>,
    ) -> Result<Flow, Stop> {
        let Some(principal) = self.principal().cloned() else {
            return Err(Stop::refusal(turn.plane, Refusal::BadCredentials));
        };
        let (class, qos) = class_and_qos(&route, request)?;
        let content_type = content_type(&route, request)?;
        let response = response_of(&route, request, &device)?;
        let number = self.next_number();
        let inbound = Inbound {
            class,
            qos,
            tenant: &principal.tenant,
            device: &device,
            gateway: if device == principal.name { "" } else { &principal.name },
            adapter: Adapter::Http.type_name(),
            origin: request.path,
            content_type,
            ttl_s: parameter(request, "hono-ttl").and_then(|ttl| ttl.parse().ok()),
            retain: false,
            idempotency: request.header("idempotency-key").unwrap_or(""),
            properties: &[],
            response: response.as_ref().map(|(correlation, reply, status)| {
                (correlation.as_str(), reply.as_str(), *status)
            }),
            payload: &request.body,
        };
        if class != Class::Telemetry {
            let (plane, key) = (&mut *turn.plane, turn.wire.key);
            plane
                .store(&inbound, Waiter::Http { connection: key, request: number })
                .map_err(|error| Stop::not_stored(plane, key, error))?;
            self.begin();
            self.note_keep_alive(request.keep_alive);
            return Ok(self.after(request.keep_alive));
        }
        let mut targets = std::mem::take(&mut turn.plane.targets);
        targets.clear();
        turn.plane.routes.matches(&principal.tenant, &route_of(&device), &mut targets);
        let topic = topic_of(&principal.tenant, &device);
        let producer =
            (qos > 0).then_some(Producer::Http { connection: turn.wire.key, request: number });
        let taken = turn.plane.publish_telemetry(turn.io, &inbound, &topic, &targets, producer);
        turn.plane.targets = targets;
        self.begin();
        self.note_keep_alive(request.keep_alive);
        match taken {
            Taken::Accepted => self.answer(turn.io, &mut turn.wire, number, true),
            Taken::Released => self.answer(turn.io, &mut turn.wire, number, false),
            Taken::Pending => {}
        }
        Ok(self.after(request.keep_alive))
    }

    fn after(&self, keep_alive: bool) -> Flow {
        if keep_alive { Flow::Next } else { Flow::Hold(Hold::Closing) }
    }

    fn next_number(&self) -> u64 {
        self.first + self.answers.len() as u64
    }

    /// Opens a place for the next request's answer.
    fn begin(&mut self) -> u64 {
        let number = self.next_number();
        self.answers.push_back(None);
        number
    }

    /// Whether the connection lives on after the newest request: kept by the closing hold alone.
    fn note_keep_alive(&mut self, keep_alive: bool) {
        self.closes_at = if keep_alive { None } else { Some(self.next_number() - 1) };
    }

    /// What became of a message: 202, or 503 when nobody took it.
    pub(crate) fn answer(
        &mut self,
        io: &mut Io<'_>,
        wire: &mut Wire<'_>,
        number: u64,
        accepted: bool,
    ) {
        let answer = if accepted {
            (202, "")
        } else {
            (503, "no consumer takes this message now, or it cannot be stored; try again later")
        };
        let keep_alive = self.closes_at != Some(number);
        self.complete(io, wire, number, Answer::new(answer, keep_alive));
    }

    /// Takes no more requests; false when no answer is outstanding, so that nothing will close the connection.
    pub(crate) fn close_after_last_answer(&mut self) -> bool {
        let Some(last) = self.answers.back_mut() else { return false };
        match last {
            Some(answer) => answer.keep_alive = false,
            None => self.closes_at = Some(self.next_number() - 1),
        }
        true
    }

    /// The registry has not answered in time: the connection ends with that answer, behind those that are still due.
    pub(crate) fn registry_is_silent(&mut self, wire: &mut Wire<'_>, io: &mut Io<'_>) {
        let number = self.begin();
        let refused = (Refusal::Unavailable.http_status(), Refusal::Unavailable.text());
        self.complete(io, wire, number, Answer::new(refused, false));
    }

    fn complete(&mut self, io: &mut Io<'_>, wire: &mut Wire<'_>, number: u64, answer: Answer) {
        let Some(place) = number.checked_sub(self.first) else { return };
        let Some(slot) = self.answers.get_mut(place as usize) else { return };
        *slot = Some(answer);
        while let Some(Some(answer)) = self.answers.front().copied() {
            self.answers.pop_front();
            self.first += 1;
            if let Some(output) = wire.output(io) {
                answer.write(output);
            }
            if !answer.keep_alive {
                wire.close(io);
            }
        }
    }

    /// Whether a connection on hold for its answers may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.answers.is_empty() || self.answers.len() <= HTTP_PIPELINE_MAX / 2
    }
}

impl Answer {
    fn new((status, text): Refused, keep_alive: bool) -> Answer {
        Answer { status, text, keep_alive, without_body: false }
    }

    fn write(self, output: &mut Vec<u8>) {
        if self.status == 202 {
            return encode_response(output, 202, &[], b"", self.keep_alive);
        }
        let body = format!("{{\"error\":\"{}\"}}", self.text);
        let mut headers = vec![("Content-Type", "application/json; charset=utf-8")];
        match self.status {
            401 => headers.push(("WWW-Authenticate", "Basic realm=\"Hono\"")),
            503 => headers.push(("Retry-After", "2")),
            _ => {}
        }
        if self.without_body {
            return encode_response_head(
                output,
                self.status,
                &headers,
                body.len(),
                self.keep_alive,
            );
        }
        encode_response(output, self.status, &headers, body.as_bytes(), self.keep_alive);
    }
}

/// Why a request does not go on now.
enum Stop {
    Wait(Hold),
    Refuse(Refused),
}

impl Stop {
    fn refusal(plane: &Plane, refusal: Refusal) -> Stop {
        plane.count_refusal(refusal);
        Stop::Refuse((refusal.http_status(), refusal.text()))
    }

    fn not_stored(plane: &mut Plane, key: Key, error: NotStored) -> Stop {
        match error {
            NotStored::Later => {
                plane.parked.push(key);
                Stop::Wait(Hold::Journal)
            }
            NotStored::Full => Stop::Refuse((503, "the node's store is full; try again later")),
            NotStored::Failed => {
                Stop::Refuse((503, "the node's store has failed; its operator must look at it"))
            }
            NotStored::Invalid => Stop::Refuse((400, "the message's properties are too long")),
        }
    }
}

/// Class of the message and quality of service: `QoS-Level` is 0 or 1, for events 1 alone.
fn class_and_qos(route: &Route, request: &Request<'_>) -> Result<(Class, u8), Stop> {
    let asked = match request.header("qos-level") {
        None => None,
        Some("0") => Some(0),
        Some("1") => Some(1),
        Some(_) => return Err(Stop::Refuse((400, "QoS-Level must be 0 or 1"))),
    };
    match route {
        Route::Message { class: Class::Event, .. } if asked == Some(0) => {
            Err(Stop::Refuse((400, "events are stored: QoS-Level must be 1 or left out")))
        }
        Route::Message { class: Class::Event, .. } => Ok((Class::Event, 1)),
        Route::Message { class, .. } => Ok((*class, asked.unwrap_or(0))),
        Route::Response { .. } => Ok((Class::CommandResponse, 1)),
    }
}

/// An empty body needs a content type, a body must not claim to be empty (Hono, body rules).
fn content_type<'a>(route: &Route, request: &Request<'a>) -> Result<&'a str, Stop> {
    let content_type = request.header("content-type").unwrap_or("");
    let is_message = matches!(route, Route::Message { .. });
    if is_message && request.body.is_empty() && content_type.is_empty() {
        return Err(Stop::Refuse((400, "an empty message needs a Content-Type")));
    }
    if !request.body.is_empty() && content_type == EMPTY_NOTIFICATION {
        return Err(Stop::Refuse((400, "an empty notification must not have a body")));
    }
    Ok(content_type)
}

/// Correlation id, reply id and status of a command response.
fn response_of(
    route: &Route,
    request: &Request<'_>,
    device: &str,
) -> Result<Option<(String, String, u16)>, Stop> {
    let Route::Response { request_id, .. } = route else { return Ok(None) };
    let status = parameter(request, "hono-cmd-status").and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|status| is_response_status(*status)) else {
        return Err(Stop::Refuse((400, "hono-cmd-status must be 200 to 299 or 400 to 599")));
    };
    let Some((correlation, reply)) = decode_request_id(request_id, device) else {
        return Err(Stop::Refuse((400, "the request id is not one this node gave out")));
    };
    Ok(Some((correlation, reply, status)))
}

/// A parameter given as a header or in the query; the header wins.
fn parameter(request: &Request<'_>, name: &str) -> Option<String> {
    if let Some(value) = request.header(name) {
        return Some(value.to_owned());
    }
    query_value(request.query?, name).ok().flatten().map(|value| value.into_owned())
}
