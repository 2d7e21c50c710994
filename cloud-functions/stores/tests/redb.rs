//! The redb store keeps the port's promises, also across a new start.

use bytes::Bytes;
use fulcrum_domain::store::{Expect, Key, Store as _, Write};
use fulcrum_stores::{OpenError, RedbStore, conformance};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn the_redb_store_passes_the_conformance_suite() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&dir.path().join("s.redb"), "identity").unwrap();
    conformance::run(Arc::new(store), "suite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_a_new_start_and_counters_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let (key, value) = (Key::new("p", "s"), Bytes::from_static(b"v"));
    let put = Write::Put { key: key.clone(), value, expect: Expect::Anything };
    let store = RedbStore::open(&path, "first").unwrap();
    let before = store.write(vec![put.clone()]).await.unwrap();
    drop(store);
    let store = RedbStore::open(&path, "second").unwrap();
    assert_eq!(store.identity(), "first");
    assert_eq!(store.read(&[key]).await.unwrap()[0].as_ref().unwrap().revision, before);
    assert!(store.write(vec![put]).await.unwrap() > before);
}

#[tokio::test]
async fn a_file_in_use_and_a_file_that_is_no_store_are_refused_with_their_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let _store = RedbStore::open(&path, "identity").unwrap();
    let Err(OpenError::File { path: named, .. }) = RedbStore::open(&path, "identity") else {
        panic!("a second opener must be refused");
    };
    assert_eq!(named, path);
    let other = dir.path().join("other");
    std::fs::write(&other, b"this is not a redb file at all").unwrap();
    assert!(RedbStore::open(&other, "identity").is_err());
}
