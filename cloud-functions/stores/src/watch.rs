//! Wakes those who wait for a topic, within one process.
//!
//! A watch is registered when it is made, and a wake-up is kept until it is taken: nothing is missed between reading and waiting.

use async_trait::async_trait;
use fulcrum_domain::store::Watch;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

type Waiters = HashMap<String, Vec<Arc<Notify>>>;

/// Who waits for what.
#[derive(Clone, Default)]
pub(crate) struct Topics {
    waiters: Arc<Mutex<Waiters>>,
}

impl Topics {
    /// The map stays whole whatever panicked while it was held: each step on it is one call.
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self, mut topics: Vec<String>) -> TopicWatch {
        topics.sort_unstable();
        topics.dedup();
        let notify = Arc::new(Notify::new());
        let mut waiters = self.lock();
        for topic in &topics {
            waiters.entry(topic.clone()).or_default().push(notify.clone());
        }
        drop(waiters);
        TopicWatch { topics, notify, all: self.clone() }
    }

    pub(crate) fn wake<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let waiters = self.lock();
        if waiters.is_empty() {
            return;
        }
        for topic in topics {
            for notify in waiters.get(topic).into_iter().flatten() {
                notify.notify_one();
            }
        }
    }
}

pub(crate) struct TopicWatch {
    topics: Vec<String>,
    notify: Arc<Notify>,
    all: Topics,
}

#[async_trait]
impl Watch for TopicWatch {
    async fn changed(&mut self, timeout_ms: u64) -> bool {
        let timeout = Duration::from_millis(timeout_ms);
        tokio::time::timeout(timeout, self.notify.notified()).await.is_ok()
    }
}

impl Drop for TopicWatch {
    fn drop(&mut self) {
        let mut waiters = self.all.lock();
        for topic in &self.topics {
            if let Some(list) = waiters.get_mut(topic) {
                list.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
                if list.is_empty() {
                    waiters.remove(topic);
                }
            }
        }
    }
}
