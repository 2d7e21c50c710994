//! A client and a server: logins, messages of every settlement, credit, windows, ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_amqp::*;
use fulcrum_links::*;
use harness::*;

#[test]
fn a_client_logs_in_opens_and_closes() {
    for code in [SaslCode::Ok, SaslCode::Auth] {
        let (now, mut out) = (Instant::now(), Vec::new());
        let settings = Arc::new(Settings::default());
        let client = Connection::client(Arc::clone(&settings), true, now, &mut out);
        let server = Connection::server(settings, PLAIN, now);
        let mut pair = Pair {
            client: Side::new(client, out, now),
            server: Side::new(server, Vec::new(), now),
        };
        pair.exchange();
        let offered = vec!["PLAIN".to_owned(), "ANONYMOUS".to_owned()];
        assert_eq!(pair.client.take_seen(), [Seen::Mechanisms(offered)]);
        let Side { connection, out, .. } = &mut pair.client;
        connection.choose(Symbol::literal("PLAIN"), Some(b"\0me\0secret"), out);
        pair.exchange();
        let login = Seen::Login("PLAIN".into(), b"\0me\0secret".to_vec());
        assert_eq!(pair.server.take_seen(), [login]);
        let Side { connection, out, .. } = &mut pair.server;
        connection.challenge(b"more", out);
        pair.exchange();
        assert_eq!(pair.client.take_seen(), [Seen::Login("challenge".into(), b"more".to_vec())]);
        let Side { connection, out, .. } = &mut pair.client;
        connection.respond(b"here", out);
        pair.exchange();
        assert_eq!(pair.server.take_seen(), [Seen::Login(String::new(), b"here".to_vec())]);
        let Side { connection, out, .. } = &mut pair.server;
        connection.outcome(code, None, out);
        pair.exchange();
        assert_eq!(pair.client.take_seen(), [Seen::Verdict(code)]);
        if code != SaslCode::Ok {
            assert!(pair.client.connection.is_over() && pair.server.connection.is_over());
            continue;
        }
        pair.client.connection.open(None, &[], &mut pair.client.out);
        pair.exchange();
        assert_eq!(pair.server.take_seen(), [Seen::Opened("fulcrum".into())]);
        pair.server.connection.open(None, &[], &mut pair.server.out);
        pair.exchange();
        pair.client.connection.close(None, &mut pair.client.out);
        pair.exchange();
        assert_eq!(pair.server.take_seen(), [Seen::Closed(None)]);
        assert_eq!(pair.client.take_seen(), [Seen::Opened("fulcrum".into()), Seen::Closed(None)]);
        assert!(pair.client.connection.is_over() && pair.server.connection.is_over());
    }
}

#[test]
fn a_server_that_wants_a_login_says_so_to_who_does_not_log_in() {
    let now = Instant::now();
    let connection = Connection::server(Arc::new(Settings::default()), PLAIN, now);
    let mut server = Side::new(connection, Vec::new(), now);
    server.input = ProtocolHeader::AMQP.encode().to_vec();
    server.work();
    assert_eq!(server.out, ProtocolHeader::SASL.encode());
    assert!(server.connection.is_over());
    // And nothing is read while the caller thinks about a login.
    let mut server =
        Side::new(Connection::server(Arc::new(Settings::default()), PLAIN, now), Vec::new(), now);
    server.input = ProtocolHeader::SASL.encode().to_vec();
    let init = SaslInit {
        mechanism: Symbol::literal("ANONYMOUS"),
        initial_response: None,
        hostname: None,
    };
    encode_frame(&Frame::Sasl(Sasl::Init(init)), 512, &mut server.input).unwrap();
    server.input.extend(ProtocolHeader::AMQP.encode());
    server.work();
    assert_eq!(server.seen.len(), 1);
    assert_eq!(server.input, ProtocolHeader::AMQP.encode());
    server.connection.outcome(SaslCode::Ok, None, &mut server.out);
    server.work();
    assert!(server.input.is_empty() && !server.connection.is_over());
}

#[test]
fn a_message_goes_over_in_one_piece_or_many_and_its_fate_comes_back() {
    for (frame_bytes, message_bytes) in [(512, 10), (512, 3000), (65_536, 3000), (600, 0)] {
        let server = Settings { frame_bytes_max: frame_bytes, ..Settings::default() };
        let (mut pair, session) = Pair::opened(Settings::default(), server);
        let (ours, theirs) = pair.link(session, "up", Role::Sender);
        pair.server.connection.set_credit(theirs, 2, false, &mut pair.server.out);
        pair.exchange();
        assert_eq!(pair.client.take_seen(), [Seen::Flow(Some(ours))]);
        let message: Vec<u8> = (0..message_bytes).map(|byte| byte as u8).collect();
        let (head, tail) = message.split_at(message_bytes / 3);
        let Side { connection, out, .. } = &mut pair.client;
        let sent =
            connection.send(ours, delivery(b"t1", 77, false), &[head, tail], false, out).unwrap();
        assert_eq!(sent.bytes, message_bytes);
        pair.exchange();
        let mut got = Vec::new();
        let mut last_more = true;
        for (index, one) in pair.server.take_seen().into_iter().enumerate() {
            let Seen::Transfer { link, delivery, tag, more, settled, bytes } = one else {
                panic!("{one:?}")
            };
            assert_eq!((link, delivery, settled), (theirs, sent.delivery, false));
            assert_eq!(tag, (index == 0).then(|| b"t1".to_vec()));
            got.extend(bytes);
            last_more = more;
        }
        assert_eq!((got, last_more), (message, false));
        assert_eq!(pair.client.connection.unsettled(session), (1, 0));
        let Side { connection, out, .. } = &mut pair.server;
        connection.dispose(theirs.session, sent.delivery, ACCEPTED, true, out);
        pair.exchange();
        let known = vec![Known { link: ours, delivery: sent.delivery, token: 77 }];
        let state = Some("Outcome(Accepted)".to_owned());
        assert_eq!(
            pair.client.take_seen(),
            [Seen::Fate { of_sent: true, settled: true, state, known }]
        );
        assert_eq!(pair.client.connection.unsettled(session), (0, 0));
        assert_eq!(pair.server.connection.unsettled(theirs.session), (0, 0));
    }
}

#[test]
fn answers_that_are_alike_go_out_together() {
    let (mut pair, session) = Pair::opened(Settings::default(), Settings::default());
    let (ours, theirs) = pair.link(session, "up", Role::Sender);
    pair.server.connection.set_credit(theirs, 100, false, &mut pair.server.out);
    pair.exchange();
    for number in 0..10_u8 {
        let Side { connection, out, .. } = &mut pair.client;
        connection
            .send(ours, delivery(&[number], number.into(), false), &[b"x"], false, out)
            .unwrap();
    }
    pair.exchange();
    pair.client.take_seen();
    let modified =
        Modified { delivery_failed: true, undeliverable_here: false, message_annotations: None };
    let modified = Some(DeliveryState::Outcome(Outcome::Modified(modified)));
    let Side { connection, out, .. } = &mut pair.server;
    for (number, state) in [
        (0, ACCEPTED),
        (1, ACCEPTED),
        (2, ACCEPTED),
        (4, ACCEPTED),
        (3, RELEASED),
        (5, RELEASED),
        (6, RELEASED),
        (7, modified),
        (8, ACCEPTED),
        (8, ACCEPTED),
        (99, ACCEPTED),
    ] {
        connection.dispose(theirs.session, number, state, true, out);
    }
    pair.exchange();
    let fates: Vec<Vec<u64>> = pair
        .client
        .take_seen()
        .into_iter()
        .map(|one| match one {
            Seen::Fate { known, .. } => known.iter().map(|one| one.token).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(fates, [vec![0, 1, 2], vec![4], vec![3], vec![5, 6], vec![7], vec![8]]);
    assert_eq!(pair.client.connection.unsettled(session), (1, 0));
}

#[test]
fn a_receiver_that_settles_second_keeps_the_delivery_until_the_sender_has_settled() {
    let (mut pair, session) = Pair::opened(Settings::default(), Settings::default());
    let (ours, theirs) = pair.link(session, "up", Role::Sender);
    pair.server.connection.set_credit(theirs, 1, false, &mut pair.server.out);
    pair.exchange();
    let Side { connection, out, .. } = &mut pair.client;
    let sent = connection.send(ours, delivery(b"t", 1, false), &[b"x"], false, out).unwrap();
    pair.exchange();
    let Side { connection, out, .. } = &mut pair.server;
    connection.dispose(theirs.session, sent.delivery, ACCEPTED, false, out);
    pair.exchange();
    assert!(matches!(pair.client.take_seen().pop(), Some(Seen::Fate { settled: false, .. })));
    assert_eq!(pair.client.connection.unsettled(session), (1, 0));
    assert_eq!(pair.server.connection.unsettled(theirs.session), (0, 1));
    pair.server.take_seen();
    pair.client.connection.settle(session, sent.delivery, &mut pair.client.out);
    pair.exchange();
    let known = vec![Known { link: theirs, delivery: sent.delivery, token: 0 }];
    let fate = Seen::Fate { of_sent: false, settled: true, state: None, known };
    assert_eq!(pair.server.take_seen(), [fate]);
    assert_eq!(pair.client.connection.unsettled(session), (0, 0));
    assert_eq!(pair.server.connection.unsettled(theirs.session), (0, 0));
}

#[test]
fn a_sender_holds_to_credit_and_gives_back_what_a_draining_receiver_asks_for() {
    let (mut pair, session) = Pair::opened(Settings::default(), Settings::default());
    let (ours, theirs) = pair.link(session, "up", Role::Sender);
    let send = |pair: &mut Pair, settled| {
        let Side { connection, out, .. } = &mut pair.client;
        connection.send(ours, delivery(b"t", 0, settled), &[b"x"], false, out)
    };
    assert_eq!(send(&mut pair, true), Err(Blocked::NoCredit));
    pair.server.connection.set_credit(theirs, 3, false, &mut pair.server.out);
    pair.exchange();
    send(&mut pair, true).unwrap();
    send(&mut pair, false).unwrap();
    // Credit that was given before it has seen those counts from what it has seen.
    pair.server.connection.set_credit(theirs, 3, false, &mut pair.server.out);
    let late = std::mem::take(&mut pair.server.out);
    pair.client.input.extend(late);
    pair.client.work();
    assert_eq!(pair.client.connection.credit(ours), 1);
    pair.exchange();
    assert_eq!(pair.server.connection.credit(theirs), 1);
    pair.server.connection.set_credit(theirs, 5, true, &mut pair.server.out);
    pair.exchange();
    assert!(pair.client.connection.is_draining(ours));
    send(&mut pair, true).unwrap();
    pair.client.connection.give_back(ours, &mut pair.client.out);
    pair.exchange();
    assert_eq!(pair.client.connection.credit(ours), 0);
    assert_eq!(pair.server.connection.credit(theirs), 0);
    assert!(!pair.server.connection.is_draining(theirs));
    pair.server.connection.set_credit(theirs, 1, false, &mut pair.server.out);
    pair.exchange();
    send(&mut pair, true).unwrap();
    assert_eq!(send(&mut pair, true), Err(Blocked::NoCredit));
    pair.exchange();
    assert!(!pair.server.take_seen().iter().any(|one| matches!(one, Seen::Broken(..))));
}

#[test]
fn a_message_larger_than_the_window_goes_on_when_there_is_room() {
    let server = Settings { frame_bytes_max: 512, incoming_window: 4, ..Settings::default() };
    let (mut pair, session) = Pair::opened(Settings::default(), server);
    let (ours, theirs) = pair.link(session, "up", Role::Sender);
    pair.server.connection.set_credit(theirs, 1, false, &mut pair.server.out);
    pair.exchange();
    let message: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
    let Side { connection, out, .. } = &mut pair.client;
    let mut done =
        connection.send(ours, delivery(b"t", 5, false), &[&message], false, out).unwrap().bytes;
    assert!(done > 0 && done < message.len());
    let mut rounds = 0;
    while done < message.len() {
        let Side { connection, out, .. } = &mut pair.client;
        assert_eq!(
            connection.send_more(ours, &[&message[done..]], false, out),
            Err(Blocked::Window)
        );
        let other = connection.send(ours, delivery(b"u", 6, false), &[b"x"], false, out);
        assert_eq!(other, Err(Blocked::Order));
        pair.exchange();
        let Side { connection, out, .. } = &mut pair.client;
        done += connection.send_more(ours, &[&message[done..]], false, out).unwrap().bytes;
        rounds += 1;
    }
    assert!(rounds > 5);
    pair.exchange();
    let mut got = Vec::new();
    for one in pair.server.take_seen() {
        if let Seen::Transfer { bytes, .. } = one {
            got.extend(bytes);
        }
    }
    assert_eq!(got, message);
}

#[test]
fn an_aborted_message_is_forgotten_at_both_ends() {
    let (mut pair, session) = Pair::opened(Settings::default(), Settings::default());
    let (ours, theirs) = pair.link(session, "up", Role::Sender);
    pair.server.connection.set_credit(theirs, 2, false, &mut pair.server.out);
    pair.exchange();
    let Side { connection, out, .. } = &mut pair.client;
    let begun = connection.send(ours, delivery(b"t", 5, false), &[b"half"], true, out).unwrap();
    connection.abort(ours, out);
    connection.send(ours, delivery(b"u", 6, true), &[b"whole"], false, out).unwrap();
    pair.exchange();
    let seen = pair.server.take_seen();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(seen[1], Seen::Aborted(theirs, begun.delivery));
    assert_eq!(pair.client.connection.unsettled(session), (0, 0));
    assert_eq!(pair.server.connection.unsettled(theirs.session), (0, 0));
}

#[test]
fn what_was_sent_comes_back_as_left_over_when_link_session_or_connection_ends() {
    for what in 0..6 {
        let (mut pair, session) = Pair::opened(Settings::default(), Settings::default());
        let (ours, theirs) = pair.link(session, "up", Role::Sender);
        let (other, their_other) = pair.link(session, "other", Role::Sender);
        for link in [theirs, their_other] {
            pair.server.connection.set_credit(link, 5, false, &mut pair.server.out);
        }
        pair.exchange();
        let Side { connection, out, .. } = &mut pair.client;
        connection.send(ours, delivery(b"a", 1, false), &[b"x"], false, out).unwrap();
        connection.send(ours, delivery(b"b", 2, true), &[b"x"], false, out).unwrap();
        connection.send(other, delivery(b"c", 3, false), &[b"x"], false, out).unwrap();
        pair.exchange();
        let (client, server) = (&mut pair.client, &mut pair.server);
        match what {
            0 => client.connection.detach(ours, true, None, &mut client.out),
            1 => server.connection.detach(theirs, false, None, &mut server.out),
            2 => client.connection.end(session, None, &mut client.out),
            3 => server.connection.end(theirs.session, None, &mut server.out),
            4 => client.connection.close(None, &mut client.out),
            _ => server.connection.close(None, &mut server.out),
        }
        pair.exchange();
        pair.client.leftovers.extend(pair.client.connection.leftovers());
        let tokens: Vec<u64> = pair.client.leftovers.iter().map(|one| one.token).collect();
        assert_eq!(tokens, if what < 2 { vec![1] } else { vec![1, 3] }, "{what}");
        if what < 2 {
            // The handle is free again, and the link can come back.
            let (again, _) = pair.link(session, "up", Role::Sender);
            assert_eq!(again, ours);
        }
    }
}

#[test]
fn a_link_that_is_refused_ends_at_once() {
    let (mut pair, session) = Pair::opened(Settings::default(), Settings::default());
    for role in [Role::Sender, Role::Receiver] {
        let Side { connection, out, .. } = &mut pair.client;
        let ours = connection.attach(session, "up", role, &terms("nowhere"), out).unwrap().unwrap();
        pair.exchange();
        let Some(Seen::Asked(theirs, ..)) = pair.server.take_seen().pop() else {
            panic!("no link")
        };
        let error = Error::new(condition::NOT_FOUND, "no such node");
        pair.server.connection.refuse(theirs, error, &mut pair.server.out);
        pair.exchange();
        let not_found = Some("amqp:not-found".to_owned());
        let expected = [Seen::Attached(ours, false), Seen::Detached(ours, true, not_found)];
        assert_eq!(pair.client.take_seen(), expected);
        assert_eq!(pair.server.take_seen(), []);
    }
}

#[test]
fn a_silent_peer_is_given_up_and_a_patient_one_sees_signs_of_life() {
    let server = Settings { idle_time_out_ms: Some(3_000), ..Settings::default() };
    let client = Settings { idle_time_out_ms: None, ..Settings::default() };
    let (mut pair, _) = Pair::opened(client, server);
    // The client was told half: it says something three times within that.
    for _ in 0..40 {
        let due = pair.client.connection.next_timeout().unwrap();
        pair.client.now = due;
        assert_eq!(pair.client.connection.handle_timeout(due, &mut pair.client.out), None);
        pair.server.now = due;
        pair.exchange();
        assert_eq!(pair.server.connection.handle_timeout(due, &mut pair.server.out), None);
    }
    // It says nothing any more.
    let due = pair.server.connection.next_timeout().unwrap();
    // If it was not read from, that does not count.
    pair.server.connection.excuse_silence(due);
    assert_eq!(pair.server.connection.handle_timeout(due, &mut pair.server.out), None);
    let due = pair.server.connection.next_timeout().unwrap();
    assert_eq!(
        pair.server.connection.handle_timeout(due - Duration::from_millis(1), &mut pair.server.out),
        None
    );
    let broken = pair.server.connection.handle_timeout(due, &mut pair.server.out);
    assert!(matches!(broken, Some(Event::Broken(Violation { scope: Scope::Connection, .. }))));
    pair.exchange();
    assert_eq!(
        pair.client.seen.pop(),
        Some(Seen::Closed(Some("amqp:resource-limit-exceeded".into())))
    );
}
