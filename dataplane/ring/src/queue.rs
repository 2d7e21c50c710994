//! The submission and completion queues of one ring.
//!
//! Invariants: a push never fails (what finds no room waits in a backlog, in order); linked entries are submitted together or
//! not at all; `in_flight` counts operations whose last completion has not been handled.
//!
//! Not here: what an operation means. The typed methods only keep the memory rules: those that hand memory to the kernel are
//! `unsafe`, the rest are not.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;

use io_uring::cqueue::{self, CompletionQueue};
use io_uring::squeue::{self, SubmissionQueue};
use io_uring::{IoUring, Submitter, opcode, types};

use crate::config::{RingConfig, RingError};
use crate::token::{Operation, Token};

/// IORING_ENTER_GETEVENTS: deferred task work runs only in an enter that asks for events.
const ENTER_GETEVENTS: u32 = 1;

/// How an enter waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit, collect what is there, come back.
    No,
    /// Sleep until `want` completions, or one after `min_wait_us`, or the time-out.
    For { want: u32, min_wait_us: u32, timeout: Option<Duration> },
}

/// One completion, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) word: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// The operation will post again.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that was filled.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// An entry that found no room, and whether the next one is linked to it.
struct Waiting {
    entry: squeue::Entry,
    linked: bool,
}

pub(crate) struct Queue {
    submitter: ManuallyDrop<Submitter<'static>>,
    submissions: ManuallyDrop<SubmissionQueue<'static>>,
    completions: ManuallyDrop<CompletionQueue<'static>>,
    ring: NonNull<IoUring>,
    backlog: VecDeque<Waiting>,
    min_wait: bool,
    fatal: Option<io::Error>,
    /// Operations whose last completion has not been handled.
    pub(crate) in_flight: u64,
    /// `io_uring_enter` calls.
    pub(crate) enters: u64,
    /// Enters the kernel put off.
    pub(crate) deferred: u64,
}

impl Queue {
    /// The ring, with its descriptor registered. The calling thread becomes its only issuer.
    pub(crate) fn new(config: &RingConfig) -> Result<Self, RingError> {
        let ring = IoUring::builder()
            .setup_cqsize(config.completion_entries)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .dontfork()
            .build(config.entries)
            .map_err(RingError::setup("create the io_uring"))?;
        let min_wait = ring.params().is_feature_min_timeout();
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: needed because the registered descriptor is remembered by the Submitter that `split` returns, so that one must
        // be kept, and it borrows the ring. Sound because the box is leaked here and freed only in `drop`, after the three
        // borrowers; nobody else has the pointer.
        let (submitter, submissions, completions) = unsafe { &mut *ring.as_ptr() }.split();
        let mut queue = Self {
            submitter: ManuallyDrop::new(submitter),
            submissions: ManuallyDrop::new(submissions),
            completions: ManuallyDrop::new(completions),
            ring,
            backlog: VecDeque::new(),
            min_wait,
            fatal: None,
            in_flight: 0,
            enters: 0,
            deferred: 0,
        };
        queue
            .submitter
            .register_ring_fd()
            .map_err(RingError::setup("register the ring's descriptor"))?;
        Ok(queue)
    }

    /// Whether waits may name a minimum time (kernel 6.12).
    pub(crate) fn has_min_wait(&self) -> bool {
        self.min_wait
    }

    pub(crate) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    pub(crate) fn ring_fd(&self) -> RawFd {
        // SAFETY: needed because the ring is held by pointer (see `new`). Sound because it lives until `drop`, and reading its
        // descriptor touches nothing the borrowers of `split` write.
        unsafe { self.ring.as_ref() }.as_raw_fd()
    }

    // ---- operations without memory of ours -------------------------------------------------------------------------------

    /// Accepts until cancelled or failed. Accepted sockets block (the ring waits for them) and close on exec.
    pub(crate) fn accept_multishot(&mut self, listener: RawFd, token: Token) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry, token);
    }

    /// Receives into the ring's buffer group until cancelled, ended or out of buffers.
    pub(crate) fn receive_multishot(&mut self, socket: RawFd, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(socket), crate::buffers::GROUP).build();
        self.push(entry, token);
    }

    /// Posts each time the descriptor becomes readable.
    pub(crate) fn poll_multishot(&mut self, fd: RawFd, token: Token) {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.push(entry, token);
    }

    /// Cancels the operation that `target` names.
    pub(crate) fn cancel(&mut self, target: Token, token: Token) {
        self.push(opcode::AsyncCancel::new(target.word()).build(), token);
    }

    /// Cancels everything on a socket, then closes it. Close alone would leave the peer without FIN while a multishot receive
    /// holds the socket.
    pub(crate) fn cancel_all(&mut self, socket: RawFd, token: Token) {
        let all = types::CancelBuilder::fd(types::Fd(socket)).all();
        self.push(opcode::AsyncCancel2::new(all).build(), token);
    }

    pub(crate) fn close(&mut self, fd: RawFd, token: Token) {
        self.push(opcode::Close::new(types::Fd(fd)).build(), token);
    }

    /// Posts a [`Operation::Message`] to another ring. Only failure completes here, so it is not counted as in flight.
    pub(crate) fn message(&mut self, ring: RawFd, token: Token) {
        let word = Token::new(Operation::Message, 0, 0).word();
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, word, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(token.word());
        self.enqueue(entry, false);
    }

    // ---- operations on memory of ours ------------------------------------------------------------------------------------

    /// Sends `bytes` bytes from `start`, all of them unless the connection fails.
    ///
    /// # Safety
    /// The memory stays allocated and unchanged until the completion of `token` has been handled.
    pub(crate) unsafe fn send(
        &mut self,
        socket: RawFd,
        start: *const u8,
        bytes: u32,
        token: Token,
    ) {
        let entry = opcode::Send::new(types::Fd(socket), start, bytes)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, token);
    }

    /// Writes, then fdatasync if and only if the write was complete. Two completions.
    ///
    /// # Safety
    /// As for [`send`](Self::send), until the completion of `synced`.
    pub(crate) unsafe fn write_then_sync(
        &mut self,
        file: RawFd,
        start: *const u8,
        bytes: u32,
        offset: u64,
        [written, synced]: [Token; 2],
    ) {
        let write = opcode::Write::new(types::Fd(file), start, bytes)
            .offset(offset)
            .build()
            .flags(squeue::Flags::IO_LINK)
            .user_data(written.word());
        let sync = opcode::Fsync::new(types::Fd(file))
            .flags(types::FsyncFlags::DATASYNC)
            .build()
            .user_data(synced.word());
        self.in_flight += 2;
        self.reserve(2);
        self.enqueue(write, true);
        self.enqueue(sync, false);
    }

    /// Writes with the promise of a following fdatasync in the same operation.
    ///
    /// # Safety
    /// As for [`send`](Self::send).
    pub(crate) unsafe fn write_synced(
        &mut self,
        file: RawFd,
        start: *const u8,
        bytes: u32,
        offset: u64,
        token: Token,
    ) {
        let entry = opcode::Write::new(types::Fd(file), start, bytes)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        self.push(entry, token);
    }

    // ---- moving entries to the kernel ------------------------------------------------------------------------------------

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        self.reserve(1);
        self.enqueue(entry.user_data(token.word()), false);
    }

    /// Makes room for `entries` that must be submitted together, if the kernel lets it.
    fn reserve(&mut self, entries: usize) {
        if self.backlog.is_empty() && self.room() < entries {
            self.submit();
        }
    }

    fn room(&self) -> usize {
        self.submissions.capacity() - self.submissions.len()
    }

    fn enqueue(&mut self, entry: squeue::Entry, linked: bool) {
        let needed = if linked { 2 } else { 1 };
        if !self.backlog.is_empty() || self.room() < needed {
            self.backlog.push_back(Waiting { entry, linked });
            return;
        }
        self.place(&entry);
    }

    fn place(&mut self, entry: &squeue::Entry) {
        // SAFETY: needed because the kernel will use the addresses inside the entry. Sound because entries with addresses are
        // made only by the unsafe methods above, whose callers promise the memory until the completion.
        let placed = unsafe { self.submissions.push(entry) };
        debug_assert!(placed.is_ok(), "room was checked");
    }

    fn place_backlog(&mut self) {
        while let Some(first) = self.backlog.front() {
            if self.room() < if first.linked { 2 } else { 1 } {
                break;
            }
            if let Some(waiting) = self.backlog.pop_front() {
                self.place(&waiting.entry);
            }
        }
    }

    /// Hands over what is queued, without looking for completions.
    fn submit(&mut self) {
        self.submissions.sync();
        self.enters += 1;
        let result = self.submitter.submit();
        self.submissions.sync();
        if let Err(error) = result {
            self.tolerate(error);
        }
    }

    /// One enter: submits everything, runs deferred work, waits as told. Says whether anything was put off.
    pub(crate) fn enter(&mut self, wait: Wait) -> Result<Submitted, RingError> {
        self.place_backlog();
        self.submissions.sync();
        self.enters += 1;
        let deferred = self.deferred;
        let wait = if self.backlog.is_empty() { wait } else { Wait::No };
        let result = match wait {
            Wait::No => {
                let count = self.submissions.len() as u32;
                // SAFETY: needed because the crate's safe calls never set GETEVENTS without waiting, and deferred work would
                // not run. Sound because the count is the queue's own and no argument is passed.
                unsafe { self.submitter.enter::<libc::sigset_t>(count, 0, ENTER_GETEVENTS, None) }
            }
            Wait::For { want, min_wait_us, timeout } => {
                let timeout = timeout.map(types::Timespec::from);
                let mut arguments = types::SubmitArgs::new();
                if self.min_wait && want > 1 {
                    arguments = arguments.min_wait_usec(min_wait_us);
                }
                let want = if self.min_wait { want.max(1) } else { 1 };
                match &timeout {
                    Some(timeout) => {
                        self.submitter.submit_with_args(want as usize, &arguments.timespec(timeout))
                    }
                    None => self.submitter.submit_with_args(want as usize, &arguments),
                }
            }
        };
        self.submissions.sync();
        if let Err(error) = result {
            self.tolerate(error);
        }
        if let Some(error) = self.fatal.take() {
            return Err(RingError::Enter(error));
        }
        Ok(if self.deferred == deferred { Submitted::All } else { Submitted::Deferred })
    }

    /// ETIME: the wait ended. EINTR: a signal. EBUSY, EAGAIN: completions must be taken first, or memory is short. Everything
    /// else ends the ring at the next enter.
    fn tolerate(&mut self, error: io::Error) {
        match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR) => {}
            Some(libc::EBUSY | libc::EAGAIN) => self.deferred += 1,
            _ => self.fatal = Some(error),
        }
    }

    // ---- taking completions ----------------------------------------------------------------------------------------------

    /// Appends up to `limit` completions to `into`.
    pub(crate) fn take(&mut self, into: &mut Vec<Completion>, limit: usize) {
        self.completions.sync();
        into.extend(self.completions.by_ref().take(limit).map(|entry| Completion {
            word: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        self.completions.sync();
    }

    /// Completions are left in the queue.
    pub(crate) fn has_completions(&mut self) -> bool {
        self.completions.sync();
        !self.completions.is_empty()
    }

    /// The kernel holds completions that found no room.
    pub(crate) fn overflown(&self) -> bool {
        self.submissions.cq_overflow()
    }

    /// Entries wait outside the submission queue.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The last completion of an operation has been handled.
    pub(crate) fn finished(&mut self) {
        debug_assert!(self.in_flight > 0, "a completion without an operation");
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// What became of an enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// The kernel took everything.
    All,
    /// The kernel wants completions taken, or has no memory.
    Deferred,
}

impl Drop for Queue {
    fn drop(&mut self) {
        // A thread has 16 places for registered rings, and a place keeps its ring alive. The error is that there is none.
        let _ = self.submitter.unregister_ring_fd();
        // SAFETY: needed to free what `new` leaked. Sound because the borrowers go first, each exactly once, and the pointer
        // came from a box and was never shared.
        unsafe {
            ManuallyDrop::drop(&mut self.completions);
            ManuallyDrop::drop(&mut self.submissions);
            ManuallyDrop::drop(&mut self.submitter);
            drop(Box::from_raw(self.ring.as_ptr()));
        }
    }
}
