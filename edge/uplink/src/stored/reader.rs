//! Reading a journal partition's segment files through io_uring.
//!
//! Invariant: only bytes below [`Tail::committed`] are read; they never change.

use fulcrum_journal::{Position, Tail};
use std::io;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;

/// Reads in order, one file open at a time.
pub(crate) struct SegmentReader {
    tail: Tail,
    /// The open file and the position of its first byte.
    open: Option<(Position, File)>,
    buffer: Vec<u8>,
}

impl SegmentReader {
    pub fn new(tail: Tail) -> SegmentReader {
        SegmentReader { tail, open: None, buffer: Vec::new() }
    }

    /// Bytes from `from` on: as many as `bytes_max`, the segment and what is committed allow. Hand the buffer back with
    /// [`SegmentReader::recycle`].
    pub async fn read(&mut self, from: Position, bytes_max: usize) -> io::Result<Vec<u8>> {
        let (path, offset, segment_bytes) = self.tail.segment_path(from);
        let start = Position(from.0 - offset);
        let committed = self.tail.committed().0.saturating_sub(from.0);
        let wanted = (segment_bytes - offset).min(committed).min(bytes_max as u64) as usize;
        let file = match self.open.take() {
            Some((open_start, file)) if open_start == start => file,
            _ => File::open(path).await?,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve_exact(wanted);
        let mut read = 0;
        while read < wanted {
            let (result, slice) =
                file.read_at(buffer.slice(read..wanted), offset + read as u64).await;
            buffer = slice.into_inner();
            match result? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => read += bytes,
            }
        }
        buffer.truncate(wanted);
        self.open = Some((start, file));
        Ok(buffer)
    }

    /// Takes a buffer back; one that grew for a large record is let go.
    pub fn recycle(&mut self, buffer: Vec<u8>, bytes_max: usize) {
        if buffer.capacity() <= bytes_max {
            self.buffer = buffer;
        }
    }

    /// Closes the file and forgets it: it could not be read.
    pub fn close(&mut self) {
        self.open = None;
    }
}
