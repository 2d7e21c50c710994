//! Waking the uplink from another thread: one slot for a waker and a flag.
//!
//! The uplink raises `sleeping`, looks once more at what it waits for, and sleeps. A producer puts its work where the
//! uplink finds it, then rings; a ring while nobody sleeps costs one load. So the first push to a sleeping uplink pays
//! for a wake, the others pay nothing.
//!
//! Invariant: the flag and the work are both stored with sequential consistency ("flag, then look" against "work, then
//! flag"), so at least one side sees the other and no wake is lost.
//!
//! Deliberately absent: counting rings, and more than one sleeper.

use crossbeam::queue::ArrayQueue;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Poll, Waker};

/// One sleeper, any number of ringers.
#[derive(Clone)]
pub(crate) struct Doorbell {
    shared: Arc<Shared>,
}

struct Shared {
    sleeping: AtomicBool,
    waker: ArrayQueue<Waker>,
}

impl Doorbell {
    pub fn new() -> Doorbell {
        let shared = Shared { sleeping: AtomicBool::new(false), waker: ArrayQueue::new(1) };
        Doorbell { shared: Arc::new(shared) }
    }

    /// Wakes the sleeper, if it sleeps.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.shared.sleeping.load(Ordering::SeqCst)
            && self.shared.sleeping.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.shared.waker.pop()
        {
            waker.wake();
        }
    }

    /// Sleeps until `is_ready` answers true; it is asked before sleeping and after each ring.
    pub async fn wait_until(&self, mut is_ready: impl FnMut() -> bool) {
        poll_fn(|context| {
            self.shared.waker.force_push(context.waker().clone());
            self.shared.sleeping.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if is_ready() {
                self.shared.sleeping.store(false, Ordering::SeqCst);
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn no_ring_is_lost_between_a_producer_and_a_sleeper() {
        const ROUNDS: usize = 20_000;
        let (bell, work) = (Doorbell::new(), Arc::new(AtomicUsize::new(0)));
        let (producer_bell, producer_work) = (bell.clone(), work.clone());
        let producer = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                producer_work.fetch_add(1, Ordering::SeqCst);
                producer_bell.ring();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut seen = 0;
            while seen < ROUNDS {
                bell.wait_until(|| work.load(Ordering::SeqCst) > seen).await;
                seen = work.load(Ordering::SeqCst);
            }
        });
        producer.join().unwrap();
        assert_eq!(work.load(Ordering::SeqCst), ROUNDS);
    }
}
