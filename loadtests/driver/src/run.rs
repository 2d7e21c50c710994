//! One run: as many threads as the plan says, and their counts added up.

use crate::error::LoadError;
use crate::net;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::worker::Worker;
use std::thread;

/// Runs `plan` to its end.
///
/// # Errors
/// The broker cannot be reached, refuses, or closes every connection; the measured process is gone.
pub fn run(plan: &Plan) -> Result<Report, LoadError> {
    let offline = usize::from(plan.offline_filter.is_some());
    let progress = Progress::new(plan.connections() + offline, plan.threads);
    let workers: Vec<Worker<'_>> = thread::scope(|scope| {
        let begun: Vec<_> = (0..plan.threads)
            .map(|number| {
                let progress = &progress;
                scope.spawn(move || {
                    let outcome = Worker::new(plan, progress, number).and_then(|mut worker| {
                        net::drive(&mut worker, plan, progress)?;
                        Ok(worker)
                    });
                    if outcome.is_err() {
                        progress.fail();
                    }
                    outcome
                })
            })
            .collect();
        begun
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<_, LoadError>>()
    })?;
    let mut sent = vec![0; plan.publishers];
    for (publisher, count) in workers.iter().flat_map(Worker::sent) {
        sent[publisher] = count;
    }
    let mut outcomes = workers.into_iter().map(|worker| worker.finish(&sent));
    let mut first = outcomes.next().ok_or(LoadError::AllClosed)?;
    for outcome in outcomes {
        first.tally.add(&outcome.tally);
    }
    Ok(Report::new(plan, &first.tally, &first.readings))
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
