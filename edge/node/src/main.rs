//! The edge node: configuration, preflight, start, drain, stop.
fn main() {}
