//! The application of the demo: reads the tenant's stream as a consumer group, a page at a time, for the whole run.

use super::audit::Arrivals;
use crate::client::Client;
use crate::commands::events::GroupReader;
use crate::error::Failure;
use fulcrum_contract::TenantId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

const PAGE_RECORDS: u32 = 1000;
const POLL_WAIT: Duration = Duration::from_secs(2);

/// A running application.
pub struct Application {
    arrivals: Arc<Mutex<Arrivals>>,
    task: JoinHandle<Failure>,
}

impl Application {
    /// Starts reading.
    pub fn start(mut client: Client, tenant: &TenantId) -> Application {
        let arrivals = Arc::new(Mutex::new(Arrivals::default()));
        let mut reader = GroupReader::new(tenant, "auditor", PAGE_RECORDS, &[]);
        let shared = arrivals.clone();
        let task = tokio::spawn(async move {
            loop {
                let page = match reader.read(&mut client, POLL_WAIT).await {
                    Ok(page) => page,
                    Err(failure) => return failure,
                };
                // Taken before it is committed; a page is never committed without having been looked at.
                {
                    let mut arrivals = lock(&shared);
                    page.records.iter().for_each(|record| arrivals.take(record));
                }
                if let Err(failure) = reader.commit(&mut client, page.commit).await {
                    return failure;
                }
            }
        });
        Application { arrivals, task }
    }

    /// What it has read; nothing that holds it waits.
    pub fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        lock(&self.arrivals)
    }

    /// An error when it could not go on.
    pub async fn check_running(&mut self) -> Result<(), Failure> {
        if !self.task.is_finished() {
            return Ok(());
        }
        match (&mut self.task).await {
            Ok(failure) => Err(failure),
            Err(error) => Err(Failure::Demo(format!("the application ended: {error}"))),
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(arrivals: &Mutex<Arrivals>) -> MutexGuard<'_, Arrivals> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}
