//! The shards' way to the maintenance thread, which serves both journals.

use fulcrum_journal::SegmentRequest;
use fulcrum_maintenance::Requests;
use fulcrum_shard::{JournalKind, Segments};

/// Set in the partition's number of a request of the session journal: the thread only hands the number back.
const SESSIONS: u16 = 1 << 15;

/// Hands requests to the maintenance thread; answers come back through its callback.
pub struct ShardSegments {
    pub requests: Requests,
    pub journal: JournalKind,
}

impl Segments for ShardSegments {
    fn request(&mut self, _partition: u16, request: SegmentRequest) -> Result<(), SegmentRequest> {
        let journal = self.journal;
        self.requests.submit(renamed(request, |number| name(journal, number))).map_err(|refused| {
            // As it was: it is offered again.
            renamed(refused, |number| journal_of(number).1)
        })
    }
}

/// Journal and partition an answer is for.
pub fn journal_of(number: u16) -> (JournalKind, u16) {
    match number & SESSIONS {
        0 => (JournalKind::Messages, number),
        _ => (JournalKind::Sessions, number & !SESSIONS),
    }
}

fn name(journal: JournalKind, partition: u16) -> u16 {
    match journal {
        JournalKind::Messages => partition,
        JournalKind::Sessions => partition | SESSIONS,
    }
}

fn renamed(request: SegmentRequest, rename: impl Fn(u16) -> u16) -> SegmentRequest {
    match request {
        SegmentRequest::Prepare { partition, number, path, bytes, mode } => {
            SegmentRequest::Prepare { partition: rename(partition), number, path, bytes, mode }
        }
        SegmentRequest::Drop { partition, number, path } => {
            SegmentRequest::Drop { partition: rename(partition), number, path }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_the_journal_that_asked() {
        for journal in [JournalKind::Messages, JournalKind::Sessions] {
            for partition in [0, 1, 1023] {
                assert_eq!(journal_of(name(journal, partition)), (journal, partition));
            }
        }
    }
}
