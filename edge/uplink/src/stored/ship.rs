//! Sending one stored batch until the cloud has decided on it.

use crate::backoff::Attempts;
use crate::client::Answer;
use crate::config::BATCH_BYTES_MIN;
use crate::link::{Fault, Link, refusal, refusal_text};
use crate::status::DropReason;
use bytes::Bytes;
use fulcrum_contract::sync::BatchAnswer;
use http::StatusCode;
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::{Notify, Semaphore};

/// Requests in a row that were not answered in time after which a batch is taken to be too large for the link.
const TIMEOUTS_MAX: u32 = 2;

/// A batch, ready to be sent.
pub(crate) struct Shipment {
    pub body: Bytes,
    pub first: u64,
    pub last: u64,
    /// Bytes of its frames.
    pub bytes_raw: usize,
}

/// What the cloud has decided.
pub(crate) enum Decision {
    /// Stored up to the mark.
    Stored { mark: u64 },
    /// Records behind the mark and before the batch are missing.
    Behind { mark: u64 },
    /// The tenant is not served through this node.
    TenantRefused(String),
    /// Something in the batch is not acceptable.
    FormRefused(DropReason, String),
    /// No decision: the batch is too large for this link.
    TooSlow,
}

/// Failed attempts of one batch, and who wants to know of each.
#[derive(Clone)]
pub(crate) struct Failures {
    pub count: Rc<Cell<u32>>,
    pub news: Rc<Notify>,
}

impl Failures {
    fn add(&self) {
        self.count.set(self.count.get().saturating_add(1));
        self.news.notify_one();
    }
}

/// Sends until there is a decision.
pub(crate) async fn ship(
    link: Rc<Link>,
    permits: Rc<Semaphore>,
    shipment: Rc<Shipment>,
    failures: Failures,
) -> Decision {
    let mut attempts = Attempts::new(link.config.backoff);
    let mut timeouts = 0;
    loop {
        let answer = {
            // The semaphore is never closed; without a permit there would merely be one request more.
            let _permit = permits.acquire().await.ok();
            link.post_batch(shipment.body.clone()).await
        };
        let fault = match answer.and_then(|answer| decide(&answer)) {
            Ok(decision) => {
                if let Decision::FormRefused(DropReason::TooLarge, _) = &decision {
                    link.shrink_batches(shipment.bytes_raw);
                }
                return decision;
            }
            Err(fault) => fault,
        };
        link.status.set_error(&fault.text);
        failures.add();
        timeouts = if fault.timed_out { timeouts + 1 } else { 0 };
        let can_shrink = shipment.last > shipment.first && shipment.bytes_raw > BATCH_BYTES_MIN;
        if timeouts >= TIMEOUTS_MAX && can_shrink {
            link.shrink_batches(shipment.bytes_raw);
            return Decision::TooSlow;
        }
        link.pause(&mut attempts, &fault).await;
    }
}

/// Reads an answer. A refusal counts only in the words of the cloud's functions: what a proxy or a half-deployed cloud
/// answers must not cost a record.
fn decide(answer: &Answer) -> Result<Decision, Fault> {
    let mark = || {
        serde_json::from_slice(&answer.body)
            .map(|BatchAnswer { high_water_mark }| high_water_mark)
            .map_err(|error| Fault::new(format!("the answer to a batch cannot be read: {error}")))
    };
    let text = || refusal_text(&answer.body);
    let is_refusal = refusal(&answer.body).is_some();
    Ok(match answer.status {
        status if status.is_success() => Decision::Stored { mark: mark()? },
        StatusCode::CONFLICT => Decision::Behind { mark: mark()? },
        StatusCode::PAYLOAD_TOO_LARGE => Decision::FormRefused(DropReason::TooLarge, text()),
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if is_refusal => {
            Decision::TenantRefused(text())
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if is_refusal => {
            Decision::FormRefused(DropReason::RecordRefused, text())
        }
        status => {
            return Err(Fault::new(format!(
                "a batch was answered with {status}, not by the cloud's functions"
            )));
        }
    })
}
