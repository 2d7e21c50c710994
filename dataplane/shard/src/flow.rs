//! How a connection goes on after a packet or request.

use crate::connections::Hold;

/// A session's verdict on one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// Take the next.
    Next,
    /// This one is done; wait before the next.
    Hold(Hold),
    /// Wait, then take this one again.
    Again(Hold),
    /// Flush what is written and close.
    End,
}

/// What became of the front of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// That many bytes are done.
    Used(usize),
    /// That many bytes are done; wait before the next.
    UsedThenHold(usize, Hold),
    /// Nothing is done; wait and try again.
    Again(Hold),
    /// A packet begins here; it has at least that many bytes.
    NeedMore { at_least: usize },
    /// Close.
    End,
}

impl Step {
    pub(crate) fn of(flow: Flow, used: usize) -> Step {
        match flow {
            Flow::Next => Step::Used(used),
            Flow::Hold(hold) => Step::UsedThenHold(used, hold),
            Flow::Again(hold) => Step::Again(hold),
            Flow::End => Step::End,
        }
    }
}
