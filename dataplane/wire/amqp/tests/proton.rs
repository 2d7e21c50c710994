//! What Qpid Proton wrote, read; and what is written of it, kept in `ours.txt` for Proton to read.
//! How the files are made is said beside them.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod corpus;
mod rebuild;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fulcrum_amqp::{
    Decoded, DeliveryState, DistributionMode, ExpiryPolicy, Frame, FrameContext, LifetimePolicy,
    Map, Message, MessageId, Outcome, Performative, ProtocolHeader, ReceiverSettleMode, Role,
    SenderSettleMode, Symbol, Target, TerminusDurability, Value, condition, decode_frame,
    decode_value, encode_frame,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/proton")
}

/// The lines of a file, in their parts.
fn lines(file: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file is there");
    let parts = |line: &str| line.split(" | ").map(|part| part.trim().to_owned()).collect();
    text.lines().filter(|line| !line.starts_with('#')).map(parts).collect()
}

/// A value in the notation of the files.
fn show(value: &Value<'_>) -> String {
    let all = |values: &mut dyn Iterator<Item = Value<'_>>| {
        values.map(|value| show(&value)).collect::<Vec<_>>().join(", ")
    };
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Ubyte(number) => format!("ubyte {number}"),
        Value::Ushort(number) => format!("ushort {number}"),
        Value::Uint(number) => format!("uint {number}"),
        Value::Ulong(number) => format!("ulong {number}"),
        Value::Byte(number) => format!("byte {number}"),
        Value::Short(number) => format!("short {number}"),
        Value::Int(number) => format!("int {number}"),
        Value::Long(number) => format!("long {number}"),
        Value::Float(number) => format!("float {number:?}"),
        Value::Double(number) => format!("double {number:?}"),
        Value::Decimal32(bits) => format!("decimal32 {}", hex(bits)),
        Value::Decimal64(bits) => format!("decimal64 {}", hex(bits)),
        Value::Decimal128(bits) => format!("decimal128 {}", hex(bits)),
        Value::Char(character) => format!("char {:x}", u32::from(*character)),
        Value::Timestamp(time_ms) => format!("timestamp {time_ms}"),
        Value::Uuid(uuid) => format!("uuid {uuid}"),
        Value::Binary(bytes) => format!("binary \"{}\"", hex(bytes)),
        Value::String(text) => format!("string \"{text}\""),
        Value::Symbol(symbol) => format!("symbol \"{symbol}\""),
        Value::List(list) => format!("[{}]", all(&mut list.iter())),
        Value::Map(map) => show_map(*map),
        Value::Array(array) => format!("@[{}]", all(&mut array.iter())),
        Value::Described(described) => {
            format!("<{}> {}", show(&described.descriptor()), show(&described.value()))
        }
    }
}

fn show_map(map: Map<'_>) -> String {
    let pairs = map.iter().map(|(key, value)| format!("{}: {}", show(&key), show(&value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn show_id(id: &MessageId<'_>) -> String {
    match id {
        MessageId::Ulong(number) => format!("ulong {number}"),
        MessageId::Uuid(uuid) => format!("uuid {uuid}"),
        MessageId::Binary(bytes) => hex(bytes),
        MessageId::String(text) => format!("string \"{text}\""),
    }
}

/// What a message says, in the notation of the file.
fn says(message: &Message<'_>) -> String {
    let header = message.header().expect("a header");
    let properties = message.properties().expect("properties");
    let map = |map: Map<'_>| (!map.is_empty()).then(|| show_map(map));
    let text = |text: Option<&str>| text.map(str::to_owned);
    let flag = |flag: bool| flag.then(|| flag.to_string());
    let value = message.value().expect("a value").map(|value| show(&value));
    let sequences = message.sequences().map(|list| show(&Value::List(list.expect("a list"))));
    let fields: Vec<(&str, Option<String>)> = vec![
        ("durable", flag(header.durable)),
        ("priority", (header.priority != 4).then(|| header.priority.to_string())),
        ("ttl", header.ttl.map(|ttl| ttl.to_string())),
        ("first-acquirer", flag(header.first_acquirer)),
        ("delivery-count", (header.delivery_count > 0).then(|| header.delivery_count.to_string())),
        ("delivery-annotations", map(message.delivery_annotations().expect("annotations"))),
        ("message-annotations", map(message.message_annotations().expect("annotations"))),
        ("message-id", properties.message_id.map(|id| show_id(&id))),
        ("user-id", properties.user_id.filter(|id| !id.is_empty()).map(hex)),
        ("to", properties.to.map(|address| address.0.to_owned())),
        ("subject", text(properties.subject)),
        ("reply-to", properties.reply_to.map(|address| address.0.to_owned())),
        ("correlation-id", properties.correlation_id.map(|id| show_id(&id))),
        ("content-type", properties.content_type.map(|symbol| symbol.to_string())),
        ("content-encoding", properties.content_encoding.map(|symbol| symbol.to_string())),
        ("absolute-expiry-time", properties.absolute_expiry_time.map(|time| time.to_string())),
        ("creation-time", properties.creation_time.map(|time| time.to_string())),
        ("group-id", text(properties.group_id)),
        ("group-sequence", properties.group_sequence.map(|number| number.to_string())),
        ("reply-to-group-id", text(properties.reply_to_group_id)),
        ("application-properties", map(message.application_properties().expect("properties"))),
        ("value", value),
    ];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let data = message.data().map(|bytes| ("data", hex(bytes)));
    let all = fields.chain(data).chain(sequences.map(|list| ("sequence", list)));
    all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

#[test]
fn values_of_proton_say_what_proton_meant() {
    let lines = lines("values.txt");
    assert!(lines.len() > 250, "the values were found");
    for line in lines {
        let bytes = corpus::parse_bytes(&line[0]);
        let (value, used) = decode_value(&bytes).expect(&line[1]);
        assert_eq!(used, bytes.len(), "{}", line[1]);
        assert_eq!(show(&value), line[1], "{}", line[0]);
    }
}

#[test]
fn messages_of_proton_say_what_proton_meant() {
    let lines = lines("messages.txt");
    assert!(lines.len() >= 10, "the messages were found");
    for line in lines {
        let bytes = corpus::parse_bytes(&line[1]);
        let message = Message::parse(&bytes).expect(&line[0]);
        message.check().expect(&line[0]);
        let meant = line.get(2).map_or("", String::as_str).trim_start_matches("| ");
        assert_eq!(says(&message), meant.trim_end_matches('|').trim_end(), "{}", line[0]);
    }
}

/// The frames one end of the connection said, behind its protocol headers.
fn frames(stream: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    speak(stream, |frame| frames.push(frame), |_| {});
    frames
}

fn speak<'a>(
    stream: &'a [u8],
    mut take: impl FnMut(Frame<'a>),
    mut header: impl FnMut(ProtocolHeader),
) {
    let mut rest = stream;
    for (expected, context) in [
        (ProtocolHeader::SASL, FrameContext::SASL),
        (ProtocolHeader::AMQP, FrameContext::amqp(512)),
    ] {
        assert_eq!(ProtocolHeader::decode(rest), Ok(Some(expected)));
        header(expected);
        rest = &rest[8..];
        while !rest.is_empty() && !rest.starts_with(b"AMQP") {
            match decode_frame(rest, &context) {
                Ok(Decoded::Frame { frame, used }) => {
                    take(frame);
                    rest = &rest[used..];
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(rest.is_empty());
}

fn stream(who: &str) -> Vec<u8> {
    let lines = lines("connection.txt");
    let line = lines.iter().find(|line| line[0] == who).expect("both ends spoke");
    corpus::parse_bytes(&line[1])
}

fn performatives<'a>(frames: &[Frame<'a>]) -> Vec<Performative<'a>> {
    let performative = |frame: &Frame<'a>| match frame {
        Frame::Amqp { performative, .. } => Some(performative.clone()),
        _ => None,
    };
    frames.iter().filter_map(performative).collect()
}

#[test]
fn a_client_of_proton_opens_and_attaches_as_it_meant() {
    let stream = stream("client");
    let performatives = performatives(&frames(&stream));
    let Performative::Open(open) = &performatives[0] else { panic!("{:?}", performatives[0]) };
    assert_eq!((open.container_id, open.hostname), ("client-1", Some("example.org")));
    assert_eq!((open.max_frame_size, open.idle_time_out), (512, Some(30_000)));
    let symbol = |text: &'static str| Symbol::literal(text);
    assert!(open.offered_capabilities.iter().eq([symbol("a"), symbol("b")]));
    assert!(open.desired_capabilities.iter().eq([symbol("ANONYMOUS-RELAY")]));
    let properties = open.properties.expect("properties");
    assert_eq!(properties.find(symbol("n")), Some(Value::Int(-5)));
    assert_eq!(properties.find(symbol("product")), Some(Value::String("proton")));

    let attached = |name: &str| {
        let attach = performatives.iter().find_map(|performative| match performative {
            Performative::Attach(attach) if attach.name == name => Some(attach.clone()),
            _ => None,
        });
        attach.unwrap_or_else(|| panic!("no link {name}"))
    };
    let up = attached("up");
    assert_eq!(up.role, Role::Sender);
    assert_eq!(up.snd_settle_mode, SenderSettleMode::Unsettled);
    assert_eq!(up.rcv_settle_mode, ReceiverSettleMode::Second);
    assert_eq!((up.initial_delivery_count, up.max_message_size), (Some(0), Some(1 << 20)));
    let Some(Target::Node(target)) = up.target else { panic!("{up:?}") };
    assert_eq!(target.address.map(|address| address.0), Some("event/acme"));
    assert_eq!(target.durable, TerminusDurability::Configuration);
    assert_eq!((target.expiry_policy, target.timeout), (ExpiryPolicy::Never, 60));
    assert!(target.capabilities.iter().eq([symbol("queue"), symbol("topic")]));

    let source = attached("down").source.expect("a source");
    assert_eq!(source.address.map(|address| address.0), Some("telemetry/acme"));
    assert_eq!(source.distribution_mode, Some(DistributionMode::Copy));
    let outcomes = [symbol("amqp:accepted:list"), symbol("amqp:released:list")];
    assert!(source.outcomes.iter().eq(outcomes));
    let filter = source.filter.expect("a filter").as_map().find(symbol("selector"));
    let Some(Value::Described(filter)) = filter else { panic!("{filter:?}") };
    assert_eq!(filter.descriptor(), Value::Symbol(symbol("apache.org:selector-filter:string")));
    assert_eq!(filter.value(), Value::String("x = 1"));

    let source = attached("dynamic").source.expect("a source");
    assert!(source.dynamic);
    let policy = source.dynamic_node_properties.and_then(|properties| properties.lifetime_policy());
    assert_eq!(policy, Some(LifetimePolicy::DeleteOnClose));
}

#[test]
fn deliveries_of_proton_have_their_tags_states_and_messages() {
    let (client, server) = (stream("client"), stream("server"));
    let (client, server) = (frames(&client), frames(&server));
    let mut messages: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for frame in &client {
        let Frame::Amqp { performative: Performative::Transfer(transfer), payload, .. } = frame
        else {
            continue;
        };
        match transfer.delivery_tag {
            Some(tag) if messages.last().is_none_or(|(last, _)| *last != tag.as_bytes()) => {
                messages.push((tag.as_bytes().to_vec(), payload.to_vec()));
            }
            _ => messages.last_mut().expect("a first transfer").1.extend_from_slice(payload),
        }
        assert_eq!(transfer.message_format.unwrap_or(0), 0);
    }
    assert_eq!(messages.len(), 5);
    for (number, (tag, bytes)) in messages.iter().enumerate() {
        assert_eq!(*tag, format!("tag-{number}").into_bytes());
        let message = Message::parse(bytes).expect("a message");
        let id = format!("m-{number}");
        assert_eq!(
            message.properties().map(|all| all.message_id),
            Ok(Some(MessageId::String(&id)))
        );
        let body = if number == 2 { "x".repeat(1200) } else { number.to_string() };
        assert!(message.data().eq([body.as_bytes()]));
    }

    let states: Vec<_> = performatives(&server)
        .into_iter()
        .filter_map(|performative| match performative {
            Performative::Disposition(disposition) => disposition.state,
            _ => None,
        })
        .collect();
    let [accepted, rejected, released, modified, received] = states[..] else {
        panic!("{states:?}")
    };
    assert_eq!(accepted, DeliveryState::Outcome(Outcome::Accepted));
    let DeliveryState::Outcome(Outcome::Rejected(rejected)) = rejected else { panic!() };
    let error = rejected.error.expect("a reason");
    assert_eq!(
        (error.condition, error.description),
        (condition::NOT_FOUND, Some("no such device"))
    );
    assert_eq!(error.info.and_then(|info| info.find(Symbol::literal("k"))), Some(Value::Long(1)));
    assert_eq!(released, DeliveryState::Outcome(Outcome::Released));
    let DeliveryState::Outcome(Outcome::Modified(modified)) = modified else { panic!() };
    assert!(modified.delivery_failed && modified.undeliverable_here);
    let annotations = modified.message_annotations.expect("annotations");
    assert_eq!(annotations.find(Symbol::literal("x-opt-a")), Some(Value::Boolean(true)));
    let DeliveryState::Received(received) = received else { panic!("{received:?}") };
    assert_eq!((received.section_number, received.section_offset), (1, 300));
}

#[test]
fn ends_of_proton_say_why() {
    let (client, server) = (stream("client"), stream("server"));
    let (client, server) = (frames(&client), frames(&server));
    assert!(server.contains(&Frame::Empty { channel: 0 }), "a sign of life");
    let condition = |error: Option<fulcrum_amqp::Error<'_>>| {
        error.map(|error| (error.condition.to_string(), error.description.map(str::to_owned)))
    };
    let ends = |frames: &[Frame<'_>]| -> Vec<_> {
        let end = |performative| match performative {
            Performative::Detach(detach) => Some(condition(detach.error)),
            Performative::End(end) => Some(condition(end.error)),
            Performative::Close(close) => Some(condition(close.error)),
            _ => None,
        };
        performatives(frames).into_iter().filter_map(end).flatten().collect()
    };
    let said =
        |condition: &str, text: Option<&str>| (condition.to_owned(), text.map(str::to_owned));
    assert_eq!(
        ends(&server),
        [
            said("amqp:link:stolen", Some("attached elsewhere")),
            said("amqp:session:window-violation", None)
        ]
    );
    assert_eq!(ends(&client), [said("amqp:connection:forced", Some("bye"))]);
    let drained = performatives(&client)
        .iter()
        .any(|performative| matches!(performative, Performative::Flow(flow) if flow.drain));
    assert!(drained);
}

/// `FULCRUM_VECTORS=write` makes the file anew; `make.py check` has Proton read it.
#[test]
fn what_proton_was_given_to_read_is_what_is_written_now() {
    let mut ours = "# kind | which | bytes\n".to_owned();
    for (number, line) in lines("values.txt").iter().enumerate() {
        let bytes = corpus::parse_bytes(&line[0]);
        let (value, _) = decode_value(&bytes).expect("a value");
        let _ = writeln!(ours, "value | {number} | {}", hex(&rebuild::value(&value)));
    }
    for line in lines("messages.txt") {
        let bytes = corpus::parse_bytes(&line[1]);
        let message = Message::parse(&bytes).expect("a message");
        let written = rebuild::message(&message).expect("a message that can be read");
        let _ = writeln!(ours, "message | {} | {}", line[0], hex(&written));
    }
    let out = std::cell::RefCell::new(Vec::new());
    speak(
        &stream("client"),
        |frame| encode_frame(&frame, 512, &mut out.borrow_mut()).expect("a frame"),
        |header| out.borrow_mut().extend(header.encode()),
    );
    let _ = writeln!(ours, "client | - | {}", hex(&out.into_inner()));

    let file = folder().join("ours.txt");
    if std::env::var_os("FULCRUM_VECTORS").is_some_and(|wish| wish == "write") {
        std::fs::write(&file, &ours).expect("a file that can be written");
    }
    assert_eq!(std::fs::read_to_string(file).expect("the file is there"), ours);
}
