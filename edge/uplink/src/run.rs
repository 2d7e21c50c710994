//! The uplink's thread: starts the lanes, waits for the end, drains.

use crate::config::UplinkConfig;
use crate::error::UplinkError;
use crate::link::{Fault, Link, refusal_text};
use crate::live::LiveReceiver;
use crate::presence::PresenceReceiver;
use crate::status::{LinkState, LinkStatus};
use crate::stored::Source;
use crate::{backoff::Attempts, feed, live, presence, stored};
use fulcrum_contract::sync::Marks;
use fulcrum_identity::{Applied, Identity};
use fulcrum_journal::Tail;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

/// Entries of the uplink's ring: a read per journal partition is out at a time.
const RING_ENTRIES: u32 = 64;
/// Largest answer with marks read, in bytes.
const MARKS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the node is told. Called on the uplink's thread; must not block.
pub trait UplinkEvents: Send {
    /// A page of the change feed is in force and on disk.
    fn applied(&self, applied: &Applied);
    /// The outcome of a live record that was sent with `ticket`; `accepted` means that the cloud has stored it. Told
    /// once for each ticket, within the time the settings name.
    fn live_outcome(&self, ticket: u64, accepted: bool);
    /// The link has changed its state.
    fn link(&self, state: LinkState);
}

/// What the uplink works on.
pub struct UplinkParts {
    /// The journal's partitions.
    pub tails: Vec<Tail>,
    /// Where the change feed goes.
    pub identity: Identity,
    /// The live lane's records.
    pub live: LiveReceiver,
    /// Who is told.
    pub events: Box<dyn UplinkEvents>,
    /// Which devices are here.
    pub presence: PresenceReceiver,
    /// Where the numbers go; keep a clone for metrics and the status page.
    pub status: Arc<LinkStatus>,
}

/// Runs the uplink inside a tokio-uring runtime until `shutdown` ends; then makes a last attempt to ship what is
/// committed, within `drain_timeout`.
///
/// # Errors
/// A setting, the key or the trusted certificates are not usable, or a tail has had another reader. A link that is down
/// is no error.
pub async fn run(
    config: UplinkConfig,
    parts: UplinkParts,
    shutdown: impl Future<Output = ()>,
) -> Result<(), UplinkError> {
    Uplink::prepare(config, parts)?.run(shutdown).await
}

/// An uplink that has what it needs.
struct Uplink {
    link: Rc<Link>,
    sources: Vec<Source>,
    identity: Identity,
    live: LiveReceiver,
    presence: PresenceReceiver,
}

impl Uplink {
    fn prepare(config: UplinkConfig, parts: UplinkParts) -> Result<Uplink, UplinkError> {
        let UplinkParts { tails, identity, live, events, presence, status } = parts;
        let link = Rc::new(Link::new(config, status, events, live.credit())?);
        link.status.set_partitions(&tails);
        let mut sources = Vec::with_capacity(tails.len());
        for (slot, tail) in tails.into_iter().enumerate() {
            let partition = tail.partition();
            sources.push(Source::new(tail, slot).ok_or_else(|| {
                UplinkError::Config(format!(
                    "journal partition {partition} has had another reader; open the journal anew"
                ))
            })?);
        }
        Ok(Uplink { link, sources, identity, live, presence })
    }

    async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), UplinkError> {
        let Uplink { link, sources, identity, live, presence } = self;
        let (stop, stopped) = watch::channel(false);
        let (told, marks) = watch::channel(None);
        let restarted = Rc::new(Notify::new());
        // Dropped, and thereby ended, when this function returns.
        let mut services = JoinSet::new();
        services.spawn_local(feed::run(link.clone(), identity.clone(), restarted.clone()));
        services.spawn_local(presence::run(link.clone(), presence, restarted));
        services.spawn_local(learn_marks(link.clone(), told));

        let permits = Rc::new(Semaphore::new(link.config.stored_requests_max));
        let mut lanes = JoinSet::new();
        lanes.spawn_local(live::run(link.clone(), live, stopped.clone()));
        for source in sources {
            let lane = stored::run(
                link.clone(),
                source,
                identity.clone(),
                permits.clone(),
                marks.clone(),
                stopped.clone(),
            );
            lanes.spawn_local(lane);
        }
        tokio::select! {
            () = shutdown => {}
            // No lane ends by itself.
            _ = lanes.join_next() => return Err(UplinkError::Ended),
        }
        stop.send_replace(true);
        let drained = async { while lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(link.config.drain_timeout, drained).await.is_err() {
            tracing::info!("not everything was shipped before the end; the rest is in the journal");
        }
        Ok(())
    }
}

/// Asks for the marks until the cloud tells them.
async fn learn_marks(link: Rc<Link>, told: watch::Sender<Option<Rc<Marks>>>) {
    let mut attempts = Attempts::new(link.config.backoff);
    let call = link.get(link.path("marks"), MARKS_BYTES_MAX);
    loop {
        let marks = link.call(&call).await.and_then(|answer| match answer.status {
            status if status.is_success() => serde_json::from_slice::<Marks>(&answer.body)
                .map_err(|error| Fault::new(format!("the marks cannot be read: {error}"))),
            status => {
                let reason = refusal_text(&answer.body);
                Err(Fault::new(format!("the marks are refused with {status}: {reason}")))
            }
        });
        match marks {
            Ok(marks) => {
                told.send_replace(Some(Rc::new(marks)));
                return;
            }
            Err(fault) => {
                link.status.set_error(&fault.text);
                link.pause(&mut attempts, &fault).await;
            }
        }
    }
}

/// The uplink's thread.
pub struct UplinkHandle {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<(), UplinkError>>,
}

impl UplinkHandle {
    /// Ends the uplink and waits for it; takes at most the settings' `drain_timeout` and a little.
    ///
    /// # Errors
    /// What [`run`] has answered, or that the thread has panicked.
    pub fn stop(self) -> Result<(), UplinkError> {
        // An uplink that has ended by itself does not listen any more; its result says why.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| UplinkError::Ended)?
    }

    /// Whether the thread has ended by itself, which it should not.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts the uplink on a thread of its own, and beside it, on the same runtime, what `also` makes; that ends with the
/// uplink. Returns when the uplink is ready to run.
///
/// # Errors
/// As [`run`], or the runtime cannot be made.
pub fn spawn<Also, Beside>(
    config: UplinkConfig,
    parts: UplinkParts,
    also: Also,
) -> Result<UplinkHandle, UplinkError>
where
    Also: FnOnce() -> Beside + Send + 'static,
    Beside: Future<Output = ()> + 'static,
{
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, readiness) = sync_channel(1);
    let body = move || {
        let runtime = match tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))
        {
            Ok(runtime) => runtime,
            Err(error) => return Err(UplinkError::Runtime(error)),
        };
        runtime.block_on(async move {
            let uplink = Uplink::prepare(config, parts)?;
            // Nobody listens only if the starter has panicked.
            let _ = ready.send(());
            let beside = tokio::task::spawn_local(also());
            let ended = uplink.run(async { stopped.await.unwrap_or_default() }).await;
            beside.abort();
            ended
        })
    };
    let thread = thread::Builder::new()
        .name("uplink".to_owned())
        .spawn(body)
        .map_err(UplinkError::Runtime)?;
    match readiness.recv() {
        Ok(()) => Ok(UplinkHandle { stop, thread }),
        // The thread has ended before it was ready; it knows why.
        Err(_) => Err(thread.join().ok().and_then(Result::err).unwrap_or(UplinkError::Ended)),
    }
}
