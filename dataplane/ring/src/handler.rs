//! What the owner of a ring implements.

use std::io;

use crate::connections::{CloseReason, ConnectionId};
use crate::files::WriteDone;
use crate::io::Io;
use crate::listener::ListenerId;
use crate::moving::Detached;

/// What happens on a core. All calls come from the thread in [`Ring::run`](crate::Ring::run), never one inside another.
///
/// One turn of the loop:
/// 1. [`turn_started`](Self::turn_started), and [`woken`](Self::woken) if somebody rang.
/// 2. Completions: `accepted`, `received`, `drained`, `file_written`; then [`timer`](Self::timer) for each timer that is due.
///    `closed` follows whatever closed the connection, before the next of these; `detached` likewise.
/// 3. [`turn_ended`](Self::turn_ended).
/// 4. Output, doorbells and everything else asked for goes to the kernel in one system call, which also waits.
pub trait Handler {
    /// Once, before the first turn: the place to listen, open files and set timers.
    fn started(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// A peer connected. Its address is not told: asking the kernel for it costs a system call for each connection.
    fn accepted(&mut self, io: &mut Io<'_>, listener: ListenerId, connection: ConnectionId);

    /// Bytes came. The slice is the kernel's receive buffer and valid for the call alone. After [`Io::detach`] these are bytes the
    /// connection's next owner must be given, before it reads from the socket; this ring takes no answer to them.
    fn received(&mut self, io: &mut Io<'_>, connection: ConnectionId, bytes: &[u8]);

    /// The output queue is empty again after [`Io::send`] answered `Backlogged`, or after [`Io::notify_drained`]. Once per request.
    fn drained(&mut self, io: &mut Io<'_>, connection: ConnectionId);

    /// The connection ended. Exactly once per accepted or adopted connection, also if the handler closed it itself
    /// ([`CloseReason::Local`]), unless [`detached`](Self::detached) came instead. The name is stale already; the slot is not reused before this call.
    fn closed(&mut self, io: &mut Io<'_>, connection: ConnectionId, reason: CloseReason);

    /// The connection left this ring, after [`Io::detach`]: its output is sent, every byte this ring has received was given to
    /// `received`, and the kernel does nothing with the socket any more. Exactly once, and `closed` does not come. The name is
    /// stale already; the slot is not reused before this call returns. By default the socket is closed.
    fn detached(&mut self, io: &mut Io<'_>, connection: ConnectionId, socket: Detached) {
        let _ = (io, connection, socket);
    }

    /// A timer of [`Io::set_timer`] is due.
    fn timer(&mut self, io: &mut Io<'_>, token: u64);

    /// A write of [`Io::write_durable`] is on disk, or failed. After a failure nothing is known about what is on disk.
    fn file_written(&mut self, io: &mut Io<'_>, token: u64, result: Result<WriteDone, io::Error>);

    /// Somebody rang ([`Waker`](crate::Waker) or [`Doorbell`](crate::Doorbell)): look at the inbox. Rings close together come as one.
    fn woken(&mut self, io: &mut Io<'_>);

    /// A turn begins; nothing of it was handled yet.
    fn turn_started(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// A turn ends: flush the journal batch, hand over to other cores and ring their doorbells.
    fn turn_ended(&mut self, io: &mut Io<'_>) {
        let _ = io;
    }

    /// Messages wait that nobody may have rung for. Asked just before parking, and while spinning; must be cheap.
    fn has_inbox(&self) -> bool {
        false
    }
}
