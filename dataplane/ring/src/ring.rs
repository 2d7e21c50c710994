//! The loop of one core, turn by turn.
//!
//! Invariants: one enter per turn (more only if the submission queue fills up); handler calls never nest; `run` returns Ok only
//! when the kernel holds nothing of ours; memory the kernel may still use is leaked rather than freed.

use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::buffers::ReceiveBuffers;
use crate::config::{RingConfig, RingError};
use crate::connections::Phase;
use crate::handler::Handler;
use crate::io::Io;
use crate::limits::{ABANDON, ACCEPT_REST, COMPLETIONS_PER_TURN, FLUSHES_PER_TURN, SUBMIT_REST};
use crate::listener::{ListenerId, is_shortage};
use crate::queue::{Completion, Queue, Submitted, Wait};
use crate::state::{Alarm, Course, State};
use crate::token::{Operation, Token};
use crate::transfer::Received;
use crate::wake::{Bell, Doorbell, Waker};

/// The event loop of one core. Made and run on the same thread; it cannot be sent.
///
/// ```compile_fail
/// fn needs_send<T: Send>() {}
/// needs_send::<fulcrum_ring::Ring>();
/// ```
pub struct Ring {
    state: ManuallyDrop<State>,
    buffers: ManuallyDrop<ReceiveBuffers>,
    batch: Vec<Completion>,
    finished: bool,
}

impl Ring {
    /// Pins the calling thread if asked, then makes the ring and its receive buffers. Must be called on the thread that will run it.
    ///
    /// # Errors
    /// A setting out of range, or a refusal of the kernel; [`preflight::check`](crate::preflight::check) explains the latter.
    pub fn new(config: RingConfig) -> Result<Self, RingError> {
        config.validate()?;
        if let Some(cpu) = config.cpu {
            crate::affinity::pin_thread(cpu).map_err(|source| RingError::Pin { cpu, source })?;
        }
        let queue = Queue::new(&config)?;
        let bell = Bell::new(queue.ring_fd())?;
        let buffers = ReceiveBuffers::register(&config, &queue)?;
        let mut state = State::new(config, queue, bell);
        state.watch_bell();
        Ok(Self {
            state: ManuallyDrop::new(state),
            buffers: ManuallyDrop::new(buffers),
            batch: Vec::with_capacity(COMPLETIONS_PER_TURN),
            finished: false,
        })
    }

    /// Wakes this ring from any thread.
    pub fn waker(&self) -> Waker {
        Waker(self.state.bell.clone())
    }

    /// Names this ring to other rings.
    pub fn doorbell(&self) -> Doorbell {
        Doorbell(self.state.bell.clone())
    }

    /// Runs until [`Io::stop`] was called and everything drained.
    ///
    /// # Errors
    /// The kernel refused to go on; or the ring has run before.
    pub fn run<H: Handler>(&mut self, handler: &mut H) -> Result<(), RingError> {
        if self.finished {
            return Err(RingError::Finished);
        }
        self.finished = true;
        self.state.now = Instant::now();
        handler.started(&mut self.io());
        while !self.turn(handler)? {}
        assert_eq!(self.state.queue.in_flight, 0, "a drained ring holds no operation");
        assert_eq!(self.state.connections.len(), 0, "a drained ring holds no connection");
        Ok(())
    }

    fn io(&mut self) -> Io<'_> {
        Io { state: &mut self.state }
    }

    /// One turn. `true`: stopped and drained, nothing was submitted.
    fn turn<H: Handler>(&mut self, handler: &mut H) -> Result<bool, RingError> {
        self.begin(handler);
        self.handle_completions(handler);
        self.fire_timers(handler);
        self.tell(handler);
        handler.turn_ended(&mut self.io());
        self.tell_endings(handler);
        self.flush(handler);
        if self.is_over() {
            return Ok(true);
        }
        let wait = self.choose_wait(handler);
        self.enter(wait)?;
        Ok(false)
    }

    fn begin<H: Handler>(&mut self, handler: &mut H) {
        let state = &mut *self.state;
        let now = Instant::now();
        let elapsed = now.duration_since(state.now).as_nanos() as u64;
        state.now = now;
        state.stats.turns += 1;
        state.again = false;
        self.batch.clear();
        state.queue.take(&mut self.batch, COMPLETIONS_PER_TURN);
        state.stats.completions += self.batch.len() as u64;
        state.stats.completion_overflows += u64::from(state.queue.overflown());
        state.arrivals = 0;
        for completion in &self.batch {
            let outside = match Token::from_word(completion.word).map(|token| token.operation) {
                Some(Operation::Receive) => completion.result > 0,
                Some(Operation::Accept | Operation::Bell | Operation::Message) => true,
                _ => false,
            };
            state.arrivals += u32::from(outside);
        }
        state.adaptive.observe(elapsed, state.arrivals);
        let wanted = std::mem::replace(&mut state.wanted, 0) as usize;
        state.stats.adaptive_expired += u64::from(wanted > 1 && self.batch.len() < wanted);
        let rung = state.bell.answer();
        handler.turn_started(&mut self.io());
        if rung {
            self.state.stats.wakeups += 1;
            handler.woken(&mut self.io());
        }
        self.tell_endings(handler);
    }

    // ---- completions -----------------------------------------------------------------------------------------------------------

    fn handle_completions<H: Handler>(&mut self, handler: &mut H) {
        let mut batch = std::mem::take(&mut self.batch);
        for completion in batch.drain(..) {
            self.handle(completion, handler);
            self.tell_endings(handler);
        }
        self.batch = batch;
        while let Some(refused) = self.state.files.take_refused() {
            self.state.stats.write_errors += 1;
            handler.file_written(&mut self.io(), refused.token, refused.result);
        }
    }

    fn handle<H: Handler>(&mut self, completion: Completion, handler: &mut H) {
        let Some(token) = Token::from_word(completion.word) else {
            debug_assert!(false, "a completion this ring never asked for");
            return;
        };
        let counted = !matches!(token.operation, Operation::Message | Operation::Ring);
        if counted && !completion.more() {
            self.state.queue.finished();
        }
        match token.operation {
            Operation::Receive => self.received(token, completion, handler),
            Operation::Send => self.state.send_completed(token, completion.result),
            Operation::Accept => self.accepted(token, completion, handler),
            Operation::Cancel | Operation::Close => {
                self.state.chore_completed(token, completion.result)
            }
            Operation::Write | Operation::Sync => {
                self.file_completed(token, completion.result, handler);
            }
            Operation::Bell => {
                if !completion.more() && self.state.course != Course::Silencing {
                    self.state.watch_bell();
                }
            }
            // The wake-up itself is read from the bell.
            Operation::Message | Operation::Ignored => {}
            Operation::Ring => self.state.message_failed(token.slot),
        }
    }

    fn received<H: Handler>(&mut self, token: Token, completion: Completion, handler: &mut H) {
        let received = self.state.receive_completed(token, completion);
        let Some(buffer) = completion.buffer() else { return };
        if let Received::Bytes(connection) = received {
            let bytes = self.buffers.filled(buffer, completion.result as usize);
            handler.received(&mut Io { state: &mut self.state }, connection, bytes);
        }
        self.buffers.give_back(buffer);
    }

    fn accepted<H: Handler>(&mut self, token: Token, completion: Completion, handler: &mut H) {
        let listener = ListenerId(token.slot);
        if completion.result >= 0 {
            // SAFETY: needed because the kernel returns a bare number. Sound because the accept made this descriptor for us and
            // nobody else owns it; it is closed on drop unless a slot takes it over.
            let socket = unsafe { OwnedFd::from_raw_fd(completion.result) };
            self.admit(listener, socket, handler);
        }
        let state = &mut *self.state;
        if !completion.more() {
            state.listeners.disarmed(listener);
            if completion.result < 0 && is_shortage(-completion.result) {
                state.set_alarm(ACCEPT_REST, Alarm::Accept(listener));
            } else {
                state.listeners.arm(listener, &mut state.queue);
            }
        }
        if completion.result < 0 && completion.result != -libc::ECANCELED {
            state.stats.accept_errors += 1;
        }
    }

    fn admit<H: Handler>(&mut self, listener: ListenerId, socket: OwnedFd, handler: &mut H) {
        if !self.state.listeners.accepting() {
            return;
        }
        let Ok(connection) = self.state.admit(socket) else {
            self.state.stats.accepts_refused += 1;
            return;
        };
        self.state.stats.accepted += 1;
        handler.accepted(&mut self.io(), listener, connection);
    }

    fn file_completed<H: Handler>(&mut self, token: Token, result: i32, handler: &mut H) {
        let state = &mut *self.state;
        let Some(finished) = state.files.completed(token, result, &mut state.queue) else { return };
        match &finished.result {
            Ok(done) => {
                state.stats.writes += 1;
                state.stats.write_bytes += done.bytes as u64;
            }
            Err(_) => state.stats.write_errors += 1,
        }
        handler.file_written(&mut self.io(), finished.token, finished.result);
    }

    // ---- timers and news -------------------------------------------------------------------------------------------------------

    fn fire_timers<H: Handler>(&mut self, handler: &mut H) {
        let now_ns = self.state.now_ns();
        self.state.timers.advance(now_ns);
        while let Some(alarm) = self.state.timers.take_due() {
            match alarm {
                Alarm::Handler(token) => {
                    self.state.stats.timers_fired += 1;
                    handler.timer(&mut self.io(), token);
                }
                Alarm::Linger(connection) => self.state.linger_expired(connection),
                Alarm::Accept(listener) => self.state.accept_rested(listener),
            }
            self.tell_endings(handler);
        }
    }

    /// Tells the handler who drained, once per turn, and who ended.
    fn tell<H: Handler>(&mut self, handler: &mut H) {
        let mut drained = std::mem::take(&mut self.state.drained);
        for connection in drained.drain(..) {
            if self.state.connections.open(connection).is_some() {
                handler.drained(&mut self.io(), connection);
            }
        }
        if self.state.drained.is_empty() {
            self.state.drained = drained;
        }
        self.tell_endings(handler);
    }

    fn tell_endings<H: Handler>(&mut self, handler: &mut H) {
        while !self.state.closed.is_empty() || !self.state.detached.is_empty() {
            self.tell_detached(handler);
            let mut closed = std::mem::take(&mut self.state.closed);
            for (connection, reason) in closed.drain(..) {
                handler.closed(&mut self.io(), connection, reason);
                let slot = connection.slot();
                self.state.connections.in_slot(slot).told = true;
                self.state.settle(slot);
            }
            if self.state.closed.is_empty() {
                self.state.closed = closed;
            }
        }
    }

    fn tell_detached<H: Handler>(&mut self, handler: &mut H) {
        while let Some(connection) = self.state.detached.pop() {
            if let Some(socket) = self.state.give_up(connection) {
                handler.detached(&mut self.io(), connection, socket);
                let slot = connection.slot();
                self.state.connections.in_slot(slot).told = true;
                self.state.settle(slot);
            }
        }
    }

    // ---- the end of a turn -----------------------------------------------------------------------------------------------------

    /// Returns buffers, arms receives, submits sends. Sending may end slow consumers, whose handlers may write to others.
    fn flush<H: Handler>(&mut self, handler: &mut H) {
        for _ in 0..FLUSHES_PER_TURN {
            self.buffers.publish();
            self.state.arm_receives();
            self.state.send_dirty();
            if self.state.closed.is_empty() && self.state.detached.is_empty() {
                break;
            }
            self.tell_endings(handler);
        }
    }

    /// While stopping: whether nothing is left. The eventfd's poll is the last to go.
    fn is_over(&mut self) -> bool {
        let state = &mut *self.state;
        match state.course {
            Course::Running => false,
            Course::Stopping => {
                if state.is_drained() {
                    state.course = Course::Silencing;
                    let bell = Token::new(Operation::Bell, 0, 0);
                    state.queue.cancel(bell, Token::new(Operation::Ignored, 0, 0));
                }
                false
            }
            Course::Silencing => state.queue.in_flight == 0 && state.is_drained(),
        }
    }

    fn choose_wait<H: Handler>(&mut self, handler: &H) -> Wait {
        let wake_within = self.state.wake_within.take();
        if self.state.is_restless() || self.state.queue.has_completions() {
            return Wait::No;
        }
        if !self.state.config.spin.is_zero() {
            self.spin(handler);
        }
        let state = &mut *self.state;
        if !state.bell.lie_down() || handler.has_inbox() {
            return Wait::No;
        }
        let timeout = state.timers.next_ns().map(|at| {
            // The clock has moved since the turn began; a wait that is too short would only cost a turn.
            let since = state.origin.elapsed().as_nanos() as u64;
            Duration::from_nanos(at.saturating_sub(since))
        });
        let timeout = timeout.into_iter().chain(wake_within).min();
        let sends = std::mem::take(&mut state.sends_submitted);
        let possible = (state.connections.len() + 1) as u32;
        let mut plan = state.adaptive.plan(sends, possible);
        if state.course != Course::Running {
            plan = crate::adaptive::Plan::AT_ONCE;
        }
        if let Some(limit) = wake_within {
            plan.min_wait_us = plan.min_wait_us.min(limit.as_micros() as u32);
        }
        state.stats.adaptive_waits += u64::from(plan.want > 1);
        state.wanted = plan.want;
        Wait::For { want: plan.want, min_wait_us: plan.min_wait_us, timeout }
    }

    /// Watches the inbox for a moment: a hop between cores is two hundred times faster if the receiver need not be woken.
    fn spin<H: Handler>(&self, handler: &H) {
        let until = Instant::now() + self.state.config.spin;
        while !handler.has_inbox() && !self.state.bell.is_rung() && Instant::now() < until {
            for _ in 0..16 {
                std::hint::spin_loop();
            }
        }
    }

    fn enter(&mut self, wait: Wait) -> Result<(), RingError> {
        let state = &mut *self.state;
        let submitted = state.queue.enter(wait);
        state.sends_submitted = 0;
        state.stats.enters = state.queue.enters;
        state.stats.submissions_deferred = state.queue.deferred;
        state.stats.connections = state.connections.len() as u64;
        state.stats.in_flight = state.queue.in_flight;
        if submitted? == Submitted::Deferred && !state.queue.has_completions() {
            // No memory, and nothing to take that would free some.
            std::thread::sleep(SUBMIT_REST);
        }
        Ok(())
    }
}

impl State {
    /// Polls the eventfd. Its counter is never read: each write posts a completion whatever the count.
    fn watch_bell(&mut self) {
        self.queue.poll_multishot(self.bell.eventfd(), Token::new(Operation::Bell, 0, 0));
    }
}

/// A handler that wants nothing, for getting memory back from the kernel.
struct Nobody;

impl Handler for Nobody {
    fn accepted(&mut self, _: &mut Io<'_>, _: ListenerId, _: crate::ConnectionId) {}
    fn received(&mut self, _: &mut Io<'_>, _: crate::ConnectionId, _: &[u8]) {}
    fn drained(&mut self, _: &mut Io<'_>, _: crate::ConnectionId) {}
    fn closed(&mut self, _: &mut Io<'_>, _: crate::ConnectionId, _: crate::CloseReason) {}
    fn timer(&mut self, _: &mut Io<'_>, _: u64) {}
    fn file_written(
        &mut self,
        _: &mut Io<'_>,
        _: u64,
        _: Result<crate::WriteDone, std::io::Error>,
    ) {
    }
    fn woken(&mut self, _: &mut Io<'_>) {}
}

impl Ring {
    /// Aborts everything and turns until the kernel holds nothing, for a bounded time. `false`: it still holds something.
    fn abandon(&mut self) -> bool {
        self.state.stop();
        for slot in self.state.connections.slots() {
            let id = self.state.connections.id_of(slot);
            if self.state.connections.in_slot(slot).phase != Phase::Free {
                self.state.end(id, crate::CloseReason::Shutdown, crate::closing::Ending::Now);
            }
        }
        // Guarantees that a turn of the drain does not sleep past the limit.
        self.state.set_alarm(ABANDON, Alarm::Handler(0));
        let until = Instant::now() + ABANDON;
        loop {
            match self.turn(&mut Nobody) {
                Ok(true) => return true,
                Ok(false) if Instant::now() < until => {}
                _ => return self.state.queue.in_flight == 0,
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.state.bell.retire();
        let panicking = std::thread::panicking();
        let idle = self.state.queue.in_flight == 0 || (!panicking && self.abandon());
        if !idle || self.buffers.unregister(&self.state.queue).is_err() {
            // The kernel may still read output and write buffers or fill receive buffers: leak them, and the ring with them.
            return;
        }
        // SAFETY: needed to order the teardown: the buffers were unregistered above and go before the ring. Sound because both are
        // dropped exactly once, here, and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.buffers);
            ManuallyDrop::drop(&mut self.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_the_kernel_refuses_falls_back_to_the_eventfd() {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        let bell = Bell::unreachable();
        ring.io().ring_doorbell(&Doorbell(bell.clone()));
        ring.io().stop();
        ring.run(&mut Nobody).unwrap();
        assert_eq!(bell.signals(), 1);
        assert_eq!(ring.state.stats.doorbell_fallbacks, 1);
    }

    #[test]
    fn a_detached_socket_that_nobody_wants_is_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        let connection = ring.io().adopt(ours.into()).unwrap();
        while ring.state.stats.detached == 0 {
            // So that no turn sleeps for ever; the first arms the receive, and the detach cancels it.
            ring.io().wake_within(Duration::from_millis(1));
            assert!(!ring.turn(&mut Nobody).unwrap());
            ring.io().detach(connection);
        }
        assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap(), 0);
        assert_eq!(ring.state.connections.len(), 0);
    }

    #[test]
    fn a_ring_runs_once() {
        let mut ring = Ring::new(RingConfig::default()).unwrap();
        ring.io().stop();
        ring.run(&mut Nobody).unwrap();
        assert!(matches!(ring.run(&mut Nobody), Err(RingError::Finished)));
    }
}
