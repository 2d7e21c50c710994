//! Each sequence is stored once, whatever the edge repeats and whenever the process dies.
#![allow(clippy::unwrap_used, reason = "a test's own tools fail the test")]

mod cloud;

use cloud::{EPOCH, drain, edge, events, make_pump, open, settings, ship, tenant, with_pump};
use fulcrum_contract::EdgeId;
use proptest::prelude::*;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Any batch an edge may send: where it begins and how many records it has.
fn batches() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1u64..40, 1u64..12), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn overlapping_and_repeated_batches_store_each_sequence_once(batches in batches()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (cloud, _dir) = with_pump(settings()).await;
            let edge = edge(&cloud, "site").await;
            let mut mark = 0;
            for (first, count) in batches {
                let last = first + count - 1;
                let result = ship(&cloud, &edge, first, &events(first..=last)).await;
                if first > mark + 1 {
                    prop_assert_eq!(result, Err(mark));
                } else {
                    mark = mark.max(last);
                    prop_assert_eq!(result, Ok(mark));
                }
            }
            let stored = drain(&cloud, "all", 7).await;
            let wanted: Vec<_> = (1..=mark).map(|n| ("p0".to_owned(), n, n.to_string())).collect();
            prop_assert_eq!(stored, wanted);
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_batch_from_many_connections_at_once_is_stored_once() {
    let (cloud, _dir) = with_pump(settings()).await;
    let edge = edge(&cloud, "site").await;
    for round in 0..10 {
        let first = 1 + round * 5;
        let ships: Vec<_> = (0..6)
            .map(|late| {
                let (cloud, edge) = (cloud.clone(), edge.clone());
                let last = first + 4 - late % 2;
                tokio::spawn(async move { ship(&cloud, &edge, first, &events(first..=last)).await })
            })
            .collect();
        for ship in ships {
            assert!(ship.await.unwrap().unwrap() >= first + 3);
        }
        assert_eq!(ship(&cloud, &edge, first, &events(first..=first + 4)).await, Ok(first + 4));
    }
    let stored: Vec<_> = drain(&cloud, "all", 1000).await.into_iter().map(|one| one.1).collect();
    assert_eq!(stored, (1..=50).collect::<Vec<_>>());
}

/// Set for the process that is to be killed: its data directory.
const VICTIM: &str = "FULCRUM_TEST_VICTIM";

/// Not a check of its own: what the killed process runs. Ships batch after batch and says which mark was answered.
#[ignore = "an_answered_batch_survives_the_process_being_killed runs it"]
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else { return };
    let cloud = open(dir.as_ref(), settings());
    make_pump(&cloud).await;
    let edge = edge(&cloud, "site").await;
    for first in (1..).step_by(3) {
        let mark = ship(&cloud, &edge, first, &events(first..=first + 2)).await.unwrap();
        println!("answered {mark}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_batch_survives_the_process_being_killed() {
    for answers in [1, 4, 17] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let marks = lines.filter_map(|line| {
            line.unwrap().split_once("answered ").map(|(_, mark)| mark.parse::<u64>().unwrap())
        });
        let answered = marks.take(answers).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        let cloud = open(dir.path(), settings());
        let edge = cloud.edge_by_id(&EdgeId::parse("site").unwrap()).await.unwrap();
        let mark = cloud.marks(&edge).await.unwrap().marks[0].clone();
        assert!(mark.sequence >= answered, "{} was answered, {} is there", answered, mark.sequence);
        assert_eq!((mark.epoch, &mark.tenant), (EPOCH, &tenant("acme")));
        let stored: Vec<_> =
            drain(&cloud, "all", 1000).await.into_iter().map(|one| one.1).collect();
        assert_eq!(stored, (1..=mark.sequence).collect::<Vec<_>>());
    }
}
