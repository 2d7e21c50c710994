use super::*;
use crate::settings::RunArguments;
use crate::test_broker::{Faults, start};
use crate::test_tls;
use clap::Parser;

/// A short run against `port`; `flags` are separated by blanks.
fn run_with(port: u16, flags: &str) -> Result<Report, LoadError> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: RunArguments,
    }
    let line = format!("test --port {port} --seconds 0.4 --warmup 0.1 --busy-poll false {flags}");
    run(&Line::parse_from(line.split(' ')).arguments.plan().unwrap())
}

/// Deliveries that were due in the measured time, whenever they arrived: a host that stops for a moment makes them late and
/// not fewer.
fn due(report: &Report) -> u64 {
    let latency = report.traffic.as_ref().and_then(|traffic| traffic.latency_us.as_ref());
    latency.map_or(0, |latency| latency.samples)
}

fn messages(report: &Report) -> u64 {
    report.traffic.as_ref().unwrap().messages
}

#[test]
fn each_pattern_measures_a_faultless_broker_without_errors() {
    let loads = [
        "--pattern pairs --publishers 2 --window 64",
        "--pattern pairs --publishers 2 --qos 1 --window 4",
        "--pattern pairs --publishers 2 --qos 2 --protocol 5",
        "--pattern pairs --publishers 2 --rate 500 --qos 1",
        "--pattern pairs --publishers 5 --rate 500 --threads 2",
        "--pattern pairs --publishers 1 --window 64 --payload 20000",
        "--pattern pairs --publishers 2 --qos 1 --persistent true --protocol 5",
        "--pattern fan-in --publishers 3 --window 4",
        "--pattern fan-in --publishers 3 --rate 500 --threads 2 --qos 1",
        "--pattern fan-out --subscribers 3 --qos 1",
        "--pattern fan-out --publishers 2 --subscribers 3 --protocol 5 --rate 300",
        "--pattern shared --publishers 2 --subscribers 3 --window 3",
        "--pattern shared --publishers 2 --subscribers 3 --protocol 5 --qos 2 --rate 300",
        "--pattern ingest --publishers 2 --qos 1 --window 3",
        "--pattern ingest --publishers 2 --qos 2 --offline-filter elsewhere/#",
    ];
    std::thread::scope(|scope| {
        for flags in loads {
            scope.spawn(move || {
                let report = run_with(start(Faults::default()), flags).unwrap();
                assert!(messages(&report) > 10, "{flags}: {report:?}");
                assert!(report.errors.is_none(), "{flags}: {report:?}");
            });
        }
    });
}

#[test]
fn a_message_to_three_subscribers_counts_three_times() {
    let flags = "--pattern fan-out --subscribers 3 --rate 500";
    let report = run_with(start(Faults::default()), flags).unwrap();
    assert!((580..=620).contains(&due(&report)), "{report:?}");
}

#[test]
fn an_open_loop_sends_at_its_rate_from_however_many_threads() {
    let port = start(Faults::default());
    for threads in [1, 2] {
        let flags = format!("--pattern pairs --publishers 4 --rate 1000 --threads {threads}");
        let report = run_with(port, &flags).unwrap();
        assert!((390..=410).contains(&due(&report)), "{report:?}");
    }
}

#[test]
fn connections_that_only_exist_are_counted_and_timed() {
    let port = start(Faults::default());
    for flags in [
        "--pattern storm --connections 50 --connect-window 8",
        "--pattern storm --connections 50 --connect-rate 500",
        "--pattern idle --connections 10 --sources 3 --protocol 5",
    ] {
        let report = run_with(port, flags).unwrap();
        assert!(report.errors.is_none() && report.traffic.is_none(), "{flags}: {report:?}");
        assert!(report.connecting.per_s > 10.0, "{flags}: {report:?}");
        assert_eq!(report.idle.is_some(), flags.contains("idle"));
    }
}

#[test]
fn a_process_is_measured_from_before_the_first_connection() {
    let flags = format!("--pattern storm --connections 20 --server-pid {}", std::process::id());
    let report = run_with(start(Faults::default()), &flags).unwrap();
    assert!(report.connecting.per_cpu_s.is_some_and(|rate| rate > 0.0), "{report:?}");
}

#[test]
fn a_load_over_tls_arrives_whole_and_only_from_a_broker_of_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let broker = start(Faults::default());
    let (port, authority) = test_tls::front_of(broker);
    let (stranger, _) = test_tls::front_of(broker);
    std::fs::write(&ca, authority).unwrap();
    let carrier = format!("--carrier tls --ca {}", ca.display());
    for load in ["--qos 1 --window 4", "--window 2 --payload 20000"] {
        let report =
            run_with(port, &format!("--pattern pairs --publishers 2 {load} {carrier}")).unwrap();
        assert!(messages(&report) > 10 && report.errors.is_none(), "{report:?}");
    }
    let outcome = run_with(stranger, &format!("--pattern storm --connections 2 {carrier}"));
    assert!(matches!(outcome, Err(LoadError::Refused { .. })), "{outcome:?}");
    std::fs::write(&ca, "nothing").unwrap();
    let outcome = run_with(port, &format!("--pattern storm --connections 2 {carrier}"));
    assert!(matches!(outcome, Err(LoadError::Authority { .. })), "{outcome:?}");
}

#[test]
fn a_lost_qos_0_delivery_is_counted_and_the_window_does_not_leak() {
    let port = start(Faults { loses_each: Some(10), ..Faults::default() });
    let report = run_with(port, "--pattern pairs --window 8").unwrap();
    // Eight leaked places would silence the publisher after eighty messages.
    assert!(messages(&report) > 500, "{report:?}");
    assert!(report.errors.lost > 50 && report.errors.reordered == 0, "{report:?}");
    assert!(report.failures.is_empty(), "QoS 0 promises nothing: {report:?}");
}

#[test]
fn a_lost_qos_1_delivery_fails_the_run() {
    let port = start(Faults { loses_each: Some(100), ..Faults::default() });
    let report = run_with(port, "--pattern pairs --window 8 --qos 1").unwrap();
    assert!(report.errors.lost > 0 && report.errors.unacknowledged == 0, "{report:?}");
    assert!(report.failures[0].ends_with("lost"), "{report:?}");
}

#[test]
fn a_lost_message_of_a_shared_subscription_is_found_at_the_end() {
    let port = start(Faults { loses_each: Some(100), ..Faults::default() });
    let flags = "--pattern shared --subscribers 2 --rate 1000 --qos 1";
    let report = run_with(port, flags).unwrap();
    assert!((4..=5).contains(&report.errors.lost), "{report:?}");
    assert!(!report.failures.is_empty());
}

#[test]
fn a_repeated_delivery_is_counted_and_not_as_a_message() {
    let port = start(Faults { repeats_each: Some(5), ..Faults::default() });
    let report = run_with(port, "--pattern pairs --qos 1").unwrap();
    assert!(report.errors.repeated > 10 && report.errors.lost == 0, "{report:?}");
    assert!(report.failures.is_empty(), "QoS 1 may repeat: {report:?}");
    let report = run_with(port, "--pattern pairs --qos 2").unwrap();
    assert!(!report.failures.is_empty(), "QoS 2 may not: {report:?}");
}

#[test]
fn a_reordered_delivery_fails_the_run_in_every_pattern() {
    for flags in [
        "--pattern pairs --window 8",
        "--pattern fan-in --publishers 2 --window 8",
        "--pattern shared --subscribers 1 --window 8",
    ] {
        let port = start(Faults { delays_each: Some(10), ..Faults::default() });
        let report = run_with(port, flags).unwrap();
        assert!(report.errors.reordered > 10 && report.errors.lost <= 2, "{flags}: {report:?}");
        assert!(report.failures[0].ends_with("out of order"), "{flags}: {report:?}");
    }
}

#[test]
fn an_acknowledgement_that_never_comes_is_missed_at_the_end() {
    let port = start(Faults { drops_each: Some(20), ..Faults::default() });
    let report = run_with(port, "--pattern ingest --qos 1 --window 2").unwrap();
    assert_eq!(report.errors.unacknowledged, 2, "{report:?}");
    assert!(!report.failures.is_empty());
}

#[test]
fn messages_due_that_the_broker_leaves_no_room_for_are_counted() {
    let port =
        start(Faults { drops_each: Some(1), receive_maximum: Some(20), ..Faults::default() });
    let flags = "--pattern ingest --qos 1 --protocol 5 --rate 500";
    let report = run_with(port, flags).unwrap();
    assert_eq!(report.errors.unacknowledged, 20, "{report:?}");
    assert!(report.errors.unsent > 200, "{report:?}");
}

#[test]
fn a_closed_connection_is_counted_and_the_others_go_on() {
    let port = start(Faults { closes_at: Some(1), ..Faults::default() });
    let report = run_with(port, "--pattern pairs").unwrap();
    // The publisher is gone, its subscriber stays: the run ends in time with what there is.
    assert_eq!(report.errors.connections_closed, 1, "{report:?}");
    assert!(!report.failures.is_empty());
}

#[test]
fn a_broker_that_closes_every_connection_ends_the_run() {
    let port = start(Faults { closes_at: Some(3), ..Faults::default() });
    let outcome = run_with(port, "--pattern ingest --qos 1 --publishers 2 --threads 2");
    assert!(matches!(outcome, Err(LoadError::AllClosed)), "{outcome:?}");
}

#[test]
fn a_refusal_ends_the_run_with_the_brokers_words() {
    let port = start(Faults { refuses: true, ..Faults::default() });
    let outcome = run_with(port, "--pattern storm --connections 3");
    assert!(
        matches!(&outcome, Err(LoadError::Refused { reason, .. }) if reason.contains("NotAuthorized")),
        "{outcome:?}"
    );
}

#[test]
fn nobody_at_the_port_ends_the_run() {
    let outcome = run_with(1, "--pattern storm --connections 3");
    assert!(matches!(outcome, Err(LoadError::Connect { .. })), "{outcome:?}");
}
