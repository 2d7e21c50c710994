//! Tenants, devices and credentials replicated into redb; authentication.
