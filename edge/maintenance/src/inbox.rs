//! Requests on their way from any thread to the executor: a bounded queue and the waker of whoever waits for it.
//!
//! Invariant: between a push and the receiver's next look at the queue its waker is called, so no request sleeps.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use crossbeam::queue::ArrayQueue;
use fulcrum_journal::SegmentRequest;

/// Where shards put their requests. Clones share the queue.
#[derive(Clone)]
pub struct Requests {
    inbox: Arc<Inbox>,
}

impl Requests {
    pub(crate) fn new(capacity: usize) -> Requests {
        Requests {
            inbox: Arc::new(Inbox {
                queue: ArrayQueue::new(capacity.max(1)),
                waker: Mutex::new(None),
                is_stopping: AtomicBool::new(false),
            }),
        }
    }

    /// Hands a request over; never waits for the disk.
    ///
    /// # Errors
    /// The request itself, if the queue is full or the thread has been stopped. Keep it and try again next turn,
    /// before later ones: their order matters.
    pub fn submit(&self, request: SegmentRequest) -> Result<(), SegmentRequest> {
        if self.is_stopping() {
            return Err(request);
        }
        self.inbox.queue.push(request)?;
        self.wake();
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.inbox.is_stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.inbox.is_stopping.load(Ordering::SeqCst)
    }

    /// The next request; `None` when the thread is to stop.
    pub(crate) async fn next(&self) -> Option<SegmentRequest> {
        poll_fn(|context| {
            if let Some(ready) = self.ready() {
                return Poll::Ready(ready);
            }
            *self.waker() = Some(context.waker().clone());
            // A request may have come between the look and the waker.
            match self.ready() {
                Some(ready) => Poll::Ready(ready),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn ready(&self) -> Option<Option<SegmentRequest>> {
        if self.is_stopping() {
            return Some(None);
        }
        self.inbox.queue.pop().map(Some)
    }

    fn wake(&self) {
        // The lock is held for a move, by at most one other thread; requests are as rare as segments.
        let waker = self.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.inbox.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("waiting", &self.inbox.queue.len())
            .field("capacity", &self.inbox.queue.capacity())
            .finish()
    }
}

struct Inbox {
    queue: ArrayQueue<SegmentRequest>,
    waker: Mutex<Option<Waker>>,
    is_stopping: AtomicBool,
}
