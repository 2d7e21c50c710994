//! The Lambda handlers.
