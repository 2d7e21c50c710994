//! The user data word of an operation: what it was, for whom, and for which life of that slot.
//!
//! Layout, high to low: 8 bits operation, 24 bits generation, 32 bits slot. A slot is not reused before its last completion, so
//! the generation is a second line of defence, and it makes a stale completion visible instead of harmful.

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    /// Multishot accept; slot is the listener.
    Accept = 1,
    /// Multishot receive; slot is the connection.
    Receive = 2,
    /// Send; slot is the connection.
    Send = 3,
    /// Any cancellation for a connection.
    Cancel = 4,
    /// Close of a connection's descriptor.
    Close = 5,
    /// Durable write; slot is the write.
    Write = 6,
    /// The fdatasync linked to a write; same slot.
    Sync = 7,
    /// Multishot poll of the eventfd.
    Bell = 8,
    /// A message from another ring; posted there, received here.
    Message = 9,
    /// A message to another ring failed; slot is its place in the list of doorbells. Success posts nothing.
    Ring = 10,
    /// A cancellation nobody waits for.
    Ignored = 11,
}

impl Operation {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Send,
            4 => Self::Cancel,
            5 => Self::Close,
            6 => Self::Write,
            7 => Self::Sync,
            8 => Self::Bell,
            9 => Self::Message,
            10 => Self::Ring,
            11 => Self::Ignored,
            _ => return None,
        })
    }
}

/// Generations wrap at 24 bits.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

/// A user data word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) operation: Operation,
    pub(crate) generation: u32,
    pub(crate) slot: u32,
}

impl Token {
    pub(crate) fn new(operation: Operation, generation: u32, slot: u32) -> Self {
        debug_assert!(generation <= GENERATION_MASK);
        Self { operation, generation, slot }
    }

    pub(crate) fn word(self) -> u64 {
        (self.operation as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// `None` for a word this ring never makes.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        Some(Self {
            operation: Operation::from_code((word >> 56) as u8)?,
            generation: (word >> 32) as u32 & GENERATION_MASK,
            slot: word as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_comes_back_as_the_token_it_was_made_from() {
        for code in 1..=11 {
            let operation = Operation::from_code(code).unwrap();
            assert_eq!(operation as u8, code);
            for (generation, slot) in [(0, 0), (GENERATION_MASK, u32::MAX), (7, 65_535)] {
                let token = Token::new(operation, generation, slot);
                assert_eq!(Token::from_word(token.word()), Some(token));
            }
        }
        assert_eq!(Token::from_word(0), None);
        assert_eq!(Token::from_word(u64::MAX), None);
    }
}
