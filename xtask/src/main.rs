//! The project's chores: test, benches, checks.
fn main() {}
