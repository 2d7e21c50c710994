//! The Lambda handlers on one listener.
