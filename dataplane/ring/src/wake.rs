//! Waking a ring: from any thread by eventfd, from another ring by a message that rides in its batch.
//!
//! One word says what the ring is doing. Ringing marks it RUNG; only the ringer that finds it ASLEEP pays for a system event. The
//! ring moves from AWAKE to ASLEEP by compare-exchange just before it parks, so a ring in between is never lost: either the
//! exchange fails and the ring does not park, or the ringer sees ASLEEP. Whoever rings publishes its message first; the ring
//! clears RUNG before it looks at its inbox.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use crate::config::RingError;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const RUNG: u8 = 2;

/// What a ring shares with those who wake it.
pub(crate) struct Bell {
    state: AtomicU8,
    eventfd: File,
    /// A duplicate of the ring's descriptor: a doorbell that outlives its ring rings nobody, not whoever got the number next.
    ring: OwnedFd,
}

impl Bell {
    pub(crate) fn new(ring: RawFd) -> Result<Arc<Self>, RingError> {
        // SAFETY: needed because std has no eventfd. Sound because no memory is passed; the result is checked and owned at once.
        let eventfd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(RingError::setup("create the wake-up eventfd")(
                    io::Error::last_os_error(),
                ));
            }
            File::from_raw_fd(fd)
        };
        // SAFETY: needed to duplicate a descriptor known by number. Sound because the ring that owns it is alive in the caller
        // and the borrow ends with the statement.
        let ring = unsafe { BorrowedFd::borrow_raw(ring) }
            .try_clone_to_owned()
            .map_err(RingError::setup("duplicate the ring's descriptor"))?;
        Ok(Arc::new(Self { state: AtomicU8::new(AWAKE), eventfd, ring }))
    }

    pub(crate) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Marks the ring rung; `true` if it sleeps and the caller must produce a system event.
    fn ring(&self) -> bool {
        // Orders the caller's message before the look at the state: together with the ring's swap in `answer` and exchange in
        // `lie_down` this is the store-then-load pattern that needs sequential consistency.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == RUNG {
            return false;
        }
        self.state.swap(RUNG, Ordering::SeqCst) == ASLEEP
    }

    pub(crate) fn signal(&self) {
        // The counter cannot overflow in practice, and if it did (EAGAIN) the ring would be readable anyway.
        let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
    }

    // ---- the ring's own side -----------------------------------------------------------------------------------------------

    /// About to park. `false`: somebody rang, do not.
    pub(crate) fn lie_down(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Awake again; `true` if somebody rang since the last call.
    pub(crate) fn answer(&self) -> bool {
        if self.state.load(Ordering::Relaxed) == AWAKE {
            return false;
        }
        let rung = self.state.swap(AWAKE, Ordering::SeqCst) == RUNG;
        fence(Ordering::SeqCst);
        rung
    }

    /// The ring is gone: nobody needs to ring again.
    pub(crate) fn retire(&self) {
        self.state.store(RUNG, Ordering::SeqCst);
    }

    /// Somebody has rung and was not answered yet.
    pub(crate) fn is_rung(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RUNG
    }
}

/// Wakes a ring from any thread. The ring then calls [`Handler::woken`](crate::Handler::woken).
///
/// Push the message first, then wake. Waking a ring that is awake or already rung costs no system call.
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<Bell>);

impl Waker {
    /// Wakes the ring.
    pub fn wake(&self) {
        if self.0.ring() {
            self.0.signal();
        }
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waker").field(&self.0.eventfd()).finish()
    }
}

/// Names a ring to other rings; see [`Io::ring_doorbell`](crate::Io::ring_doorbell). Outliving the ring is harmless.
#[derive(Clone)]
pub struct Doorbell(pub(crate) Arc<Bell>);

impl Doorbell {
    /// Marks the ring rung; `true` if it sleeps and a message must be sent.
    pub(crate) fn ring(&self) -> bool {
        self.0.ring()
    }

    pub(crate) fn ring_fd(&self) -> RawFd {
        self.0.ring.as_raw_fd()
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Doorbell").field(&self.ring_fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bell {
        /// A bell whose ring is asleep and cannot be reached by message.
        pub(crate) fn unreachable() -> Arc<Self> {
            let not_a_ring = File::open("/dev/null").unwrap();
            let bell = Self::new(not_a_ring.as_raw_fd()).unwrap();
            assert!(bell.lie_down());
            bell
        }

        /// How often the eventfd was signalled since the last call.
        pub(crate) fn signals(&self) -> u64 {
            let mut count = [0; 8];
            match io::Read::read(&mut &self.eventfd, &mut count) {
                Ok(_) => u64::from_ne_bytes(count),
                Err(_) => 0,
            }
        }
    }

    #[test]
    fn only_the_first_ring_of_a_sleeper_costs_a_signal() {
        let bell = Bell::unreachable();
        let waker = Waker(bell.clone());
        (0..5).for_each(|_| waker.wake());
        assert_eq!(bell.signals(), 1);
        assert!(bell.answer() && !bell.answer());
        (0..5).for_each(|_| waker.wake());
        assert_eq!(bell.signals(), 0);
        assert!(!bell.lie_down(), "rung while awake: must not park");
        assert!(bell.answer() && bell.lie_down());
        bell.retire();
        waker.wake();
        assert_eq!(bell.signals(), 0);
    }
}
