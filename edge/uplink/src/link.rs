//! One request to the cloud, and what its fate says about the link.
//!
//! All lanes share this: the success of any of them means that the link is up, and wakes those that wait for their
//! next attempt. A failure withdraws the live lane's credit at once.
//!
//! An answer is an *answer* when it came from the cloud's functions: then it is handed to the lane. What an overloaded
//! cloud, a proxy or a wrong clock answers is a [`Fault`], like a connection that breaks: pause and try again.

use crate::backoff::Attempts;
use crate::client::{Answer, Call, Client, TransportError};
use crate::config::{BATCH_BYTES_MIN, UplinkConfig};
use crate::error::UplinkError;
use crate::key::Key;
use crate::live::Credit;
use crate::run::UplinkEvents;
use crate::status::{LinkState, LinkStatus};
use crate::token::Tokens;
use bytes::Bytes;
use fulcrum_contract::sync::{BATCH_CONTENT_TYPE, BatchHeader, encode_batch};
use fulcrum_contract::{ErrorBody, paths};
use http::{Method, StatusCode};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use zstd::bulk::Compressor;

/// Answers in a row that the cloud cannot answer, after which the link counts as down.
const BUSY_ANSWERS_MAX: u32 = 2;
/// Longest part of a refusal's text that is kept, in characters.
const REFUSAL_CHARS_MAX: usize = 200;

/// No answer that a lane could use.
#[derive(Debug)]
pub(crate) struct Fault {
    pub text: String,
    /// What the cloud asked for.
    pub retry_after: Option<Duration>,
    /// The request took longer than it may: maybe it is too large for this link.
    pub timed_out: bool,
    /// Something answered, so the way there is not what fails.
    pub is_answer: bool,
}

impl Fault {
    pub fn new(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), retry_after: None, timed_out: false, is_answer: false }
    }
}

/// The way to the cloud, shared by all lanes of one thread.
pub(crate) struct Link {
    pub config: UplinkConfig,
    pub status: Arc<LinkStatus>,
    pub events: Box<dyn UplinkEvents>,
    client: Client,
    tokens: Tokens,
    credit: Credit,
    state: watch::Sender<LinkState>,
    busy_answers: Cell<u32>,
    last_success: Cell<Option<Instant>>,
    batch_bytes: Cell<usize>,
    compressor: RefCell<Compressor<'static>>,
}

impl Link {
    /// Reads the key and checks the settings; sends nothing.
    pub fn new(
        config: UplinkConfig,
        status: Arc<LinkStatus>,
        events: Box<dyn UplinkEvents>,
        credit: Credit,
    ) -> Result<Link, UplinkError> {
        config.validate()?;
        let signer = Key::load(&config.key_file)?.signer(&config.edge)?;
        let client = Client::new(&config.cloud, config.ca_file.as_deref(), config.connect_timeout)?;
        let compressor = Compressor::new(config.compression_level)
            .map_err(|error| UplinkError::Config(format!("compression_level: {error}")))?;
        Ok(Link {
            client,
            tokens: Tokens::new(signer),
            credit,
            state: watch::Sender::new(LinkState::Connecting),
            busy_answers: Cell::new(0),
            last_success: Cell::new(None),
            batch_bytes: Cell::new(config.batch_bytes_max),
            compressor: RefCell::new(compressor),
            status,
            events,
            config,
        })
    }

    /// Path of a sync request.
    pub fn path(&self, rest: &str) -> String {
        // Identifiers hold no character that a path would need to escape.
        format!("{}/{}/{rest}", paths::SYNC, self.config.edge)
    }

    /// A GET with the usual limits.
    pub fn get(&self, path: String, answer_bytes_max: usize) -> Call {
        Call {
            method: Method::GET,
            path,
            content_type: "",
            body: Bytes::new(),
            timeout: self.config.request_timeout,
            answer_bytes_max,
        }
    }

    /// A POST with the usual limits.
    pub fn post(&self, path: String, content_type: &'static str, body: Bytes) -> Call {
        const ANSWER_BYTES_MAX: usize = 64 * 1024;
        Call { method: Method::POST, content_type, body, ..self.get(path, ANSWER_BYTES_MAX) }
    }

    /// Sends one request, once; with a wrong clock or an outdated token, twice.
    pub async fn call(&self, call: &Call) -> Result<Answer, Fault> {
        let answered = self.ask(call).await;
        if matches!(&answered, Err(fault) if fault.is_answer) {
            self.busy_answers.set(self.busy_answers.get().saturating_add(1));
            if self.busy_answers.get() >= BUSY_ANSWERS_MAX {
                self.failed("the cloud cannot answer");
            }
        }
        answered
    }

    async fn ask(&self, call: &Call) -> Result<Answer, Fault> {
        let mut answer = self.attempt(call).await?;
        if answer.status == StatusCode::UNAUTHORIZED && self.tokens.refused(answer.date) {
            answer = self.attempt(call).await?;
        }
        let is_fault = answer.status.is_server_error()
            || matches!(
                answer.status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::REQUEST_TIMEOUT
            );
        if !is_fault {
            self.succeeded();
            return Ok(answer);
        }
        let text = format!("the cloud answered {}: {}", answer.status, refusal_text(&answer.body));
        if answer.status == StatusCode::UNAUTHORIZED {
            self.failed(&text);
        }
        self.status.set_error(&text);
        Err(Fault { retry_after: answer.retry_after, is_answer: true, ..Fault::new(text) })
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Fault> {
        self.status.requests.add(1);
        let authorization =
            self.tokens.authorization().map_err(|error| Fault::new(error.to_string()))?;
        self.client.exchange(call, Some(authorization)).await.map_err(|error| {
            self.client.forget_idle();
            let timed_out = matches!(error, TransportError::Timeout(_));
            self.failed(&error.to_string());
            Fault { timed_out, ..Fault::new(error.to_string()) }
        })
    }

    /// Waits before the next attempt. A link that heals meanwhile ends the wait, unless the cloud asked for a pause or
    /// this work has failed on a healed link before.
    pub async fn pause(&self, attempts: &mut Attempts, fault: &Fault) {
        self.status.retries.add(1);
        let pause = attempts.pause(fault.retry_after);
        let mut state = self.state.subscribe();
        if fault.retry_after.is_some() || self.is_up() || !attempts.may_be_woken() {
            return tokio::time::sleep(pause).await;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = state.wait_for(|state| *state == LinkState::Up) => attempts.woken(),
        }
    }

    /// Whether the last request was answered.
    pub fn is_up(&self) -> bool {
        *self.state.borrow() == LinkState::Up
    }

    /// Follows the link's state.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// The live lane has not had an answer in time. The link counts as down until the next answer.
    pub fn overdue(&self) {
        self.failed("a live batch was not answered in time");
    }

    /// Whether any request that was answered was answered after `moment`.
    pub fn succeeded_since(&self, moment: Instant) -> bool {
        self.last_success.get().is_some_and(|last| last > moment)
    }

    fn succeeded(&self) {
        self.busy_answers.set(0);
        self.last_success.set(Some(Instant::now()));
        self.status.succeeded();
        self.change_state(LinkState::Up, "");
    }

    fn failed(&self, text: &str) {
        self.status.set_error(text);
        self.change_state(LinkState::Down, text);
    }

    fn change_state(&self, state: LinkState, reason: &str) {
        let changed = self.state.send_if_modified(|now| std::mem::replace(now, state) != state);
        if !changed {
            return;
        }
        match state {
            LinkState::Down => tracing::warn!(reason, "the link to the cloud is down"),
            _ => tracing::info!("the link to the cloud is up"),
        }
        self.credit.link_up(state == LinkState::Up);
        self.status.set_state(state);
        self.events.link(state);
    }

    /// Bytes after which a batch is closed on this link, at present.
    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes.get()
    }

    /// A batch of `bytes` was too slow, or too large for something on the way: make smaller ones from now on.
    pub fn shrink_batches(&self, bytes: usize) {
        let half = (bytes / 2).clamp(BATCH_BYTES_MIN, self.config.batch_bytes_max);
        self.batch_bytes.set(self.batch_bytes.get().min(half));
    }

    /// A batch was answered after `took`: where that was quick, larger ones will do.
    pub fn grow_batches(&self, took: Duration) {
        if took < self.config.request_timeout / 4 {
            let grown = self.batch_bytes.get().saturating_add(self.batch_bytes.get() / 4);
            self.batch_bytes.set(grown.min(self.config.batch_bytes_max));
        }
    }

    /// The body of a batch of `frames`, which are in the contract's form (length and frame).
    pub fn encode(&self, header: &BatchHeader, frames: &[u8]) -> Result<Bytes, Fault> {
        let packed = self
            .compressor
            .borrow_mut()
            .compress(frames)
            .map_err(|error| Fault::new(format!("a batch cannot be packed: {error}")))?;
        Ok(encode_batch(header, &packed).into())
    }

    /// Sends a batch and notes how long its answer took. That the cloud cannot take it now says nothing of the link: it
    /// may be so for this one stream, which must not stop others.
    pub async fn post_batch(&self, body: Bytes) -> Result<Answer, Fault> {
        let started = Instant::now();
        let answer = self.ask(&self.post(self.path("batches"), BATCH_CONTENT_TYPE, body)).await?;
        if answer.status.is_success() {
            self.grow_batches(started.elapsed());
        }
        Ok(answer)
    }
}

/// The cloud's own words of a refusal; none when the answer is not from the cloud's functions.
pub(crate) fn refusal(body: &[u8]) -> Option<String> {
    let refusal: ErrorBody = serde_json::from_slice(body).ok()?;
    Some(refusal.error.chars().take(REFUSAL_CHARS_MAX).collect())
}

/// Some words for a log about an answer that is no success.
pub(crate) fn refusal_text(body: &[u8]) -> String {
    refusal(body).unwrap_or_else(|| "no reason given".to_owned())
}
