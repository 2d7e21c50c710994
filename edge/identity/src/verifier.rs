//! The threads that ask [`Identity`] on behalf of the shards.
//!
//! ```text
//!   submit ─▶ quick queue ─▶ "verify-quick" ── decided ──▶ answer
//!                                  └─ slow ──▶ slow queue ─▶ "verify-0", … ─▶ answer
//!   submit_store ─▶ store queue ─▶ "store" ─▶ work(&identity)
//! ```
//!
//! - A flood of bad passwords fills the slow queue and nothing else: devices whose password is known from before pass
//!   through the quick lane, and commands and gateway checks through the store lane.
//! - Every queue is bounded and a full one answers now: `submit` with [`Busy`], the slow lane with
//!   [`Refusal::Unavailable`]. A login that has waited too long is answered so too, not computed.
//! - An answer is given exactly once, on one of these threads. While it blocks, its lane
//!   stands still: it hands over and returns.

use crate::authentication::Verdict;
use crate::error::IdentityError;
use crate::limits::{
    LOGIN_WAIT_MAX_MS, QUICK_QUEUE_DEFAULT, SLOW_QUEUE_DEFAULT, STORE_QUEUE_DEFAULT,
    VERIFY_THREADS_DEFAULT,
};
use crate::login::Login;
use crate::refusal::Refusal;
use crate::replica::Identity;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Takes the decision on a login.
pub type Answer = Box<dyn FnOnce(Verdict) + Send>;

/// Something to do with the store off the caller's thread.
pub type StoreWork = Box<dyn FnOnce(&Identity) + Send>;

/// A queue is full, or the verifier is stopping: the work was dropped, the answer will not be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "too much work is waiting: answer that the service is not available, and let the client retry"
)]
pub struct Busy;

/// Sizes of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifierConfig {
    /// Threads that compute bcrypt and verify signatures, at least 1.
    pub verify_threads: usize,
    /// Logins that may wait to be looked at.
    pub quick_queue: usize,
    /// Logins that may wait for that.
    pub slow_queue: usize,
    /// Work that may wait for the store thread.
    pub store_queue: usize,
}

impl Default for VerifierConfig {
    fn default() -> Self {
        VerifierConfig {
            verify_threads: VERIFY_THREADS_DEFAULT,
            quick_queue: QUICK_QUEUE_DEFAULT,
            slow_queue: SLOW_QUEUE_DEFAULT,
            store_queue: STORE_QUEUE_DEFAULT,
        }
    }
}

/// What the pool has done and has before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VerifierStats {
    /// Logins waiting in the quick lane.
    pub quick_waiting: usize,
    /// Logins waiting for a verify thread.
    pub slow_waiting: usize,
    /// Work waiting for the store thread.
    pub store_waiting: usize,
    /// Logins decided in the quick lane.
    pub decided_quickly: u64,
    /// Logins decided on a verify thread.
    pub decided_slowly: u64,
    /// Logins and work not taken because a queue was full.
    pub busy: u64,
    /// Logins answered `Unavailable` because they had waited too long.
    pub waited_too_long: u64,
}

/// The pool. Dropping it finishes what has been taken and joins the threads.
pub struct Verifier {
    quick: Option<Sender<Waiting>>,
    slow: Receiver<Waiting>,
    store: Option<Sender<StoreWork>>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counters {
    decided_quickly: AtomicU64,
    decided_slowly: AtomicU64,
    busy: AtomicU64,
    waited_too_long: AtomicU64,
}

struct Waiting {
    job: Login,
    answer: Answer,
    since: Instant,
}

impl Verifier {
    /// Starts the threads.
    pub fn start(identity: Identity, config: VerifierConfig) -> Result<Verifier, IdentityError> {
        let (quick, quick_jobs) = bounded::<Waiting>(config.quick_queue.max(1));
        let (slow, slow_jobs) = bounded::<Waiting>(config.slow_queue.max(1));
        let (store, store_work) = bounded::<StoreWork>(config.store_queue.max(1));
        let mut verifier = Verifier {
            quick: Some(quick),
            slow: slow_jobs.clone(),
            store: Some(store),
            counters: Arc::default(),
            threads: Vec::new(),
        };
        // First, because it takes the slow lane's only sender: should a later thread not start, dropping the verifier
        // still ends the ones that did.
        let (quick_identity, counters) = (identity.clone(), verifier.counters.clone());
        let run = move || run_quick_lane(&quick_identity, &quick_jobs, &slow, &counters);
        verifier.spawn("verify-quick".into(), run)?;
        for index in 0..config.verify_threads.max(1) {
            let (identity, jobs) = (identity.clone(), slow_jobs.clone());
            let counters = verifier.counters.clone();
            let run = move || run_slow_lane(&identity, &jobs, &counters);
            verifier.spawn(format!("verify-{index}"), run)?;
        }
        verifier.spawn("store".into(), move || {
            for work in store_work {
                work(&identity);
            }
        })?;
        Ok(verifier)
    }

    /// Hands over a login without waiting; `answer` is called later, on another thread.
    pub fn submit(&self, job: Login, answer: Answer) -> Result<(), Busy> {
        let waiting = Waiting { job, answer, since: Instant::now() };
        self.offer(self.quick.as_ref(), waiting)
    }

    /// Hands over work for the store thread without waiting. Work runs in the order it was taken.
    pub fn submit_store(&self, work: StoreWork) -> Result<(), Busy> {
        self.offer(self.store.as_ref(), work)
    }

    /// Depths and counts, for metrics.
    pub fn stats(&self) -> VerifierStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VerifierStats {
            quick_waiting: self.quick.as_ref().map_or(0, Sender::len),
            slow_waiting: self.slow.len(),
            store_waiting: self.store.as_ref().map_or(0, Sender::len),
            decided_quickly: count(&self.counters.decided_quickly),
            decided_slowly: count(&self.counters.decided_slowly),
            busy: count(&self.counters.busy),
            waited_too_long: count(&self.counters.waited_too_long),
        }
    }

    fn offer<T>(&self, queue: Option<&Sender<T>>, work: T) -> Result<(), Busy> {
        let taken = queue.is_some_and(|queue| queue.try_send(work).is_ok());
        if taken {
            return Ok(());
        }
        self.counters.busy.fetch_add(1, Ordering::Relaxed);
        Err(Busy)
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), IdentityError> {
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(run)
            .map_err(|source| IdentityError::Thread { name, source })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        // The quick lane ends with its queue and lets go of the slow one, which ends the verify threads.
        self.quick = None;
        self.store = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a verifier thread had panicked");
            }
        }
    }
}

fn run_quick_lane(
    identity: &Identity,
    jobs: &Receiver<Waiting>,
    slow: &Sender<Waiting>,
    counters: &Counters,
) {
    for waiting in jobs {
        let Some(waiting) = waiting.unless_too_late(counters) else { continue };
        if let Some(decision) = identity.authenticate_quickly(&waiting.job) {
            counters.decided_quickly.fetch_add(1, Ordering::Relaxed);
            (waiting.answer)(decision);
            continue;
        }
        if let Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) =
            slow.try_send(waiting)
        {
            counters.busy.fetch_add(1, Ordering::Relaxed);
            (refused.answer)(Err(Refusal::Unavailable).into());
        }
    }
}

fn run_slow_lane(identity: &Identity, jobs: &Receiver<Waiting>, counters: &Counters) {
    for waiting in jobs {
        let Some(waiting) = waiting.unless_too_late(counters) else { continue };
        let decision = identity.authenticate(&waiting.job);
        counters.decided_slowly.fetch_add(1, Ordering::Relaxed);
        (waiting.answer)(decision);
    }
}

impl Waiting {
    /// Itself, or nothing after answering that its time is over.
    fn unless_too_late(self, counters: &Counters) -> Option<Waiting> {
        if self.since.elapsed() <= Duration::from_millis(LOGIN_WAIT_MAX_MS) {
            return Some(self);
        }
        counters.waited_too_long.fetch_add(1, Ordering::Relaxed);
        (self.answer)(Err(Refusal::Unavailable).into());
        None
    }
}
