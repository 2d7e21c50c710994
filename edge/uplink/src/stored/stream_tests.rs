//! The stream's rules, without a journal and without a cloud.

use super::*;

const LIMITS: Limits = Limits { bytes_max: 1_000, records_max: 3, hole_max: 100 };

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// Takes a record; its place in the journal is ten times its sequence.
fn take(stream: &mut Stream, sequence: u64, is_old: bool) {
    let from = Position(sequence * 10);
    stream.take(&Taken { sequence, frame: b"frame", from, created_ms: sequence, is_old }, LIMITS);
}

fn stream_with(mark: Option<u64>, sequences: impl IntoIterator<Item = u64>) -> Stream {
    let mut stream = Stream::new(tenant(), mark);
    sequences.into_iter().for_each(|sequence| take(&mut stream, sequence, true));
    stream
}

/// Sends the next batch: its first and last sequence.
fn send(stream: &mut Stream) -> Option<(u64, u64)> {
    stream.send(LIMITS).map(|batch| (batch.first, batch.last()))
}

#[test]
fn records_are_sent_once_in_dense_batches() {
    let mut stream = stream_with(Some(0), 1..=5);
    assert_eq!(send(&mut stream), Some((1, 3)));
    assert_eq!(send(&mut stream), None, "one at a time");
    assert_eq!(stream.stored(3), Next::GoOn);
    assert_eq!(send(&mut stream), Some((4, 5)));
    assert_eq!(stream.held_from(), Some(Position(40)));
    stream.stored(5);
    assert!(stream.is_idle() && stream.bytes() == 0 && stream.records() == 0);
    take(&mut stream, 5, true);
    assert!(stream.is_idle(), "read again, not taken again");
}

#[test]
fn nothing_is_sent_before_the_mark_is_known_and_what_is_stored_is_skipped() {
    let mut stream = stream_with(None, 7..=12);
    assert_eq!(send(&mut stream), None);
    stream.learn_mark(9, LIMITS);
    assert_eq!(send(&mut stream), Some((10, 12)));
    assert_eq!(stream.held_from(), Some(Position(100)));
}

#[test]
fn a_mark_within_a_batch_leaves_its_rest() {
    let mut stream = stream_with(None, 1..=3);
    stream.learn_mark(2, LIMITS);
    assert_eq!((send(&mut stream), stream.records()), (Some((3, 3)), 1));
    stream.stored(3);
    assert!(stream.is_idle());
}

#[test]
fn a_batch_stored_in_part_goes_on_behind_the_mark() {
    let mut stream = stream_with(Some(0), 1..=3);
    send(&mut stream);
    assert_eq!(stream.stored(2), Next::GoOn);
    assert_eq!(send(&mut stream), Some((3, 3)));
}

#[test]
fn an_answer_that_moves_nothing_is_a_contradiction() {
    let mut stream = stream_with(Some(4), 5..=6);
    send(&mut stream);
    assert_eq!(stream.stored(4), Next::Contradiction);
    assert_eq!(send(&mut stream), Some((5, 6)));
    assert_eq!(stream.behind(4), Next::Contradiction);
    assert_eq!(send(&mut stream), Some((5, 6)));
}

#[test]
fn a_hole_in_the_journal_is_filled_before_what_follows() {
    let mut stream = stream_with(Some(0), [1, 4]);
    assert_eq!(send(&mut stream), Some((1, 1)));
    stream.stored(1);
    assert_eq!(send(&mut stream), Some((2, 3)));
    assert_eq!(stream.stand_in_reason(), Some(DropReason::JournalGap));
    stream.stored(3);
    assert_eq!((send(&mut stream), stream.stand_in_reason()), (Some((4, 4)), None));
}

#[test]
fn a_gap_the_journal_tells_is_shipped_without_a_record_behind_it() {
    let mut stream = stream_with(Some(0), [1]);
    stream.miss(2, 3, DropReason::JournalGap, Position(20), LIMITS);
    stream.miss(2, 3, DropReason::JournalGap, Position(20), LIMITS);
    send(&mut stream);
    stream.stored(1);
    assert_eq!(send(&mut stream), Some((2, 3)));
    stream.stored(3);
    assert!(stream.is_idle());
}

#[test]
fn a_cloud_that_lacks_what_left_the_journal_gets_a_gap() {
    let mut stream = stream_with(None, [8]);
    stream.learn_mark(5, LIMITS);
    assert_eq!(send(&mut stream), Some((6, 7)));
    assert_eq!(stream.stand_in_reason(), Some(DropReason::CloudGap));
    let mut stream = stream_with(Some(5), [8]);
    assert_eq!(send(&mut stream), Some((6, 7)));
}

#[test]
fn a_mark_that_went_back_is_followed_from_what_the_journal_still_has() {
    let mut stream = stream_with(Some(0), 1..=6);
    send(&mut stream);
    stream.stored(3);
    send(&mut stream);
    assert_eq!(stream.behind(1), Next::ReadAgain);
    (3..=6).for_each(|sequence| take(&mut stream, sequence, true));
    assert_eq!(send(&mut stream), Some((2, 2)));
    assert_eq!(stream.stand_in_reason(), Some(DropReason::CloudGap));
    stream.stored(2);
    assert_eq!(send(&mut stream), Some((3, 5)));
    assert_eq!(stream.stored(5), Next::GoOn);
}

#[test]
fn a_gap_too_long_stops_the_stream_and_holds_its_place() {
    let mut stream = stream_with(Some(0), [1, 200]);
    assert_eq!(stream.halted(), Some(Halt::HoleTooLong { first: 2, last: 199 }));
    assert_eq!((stream.held_from(), send(&mut stream)), (Some(Position(10)), None));
}

#[test]
fn a_store_that_was_copied_is_noticed_before_it_ships() {
    let mut before = stream_with(Some(9), []);
    take(&mut before, 5, false);
    assert_eq!(before.halted(), Some(Halt::CloudAhead { mark: 9, sequence: 5 }));
    let mut after = stream_with(None, [4]);
    take(&mut after, 5, false);
    after.learn_mark(9, LIMITS);
    assert_eq!(after.halted(), Some(Halt::CloudAhead { mark: 9, sequence: 5 }));
    assert_eq!(after.held_from(), Some(Position(40)));
}

#[test]
fn a_mark_beyond_all_we_have_given_out_stops_the_stream() {
    let mut stream = stream_with(Some(0), 1..=1);
    take(&mut stream, 2, false);
    send(&mut stream);
    assert_eq!(stream.stored(7), Next::GoOn);
    assert_eq!(stream.halted(), Some(Halt::CloudAhead { mark: 7, sequence: 2 }));
    assert_eq!((stream.held_from(), stream.bytes()), (Some(Position(10)), 0));
}

#[test]
fn a_refused_record_is_found_by_halving_and_replaced() {
    let mut stream = stream_with(Some(0), 1..=3);
    let (mut sent, mut given_up) = (Vec::new(), Vec::new());
    while let Some((first, last)) = send(&mut stream) {
        let is_poison = (first..=last).contains(&2) && stream.stand_in_reason().is_none();
        if is_poison {
            given_up.extend(stream.refuse_form(DropReason::RecordRefused));
        } else {
            sent.push((first, last, stream.stand_in_reason().is_some()));
            stream.stored(last);
        }
    }
    assert_eq!(given_up, [2]);
    assert_eq!(sent, [(1, 1, false), (2, 2, true), (3, 3, false)]);
}

#[test]
fn a_stand_in_that_is_refused_stops_the_stream() {
    let mut stream = stream_with(Some(0), [1]);
    send(&mut stream);
    stream.refuse_form(DropReason::RecordRefused);
    send(&mut stream);
    assert_eq!(stream.refuse_form(DropReason::RecordRefused), None);
    assert_eq!(stream.halted(), Some(Halt::StandInRefused { sequence: 1 }));
    assert_eq!(stream.held_from(), Some(Position(10)));
}

#[test]
fn a_parked_stream_gives_its_memory_back_and_loses_nothing() {
    let mut stream = stream_with(Some(0), 1..=6);
    send(&mut stream);
    assert!(stream.park() && !stream.park());
    assert_eq!(stream.records(), 3, "what is under way stays");
    take(&mut stream, 7, true);
    stream.stored(3);
    assert_eq!((stream.bytes(), stream.held_from()), (0, Some(Position(40))));
    assert_eq!(stream.unpark(), Some(Position(40)));
    (4..=7).for_each(|sequence| take(&mut stream, sequence, true));
    assert_eq!(send(&mut stream), Some((4, 6)));
}

#[test]
fn a_refused_tenants_records_are_counted_once() {
    let mut stream = stream_with(Some(0), 1..=4);
    send(&mut stream);
    assert_eq!(stream.give_up_all(), 4);
    assert!(stream.is_idle());
    assert!(!stream.pass(4) && stream.pass(5) && !stream.pass(5));
    take(&mut stream, 6, false);
    assert_eq!(send(&mut stream), Some((6, 6)));
    assert_eq!(stream.behind(0), Next::ReadAgain);
    take(&mut stream, 6, false);
    assert_eq!(send(&mut stream), Some((1, 3)), "what was given up shows as a gap");
}

#[test]
fn halves_of_a_slow_batch_are_the_same_records() {
    let mut stream = stream_with(Some(0), 1..=3);
    send(&mut stream);
    stream.send_halves();
    assert_eq!(send(&mut stream), Some((1, 1)));
    stream.stored(3);
    assert!(stream.is_idle(), "the cloud had stored the whole batch after all");
}

#[test]
fn a_late_batch_of_the_run_before_does_not_stop_a_stream_that_has_read_less() {
    // The node was killed with 4 to 9 on the way; the mark was asked for before they arrived.
    let mut stream = stream_with(Some(3), 4..=6);
    assert_eq!(send(&mut stream), Some((4, 6)));
    assert_eq!(stream.stored(9), Next::GoOn);
    assert_eq!(stream.halted(), None);
    (7..=11).for_each(|sequence| take(&mut stream, sequence, true));
    assert_eq!(send(&mut stream), Some((10, 11)));
    stream.stored(11);
    assert!(stream.is_idle());
}

#[test]
fn a_mark_ahead_of_what_is_given_out_only_now_stops_the_stream() {
    let mut stream = stream_with(Some(3), 4..=6);
    send(&mut stream);
    stream.stored(9);
    take(&mut stream, 7, false);
    assert_eq!(stream.halted(), Some(Halt::CloudAhead { mark: 9, sequence: 7 }));
    assert_eq!(stream.held_from(), Some(Position(70)));
}
