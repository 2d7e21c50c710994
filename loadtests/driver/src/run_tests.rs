use super::*;
use crate::settings::RunArguments;
use crate::test_broker::{Faults, start};
use clap::Parser;

/// A short run against `port`; `flags` are separated by blanks.
fn run_with(port: u16, flags: &str) -> Result<Report, LoadError> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: RunArguments,
    }
    let line = format!("test --port {port} --seconds 0.4 --warmup 0.1 --busy-poll false {flags}");
    run(Line::parse_from(line.split(' ')).arguments.plan().unwrap())
}

#[test]
fn each_mode_measures_a_faultless_broker_without_errors() {
    let port = start(Faults::default());
    for flags in [
        "--mode pipelined --connections 4",
        "--mode ping-pong --connections 4",
        "--mode stored --connections 2 --window 3",
        "--mode open --connections 4 --rate 500",
        "--mode open --connections 2 --rate 500 --qos 1",
        "--mode pipelined --connections 2 --window 64 --payload 20000",
    ] {
        let report = run_with(port, flags).unwrap();
        assert!(report.messages > 10, "{flags}: {report:?}");
        assert!(report.errors.is_none(), "{flags}: {report:?}");
    }
}

#[test]
fn an_open_loop_sends_at_its_rate() {
    let port = start(Faults::default());
    let report = run_with(port, "--mode open --connections 2 --rate 1000").unwrap();
    assert!((200..=500).contains(&report.messages), "{report:?}");
}

#[test]
fn a_dropped_delivery_is_counted_and_the_window_does_not_leak() {
    let port = start(Faults { drops_each: Some(10), ..Faults::default() });
    let report = run_with(port, "--mode pipelined --connections 2 --window 8").unwrap();
    // Eight leaked places would silence the publisher after eighty messages.
    assert!(report.messages > 500, "{report:?}");
    assert!(report.errors.lost > 50 && report.errors.late == 0, "{report:?}");
}

#[test]
fn a_repeated_delivery_is_counted_as_late_and_not_as_a_message() {
    let port = start(Faults { repeats_each: Some(5), ..Faults::default() });
    let report = run_with(port, "--mode ping-pong --connections 2").unwrap();
    assert!(report.errors.late > 10 && report.errors.lost == 0, "{report:?}");
}

#[test]
fn an_acknowledgement_that_never_comes_is_lost_at_the_end() {
    let port = start(Faults { drops_each: Some(20), ..Faults::default() });
    let report = run_with(port, "--mode stored --connections 1 --window 2").unwrap();
    assert_eq!(report.errors.lost, 2, "{report:?}");
}

#[test]
fn a_closed_connection_is_counted_and_the_others_go_on() {
    let port = start(Faults { closes_at: Some(1), ..Faults::default() });
    let outcome = run_with(port, "--mode ping-pong --connections 2");
    // The publisher is gone, its subscriber stays: the run ends in time with what there is.
    let report = outcome.unwrap();
    assert_eq!(report.errors.connections_closed, 1, "{report:?}");
}

#[test]
fn a_broker_that_closes_every_connection_ends_the_run() {
    let port = start(Faults { closes_at: Some(3), ..Faults::default() });
    let outcome = run_with(port, "--mode stored --connections 2");
    assert!(matches!(outcome, Err(LoadError::AllClosed)), "{outcome:?}");
}

#[test]
fn a_refusal_ends_the_run_with_the_brokers_words() {
    let port = start(Faults { refuses: true, ..Faults::default() });
    let outcome = run_with(port, "--mode stored --connections 1");
    assert!(
        matches!(&outcome, Err(LoadError::Refused { reason, .. }) if reason.contains("NotAuthorized")),
        "{outcome:?}"
    );
}

#[test]
fn an_offline_session_is_left_before_the_run() {
    let port = start(Faults::default());
    let flags = "--mode stored --connections 1 --topic-template elsewhere --offline-filter a/b";
    assert!(run_with(port, flags).unwrap().messages > 10);
}
