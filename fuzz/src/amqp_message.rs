//! Bytes through the reader of AMQP messages. The first byte says how much of them the first transfer brings.
//!
//! Held: no panic; the sections are the whole message, in order; the front of a message has the sections that are whole
//! and nothing else; what was read can be put together again, and says the same; the bare message is untouched.

use fulcrum_amqp::{Message, Prefix};

use crate::amqp_rebuild;

/// Takes one input.
pub fn run(input: &[u8]) {
    let [first, bytes @ ..] = input else { return };
    let front = &bytes[..bytes.len() * usize::from(*first) / 255];
    check_front(front, bytes);
    if let Ok(message) = Message::parse(bytes) {
        assert_eq!(sections(&message).concat(), bytes);
        let shown = format!("{message:?}");
        assert!(shown.len() < 512, "what a message holds is not shown");
        check_parts(&message, bytes.len());
    }
}

fn sections<'a>(message: &Message<'a>) -> [&'a [u8]; 5] {
    let bare =
        [message.properties_bytes(), message.application_properties_bytes(), message.body_bytes()];
    assert_eq!(bare.concat(), message.bare_bytes());
    [
        message.header_bytes(),
        message.delivery_annotations_bytes(),
        message.message_annotations_bytes(),
        message.bare_bytes(),
        message.footer_bytes(),
    ]
}

/// The front has what it has of the whole, and a whole that is good has a good front.
fn check_front(front: &[u8], whole: &[u8]) {
    match (Message::parse_prefix(front), Message::parse_prefix(whole)) {
        (Ok(Prefix { message, rest }), whole) => {
            assert_eq!([sections(&message).concat().as_slice(), rest].concat(), front);
            assert_eq!(Message::parse(front).is_ok(), rest.is_empty());
            if let Ok(Prefix { message: all, .. }) = whole {
                for (part, full) in sections(&message).iter().zip(sections(&all)) {
                    assert!(full.starts_with(part));
                }
            }
        }
        (Err(error), Ok(_)) => panic!("{error} in the front of a message"),
        (Err(error), Err(of_whole)) => assert_eq!(error, of_whole),
    }
}

/// Reads every section, and writes the message anew.
fn check_parts(message: &Message<'_>, bytes: usize) {
    let written = amqp_rebuild::message(message);
    assert_eq!(written.is_ok(), message.check().is_ok());
    let Ok(written) = written else { return };
    assert!(written.len() <= bytes, "the shortest form is not longer");
    let again = Message::parse(&written).expect("what was written can be read");
    assert_eq!(again.check(), Ok(()));
    assert!(amqp_rebuild::say_the_same(&again, message));
}
