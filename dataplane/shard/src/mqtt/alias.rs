//! Topic aliases of one connection, both ways (MQTT 5, 3.3.2.3.4).

use super::content::Alias;
use std::collections::HashMap;

/// Highest alias this server accepts, and most it uses. A connection's worth of topics is a handful.
pub(crate) const ALIASES_MAX: u16 = 32;

/// Topics the client has given numbers to.
#[derive(Default)]
pub(crate) struct Received {
    topics: Vec<Option<Box<str>>>,
}

/// Why an alias cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AliasError {
    /// Above what was agreed [MQTT5-3.3.2-9].
    OutOfRange,
    /// No topic was given for it.
    Unknown,
}

impl Received {
    /// Notes that `alias` stands for `topic` from now on.
    pub(crate) fn learn(&mut self, alias: u16, topic: &str) -> Result<(), AliasError> {
        let slot = self.slot(alias)?;
        if self.topics.len() <= slot {
            self.topics.resize(slot + 1, None);
        }
        self.topics[slot] = Some(topic.into());
        Ok(())
    }

    /// What `alias` stands for.
    pub(crate) fn topic(&self, alias: u16) -> Result<&str, AliasError> {
        let slot = self.slot(alias)?;
        self.topics.get(slot).and_then(Option::as_deref).ok_or(AliasError::Unknown)
    }

    fn slot(&self, alias: u16) -> Result<usize, AliasError> {
        if alias == 0 || alias > ALIASES_MAX {
            return Err(AliasError::OutOfRange);
        }
        Ok(usize::from(alias) - 1)
    }
}

/// Numbers given to topics that go to the client: the first topics get them and keep them.
#[derive(Default)]
pub(crate) struct Given {
    numbers: HashMap<Box<str>, u16>,
    /// Highest alias the client accepts [MQTT5-3.1.2-26].
    maximum: u16,
}

impl Given {
    /// For a client that accepts aliases up to `maximum`; `None` if it accepts none [MQTT5-3.1.2-27].
    pub(crate) fn new(maximum: u16) -> Option<Box<Given>> {
        let maximum = maximum.min(ALIASES_MAX);
        (maximum > 0).then(|| Box::new(Given { numbers: HashMap::new(), maximum }))
    }

    /// How the topic goes out.
    pub(crate) fn of(&mut self, topic: &str) -> Alias {
        if let Some(number) = self.numbers.get(topic) {
            return Alias::Known(*number);
        }
        if self.numbers.len() >= usize::from(self.maximum) {
            return Alias::None;
        }
        let number = self.numbers.len() as u16 + 1;
        self.numbers.insert(topic.into(), number);
        Alias::Made(number)
    }

    /// The packet that was to teach the client the topic's number did not go out.
    pub(crate) fn forget(&mut self, topic: &str) {
        // Numbers are given in turn, so only the last one can be taken back.
        if self.numbers.get(topic).is_some_and(|number| usize::from(*number) == self.numbers.len())
        {
            self.numbers.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_the_last_topic_it_was_given_within_its_range() {
        let mut received = Received::default();
        assert_eq!(received.topic(1), Err(AliasError::Unknown));
        received.learn(1, "a").unwrap();
        received.learn(ALIASES_MAX, "b").unwrap();
        received.learn(1, "c").unwrap();
        assert_eq!(received.topic(1), Ok("c"));
        assert_eq!(received.topic(ALIASES_MAX), Ok("b"));
        assert_eq!(received.learn(0, "a"), Err(AliasError::OutOfRange));
        assert_eq!(received.learn(ALIASES_MAX + 1, "a"), Err(AliasError::OutOfRange));
        assert_eq!(received.topic(ALIASES_MAX + 1), Err(AliasError::OutOfRange));
    }

    #[test]
    fn no_more_numbers_are_given_than_the_client_accepts() {
        assert!(Given::new(0).is_none());
        let mut given = Given::new(2).unwrap();
        assert_eq!(given.of("a"), Alias::Made(1));
        assert_eq!(given.of("a"), Alias::Known(1));
        assert_eq!(given.of("b"), Alias::Made(2));
        assert_eq!(given.of("c"), Alias::None);
        given.forget("b");
        assert_eq!(given.of("c"), Alias::Made(2));
        assert_eq!(given.of("b"), Alias::None);
    }
}
