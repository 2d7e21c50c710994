//! Every entry is read as it was written, and nothing else is.

use std::num::NonZeroU32;

use proptest::prelude::*;

use crate::record::{self, Entry, Image, Item};
use crate::{Subscription, SubscriptionIds};

fn item() -> impl Strategy<Value = Item> {
    let ids = prop::collection::vec(any::<u32>(), 0..4);
    let places = (1..u64::MAX >> 2, 0..u64::MAX >> 2);
    (places, 1u8..3, any::<bool>(), any::<u32>(), ids).prop_map(
        |((sequence, body), qos, retain, group, ids)| Item {
            sequence,
            body,
            qos,
            retain,
            group: NonZeroU32::new(group),
            ids: SubscriptionIds::from_slice(&ids),
        },
    )
}

fn subscription() -> impl Strategy<Value = Subscription> {
    (0u8..3, any::<bool>(), any::<bool>(), any::<u32>()).prop_map(
        |(qos, no_local, retain_as_published, subscription_id)| Subscription {
            qos,
            no_local,
            retain_as_published,
            subscription_id,
        },
    )
}

fn image() -> impl Strategy<Value = Image> {
    let names = (".{0,20}", ".{0,20}");
    let numbers = (any::<u32>(), any::<u16>(), prop::option::of(0..u64::MAX - 1));
    let filters = prop::collection::vec((".{0,20}", subscription()), 0..5);
    let queue = prop::collection::vec(item(), 0..5);
    let under_way =
        (prop::collection::vec(1..1000u64, 0..5), prop::collection::vec(any::<u16>(), 0..5));
    (names, numbers, filters, queue, under_way).prop_map(
        |((client_id, principal), numbers, filters, queue, (releases, incoming))| Image {
            session: 7,
            client_id: client_id.into(),
            principal: principal.into(),
            expiry_s: numbers.0,
            receive_max: numbers.1,
            detached_at_ms: numbers.2,
            sent_through: 5,
            last_sequence: 9,
            subscriptions: filters.into_iter().map(|(f, s)| (f.into(), s)).collect(),
            queue,
            releases,
            incoming,
        },
    )
}

proptest! {
    #[test]
    fn an_image_is_read_as_it_was_written_whole_or_in_parts(image in image()) {
        let mut record = Vec::new();
        record::begin(&mut record, "tenant");
        Entry::Image(image.clone()).put(&mut record);
        let (tenant, entries) = record::read(&record).unwrap();
        prop_assert_eq!(tenant, "tenant");
        prop_assert_eq!(entries, vec![Entry::Image(image.clone())]);
        let mut bytes = Vec::new();
        image.put(&mut bytes);
        prop_assert_eq!(Image::from_parts(&bytes).unwrap(), image);
        bytes.push(0);
        prop_assert!(Image::from_parts(&bytes).is_err());
    }

    #[test]
    fn changes_are_read_as_they_were_written(
        item in item(), subscription in subscription(), small in any::<u32>(), id in any::<u16>(),
        place in 1..u64::MAX >> 2, any in any::<u64>(), name in ".{0,20}",
        frame in prop::collection::vec(any::<u8>(), 0..50), at in prop::option::of(0..u64::MAX - 1),
    ) {
        let (frame, name, session, sequence) = (&frame[..], &name[..], place, place);
        let entries = vec![
            Entry::Part { session, index: 1, count: 2, bytes: frame },
            Entry::Ended { session },
            Entry::Attached { session, expiry_s: small, receive_max: id },
            Entry::Detached { session, at_ms: any, expiry_s: small, sent_through: place },
            Entry::Subscribed { session, filter: name, subscription },
            Entry::Unsubscribed { session, filter: name },
            Entry::Body { body: place, expires_at_ms: at, frame },
            Entry::BodyDead { body: place },
            Entry::Queued { session, item },
            Entry::Done { session, sequence },
            Entry::Released { session, sequence },
            Entry::ReleaseDone { session, sequence },
            Entry::Incoming { session, packet_id: id },
            Entry::IncomingDone { session, packet_id: id },
            Entry::Will { will: place, session, client_id: name, delay_s: small, frame },
            Entry::WillDone { will: place },
            Entry::Forward { to: id, number: place, frame },
            Entry::ForwardDone { to: id, through: place },
            Entry::ForwardLast { to: id, number: place },
            Entry::Mark { from: id, epoch: any, number: place },
            Entry::Retained { topic: name, version: any, expires_at_ms: at, frame },
            Entry::RetainDropped { topic: name, version: any },
        ];
        let mut record = Vec::new();
        record::begin(&mut record, name);
        for entry in &entries {
            entry.put(&mut record);
        }
        prop_assert_eq!(record::read(&record).unwrap(), (name, entries));
    }
}

/// These bytes are on disks: a change here is a new format.
#[test]
fn the_bytes_of_a_record_stay_as_they_are() {
    let mut record = Vec::new();
    record::begin(&mut record, "t");
    Entry::Body { body: 300, expires_at_ms: Some(1), frame: b"xy" }.put(&mut record);
    let ids = SubscriptionIds::One(9);
    let item = Item { sequence: 1, body: 300, qos: 2, retain: true, group: None, ids };
    Entry::Queued { session: 4, item: item.clone() }.put(&mut record);
    let item = Item { group: NonZeroU32::new(129), ..item };
    Entry::Queued { session: 4, item }.put(&mut record);
    Entry::WillDone { will: 5 }.put(&mut record);
    assert_eq!(
        record,
        [
            [1, 1, b't', 8, 0xac, 2, 2, 2, b'x', b'y'].as_slice(),
            &[10, 4, 1, 0xac, 2, 6, 1, 9],
            &[10, 4, 1, 0xac, 2, 14, 0x81, 1, 1, 9],
            &[17, 5],
        ]
        .concat()
    );
}
