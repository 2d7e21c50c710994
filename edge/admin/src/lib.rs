//! Metrics, health and local management.
