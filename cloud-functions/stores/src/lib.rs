//! Implementations of the domain's store port.
