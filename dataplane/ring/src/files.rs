//! Durable writes: which are under way, and what became of them.
//!
//! Invariants: a write owns its buffer until its last completion; success is reported only if the whole buffer was written and the
//! following fdatasync (or the write's own DSYNC) succeeded; an unknown order of completions counts as failure.
//!
//! Not here: retries. A failed sync says nothing about what is on disk, so the owner of the file must stop acknowledging.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use slab::Slab;

use crate::queue::Queue;
use crate::token::{GENERATION_MASK, Operation, Token};
use crate::write_buffer::WriteBuffer;

/// The kernel writes at most this much at once (MAX_RW_COUNT).
const WRITE_BYTES_MAX: usize = 0x7fff_f000;

/// Names an open file of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    slot: u32,
    generation: u32,
}

/// How bytes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Write through the page cache, then fdatasync, linked: the sync runs only after a complete write.
    BufferedThenSync,
    /// One write with RWF_DSYNC, for a file opened with O_DIRECT. Offset and length must be multiples of the device's block
    /// ([`WriteBuffer::pad_to`]), or the kernel answers EINVAL; an empty write is an error.
    DirectSync,
}

/// A durable write succeeded.
#[derive(Debug)]
pub struct WriteDone {
    /// The buffer, its bytes still in it, for reuse.
    pub buffer: WriteBuffer,
    /// Bytes now on disk: all of the buffer.
    pub bytes: usize,
}

/// A finished write, for the handler.
pub(crate) struct Finished {
    pub(crate) token: u64,
    pub(crate) result: io::Result<WriteDone>,
}

struct OpenFile {
    file: File,
    mode: WriteMode,
    generation: u32,
    writes: u32,
    closing: bool,
}

struct Write {
    file: usize,
    token: u64,
    buffer: WriteBuffer,
    generation: u32,
    written: Option<i32>,
    synced: Option<i32>,
    syncs: bool,
    /// The sync completed before the write did.
    disordered: bool,
}

pub(crate) struct Files {
    files: Slab<OpenFile>,
    writes: Slab<Write>,
    refused: Vec<Finished>,
    generation: u32,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { files: Slab::new(), writes: Slab::new(), refused: Vec::new(), generation: 0 }
    }

    /// Writes under way.
    pub(crate) fn pending(&self) -> usize {
        self.writes.len() + self.refused.len()
    }

    pub(crate) fn open(&mut self, file: File, mode: WriteMode) -> FileId {
        let generation = self.next_generation();
        let slot =
            self.files.insert(OpenFile { file, mode, generation, writes: 0, closing: false });
        FileId { slot: slot as u32, generation }
    }

    /// Closes now, or after the last write under way.
    pub(crate) fn close(&mut self, id: FileId, queue: &mut Queue) {
        if let Some(file) = self.file_mut(id) {
            file.closing = true;
            self.close_if_idle(id.slot as usize, queue);
        }
    }

    pub(crate) fn write(
        &mut self,
        id: FileId,
        offset: u64,
        buffer: WriteBuffer,
        token: u64,
        queue: &mut Queue,
    ) {
        let generation = self.next_generation();
        let Some(file) = self.file_mut(id) else {
            return self.refuse(token, libc::EBADF);
        };
        let syncs = file.mode == WriteMode::BufferedThenSync;
        if buffer.len() > WRITE_BYTES_MAX || (buffer.is_empty() && !syncs) {
            return self.refuse(token, libc::EINVAL);
        }
        file.writes += 1;
        let fd = file.file.as_raw_fd();
        let (start, bytes) = (buffer.as_slice().as_ptr(), buffer.len() as u32);
        let slot = self.writes.insert(Write {
            file: id.slot as usize,
            token,
            buffer,
            generation,
            written: None,
            synced: None,
            syncs,
            disordered: false,
        }) as u32;
        let written = Token::new(Operation::Write, generation, slot);
        let synced = Token::new(Operation::Sync, generation, slot);
        // SAFETY: needed because the kernel reads the buffer later. Sound because the buffer's heap memory does not move with the
        // slab, nobody can reach it through the slab entry, and the entry is removed only after the last completion (or leaked
        // with the ring, see `Ring`'s drop).
        unsafe {
            if syncs {
                queue.write_then_sync(fd, start, bytes, offset, [written, synced]);
            } else {
                queue.write_synced(fd, start, bytes, offset, written);
            }
        }
    }

    /// Takes one completion; the write's result once it was the last.
    pub(crate) fn completed(
        &mut self,
        token: Token,
        result: i32,
        queue: &mut Queue,
    ) -> Option<Finished> {
        let slot = token.slot as usize;
        let write = self.writes.get_mut(slot).filter(|write| write.generation == token.generation);
        let Some(write) = write else {
            debug_assert!(false, "a write's completion without its write");
            return None;
        };
        match token.operation {
            Operation::Sync => {
                write.disordered = write.written.is_none();
                write.synced = Some(result);
            }
            _ => write.written = Some(result),
        }
        if write.written.is_none() || (write.syncs && write.synced.is_none()) {
            return None;
        }
        let write = self.writes.remove(slot);
        self.files[write.file].writes -= 1;
        self.close_if_idle(write.file, queue);
        Some(Finished { token: write.token, result: outcome(write) })
    }

    /// A write that was refused before it reached the kernel.
    pub(crate) fn take_refused(&mut self) -> Option<Finished> {
        self.refused.pop()
    }

    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    fn refuse(&mut self, token: u64, error: i32) {
        self.refused.push(Finished { token, result: Err(io::Error::from_raw_os_error(error)) });
    }

    fn file_mut(&mut self, id: FileId) -> Option<&mut OpenFile> {
        self.files
            .get_mut(id.slot as usize)
            .filter(|file| file.generation == id.generation && !file.closing)
    }

    fn close_if_idle(&mut self, slot: usize, queue: &mut Queue) {
        if self.files.get(slot).is_some_and(|file| file.closing && file.writes == 0) {
            let fd: RawFd = self.files.remove(slot).file.into_raw_fd();
            // By the ring, because closing may flush and then take long.
            queue.close(fd, Token::new(Operation::Ignored, 0, 0));
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = (self.generation + 1) & GENERATION_MASK;
        self.generation
    }
}

/// The first failure in the order of cause, else success.
fn outcome(write: Write) -> io::Result<WriteDone> {
    let written = write.written.unwrap_or(-libc::EIO);
    if written < 0 {
        return Err(io::Error::from_raw_os_error(-written));
    }
    let bytes = write.buffer.len();
    if written as usize != bytes {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("the file took {written} of {bytes} bytes; free space on its file system"),
        ));
    }
    match write.synced {
        Some(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        Some(_) if write.disordered => Err(io::Error::other("the sync did not wait for its write")),
        None if write.syncs => Err(io::Error::from_raw_os_error(libc::EIO)),
        _ => Ok(WriteDone { buffer: write.buffer, bytes }),
    }
}
