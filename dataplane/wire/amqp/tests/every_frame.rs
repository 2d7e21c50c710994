//! Every performative and every SASL frame with every field, written and read back; what may be left
//! out; what tells a peer.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

use fulcrum_amqp::{
    Attach, Begin, Close, Coordinator, Declared, Decoded, DeliveryState, DeliveryTag, Detach,
    Disposition, DistributionMode, EncodeError, End, Error, ExpiryPolicy, Fields, FilterSet, Flow,
    Frame, FrameContext, MapBuffer, Modified, Negotiation, NodeProperties, Open, Outcome,
    Performative, ProtocolHeader, Received, ReceiverSettleMode, Rejected, Role, Sasl,
    SaslChallenge, SaslCode, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse, SecretBytes,
    SenderSettleMode, Source, Symbol, Symbols, Target, TargetNode, TerminusDurability,
    TransactionalState, Transfer, Value, clause, condition, decode_frame, encode_frame,
    encode_transfer,
};

const SYMBOLS: [Symbol<'static>; 2] = [Symbol::literal("a"), Symbol::literal("b")];

fn round_trip(frame: &Frame<'_>) -> Vec<u8> {
    let context = match frame {
        Frame::Sasl(_) => FrameContext::SASL,
        _ => FrameContext::amqp(65_536),
    };
    let mut out = Vec::new();
    encode_frame(frame, context.frame_bytes_max, &mut out).expect("a frame that can be written");
    match decode_frame(&out, &context) {
        Ok(Decoded::Frame { frame: again, used }) => {
            assert_eq!((again, used), (frame.clone(), out.len()));
        }
        other => panic!("{other:?} instead of {frame:?}"),
    }
    out
}

fn amqp(performative: Performative<'_>) -> Frame<'_> {
    Frame::Amqp { channel: 7, performative, payload: &[] }
}

fn map() -> MapBuffer {
    let mut map = MapBuffer::new();
    map.push(&Value::Symbol(SYMBOLS[0]), &Value::Int(-300)).expect("a short map");
    map
}

fn error(fields: Fields<'_>) -> Error<'_> {
    Error { info: Some(fields), ..Error::new(condition::NOT_FOUND, "no such thing") }
}

fn source(fields: Fields<'_>) -> Source<'_> {
    Source {
        address: Some(fulcrum_amqp::Address("queue")),
        durable: TerminusDurability::UnsettledState,
        expiry_policy: ExpiryPolicy::ConnectionClose,
        timeout: 300,
        dynamic: true,
        dynamic_node_properties: Some(NodeProperties(fields)),
        distribution_mode: Some(DistributionMode::Move),
        filter: FilterSet::new(fulcrum_amqp::Map::EMPTY),
        default_outcome: Some(Outcome::Modified(Modified {
            delivery_failed: true,
            undeliverable_here: false,
            message_annotations: None,
        })),
        outcomes: Symbols::of(&SYMBOLS),
        capabilities: Symbols::one(SYMBOLS[1]),
    }
}

fn attach(fields: Fields<'_>) -> Attach<'_> {
    Attach {
        name: "link",
        handle: 3,
        role: Role::Sender,
        snd_settle_mode: SenderSettleMode::Settled,
        rcv_settle_mode: ReceiverSettleMode::Second,
        source: Some(source(fields)),
        target: Some(Target::Node(TargetNode {
            address: None,
            durable: TerminusDurability::None,
            expiry_policy: ExpiryPolicy::SessionEnd,
            timeout: 0,
            dynamic: false,
            dynamic_node_properties: None,
            capabilities: Symbols::NONE,
        })),
        unsettled: Some(fields.as_map()),
        incomplete_unsettled: true,
        initial_delivery_count: Some(u32::MAX),
        max_message_size: Some(u64::MAX),
        offered_capabilities: Symbols::of(&SYMBOLS),
        desired_capabilities: Symbols::of(&SYMBOLS),
        properties: Some(fields),
    }
}

fn transfer() -> Transfer<'static> {
    Transfer {
        handle: 0,
        delivery_id: None,
        delivery_tag: None,
        message_format: None,
        settled: None,
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

fn flow() -> Flow<'static> {
    Flow {
        next_incoming_id: None,
        incoming_window: 1,
        next_outgoing_id: 0,
        outgoing_window: 1,
        handle: None,
        delivery_count: None,
        link_credit: None,
        available: None,
        drain: false,
        echo: false,
        properties: None,
    }
}

#[test]
fn every_performative_with_every_field_reads_back() {
    let map = map();
    let fields = Fields::new(map.as_map()).expect("keys that are symbols");
    let open = Open {
        container_id: "container",
        hostname: Some("host"),
        max_frame_size: 512,
        channel_max: 0,
        idle_time_out: Some(0),
        outgoing_locales: Symbols::of(&SYMBOLS),
        incoming_locales: Symbols::one(SYMBOLS[0]),
        offered_capabilities: Symbols::of(&SYMBOLS),
        desired_capabilities: Symbols::of(&SYMBOLS),
        properties: Some(fields),
    };
    round_trip(&amqp(Performative::Open(Box::new(open))));
    let begin = Begin {
        remote_channel: Some(9),
        next_outgoing_id: 1,
        incoming_window: 2,
        outgoing_window: u32::MAX,
        handle_max: 0,
        offered_capabilities: Symbols::of(&SYMBOLS),
        desired_capabilities: Symbols::of(&SYMBOLS),
        properties: Some(fields),
    };
    round_trip(&amqp(Performative::Begin(begin)));
    round_trip(&amqp(Performative::Attach(Box::new(attach(fields)))));
    let target = Some(Target::Coordinator(Coordinator { capabilities: Symbols::one(SYMBOLS[0]) }));
    round_trip(&amqp(Performative::Attach(Box::new(Attach { target, ..attach(fields) }))));
    let flow = Flow {
        next_incoming_id: Some(0),
        handle: Some(0),
        delivery_count: Some(0),
        link_credit: Some(256),
        available: Some(u32::MAX),
        drain: true,
        echo: true,
        properties: Some(fields),
        ..flow()
    };
    round_trip(&amqp(Performative::Flow(flow)));
    let detach = Detach { handle: 1, closed: true, error: Some(error(fields)) };
    round_trip(&amqp(Performative::Detach(detach)));
    round_trip(&amqp(Performative::End(End { error: Some(error(fields)) })));
    round_trip(&amqp(Performative::Close(Close { error: Some(error(fields)) })));
}

#[test]
fn every_delivery_state_reads_back_in_transfer_and_disposition() {
    let map = map();
    let fields = Fields::new(map.as_map()).expect("keys that are symbols");
    let modified = Modified {
        delivery_failed: true,
        undeliverable_here: true,
        message_annotations: Some(fields),
    };
    let outcomes = [
        Outcome::Accepted,
        Outcome::Released,
        Outcome::Rejected(Rejected { error: None }),
        Outcome::Rejected(Rejected { error: Some(error(fields)) }),
        Outcome::Modified(modified),
        Outcome::Declared(Declared { txn_id: &[1, 2] }),
    ];
    let received = Received { section_number: 0, section_offset: 1 << 40 };
    let mut states = vec![DeliveryState::Received(received)];
    states.extend(outcomes.map(DeliveryState::Outcome));
    states.extend(outcomes.iter().map(|outcome| {
        DeliveryState::Transactional(TransactionalState { txn_id: &[], outcome: Some(*outcome) })
    }));
    for state in states {
        let disposition = Disposition {
            role: Role::Receiver,
            first: 3,
            last: Some(2),
            settled: true,
            state: Some(state),
            batchable: true,
        };
        round_trip(&amqp(Performative::Disposition(disposition)));
        let transfer = Transfer {
            handle: 1,
            delivery_id: Some(u32::MAX),
            delivery_tag: DeliveryTag::new(b"tag"),
            message_format: Some(0),
            settled: Some(false),
            more: true,
            rcv_settle_mode: Some(ReceiverSettleMode::First),
            state: Some(state),
            resume: true,
            aborted: true,
            batchable: true,
        };
        let performative = Performative::Transfer(transfer);
        round_trip(&Frame::Amqp { channel: u16::MAX, performative, payload: &[0, 0xFF, 0x40] });
    }
}

#[test]
fn every_sasl_frame_reads_back() {
    let secret = SecretBytes(b"\0user\0secret");
    let frames = [
        Sasl::Mechanisms(SaslMechanisms { sasl_server_mechanisms: Symbols::of(&SYMBOLS) }),
        Sasl::Init(SaslInit {
            mechanism: SYMBOLS[0],
            initial_response: Some(secret),
            hostname: Some("host"),
        }),
        Sasl::Challenge(SaslChallenge { challenge: secret }),
        Sasl::Response(SaslResponse { response: secret }),
    ];
    for frame in frames {
        round_trip(&Frame::Sasl(frame));
    }
    for code in SaslCode::ALL {
        let outcome = SaslOutcome { code: *code, additional_data: Some(secret) };
        round_trip(&Frame::Sasl(Sasl::Outcome(outcome)));
    }
}

#[test]
fn what_is_said_in_sasl_is_not_shown() {
    let secret = SecretBytes(b"hunter2");
    let init = SaslInit { mechanism: SYMBOLS[0], initial_response: Some(secret), hostname: None };
    for sasl in [
        Sasl::Init(init),
        Sasl::Challenge(SaslChallenge { challenge: secret }),
        Sasl::Response(SaslResponse { response: secret }),
        Sasl::Outcome(SaslOutcome { code: SaslCode::Ok, additional_data: Some(secret) }),
    ] {
        let shown = format!("{:?}", Frame::Sasl(sasl));
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
        assert!(shown.contains("(7 bytes hidden)"), "{shown}");
    }
}

#[test]
fn a_performative_that_says_little_is_short() {
    let end = round_trip(&amqp(Performative::End(End { error: None })));
    assert_eq!(end[8..], [0x00, 0x53, 0x17, 0x45]);
    let one = round_trip(&amqp(Performative::Transfer(transfer())));
    assert_eq!(one[8..], [0x00, 0x53, 0x14, 0xC0, 0x02, 0x01, 0x43]);
}

#[test]
fn what_a_peer_would_refuse_is_not_written() {
    let fields = Fields::EMPTY;
    let sender = Attach { initial_delivery_count: None, ..attach(fields) };
    let credit = Flow { link_credit: Some(1), ..flow() };
    let close = Performative::Close(Close { error: None });
    let none = SaslMechanisms { sasl_server_mechanisms: Symbols::NONE };
    let refused = [
        (amqp(Performative::Attach(Box::new(sender))), clause::ATTACH_DELIVERY_COUNT),
        (amqp(Performative::Flow(credit)), clause::FLOW_HANDLE),
        (Frame::Amqp { channel: 0, performative: close, payload: &[1] }, clause::PAYLOAD_MISPLACED),
        (Frame::Sasl(Sasl::Mechanisms(none)), clause::SASL_MECHANISMS_EMPTY),
    ];
    for (frame, clause) in refused {
        let mut out = vec![1];
        let error = encode_frame(&frame, 4096, &mut out).expect_err(clause);
        assert_eq!(error, EncodeError::Invalid { clause });
        assert_eq!(out, [1]);
    }
    let receiver = Attach { role: Role::Receiver, initial_delivery_count: None, ..attach(fields) };
    round_trip(&amqp(Performative::Attach(Box::new(receiver))));
}

#[test]
fn the_pieces_of_a_payload_are_neighbours() {
    let mut out = Vec::new();
    encode_transfer(1, &transfer(), &[b"ab", b"", b"c"], 512, &mut out).expect("a small frame");
    let context = FrameContext::amqp(512);
    let Ok(Decoded::Frame { frame: Frame::Amqp { payload, .. }, .. }) =
        decode_frame(&out, &context)
    else {
        panic!("{out:?}")
    };
    assert_eq!(payload, b"abc");
    let length = out.len();
    let error = encode_transfer(1, &transfer(), &[&[0; 512]], 512, &mut out).expect_err("large");
    assert_eq!(error.condition(), condition::FRAME_SIZE_TOO_SMALL);
    assert_eq!(out.len(), length);
}

#[test]
fn a_wrong_protocol_header_is_answered_with_a_right_one() {
    let (amqp, sasl) = (ProtocolHeader::AMQP, ProtocolHeader::SASL);
    assert_eq!(sasl.negotiate(sasl, &[]), Negotiation::Accept(sasl));
    assert_eq!(amqp.negotiate(sasl, &[amqp]), Negotiation::Accept(amqp));
    assert_eq!(amqp.negotiate(sasl, &[]), Negotiation::Refuse(sasl));
    assert_eq!(ProtocolHeader::TLS.negotiate(sasl, &[amqp]), Negotiation::Refuse(sasl));
    let older = ProtocolHeader { protocol: 0, major: 0, minor: 9, revision: 1 };
    assert_eq!(older.negotiate(amqp, &[sasl]), Negotiation::Refuse(amqp));
}

#[test]
fn an_error_names_the_field_and_the_condition() {
    // attach: name, handle, role, two nulls, a source whose durability is 9.
    let bytes = b"\0\0\0\x1e\x02\0\0\0\0S\x12\xc0\x11\x06\xa1\x01l\x43\x41\x40\x40\0S\x28\xc0\x04\x02\x40R\x09";
    let error = decode_frame(bytes, &FrameContext::amqp(512)).expect_err("a durability of 9");
    assert_eq!(error.condition(), condition::INVALID_FIELD);
    assert_eq!(
        error.to_string(),
        format!("invalid value in source.durable: {}", clause::FIELD_CHOICE)
    );
}

#[test]
fn conditions_are_those_of_the_specification() {
    assert_eq!(condition::ALL.len(), 28);
    assert!(condition::ALL.iter().all(|one| one.as_str().starts_with("amqp:")));
}
