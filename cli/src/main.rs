//! The operator and application command line.
fn main() {}
