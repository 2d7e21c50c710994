//! Peers that break the rules: the specification's error condition, and nobody else touched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use fulcrum_amqp::*;
use fulcrum_links::*;
use harness::*;

fn broken(raw: &mut Raw) -> (Scope, String) {
    match raw.server.take_seen().pop() {
        Some(Seen::Broken(scope, condition)) => (scope, condition),
        other => panic!("{other:?}"),
    }
}

/// What a peer does.
type Act<'a> = &'a dyn Fn(&mut Raw);

const SESSION: SessionId = SessionId(0);

#[test]
fn what_breaks_a_rule_of_the_connection_closes_it() {
    let cases: [(&str, Act<'_>); 8] = [
        ("amqp:illegal-state", &|raw| raw.frame(0, open())),
        ("amqp:illegal-state", &|raw| raw.frame(7, attach(0, "a", Role::Sender))),
        ("amqp:not-allowed", &|raw| raw.frame(0, begin())),
        ("amqp:connection:framing-error", &|raw| raw.frame(64, begin())),
        ("amqp:connection:framing-error", &|raw| raw.frame(0, attach(1024, "a", Role::Sender))),
        ("amqp:connection:framing-error", &|raw| raw.bytes(&[0, 0, 0, 1, 2, 0, 0, 0])),
        ("amqp:connection:framing-error", &|raw| raw.bytes(&[0, 1, 0, 1, 2, 0, 0, 0])),
        ("amqp:decode-error", &|raw| raw.bytes(&[0, 0, 0, 10, 2, 0, 0, 0, 0x40, 0x40])),
    ];
    for (expected, act) in cases {
        let mut raw = Raw::opened(Settings::default());
        act(&mut raw);
        assert_eq!(broken(&mut raw), (Scope::Connection, expected.to_owned()));
        assert_eq!(raw.answers().last().unwrap(), &format!("close {expected}"));
        // What else it says is not seen.
        raw.frame(0, attach(0, "late", Role::Sender));
        assert_eq!(raw.server.take_seen(), []);
    }
}

#[test]
fn an_open_comes_first_and_with_a_time_out_that_can_be_kept() {
    let mut raw = Raw { server: Side::server(Settings::default()) };
    raw.bytes(&ProtocolHeader::AMQP.encode());
    raw.frame(0, begin());
    assert_eq!(broken(&mut raw), (Scope::Connection, "amqp:illegal-state".into()));
    for (idle_time_out, is_kept) in [(99, false), (100, true), (0, true)] {
        let mut raw = Raw { server: Side::server(Settings::default()) };
        raw.bytes(&ProtocolHeader::AMQP.encode());
        let Performative::Open(mut open) = open() else { unreachable!() };
        open.idle_time_out = Some(idle_time_out);
        raw.frame(0, Performative::Open(open));
        let seen = raw.server.take_seen().pop().unwrap();
        assert_eq!(matches!(seen, Seen::Opened(_)), is_kept, "{idle_time_out}: {seen:?}");
    }
}

#[test]
fn what_breaks_a_rule_of_a_session_ends_it_alone() {
    let flow_of = |handle| Performative::Flow(Flow { handle: Some(handle), ..flow(0, 10) });
    let long = "n".repeat(257);
    let cases: [(&str, Act<'_>); 6] = [
        ("amqp:session:unattached-handle", &|raw| raw.frame(0, flow_of(9))),
        ("amqp:session:unattached-handle", &|raw| {
            raw.frame(0, Performative::Transfer(transfer(9, Some(0))));
        }),
        ("amqp:session:unattached-handle", &|raw| {
            raw.frame(0, Performative::Detach(Detach { handle: 9, closed: true, error: None }));
        }),
        ("amqp:session:handle-in-use", &|raw| {
            raw.frame(0, attach(0, "a", Role::Sender));
            raw.frame(0, attach(0, "b", Role::Sender));
        }),
        ("amqp:invalid-field", &|raw| raw.frame(0, attach(0, &long, Role::Sender))),
        ("amqp:invalid-field", &|raw| {
            raw.sender(0, 10);
            raw.frame(0, Performative::Transfer(transfer(0, Some(5))));
            raw.frame(0, Performative::Transfer(transfer(0, Some(5))));
        }),
    ];
    for (expected, act) in cases {
        let mut raw = Raw::opened(Settings::default());
        raw.frame(1, begin());
        act(&mut raw);
        assert_eq!(broken(&mut raw), (Scope::Session(SESSION), expected.to_owned()));
        assert_eq!(raw.answers().last().unwrap(), &format!("end {expected}"));
        raw.frame(0, attach(3, "late", Role::Sender));
        assert_eq!(raw.server.take_seen(), []);
        // The other session goes on, and the channel is free again behind the peer's end.
        raw.frame(1, attach(3, "other", Role::Sender));
        assert!(matches!(raw.server.take_seen()[..], [Seen::Asked(..)]));
        raw.frame(0, Performative::End(End { error: None }));
        raw.frame(0, begin());
        assert!(matches!(raw.server.take_seen()[..], [Seen::Begun(_)]));
    }
}

#[test]
fn what_breaks_a_rule_of_a_link_detaches_it_alone() {
    let piece = |number, more| Performative::Transfer(Transfer { more, ..transfer(0, number) });
    let cases: [(&str, u32, Act<'_>); 5] = [
        ("amqp:link:transfer-limit-exceeded", 0, &|raw| raw.frame(0, piece(Some(0), false))),
        ("amqp:link:transfer-limit-exceeded", 1, &|raw| {
            raw.frame(0, piece(Some(0), false));
            raw.frame(0, piece(Some(1), false));
        }),
        ("amqp:invalid-field", 5, &|raw| raw.frame(0, piece(None, false))),
        ("amqp:not-allowed", 5, &|raw| {
            raw.frame(0, piece(Some(0), true));
            raw.frame(0, piece(Some(1), false));
        }),
        ("amqp:link:message-size-exceeded", 5, &|raw| {
            raw.payload(0, piece(Some(0), true), &[0; 600]);
            raw.payload(0, piece(None, true), &[0; 400]);
            assert!(
                !matches!(raw.server.seen.last(), Some(Seen::Broken(..))),
                "1000 are permitted"
            );
            raw.payload(0, piece(None, false), &[0; 1]);
        }),
    ];
    for (expected, credit, act) in cases {
        let mut raw = Raw::opened(Settings::default());
        raw.frame(0, attach(0, "limited", Role::Sender));
        let Some(Seen::Asked(link, ..)) = raw.server.take_seen().pop() else { panic!("no link") };
        let Side { connection, out, .. } = &mut raw.server;
        let limited = Terms { message_bytes_max: 1000, ..terms("node") };
        connection.accept(link, &limited, out).unwrap();
        connection.set_credit(link, credit, false, out);
        act(&mut raw);
        assert_eq!(broken(&mut raw), (Scope::Link(link), expected.to_owned()));
        assert_eq!(raw.answers().last().unwrap(), &format!("detach {expected}"));
        // What is on its way on the link is not seen, the session's other links are.
        raw.frame(0, piece(Some(50), false));
        assert_eq!(raw.server.take_seen(), []);
        raw.frame(0, Performative::Detach(Detach { handle: 0, closed: true, error: None }));
        let other = raw.sender(1, 5);
        raw.payload(0, Performative::Transfer(transfer(1, Some(60))), b"x");
        assert!(
            matches!(raw.server.take_seen()[..], [Seen::Transfer { link, .. }] if link == other)
        );
    }
}

#[test]
fn a_window_is_held_to_and_opened_again_as_messages_come() {
    let settings = Settings { incoming_window: 4, ..Settings::default() };
    let mut raw = Raw::opened(settings);
    raw.sender(0, 1000);
    for number in 0..500 {
        raw.frame(
            0,
            Performative::Transfer(Transfer { settled: Some(true), ..transfer(0, Some(number)) }),
        );
        assert!(matches!(raw.server.take_seen()[..], [Seen::Transfer { .. }]));
    }
    // It was told of room every second time.
    assert_eq!(raw.answers(), vec!["flow"; 250]);
}

#[test]
fn what_a_peer_does_not_settle_is_bounded() {
    let settings = Settings { unsettled_max: 10, ..Settings::default() };
    let mut raw = Raw::opened(settings);
    raw.sender(0, 1000);
    for number in 0..10 {
        raw.frame(0, Performative::Transfer(transfer(0, Some(number))));
    }
    assert_eq!(raw.server.connection.unsettled(SESSION), (0, 10));
    assert_eq!(raw.server.take_seen().len(), 10);
    raw.frame(0, Performative::Transfer(transfer(0, Some(10))));
    assert_eq!(broken(&mut raw), (Scope::Session(SESSION), "amqp:resource-limit-exceeded".into()));
}

#[test]
fn sessions_and_links_are_bounded_on_both_sides_of_the_limit() {
    let settings = Settings { sessions_max: 3, links_max: 4, ..Settings::default() };
    let mut raw = Raw::opened(settings);
    raw.frame(1, begin());
    raw.frame(2, begin());
    assert_eq!(raw.server.take_seen().len(), 2);
    for handle in 0..4 {
        raw.frame(0, attach(handle, &format!("l{handle}"), Role::Receiver));
    }
    assert_eq!(raw.server.take_seen().len(), 4);
    raw.frame(0, attach(4, "l4", Role::Receiver));
    assert_eq!(broken(&mut raw).1, "amqp:connection:framing-error");
}

#[test]
fn no_link_is_answered_with_a_handle_the_peer_does_not_take() {
    let mut raw = Raw::opened(Settings::default());
    let Performative::Begin(begin) = begin() else { unreachable!() };
    raw.frame(1, Performative::Begin(Begin { handle_max: 1, ..begin }));
    raw.server.take_seen();
    // Its own handles are higher than that: those are bounded by what this end takes.
    raw.frame(1, attach(7, "a", Role::Sender));
    raw.frame(1, attach(8, "b", Role::Sender));
    let handles: Vec<u32> = raw
        .server
        .take_seen()
        .into_iter()
        .map(|seen| match seen {
            Seen::Asked(link, ..) => link.handle,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(handles, [0, 1]);
    raw.frame(1, attach(9, "c", Role::Sender));
    let (scope, condition) = broken(&mut raw);
    assert_eq!(scope, Scope::Session(SessionId(1)));
    assert_eq!(condition, "amqp:resource-limit-exceeded");
}

#[test]
fn numbers_that_wrap_around_are_in_order() {
    let mut raw = Raw::opened(Settings::default());
    let link = raw.sender(0, 100);
    for number in [u32::MAX - 1, u32::MAX, 0, 1] {
        raw.frame(0, Performative::Transfer(transfer(0, Some(number))));
    }
    assert_eq!(raw.server.take_seen().len(), 4);
    let Side { connection, out, .. } = &mut raw.server;
    for number in [u32::MAX - 1, u32::MAX, 0, 1] {
        connection.dispose(link.session, number, ACCEPTED, true, out);
    }
    connection.flush(out);
    assert_eq!(raw.answers(), ["disposition"]);
    assert_eq!(raw.server.connection.unsettled(SESSION), (0, 0));
}

#[test]
fn a_disposition_of_everything_costs_what_is_there() {
    let mut raw = Raw::opened(Settings::default());
    raw.frame(0, attach(0, "down", Role::Receiver));
    let Some(Seen::Asked(link, ..)) = raw.server.take_seen().pop() else { panic!("no link") };
    raw.frame(
        0,
        Performative::Flow(Flow {
            handle: Some(0),
            delivery_count: Some(0),
            link_credit: Some(5),
            ..flow(0, 100)
        }),
    );
    let Side { connection, out, .. } = &mut raw.server;
    assert_eq!(connection.check_room(link), Err(Blocked::NotAttached));
    connection.accept(link, &terms("node"), out).unwrap();
    for number in 0..5_u8 {
        connection
            .send(link, delivery(&[number], number.into(), false), &[b"x"], false, out)
            .unwrap();
    }
    for _ in 0..1000 {
        raw.frame(
            0,
            Performative::Disposition(Disposition {
                role: Role::Receiver,
                first: 0,
                last: Some(i32::MAX as u32),
                settled: true,
                state: ACCEPTED,
                batchable: false,
            }),
        );
    }
    let fates = raw.server.take_seen();
    let Seen::Fate { known, .. } = &fates[1] else { panic!("{:?}", fates[1]) };
    assert_eq!(known.len(), 5);
    assert!(
        fates[2..].iter().all(|one| matches!(one, Seen::Fate { known, .. } if known.is_empty()))
    );
}

#[test]
fn a_link_that_is_attached_again_takes_the_older_ones_place() {
    let mut raw = Raw::opened(Settings::default());
    let old = raw.sender(0, 10);
    raw.frame(0, attach(5, "sender-0", Role::Sender));
    let seen = raw.server.take_seen().pop();
    assert!(
        matches!(seen, Some(Seen::Asked(_, _, Role::Sender, Some(stolen))) if stolen == old),
        "{seen:?}"
    );
    assert_eq!(raw.answers(), ["detach amqp:link:stolen"]);
}

#[test]
fn a_peer_that_only_echoes_gets_its_answers_and_no_more() {
    let mut raw = Raw::opened(Settings::default());
    raw.sender(0, 10);
    raw.frame(0, Performative::Flow(Flow { echo: true, ..flow(0, 10) }));
    raw.frame(0, Performative::Flow(Flow { echo: true, handle: Some(0), ..flow(0, 10) }));
    assert_eq!(raw.answers(), ["flow", "flow"]);
}
