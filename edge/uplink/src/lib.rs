//! Sync with the cloud on tokio-uring.
