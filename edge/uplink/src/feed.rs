//! The change feed's task: asks the cloud what has changed, applies it, tells the node.
//!
//! One long poll is nearly always out, so this task also tells soonest that the link has healed: while the link is not
//! up it asks without waiting, and when another lane finds the link down it gives its poll up and asks anew.
//!
//! A page is applied on a thread that may block; the reactor never waits for the disk.

use crate::backoff::Attempts;
use crate::client::Call;
use crate::link::{Fault, Link, refusal_text};
use crate::status::LinkState;
use fulcrum_contract::feed::ChangePage;
use fulcrum_identity::{Applied, FeedPosition, Identity, IdentityError};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Largest page read, in bytes.
const PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A cloud that does not hold requests, or repeats a page, is asked no more often than this.
const POLL_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Runs until it is dropped. `restarted` is told when the cloud begins a new feed.
pub(crate) async fn run(link: Rc<Link>, identity: Identity, restarted: Rc<Notify>) {
    let mut attempts = Attempts::new(link.config.backoff);
    loop {
        match follow(&link, &identity, &restarted).await {
            Ok(Followed::Applied) => attempts.succeeded(),
            Ok(Followed::Nothing) => {
                attempts.succeeded();
                tokio::time::sleep(POLL_PAUSE_MIN).await;
            }
            Ok(Followed::LinkLost) => {}
            Err(fault) => link.pause(&mut attempts, &fault).await,
        }
    }
}

enum Followed {
    /// Go on at once.
    Applied,
    /// Nothing new came, and too quickly.
    Nothing,
    /// The poll was given up because another lane found the link down.
    LinkLost,
}

/// Asks once and applies the answer.
async fn follow(link: &Link, identity: &Identity, restarted: &Notify) -> Result<Followed, Fault> {
    let position = blocking(identity, Identity::feed_position).await?;
    link.status.feed_cursor.set(position.cursor);
    let waits = link.is_up();
    let call = request(link, &position, waits);
    let mut state = link.watch();
    let asked = Instant::now();
    let answer = tokio::select! {
        answer = link.call(&call) => answer?,
        _ = state.wait_for(|state| *state == LinkState::Down), if waits => return Ok(Followed::LinkLost),
    };
    if !answer.status.is_success() {
        let text = format!(
            "the change feed is refused with {}: {}",
            answer.status,
            refusal_text(&answer.body)
        );
        link.status.set_error(&text);
        return Err(Fault::new(text));
    }
    let page: ChangePage = serde_json::from_slice(&answer.body).map_err(|error| {
        let text =
            format!("the change feed cannot be read ({error}); upgrade this node or the cloud");
        link.status.set_error(&text);
        Fault::new(text)
    })?;
    drop(answer);
    let new_feed = position.feed.as_deref() != Some(page.feed.as_str());
    let (moved, changes) = (new_feed || page.cursor != position.cursor, page.changes.len());
    let cursor = page.cursor;
    let applied = blocking(identity, move |identity| identity.apply(&page)).await?;
    if !applied.stale {
        link.status.feed_cursor.set(cursor);
    }
    link.status.feed_changes.add(changes as u64);
    if applied != Applied::default() {
        link.events.applied(&applied);
    }
    if new_feed {
        tracing::info!(cursor, "the cloud has begun a new change feed; a snapshot is being taken");
        restarted.notify_one();
    }
    let quick = asked.elapsed() < POLL_PAUSE_MIN && waits;
    Ok(if applied.stale || (!moved && changes == 0 && quick) {
        Followed::Nothing
    } else {
        Followed::Applied
    })
}

fn request(link: &Link, position: &FeedPosition, waits: bool) -> Call {
    let wait_s = if waits { link.config.feed_wait.as_secs() } else { 0 };
    let feed =
        position.feed.as_deref().map(|feed| format!("feed={}&", escape(feed))).unwrap_or_default();
    let path = link.path(&format!("changes?{feed}after={}&wait={wait_s}", position.cursor));
    let mut call = link.get(path, PAGE_BYTES_MAX);
    call.timeout += Duration::from_secs(wait_s);
    call
}

/// RFC 3986 section 2.1: a feed's name is the cloud's business and may hold anything.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    identity: &Identity,
    work: impl FnOnce(&Identity) -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, Fault> {
    let identity = identity.clone();
    let done = tokio::task::spawn_blocking(move || work(&identity)).await;
    let failed = |text: String| {
        tracing::error!(text, "the identity store cannot follow the change feed");
        Fault::new(text)
    };
    match done {
        Ok(result) => result.map_err(|error| failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feeds_name_cannot_change_the_request() {
        assert_eq!(escape("f-1.2_3~"), "f-1.2_3~");
        assert_eq!(escape("a&wait=9 ä"), "a%26wait%3D9%20%C3%A4");
    }
}
