//! A store that does something of its own before the next call that touches a given partition: what another writer could do.

use async_trait::async_trait;
use fulcrum_domain::store::{FeedPage, Item, Key, Revision, Scan, Store, StoreError, Watch, Write};
use fulcrum_stores::RedbStore;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// When the work happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moment {
    /// After the next scan of the partition, before its caller goes on.
    AfterScan(String),
    /// Before the next write that touches the partition.
    BeforeWrite(String),
}

/// A redb store and the work that waits for its moment, which comes once.
pub struct Meddling {
    inner: RedbStore,
    waiting: Mutex<Option<(Moment, Work)>>,
}

impl Meddling {
    pub fn open(dir: &Path) -> Arc<Meddling> {
        let inner = RedbStore::open(&dir.join("cloud.redb"), "store").unwrap();
        Arc::new(Meddling { inner, waiting: Mutex::new(None) })
    }

    pub fn at(&self, moment: Moment, work: impl Future<Output = ()> + Send + 'static) {
        *self.waiting.lock().unwrap() = Some((moment, Box::pin(work)));
    }

    /// Whether the moment has come.
    pub fn has_meddled(&self) -> bool {
        self.waiting.lock().unwrap().is_none()
    }

    async fn meddle(&self, is_now: impl Fn(&Moment) -> bool) {
        let work = {
            let mut waiting = self.waiting.lock().unwrap();
            if waiting.as_ref().is_some_and(|(moment, _)| is_now(moment)) {
                waiting.take()
            } else {
                None
            }
        };
        if let Some((_, work)) = work {
            work.await;
        }
    }
}

#[async_trait]
impl Store for Meddling {
    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn writes_max(&self) -> usize {
        self.inner.writes_max()
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreError> {
        self.inner.read(keys).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Item>, StoreError> {
        let moment = Moment::AfterScan(scan.partition.clone());
        let items = self.inner.scan(scan).await;
        self.meddle(|now| *now == moment).await;
        items
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let touches = |partition: &str| {
            writes.iter().any(|write| match write {
                Write::Put { key, .. } | Write::Delete { key, .. } => key.partition == partition,
                _ => false,
            })
        };
        self.meddle(|now| matches!(now, Moment::BeforeWrite(partition) if touches(partition)))
            .await;
        self.inner.write(writes).await
    }

    async fn feed(
        &self,
        scopes: &[String],
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<FeedPage, StoreError> {
        self.inner.feed(scopes, after, limit, bytes).await
    }

    fn watch(&self, topics: Vec<String>) -> Box<dyn Watch> {
        self.inner.watch(topics)
    }
}
