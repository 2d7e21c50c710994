//! The thread, its executor, and the loop over requests.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use fulcrum_journal::SegmentRequest;
use glommio::io::remove;
use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares};

use crate::error::{MaintenanceError, check_memory_lock};
use crate::inbox::Requests;
use crate::prepare::prepare;

/// glommio registers so much for direct I/O in each of its three rings, against the memory lock limit. Buffers here
/// come from elsewhere; this is the least it takes.
const RING_MEMORY_BYTES: usize = 64 * 1024;
/// One write is out at a time.
const RING_DEPTH: usize = 8;
/// Of glommio's default of 1000 for a queue: whatever else comes to run here goes first.
const PREPARE_SHARES: usize = 100;

/// Called on the maintenance thread with partition, segment number and the opened file or why there is none. It should
/// only pass the answer on.
pub type Answer = Box<dyn Fn(u16, u64, io::Result<File>) + Send>;

/// Settings of the maintenance thread.
pub struct MaintenanceConfig {
    /// Requests that may wait. Two for every segment of every partition is more than can be asked for.
    pub queue: usize,
    /// Where prepared segments go.
    pub answer: Answer,
}

/// The running thread. Dropping it stops the thread without waiting for it.
#[derive(Debug)]
pub struct Maintenance {
    requests: Requests,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread.
///
/// # Errors
/// See [`MaintenanceError`]; each message names the remedy.
pub fn spawn(config: MaintenanceConfig) -> Result<Maintenance, MaintenanceError> {
    let requests = Requests::new(config.queue);
    let (started, start) = mpsc::sync_channel(1);
    let received = requests.clone();
    let thread = thread::Builder::new()
        .name("maintenance".to_owned())
        .spawn(move || run(&received, &config.answer, &started))
        .map_err(MaintenanceError::Thread)?;
    match start.recv() {
        Ok(Ok(())) => Ok(Maintenance { requests, thread: Some(thread) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(MaintenanceError::Ring("its thread ended while starting".to_owned())),
    }
}

impl Maintenance {
    /// Where shards put their requests.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Stops the thread and waits for it. A preparation under way is given up; requests that wait are forgotten.
    pub fn stop(mut self) {
        self.requests.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the maintenance thread ended by a panic");
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.requests.stop();
    }
}

fn run(
    requests: &Requests,
    answer: &Answer,
    started: &mpsc::SyncSender<Result<(), MaintenanceError>>,
) {
    let executor = match make() {
        Ok(executor) => executor,
        Err(error) => {
            // Nobody waits any more only if the caller is gone too.
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    executor.run(serve(requests.clone(), answer));
}

fn make() -> Result<LocalExecutor, MaintenanceError> {
    check_memory_lock()?;
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("maintenance")
        .io_memory(RING_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(|error| MaintenanceError::Ring(error.to_string()))
}

async fn serve(requests: Requests, answer: &Answer) {
    let queue = glommio::executor().create_task_queue(
        Shares::Static(PREPARE_SHARES),
        Latency::NotImportant,
        "segments",
    );
    while let Some(request) = requests.next().await {
        match request {
            SegmentRequest::Prepare { partition, number, path, bytes, mode } => {
                let inbox = requests.clone();
                let work = async move { prepare(&path, bytes, mode, &inbox).await };
                let prepared = match glommio::spawn_local_into(work, queue) {
                    Ok(task) => task.await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = &prepared {
                    tracing::warn!(partition, number, %error, "a journal segment could not be prepared");
                }
                answer(partition, number, prepared);
            }
            SegmentRequest::Drop { partition, number, path } => {
                match remove(&path).await.map_err(io::Error::from) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(partition, number, %error, "a journal segment could not be removed");
                    }
                    _ => {}
                }
            }
        }
    }
}
